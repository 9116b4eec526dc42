// Whatever a file holds, reading it gives a model or one sentence with the code for bad data.
#include "files.hpp"
#include "slr/graph/count.hpp"
#include "slr/graph/onnx_file.hpp"
#include "slr/graph/rewrite.hpp"

#include <functional>
#include <random>

namespace slr::graph {
namespace {

using onnx::ModelProto;
using Break = std::function<void(ModelProto&)>;
struct Broken {
  const char* name;
  Break apply;
  const char* says; ///< must occur in the sentence
};

onnx::GraphProto& graph(ModelProto& m) {
  return *m.mutable_graph();
}
onnx::TensorProto& weight(ModelProto& m) {
  return *graph(m).mutable_initializer(0);
}
onnx::AttributeProto& strides(ModelProto& m) {
  return *graph(m).mutable_node(0)->mutable_attribute(0);
}
onnx::TypeProto_Tensor& input_type(ModelProto& m) {
  return *graph(m).mutable_input(0)->mutable_type()->mutable_tensor_type();
}
void external(ModelProto& m, const std::string& location, const std::string& offset = "0",
              const std::string& length = "64") {
  auto& tensor = weight(m);
  tensor.clear_float_data();
  tensor.set_data_location(onnx::TensorProto::EXTERNAL);
  for (const auto& [key, value] : {std::pair("location", location), {"offset", offset}, {"length", length}}) {
    auto& entry = *tensor.add_external_data();
    entry.set_key(key);
    entry.set_value(value);
  }
}

/// Files that cannot be read.
const std::vector<Broken>& unreadable() {
  static const std::vector<Broken> all{
      {"no graph", [](auto& m) { m.clear_graph(); }, "truncated"},
      {"no version", [](auto& m) { m.clear_ir_version(); }, "not an ONNX"},
      {"negative version", [](auto& m) { m.set_ir_version(-1); }, "not an ONNX"},
      {"no operator set", [](auto& m) { m.clear_opset_import(); }, "operator set"},
      {"foreign operator set only", [](auto& m) { m.mutable_opset_import(0)->set_domain("z"); }, "operator set"},
      {"operator set twice", [](auto& m) { *m.add_opset_import() = m.opset_import(0); }, "twice"},
      {"two spellings of one domain", [](auto& m) { m.add_opset_import()->set_domain("ai.onnx"); }, "twice"},
      {"operator set too old", [](auto& m) { m.mutable_opset_import(0)->set_version(6); }, "convert"},
      {"operator set too new", [](auto& m) { m.mutable_opset_import(0)->set_version(22); }, "convert"},
      {"operator set negative", [](auto& m) { m.mutable_opset_import(0)->set_version(-7); }, "convert"},
      {"functions", [](auto& m) { m.add_functions()->set_name("f"); }, "functions"},
      {"no outputs", [](auto& m) { graph(m).clear_output(); }, "no outputs"},
      {"output that nothing makes", [](auto& m) { graph(m).mutable_output(0)->set_name("none"); }, "'none'"},
      {"output twice", [](auto& m) { *graph(m).add_output() = graph(m).output(0); }, "twice"},
      {"output without a name", [](auto& m) { graph(m).mutable_output(0)->clear_name(); }, "name"},
      {"input twice", [](auto& m) { *graph(m).add_input() = graph(m).input(0); }, "twice"},
      {"input without a name", [](auto& m) { graph(m).mutable_input(0)->clear_name(); }, "name"},
      {"input missing", [](auto& m) { graph(m).clear_input(); }, "'x'"},
      {"input that is a sequence", [](auto& m) { graph(m).mutable_input(0)->mutable_type()->mutable_sequence_type(); },
       "tensor"},
      {"input of text", [](auto& m) { input_type(m).set_elem_type(8); }, "type 8"},
      {"input of an unknown type", [](auto& m) { input_type(m).set_elem_type(99); }, "type 99"},
      {"input of a negative type", [](auto& m) { input_type(m).set_elem_type(-1); }, "type -1"},
      {"node without operator", [](auto& m) { graph(m).mutable_node(1)->clear_op_type(); }, "operator"},
      {"node of a foreign domain", [](auto& m) { graph(m).mutable_node(1)->set_domain("q"); }, "import"},
      {"node reads nothing known", [](auto& m) { graph(m).mutable_node(1)->set_input(0, "ghost"); }, "'ghost'"},
      {"node reads itself", [](auto& m) { graph(m).mutable_node(1)->set_input(0, "r"); }, "cycle"},
      {"value made twice", [](auto& m) { add_node(graph(m), "Relu", {"c"}, {"r"}); }, "twice"},
      {"node makes an input", [](auto& m) { graph(m).mutable_node(1)->set_output(0, "x"); }, "twice"},
      {"node makes an initializer", [](auto& m) { graph(m).mutable_node(1)->set_output(0, "w"); }, "twice"},
      {"initializer missing", [](auto& m) { graph(m).mutable_initializer()->DeleteSubrange(0, 1); }, "'w'"},
      {"initializer twice", [](auto& m) { *graph(m).add_initializer() = graph(m).initializer(0); }, "twice"},
      {"initializer without a name", [](auto& m) { weight(m).clear_name(); }, "no name"},
      {"initializer without a type", [](auto& m) { weight(m).clear_data_type(); }, "type 0"},
      {"initializer of text", [](auto& m) { weight(m).set_data_type(8); }, "type 8"},
      {"initializer of an unknown type", [](auto& m) { weight(m).set_data_type(-5); }, "type -5"},
      {"initializer of another type than its data", [](auto& m) { weight(m).set_data_type(7); }, "bytes"},
      {"dimension too large", [](auto& m) { weight(m).set_dims(0, 3); }, "need"},
      {"dimension too small", [](auto& m) { weight(m).set_dims(0, 1); }, "need"},
      {"dimension negative", [](auto& m) { weight(m).set_dims(0, -2); }, "negative"},
      {"dimensions absurd", [](auto& m) { weight(m).set_dims(0, std::int64_t(1) << 60); }, "absurd"},
      {"bytes absurd", [](auto& m) { weight(m).set_dims(0, std::int64_t(1) << 58); }, "need"},
      {"a terabyte promised", [](auto& m) { weight(m).set_dims(0, std::int64_t(1) << 35); }, "need"},
      {"one number missing", [](auto& m) { weight(m).mutable_float_data()->RemoveLast(); }, "need"},
      {"data twice", [](auto& m) { weight(m).set_raw_data(std::string(64, 'a')); }, "more than one"},
      {"data in two fields", [](auto& m) { weight(m).add_int64_data(1); }, "more than one"},
      {"raw data of a fraction",
       [](auto& m) {
         weight(m).clear_float_data();
         weight(m).set_raw_data(std::string(63, 'a'));
       },
       "need 64"},
      {"raw data too long",
       [](auto& m) {
         weight(m).clear_float_data();
         weight(m).set_raw_data(std::string(65, 'a'));
       },
       "need 64"},
      {"no data", [](auto& m) { weight(m).clear_float_data(); }, "0 bytes"},
      {"byte out of range",
       [](auto& m) {
         weight(m).clear_float_data();
         weight(m).set_data_type(2);
         for (int i = 0; i < 16; ++i) weight(m).add_int32_data(256);
       },
       "cannot"},
      {"segments", [](auto& m) { weight(m).mutable_segment()->set_begin(0); }, "segments"},
      {"sparse initializer", [](auto& m) { graph(m).add_sparse_initializer(); }, "sparse"},
      {"attribute without a name", [](auto& m) { strides(m).clear_name(); }, "without a name"},
      {"attribute twice", [](auto& m) { *graph(m).mutable_node(0)->add_attribute() = strides(m); }, "twice"},
      {"attribute of another kind", [](auto& m) { strides(m).set_type(onnx::AttributeProto::FLOATS); }, "kind"},
      {"attribute with two values", [](auto& m) { strides(m).set_f(1); }, "kind"},
      {"attribute by reference",
       [](auto& m) {
         strides(m).clear_ints();
         strides(m).set_type(onnx::AttributeProto::UNDEFINED);
         strides(m).set_ref_attr_name("r");
       },
       "kind"},
      {"attribute of types",
       [](auto& m) {
         strides(m).clear_ints();
         strides(m).set_type(onnx::AttributeProto::TYPE_PROTO);
       },
       "kind"},
      {"sparse attribute",
       [](auto& m) {
         strides(m).clear_ints();
         strides(m).set_type(onnx::AttributeProto::SPARSE_TENSOR);
       },
       "kind"},
      {"broken tensor in an attribute",
       [](auto& m) {
         strides(m).clear_ints();
         strides(m).set_type(onnx::AttributeProto::TENSOR);
         strides(m).mutable_t()->set_data_type(1);
         strides(m).mutable_t()->add_dims(1 << 30);
       },
       "strides"},
      {"a subgraph",
       [](auto& m) {
         auto& node = add_node(graph(m), "If", {"x"}, {"branch"});
         node.set_name("my if");
         auto& then = *node.add_attribute();
         then.set_name("then_branch");
         then.set_type(onnx::AttributeProto::GRAPH);
         then.mutable_g()->set_name("g");
       },
       "'my if'"},
      {"external data above the folder", [](auto& m) { external(m, "../secret"); }, "not inside"},
      {"external data anywhere", [](auto& m) { external(m, "/etc/passwd"); }, "not inside"},
      {"external data through a detour", [](auto& m) { external(m, "here/../../secret"); }, "not inside"},
      {"external data without a place", [](auto& m) { external(m, ""); }, "not inside"},
      {"external data with a hidden end", [](auto& m) { external(m, std::string("good.bin\0x", 10)); }, "not inside"},
      {"external data missing", [](auto& m) { external(m, "missing.bin"); }, "missing"},
      {"external data in a folder", [](auto& m) { external(m, "."); }, "missing"},
      {"external data by a link that leads out", [](auto& m) { external(m, "link.bin"); }, "leads out"},
      {"external data too short", [](auto& m) { external(m, "short.bin"); }, "shorter"},
      {"external data behind the end", [](auto& m) { external(m, "good.bin", "1"); }, "shorter"},
      {"external data at the end of the world", [](auto& m) { external(m, "good.bin", "18446744073709551615"); },
       "shorter"},
      {"external data at no number", [](auto& m) { external(m, "good.bin", "1x"); }, "whole number"},
      {"external data at a negative number", [](auto& m) { external(m, "good.bin", "-1"); }, "whole number"},
      {"external data of another length", [](auto& m) { external(m, "good.bin", "0", "63"); }, "length"},
  };
  return all;
}

/// Files that can be read, but whose network makes no sense: the one function or the other refuses it.
const std::vector<Broken>& senseless() {
  static const std::vector<Broken> all{
      {"weights for other channels",
       [](auto& m) {
         weight(m).set_dims(1, 4);
         weight(m).set_dims(0, 1);
       },
       "'c'"},
      {"weights of three dimensions",
       [](auto& m) {
         weight(m).mutable_dims()->RemoveLast();
         weight(m).set_dims(2, 4);
       },
       "'c'"},
      {"bias of another length",
       [](auto& m) {
         auto& b = *graph(m).mutable_initializer(1);
         b.add_float_data(1);
         b.set_dims(0, 3);
       },
       "'c'"},
      {"strides of zero", [](auto& m) { strides(m).set_ints(0, 0); }, "strides"},
      {"strides beyond sense", [](auto& m) { strides(m).set_ints(0, std::numeric_limits<std::int64_t>::max()); },
       "strides"},
      {"one stride", [](auto& m) { strides(m).mutable_ints()->RemoveLast(); }, "strides"},
      {"strides as text",
       [](auto& m) {
         strides(m).clear_ints();
         strides(m).set_type(onnx::AttributeProto::STRING);
         strides(m).set_s("2");
       },
       "strides"},
      {"pads of the wrong number", [](auto& m) { strides(m).set_name("pads"); }, "pads"},
      {"negative dilations",
       [](auto& m) {
         strides(m).set_name("dilations");
         strides(m).set_ints(0, -1);
       },
       "dilations"},
      {"dilations beyond the input",
       [](auto& m) {
         strides(m).set_name("dilations");
         strides(m).set_ints(0, 1 << 20);
       },
       "window"},
      {"group that divides nothing",
       [](auto& m) {
         strides(m).clear_ints();
         strides(m).set_name("group");
         strides(m).set_type(onnx::AttributeProto::INT);
         strides(m).set_i(3);
       },
       "group"},
      {"group of zero",
       [](auto& m) {
         strides(m).clear_ints();
         strides(m).set_name("group");
         strides(m).set_type(onnx::AttributeProto::INT);
         strides(m).set_i(0);
       },
       "group"},
      {"reshape to other elements", [](auto& m) { graph(m).mutable_initializer(4)->set_int64_data(1, 7); }, "'f'"},
      {"reshape to a negative size", [](auto& m) { graph(m).mutable_initializer(4)->set_int64_data(0, -2); }, "'f'"},
      {"product of other lengths",
       [](auto& m) {
         auto& v = *graph(m).mutable_initializer(2);
         v.set_dims(0, 8);
         v.set_dims(1, 3);
       },
       "'y'"},
      {"input too small", [](auto& m) { input_type(m).mutable_shape()->mutable_dim(2)->set_dim_value(1); }, "window"},
      {"free height", [](auto& m) { input_type(m).mutable_shape()->mutable_dim(2)->clear_value(); }, "free"},
      {"input of unknown dimensions", [](auto& m) { input_type(m).clear_shape(); }, "dimensions"},
      {"convolution without weights", [](auto& m) { graph(m).mutable_node(0)->mutable_input()->DeleteSubrange(1, 2); },
       "'c'"},
  };
  return all;
}

/// All that may be done with a model that was read; must end with it or with Error{bad_data}.
void use(const Model& model) {
  static_cast<void>(find_layers(model));
  static_cast<void>(infer_shapes(model));
  static_cast<void>(count(model));
  const auto folded = fold(model);
  for (const auto& layer : find_layers(folded)) static_cast<void>(weight_matrix(folded, layer));
  static_cast<void>(count(folded));
  static_cast<void>(serialize_model(folded));
}

void expect_one_line(const std::string& sentence) {
  EXPECT_LT(sentence.size(), 1000U);
  for (const char c : sentence) EXPECT_FALSE(static_cast<unsigned char>(c) < 0x20) << sentence;
}

TEST(BrokenFiles, EachDefectIsBadDataAndNamed) {
  const Folder folder;
  std::filesystem::create_directories(folder / "model/here");
  write_bytes(folder / "secret", std::string(64, 'a'));
  write_bytes(folder / "model/good.bin", std::string(64, 'a'));
  write_bytes(folder / "model/short.bin", std::string(63, 'a'));
  std::filesystem::create_symlink(folder / "secret", folder / "model/link.bin");
  for (const auto& broken : unreadable()) {
    SCOPED_TRACE(broken.name);
    auto proto = small_message();
    broken.apply(proto);
    write_bytes(folder / "model/m.onnx", proto.SerializeAsString());
    const auto [code, sentence] = error_of([&] { static_cast<void>(read_model(folder / "model/m.onnx")); });
    EXPECT_EQ(code, ExitCode::bad_data) << sentence;
    EXPECT_NE(sentence.find(broken.says), std::string::npos) << sentence;
    EXPECT_NE(sentence.find("m.onnx"), std::string::npos) << sentence;
    expect_one_line(sentence);
  }
}

TEST(BrokenFiles, NetworksWithoutSenseAreRefusedWhenUsed) {
  for (const auto& broken : senseless()) {
    SCOPED_TRACE(broken.name);
    auto proto = small_message();
    broken.apply(proto);
    const auto model = parse_model(proto.SerializeAsString(), ".", "m.onnx");
    const auto [code, sentence] = error_of([&] { use(model); });
    EXPECT_EQ(code, ExitCode::bad_data) << sentence;
    EXPECT_NE(sentence.find(broken.says), std::string::npos) << sentence;
    expect_one_line(sentence);
  }
}

TEST(BrokenFiles, TheUnbrokenOneIsRead) {
  EXPECT_NO_THROW(use(parse_model(small_message().SerializeAsString(), ".", "m.onnx")));
}

TEST(BrokenFiles, EveryTruncationIsNoticed) {
  const auto whole = small_message().SerializeAsString();
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const auto [code, sentence] =
        error_of([&] { static_cast<void>(parse_model(whole.substr(0, length), ".", "m.onnx")); });
    EXPECT_EQ(code, ExitCode::bad_data) << length;
    expect_one_line(sentence);
  }
}

/// A model, or an Error{bad_data}: anything else fails the test.
void expect_read_or_refused(const std::string& bytes) {
  try {
    use(parse_model(bytes, "/nonexistent", "m.onnx"));
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::bad_data) << error.what();
    expect_one_line(error.what());
  }
}

