#pragma once
// A folder of its own for each test, and small ONNX messages.
#include "builder.hpp"

#include <filesystem>
#include <fstream>
#include <onnx/onnx_pb.h>
#include <unistd.h>

namespace slr::graph {

class Folder {
public:
  Folder() {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    path_ = std::filesystem::temp_directory_path() /
            ("slr_graph_" + std::string(test->name()) + "_" + std::to_string(::getpid()));
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

private:
  std::filesystem::path path_;
};

inline void write_bytes(const std::filesystem::path& file, const std::string& bytes) {
  std::ofstream(file, std::ios::binary) << bytes;
}

inline void add_value(onnx::ValueInfoProto& value, const std::string& name, const std::vector<std::int64_t>& dims) {
  value.set_name(name);
  auto& type = *value.mutable_type()->mutable_tensor_type();
  type.set_elem_type(1);
  type.mutable_shape();
  for (const auto dim : dims) {
    auto& d = *type.mutable_shape()->add_dim();
    if (dim < 0)
      d.set_dim_param("batch");
    else
      d.set_dim_value(dim);
  }
}

inline onnx::NodeProto& add_node(onnx::GraphProto& graph, const std::string& op, const std::vector<std::string>& inputs,
                                 const std::vector<std::string>& outputs) {
  auto& node = *graph.add_node();
  node.set_op_type(op);
  for (const auto& input : inputs) node.add_input(input);
  for (const auto& output : outputs) node.add_output(output);
  return node;
}

inline onnx::TensorProto& add_floats(onnx::GraphProto& graph, const std::string& name, const Dims& dims, float first) {
  auto& tensor = *graph.add_initializer();
  tensor.set_name(name);
  tensor.set_data_type(1);
  for (const auto dim : dims) tensor.add_dims(dim);
  for (std::int64_t i = 0; i < element_count(dims); ++i) tensor.add_float_data(first + float(i));
  return tensor;
}

/// x (batch x 2 x 4 x 4) -> Conv -> Relu -> Reshape -> Gemm -> y, complete and valid.
inline onnx::ModelProto small_message() {
  onnx::ModelProto model;
  model.set_ir_version(7);
  auto& opset = *model.add_opset_import();
  opset.set_domain("");
  opset.set_version(13);
  auto& graph = *model.mutable_graph();
  graph.set_name("small");
  add_value(*graph.add_input(), "x", {-1, 2, 4, 4});
  add_value(*graph.add_output(), "y", {-1, 3});
  auto& strides = *add_node(graph, "Conv", {"x", "w", "b"}, {"c"}).add_attribute();
  strides.set_name("strides");
  strides.set_type(onnx::AttributeProto::INTS);
  strides.add_ints(2);
  strides.add_ints(2);
  add_node(graph, "Relu", {"c"}, {"r"});
  add_node(graph, "Reshape", {"r", "shape"}, {"f"});
  auto& transposed = *add_node(graph, "Gemm", {"f", "v", "d"}, {"y"}).add_attribute();
  transposed.set_name("transB");
  transposed.set_type(onnx::AttributeProto::INT);
  transposed.set_i(1);
  add_floats(graph, "w", {2, 2, 2, 2}, 1);
  add_floats(graph, "b", {2}, -30);
  add_floats(graph, "v", {3, 8}, -7);
  add_floats(graph, "d", {3}, 2);
  auto& shape = *graph.add_initializer();
  shape.set_name("shape");
  shape.set_data_type(7);
  shape.add_dims(2);
  shape.add_int64_data(0);
  shape.add_int64_data(-1);
  return model;
}

} // namespace slr::graph
