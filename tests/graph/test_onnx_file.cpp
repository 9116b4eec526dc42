// Reading and writing: every way of storing numbers, order, names, external data.
#include "files.hpp"
#include "reference.hpp"
#include "slr/base/file.hpp"
#include "slr/graph/onnx_file.hpp"

#include <cmath>
#include <limits>

namespace slr::graph {
namespace {

using Ints = std::vector<std::int64_t>;

Model parsed(const onnx::ModelProto& proto, const std::filesystem::path& folder = ".") {
  return parse_model(proto.SerializeAsString(), folder, "test.onnx");
}

TEST(OnnxFile, WhatIsReadIsWhatWasWritten) {
  Builder b(13, {-1, 3, 8, 8});
  const float number = 1.5F;
  auto& node = b.node("Strange", {"x", "", "w"}, {"y", "", "z"},
                      {{"i", std::int64_t(-3)},
                       {"f", 0.1F},
                       {"s", std::string("text\0with zero", 14)},
                       {"ints", Ints{1, -1, std::numeric_limits<std::int64_t>::min()}},
                       {"floats", std::vector<float>{1, -0.0F, std::numeric_limits<float>::infinity()}},
                       {"strings", std::vector<std::string>{"a", "", "b"}},
                       {"t", Tensor::of_floats({1, 1}, std::span(&number, 1))}});
  node.domain = "my.domain";
  b.model.opsets["my.domain"] = 3;
  b.floats("w", {2, 3});
  b.model.initializers["empty"] = Tensor::of_floats({0}, {});
  b.model.initializers["half"] = Tensor{ElementType::float16, {2}, Buffer(std::vector<std::byte>(4, std::byte(60)))};
  b.model.metadata = {{"key", "value"}, {"another", ""}};
  b.model.producer = "somebody";
  b.output("y", {-1, 4});
  b.output("z");
  const auto bytes = serialize_model(b.model);
  EXPECT_EQ(bytes, serialize_model(b.model));
  const auto read = parse_model(bytes, ".", "test");
  EXPECT_EQ(serialize_model(read), bytes);
  EXPECT_EQ(read.ir_version, b.model.ir_version);
  EXPECT_EQ(read.opsets, b.model.opsets);
  EXPECT_EQ(read.metadata, b.model.metadata);
  EXPECT_EQ(read.producer, "somebody");
  ASSERT_EQ(read.nodes.size(), 1U);
  EXPECT_EQ(read.nodes[0].inputs, node.inputs);
  EXPECT_EQ(read.nodes[0].outputs, node.outputs);
  for (const auto& [name, attribute] : node.attributes) {
    ASSERT_EQ(read.nodes[0].attributes.at(name).index(), attribute.index()) << name;
    if (name != "t") {
      std::visit(
          [&](const auto& value) {
            using T = std::decay_t<decltype(value)>;
            if constexpr (!std::is_same_v<T, Tensor>) {
              EXPECT_EQ(std::get<T>(read.nodes[0].attributes.at(name)), value) << name;
            }
          },
          attribute);
    }
  }
  EXPECT_EQ(std::get<Tensor>(read.nodes[0].attributes.at("t")).floats()[0], 1.5F);
  EXPECT_EQ(read.inputs[0].dims, (Dims{-1, 3, 8, 8}));
  EXPECT_EQ(read.inputs[0].dim_names[0], "batch");
  EXPECT_EQ(read.outputs[0].dims, (Dims{-1, 4}));
  EXPECT_FALSE(read.outputs[1].has_shape);
  for (const auto& [name, tensor] : b.model.initializers) {
    const auto& again = read.initializers.at(name);
    EXPECT_EQ(again.type, tensor.type);
    EXPECT_EQ(again.dims, tensor.dims);
    EXPECT_TRUE(std::ranges::equal(again.data.bytes(), tensor.data.bytes())) << name;
  }
}

TEST(OnnxFile, NumbersAreReadFromWhereverTheyAreStored) {
  auto proto = small_message();
  auto& graph = *proto.mutable_graph();
  const auto add = [&](const std::string& name, int type, std::int64_t n) -> onnx::TensorProto& {
    auto& tensor = *graph.add_initializer();
    tensor.set_name(name);
    tensor.set_data_type(type);
    tensor.add_dims(n);
    return tensor;
  };
  for (const int value : {-2, 300}) add("i32_" + std::to_string(value), 6, 1).add_int32_data(value);
  auto& doubles = add("f64", 11, 2);
  doubles.add_double_data(0.1);
  doubles.add_double_data(-1e300);
  auto& halves = add("f16", 10, 2);
  halves.add_int32_data(0x3c00);
  halves.add_int32_data(0xfc00);
  add("i8", 3, 1).add_int32_data(-128);
  add("u8", 2, 1).add_int32_data(255);
  add("flag", 9, 1).add_int32_data(1);
  auto& raw = add("raw", 1, 3);
  const float values[] = {1.25F, std::nanf("7"), -0.0F};
  raw.set_raw_data(values, sizeof values);
  auto& signalling = add("typed_nan", 1, 1);
  signalling.add_float_data(values[1]);
  const auto model = parsed(proto);
  EXPECT_EQ(model.initializers.at("i32_-2").int64s(), (Ints{-2}));
  EXPECT_EQ(model.initializers.at("i32_300").int64s(), (Ints{300}));
  EXPECT_EQ(model.initializers.at("shape").int64s(), (Ints{0, -1}));
  EXPECT_EQ(model.initializers.at("b").floats()[1], -29.0F);
  const auto bytes_of = [&](const std::string& name) {
    const auto bytes = model.initializers.at(name).data.bytes();
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  const double f64[] = {0.1, -1e300};
  EXPECT_EQ(bytes_of("f64"), std::string(reinterpret_cast<const char*>(f64), sizeof f64));
  EXPECT_EQ(bytes_of("f16"), std::string("\x00\x3c\x00\xfc", 4));
  EXPECT_EQ(bytes_of("i8"), "\x80");
  EXPECT_EQ(bytes_of("u8"), "\xff");
  EXPECT_EQ(bytes_of("flag"), "\x01");
  EXPECT_EQ(bytes_of("raw"), std::string(reinterpret_cast<const char*>(values), sizeof values));
  EXPECT_EQ(bytes_of("typed_nan"), std::string(reinterpret_cast<const char*>(values + 1), sizeof(float)));
}

TEST(OnnxFile, OldFilesRepeatInitializersAmongTheInputs) {
  auto proto = small_message();
  proto.set_ir_version(3);
  add_value(*proto.mutable_graph()->add_input(), "w", {2, 2, 2, 2});
  add_value(*proto.mutable_graph()->add_input(), "b", {2});
  const auto model = parsed(proto);
  ASSERT_EQ(model.inputs.size(), 1U);
  EXPECT_EQ(model.inputs[0].name, "x");
  EXPECT_EQ(model.ir_version, 4); // from which on they need not be
}

TEST(OnnxFile, DimensionsThatExportersWriteAsZeroAreFree) {
  auto proto = small_message();
  auto& shape = *proto.mutable_graph()->mutable_input(0)->mutable_type()->mutable_tensor_type()->mutable_shape();
  for (const int value : {0, -1}) {
    shape.mutable_dim(0)->set_dim_value(value);
    EXPECT_EQ(parsed(proto).inputs[0].dims[0], -1);
  }
}

TEST(OnnxFile, NodesAreSortedAndThoseInOrderStay) {
  auto proto = small_message();
  const auto in_order = parsed(proto);
  auto& nodes = *proto.mutable_graph()->mutable_node();
  std::vector<std::string> ops;
  for (const auto& node : in_order.nodes) ops.push_back(node.op);
  EXPECT_EQ(ops, (std::vector<std::string>{"Conv", "Relu", "Reshape", "Gemm"}));
  std::vector<int> order{0, 1, 2, 3};
  const auto original = nodes;
  do {
    for (int i = 0; i < 4; ++i)
      *proto.mutable_graph()->mutable_node(i) = original.Get(order[static_cast<std::size_t>(i)]);
    EXPECT_EQ(serialize_model(parsed(proto)), serialize_model(in_order));
  } while (std::ranges::next_permutation(order).found);
}

TEST(OnnxFile, BranchesKeepTheOrderOfTheFile) {
  auto proto = small_message();
  auto& graph = *proto.mutable_graph();
  add_node(graph, "Relu", {"x"}, {"p"});
  add_node(graph, "Relu", {"x"}, {"q"});
  add_node(graph, "Relu", {"p"}, {"p2"});
  add_node(graph, "Relu", {"q"}, {"q2"});
  add_node(graph, "Add", {"p2", "q2"}, {"s"});
  std::vector<std::string> names;
  for (const auto& node : parsed(proto).nodes) names.push_back(node.name);
  EXPECT_EQ(names, (std::vector<std::string>{"c", "r", "f", "y", "p", "q", "p2", "q2", "s"}));
}

TEST(OnnxFile, ACycleNamesANodeOnIt) {
  auto proto = small_message();
  auto& graph = *proto.mutable_graph();
  add_node(graph, "Add", {"p", "y"}, {"q"}).set_name("one");
  add_node(graph, "Relu", {"q"}, {"p"}).set_name("two");
  add_node(graph, "Relu", {"p"}, {"after"}).set_name("behind the cycle");
  const auto [code, sentence] = error_of([&] { static_cast<void>(parsed(proto)); });
  EXPECT_EQ(code, ExitCode::bad_data);
  EXPECT_NE(sentence.find("cycle"), std::string::npos) << sentence;
  EXPECT_TRUE(sentence.find("'one'") != std::string::npos || sentence.find("'two'") != std::string::npos) << sentence;
}

TEST(OnnxFile, NodesGetUniqueNames) {
  auto proto = small_message();
  auto& graph = *proto.mutable_graph();
  graph.mutable_node(1)->set_name("f"); // the name that the unnamed Reshape would get
  graph.mutable_node(3)->set_name("f");
  const auto model = parsed(proto);
  EXPECT_EQ(model.nodes[0].name, "c");
  EXPECT_FALSE(model.nodes[0].is_named);
  EXPECT_EQ(model.nodes[1].name, "f");
  EXPECT_EQ(model.nodes[2].name, "f_3");
  EXPECT_EQ(model.nodes[3].name, "f_2");
  EXPECT_TRUE(model.nodes[3].is_named);
}

TEST(OnnxFile, ExternalDataInsideTheFolder) {
  const Folder folder;
  std::filesystem::create_directories(folder / "weights");
  const auto proto = [] {
    auto message = small_message();
    auto& tensor = *message.mutable_graph()->mutable_initializer(0);
    tensor.clear_float_data();
    tensor.set_data_location(onnx::TensorProto::EXTERNAL);
    const auto add = [&](const char* key, const char* value) {
      auto& entry = *tensor.add_external_data();
      entry.set_key(key);
      entry.set_value(value);
    };
    add("location", "weights/w.bin");
    add("offset", "3");
    add("length", "64");
    return message;
  }();
  std::vector<float> values(16);
  for (std::size_t i = 0; i < 16; ++i) values[i] = 1 + float(i);
  write_bytes(folder / "weights/w.bin", "abc" + std::string(reinterpret_cast<const char*>(values.data()), 64) + "tail");
  write_bytes(folder / "model.onnx", proto.SerializeAsString());
  EXPECT_EQ(serialize_model(read_model(folder / "model.onnx")), serialize_model(parsed(small_message())));
}

TEST(OnnxFile, LargeModelsPutTheirWeightsBesideThem) {
  const Folder folder;
  Builder b(13, {-1, 300});
  b.node("MatMul", {"x", b.floats("w1", {300, 301})}, {"h"});
  b.node("MatMul", {"h", b.floats("w2", {301, 5})}, {"p"});
  b.node("Add", {"p", b.floats("b", {5})}, {"y"});
  b.output("y", {-1, 5});
  write_model(b.model, folder / "inline.onnx");
  EXPECT_EQ(read_file(folder / "inline.onnx"), serialize_model(b.model));
  EXPECT_FALSE(std::filesystem::exists(folder / "inline.onnx.data"));
  write_model(b.model, folder / "outside.onnx", 1 << 20);
  EXPECT_LT(std::filesystem::file_size(folder / "outside.onnx"), 1000U);
  EXPECT_EQ(serialize_model(read_model(folder / "outside.onnx")), serialize_model(b.model));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 3); // no temporaries
}

TEST(OnnxFile, FailuresOfTheFileSystemAreThoseOfInput) {
  const Folder folder;
  const auto model = parsed(small_message());
  EXPECT_EQ(error_of([&] { write_model(model, folder / "missing/model.onnx"); }).first, ExitCode::io);
  EXPECT_EQ(error_of([&] { write_model(model, folder / "missing/model.onnx", 0); }).first, ExitCode::io);
  EXPECT_EQ(error_of([&] { static_cast<void>(read_model(folder / "missing.onnx")); }).first, ExitCode::io);
  EXPECT_EQ(error_of([&] { static_cast<void>(read_model(folder.path())); }).first, ExitCode::io);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(OnnxFile, OutputsAreTheSameToTheBitAfterWriting) {
  const auto model = parsed(small_message());
  const auto again = parse_model(serialize_model(model), ".", "again");
  const auto x = reference::random_array({3, 2, 4, 4}, 1);
  EXPECT_EQ(reference::run(model, {{"x", x}}).at("y").values, reference::run(again, {{"x", x}}).at("y").values);
}

TEST(OnnxFile, ExternalFilesAreListed) {
  const Folder folder;
  auto proto = small_message();
  write_bytes(folder / "inside.onnx", proto.SerializeAsString());
  for (auto& tensor : *proto.mutable_graph()->mutable_initializer()) {
    auto& entry = *tensor.add_external_data();
    entry.set_key("location");
    entry.set_value(tensor.name() == "w" ? "w.bin" : "rest.bin");
  }
  write_bytes(folder / "outside.onnx", proto.SerializeAsString());
  write_bytes(folder / "w.bin", "");
  write_bytes(folder / "rest.bin", "");
  EXPECT_TRUE(external_files(folder / "inside.onnx").empty());
  EXPECT_EQ(external_files(folder / "outside.onnx"),
            (std::vector<std::filesystem::path>{std::filesystem::canonical(folder / "rest.bin"),
                                                std::filesystem::canonical(folder / "w.bin")}));
  std::filesystem::remove(folder / "w.bin");
  EXPECT_EQ(error_of([&] { static_cast<void>(external_files(folder / "outside.onnx")); }).first, ExitCode::bad_data);
  EXPECT_EQ(error_of([&] { static_cast<void>(external_files(folder / "none.onnx")); }).first, ExitCode::io);
}

} // namespace
} // namespace slr::graph