TEST(BrokenFiles, EveryFlippedBitGivesAModelOrASentence) {
  const auto whole = small_message().SerializeAsString();
  for (std::size_t bit = 0; bit < 8 * whole.size(); ++bit) {
    auto bytes = whole;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
    expect_read_or_refused(bytes);
  }
}

TEST(BrokenFiles, RandomDamageGivesAModelOrASentence) {
  const auto whole = small_message().SerializeAsString();
  std::mt19937 engine(1);
  for (int round = 0; round < 5000; ++round) {
    auto bytes = whole;
    const auto at = [&] { return engine() % bytes.size(); };
    for (unsigned i = 1 + engine() % 4; i > 0; --i) {
      switch (engine() % 4) {
      case 0:
        bytes[at()] = static_cast<char>(engine());
        break;
      case 1:
        bytes.erase(at(), 1 + engine() % 3);
        break;
      case 2:
        bytes.insert(at(), 1, static_cast<char>(engine()));
        break;
      default:
        bytes.insert(at(), bytes.substr(at(), engine() % 40));
      }
    }
    expect_read_or_refused(bytes);
  }
  for (int round = 0; round < 500; ++round) {
    std::string noise(engine() % 200, '\0');
    for (auto& byte : noise) byte = static_cast<char>(engine());
    expect_read_or_refused(noise);
  }
}

