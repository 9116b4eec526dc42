#include "onnx_tensor.hpp"
#include "slr/base/file.hpp"
#include "slr/graph/onnx_file.hpp"
#include "words.hpp"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl.h>

namespace slr::graph {
namespace {

namespace fs = std::filesystem;
/// Small tensors stay in the model's file: they are shapes and indices that other tools look at.
constexpr std::size_t smallest_external_bytes = 1024;
/// Alignment that ONNX recommends for external data, so that it can be mapped.
constexpr std::uint64_t external_alignment = 4096;

void fill_attribute(onnx::AttributeProto& proto, const std::string& name, const Attribute& attribute) {
  using Proto = onnx::AttributeProto;
  proto.set_name(name);
  struct Visitor {
    Proto& proto;
    void operator()(std::int64_t value) const {
      proto.set_type(Proto::INT);
      proto.set_i(value);
    }
    void operator()(float value) const {
      proto.set_type(Proto::FLOAT);
      proto.set_f(value);
    }
    void operator()(const std::string& value) const {
      proto.set_type(Proto::STRING);
      proto.set_s(value);
    }
    void operator()(const std::vector<std::int64_t>& values) const {
      proto.set_type(Proto::INTS);
      for (const auto value : values) proto.add_ints(value);
    }
    void operator()(const std::vector<float>& values) const {
      proto.set_type(Proto::FLOATS);
      for (const auto value : values) proto.add_floats(value);
    }
    void operator()(const std::vector<std::string>& values) const {
      proto.set_type(Proto::STRINGS);
      for (const auto& value : values) proto.add_strings(value);
    }
    void operator()(const Tensor& value) const {
      proto.set_type(Proto::TENSOR);
      fill_tensor(*proto.mutable_t(), "", value);
    }
  };
  std::visit(Visitor{proto}, attribute);
}

void fill_value(onnx::ValueInfoProto& proto, const Value& value) {
  proto.set_name(value.name);
  if (value.type == ElementType::undefined && !value.has_shape) return;
  auto& type = *proto.mutable_type()->mutable_tensor_type();
  type.set_elem_type(static_cast<int>(value.type));
  if (!value.has_shape) return;
  auto& shape = *type.mutable_shape();
  for (std::size_t i = 0; i < value.dims.size(); ++i) {
    auto& dim = *shape.add_dim();
    if (value.dims[i] >= 0)
      dim.set_dim_value(value.dims[i]);
    else if (i < value.dim_names.size() && !value.dim_names[i].empty())
      dim.set_dim_param(value.dim_names[i]);
  }
}

void fill_node(onnx::NodeProto& proto, const Node& node) {
  if (node.is_named) proto.set_name(node.name);
  proto.set_op_type(node.op);
  if (!node.domain.empty()) proto.set_domain(node.domain);
  for (const auto& input : node.inputs) proto.add_input(input);
  for (const auto& output : node.outputs) proto.add_output(output);
  for (const auto& [name, attribute] : node.attributes) fill_attribute(*proto.add_attribute(), name, attribute);
}

/// Everything but the initializers.
onnx::ModelProto skeleton(const Model& model) {
  onnx::ModelProto proto;
  proto.set_ir_version(model.ir_version);
  for (const auto& [domain, version] : model.opsets) {
    auto& opset = *proto.add_opset_import();
    opset.set_domain(domain);
    opset.set_version(version);
  }
  if (!model.producer.empty()) proto.set_producer_name(model.producer);
  for (const auto& [key, value] : model.metadata) {
    auto& entry = *proto.add_metadata_props();
    entry.set_key(key);
    entry.set_value(value);
  }
  auto& graph = *proto.mutable_graph();
  graph.set_name(model.name.empty() ? "network" : model.name); // ONNX wants one
  for (const auto& node : model.nodes) fill_node(*graph.add_node(), node);
  for (const auto& value : model.inputs) fill_value(*graph.add_input(), value);
  for (const auto& value : model.outputs) fill_value(*graph.add_output(), value);
  return proto;
}

onnx::ModelProto whole(const Model& model) {
  auto proto = skeleton(model);
  for (const auto& [name, tensor] : model.initializers)
    fill_tensor(*proto.mutable_graph()->add_initializer(), name, tensor);
  return proto;
}

std::size_t initializer_bytes(const Model& model) {
  std::size_t bytes = 0;
  for (const auto& [name, tensor] : model.initializers) bytes += tensor.data.bytes().size();
  return bytes;
}

void check_inline_size(std::size_t bytes, const Model& model) {
  if (bytes > inline_limit_bytes)
    throw bad_data("the model " + in_quotes(model.name) + " is longer than the 2 GB that an ONNX file can have");
}

[[nodiscard]] Error write_failure(const fs::path& file) {
  return {ExitCode::io, "writing " + file.string() + " failed: " + std::strerror(errno)};
}

/// Runs `fill` on a stream to a temporary beside the file, then renames; the temporary goes if anything fails.
template <class Fill>
void write_beside(const fs::path& file, Fill&& fill) {
  const auto temporary = temporary_name(file);
  try {
    std::ofstream stream(temporary, std::ios::binary | std::ios::trunc);
    if (!stream) throw Error(ExitCode::io, "cannot create " + temporary.string() + ": " + std::strerror(errno));
    fill(stream);
    stream.close();
    if (!stream) throw write_failure(file);
    commit_file(temporary, file);
  } catch (...) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    throw;
  }
}

void write_message(const onnx::ModelProto& proto, const fs::path& file) {
  write_beside(file, [&](std::ofstream& stream) {
    if (!proto.SerializeToOstream(&stream)) throw write_failure(file);
  });
}

std::uint64_t aligned(std::uint64_t offset) {
  return (offset + external_alignment - 1) / external_alignment * external_alignment;
}

void refer_to(onnx::TensorProto& proto, const std::string& location, std::uint64_t offset, std::size_t length) {
  proto.set_data_location(onnx::TensorProto::EXTERNAL);
  const auto add = [&](const char* key, const std::string& value) {
    auto& entry = *proto.add_external_data();
    entry.set_key(key);
    entry.set_value(value);
  };
  add("location", location);
  add("offset", std::to_string(offset));
  add("length", std::to_string(length));
}

void write_with_external_data(const Model& model, const fs::path& file) {
  auto data_file = file;
  data_file += ".data";
  auto proto = skeleton(model);
  auto& graph = *proto.mutable_graph();
  write_beside(data_file, [&](std::ofstream& stream) {
    std::uint64_t offset = 0;
    const std::vector<char> zeros(external_alignment, '\0');
    for (const auto& [name, tensor] : model.initializers) {
      const auto bytes = tensor.data.bytes();
      auto& out = *graph.add_initializer();
      if (bytes.size() < smallest_external_bytes) {
        fill_tensor(out, name, tensor);
        continue;
      }
      stream.write(zeros.data(), static_cast<std::streamsize>(aligned(offset) - offset));
      offset = aligned(offset);
      fill_header(out, name, tensor);
      refer_to(out, data_file.filename().string(), offset, bytes.size());
      stream.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
      offset += bytes.size();
    }
  });
  check_inline_size(proto.ByteSizeLong(), model);
  write_message(proto, file);
}

} // namespace

std::string serialize_model(const Model& model) {
  check_inline_size(initializer_bytes(model), model);
  const auto proto = whole(model);
  check_inline_size(proto.ByteSizeLong(), model);
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    require(proto.SerializeToCodedStream(&coded), "a model cannot be serialized");
  }
  return bytes;
}

void write_model(const Model& model, const fs::path& file, std::size_t limit_bytes) {
  // A margin for names and attributes, which are not counted here.
  constexpr std::size_t margin = 1 << 20;
  if (initializer_bytes(model) + margin > limit_bytes) return write_with_external_data(model, file);
  const auto proto = whole(model);
  check_inline_size(proto.ByteSizeLong(), model);
  write_message(proto, file);
}

} // namespace slr::graph