TEST(BrokenFiles, DeepNestingIsRefused) {
  // Graph in attribute in node in graph ... : as deep as the file is long.
  std::string bytes;
  for (int depth = 0; depth < 2000; ++depth) {
    const auto wrapped = [](char tag, const std::string& inside) {
      std::string length;
      for (auto n = inside.size();; n >>= 7) {
        length += static_cast<char>((n & 0x7f) | (n > 0x7f ? 0x80 : 0));
        if (n <= 0x7f) break;
      }
      return tag + length + inside;
    };
    bytes = wrapped(0x0a, wrapped(0x2a, wrapped(0x32, bytes))); // node (1), attribute (5), g (6)
    if (bytes.size() > 20000) break;
  }
  ModelProto outer = small_message();
  outer.mutable_graph()->MergeFromString("");
  auto whole = outer.SerializeAsString();
  std::string length;
  for (auto n = bytes.size();; n >>= 7) {
    length += static_cast<char>((n & 0x7f) | (n > 0x7f ? 0x80 : 0));
    if (n <= 0x7f) break;
  }
  whole += '\x3a' + length + bytes; // graph (7), merged with the first
  EXPECT_EQ(error_of([&] { static_cast<void>(parse_model(whole, ".", "m.onnx")); }).first, ExitCode::bad_data);
}

TEST(BrokenFiles, NamesCannotBreakTheLine) {
  auto proto = small_message();
  graph(proto).mutable_node(1)->set_input(0, "evil\n\x1b[31mname" + std::string(5000, 'a'));
  const auto [code, sentence] =
      error_of([&] { static_cast<void>(parse_model(proto.SerializeAsString(), ".", "m.onnx")); });
  EXPECT_EQ(code, ExitCode::bad_data);
  expect_one_line(sentence);
}

} // namespace
} // namespace slr::graph
