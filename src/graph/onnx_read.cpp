#include "onnx_parts.hpp"
#include "onnx_tensor.hpp"
#include "slr/graph/onnx_file.hpp"
#include "topology.hpp"
#include "words.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl.h>
#include <google/protobuf/stubs/logging.h>
#include <limits>
#include <mutex>

namespace slr::graph {
namespace {

namespace fs = std::filesystem;
constexpr std::int64_t oldest_opset = 7, newest_opset = 21;
/// Since this version initializers need not be repeated among the inputs.
constexpr std::int64_t first_ir_version_with_plain_initializers = 4;

/// Turns the message into a model, piece by piece; large data is moved.
class Reader {
public:
  Reader(fs::path folder, std::string what) : folder_(std::move(folder)), what_(std::move(what)) {}

  Model read(onnx::ModelProto& proto) {
    read_header(proto);
    auto& graph = *proto.mutable_graph();
    model_.name = graph.name();
    if (!graph.sparse_initializer().empty())
      throw defect("it has sparse initializers, which this program does not read");
    for (auto& tensor : *graph.mutable_initializer()) read_initializer(tensor);
    for (const auto& input : graph.input()) {
      auto value = read_value(input, "the input ");
      // Old files, and newer ones whose weights may be overridden, repeat the initializers here.
      if (!model_.initializers.contains(value.name)) model_.inputs.push_back(std::move(value));
    }
    for (const auto& output : graph.output()) model_.outputs.push_back(read_value(output, "the output "));
    if (model_.outputs.empty()) throw defect("its graph has no outputs");
    check_outputs();
    model_.nodes.reserve(static_cast<std::size_t>(graph.node_size()));
    for (auto& node : *graph.mutable_node()) model_.nodes.push_back(read_node(node));
    establish_order(model_, what_);
    return std::move(model_);
  }

private:
  [[nodiscard]] Error defect(const std::string& sentence) const { return bad_data(what_ + ": " + sentence); }

  static std::string domain_of(const std::string& domain) { return domain == "ai.onnx" ? std::string() : domain; }

  void read_header(const onnx::ModelProto& proto) {
    if (!proto.has_graph() || proto.ir_version() <= 0) throw defect("this is not an ONNX model, or it is truncated");
    if (!proto.functions().empty())
      throw defect("it defines functions of its own, which this program does not read: inline them");
    model_.ir_version = std::max(proto.ir_version(), first_ir_version_with_plain_initializers);
    model_.producer = proto.producer_name();
    for (const auto& opset : proto.opset_import())
      if (!model_.opsets.emplace(domain_of(opset.domain()), opset.version()).second)
        throw defect("it imports the operators of " + in_quotes(opset.domain()) + " twice");
    const auto opset = model_.opsets.find("");
    if (opset == model_.opsets.end())
      throw defect("it does not say which ONNX operator set it uses, or it is truncated");
    if (opset->second < oldest_opset || opset->second > newest_opset)
      throw defect("it uses ONNX operator set " + std::to_string(opset->second) + ": convert it to one from " +
                   std::to_string(oldest_opset) + " to " + std::to_string(newest_opset));
    for (const auto& entry : proto.metadata_props()) model_.metadata[entry.key()] = entry.value();
  }

  void read_initializer(onnx::TensorProto& proto) {
    const auto name = proto.name();
    if (name.empty()) throw defect("an initializer has no name");
    auto tensor = take_tensor(proto, folder_, what_ + ": the initializer " + in_quotes(name));
    if (!model_.initializers.emplace(name, std::move(tensor)).second)
      throw defect("the initializer " + in_quotes(name) + " is defined twice");
  }

  Value read_value(const onnx::ValueInfoProto& proto, const std::string& kind) const {
    const auto what = kind + in_quotes(proto.name());
    Value value;
    value.name = proto.name();
    if (value.name.empty()) throw defect(kind + "without a name cannot be used");
    const bool is_tensor = proto.type().has_tensor_type();
    if (!is_tensor && proto.type().value_case() != onnx::TypeProto::VALUE_NOT_SET)
      throw defect(what + " is not a tensor");
    const auto& type = proto.type().tensor_type();
    if (type.elem_type() != 0) value.type = element_type(type.elem_type(), what_ + ": " + what);
    value.has_shape = is_tensor && type.has_shape();
    for (const auto& dim : type.shape().dim()) {
      // Some exporters write 0 or -1 for a dimension that is free.
      value.dims.push_back(dim.has_dim_value() && dim.dim_value() > 0 ? dim.dim_value() : -1);
      value.dim_names.push_back(dim.dim_param());
    }
    return value;
  }

  void check_outputs() const {
    for (std::size_t i = 0; i < model_.outputs.size(); ++i)
      for (std::size_t j = 0; j < i; ++j)
        if (model_.outputs[i].name == model_.outputs[j].name)
          throw defect("the graph's output " + in_quotes(model_.outputs[i].name) + " is listed twice");
  }

  Node read_node(onnx::NodeProto& proto) const {
    Node node;
    node.name = proto.name();
    node.is_named = !node.name.empty();
    node.op = proto.op_type();
    node.domain = domain_of(proto.domain());
    node.inputs.assign(proto.input().begin(), proto.input().end());
    node.outputs.assign(proto.output().begin(), proto.output().end());
    if (node.op.empty()) throw defect("the node " + in_quotes(node.name) + " has no operator");
    if (!model_.opsets.contains(node.domain))
      throw defect(words_for(node) + " is from the operators of " + in_quotes(node.domain) +
                   ", which the file does not import");
    for (auto& attribute : *proto.mutable_attribute()) {
      auto value = read_attribute(attribute, node);
      if (!node.attributes.emplace(attribute.name(), std::move(value)).second)
        throw defect("the attribute " + in_quotes(attribute.name()) + " of " + words_for(node) + " is given twice");
    }
    return node;
  }

  /// The kind the file says or, where a very old one does not, the kind of what is there.
  static onnx::AttributeProto::AttributeType kind_of(const onnx::AttributeProto& proto) {
    using Proto = onnx::AttributeProto;
    if (proto.type() != Proto::UNDEFINED) return proto.type();
    if (proto.has_i()) return Proto::INT;
    if (proto.has_f()) return Proto::FLOAT;
    if (proto.has_s()) return Proto::STRING;
    if (proto.has_t()) return Proto::TENSOR;
    if (proto.has_g()) return Proto::GRAPH;
    if (!proto.ints().empty()) return Proto::INTS;
    if (!proto.floats().empty()) return Proto::FLOATS;
    if (!proto.strings().empty()) return Proto::STRINGS;
    return Proto::UNDEFINED;
  }

  /// Whether anything stands in a field that is not the one of its kind.
  static bool is_contradictory(const onnx::AttributeProto& proto, onnx::AttributeProto::AttributeType kind) {
    using Proto = onnx::AttributeProto;
    return (proto.has_i() && kind != Proto::INT) || (proto.has_f() && kind != Proto::FLOAT) ||
           (proto.has_s() && kind != Proto::STRING) || (proto.has_t() && kind != Proto::TENSOR) ||
           (!proto.ints().empty() && kind != Proto::INTS) || (!proto.floats().empty() && kind != Proto::FLOATS) ||
           (!proto.strings().empty() && kind != Proto::STRINGS);
  }

  Attribute read_attribute(onnx::AttributeProto& proto, const Node& node) const {
    using Proto = onnx::AttributeProto;
    const auto what = "the attribute " + in_quotes(proto.name()) + " of " + words_for(node);
    if (proto.name().empty()) throw defect(words_for(node) + " has an attribute without a name");
    const auto kind = kind_of(proto);
    // Writers without field presence leave zeros out, so an absent value is one; a value in another field is a defect.
    if (is_contradictory(proto, kind)) throw defect(what + " holds a value of another kind than it says");
    switch (kind) {
    case Proto::INT:
      return proto.i();
    case Proto::FLOAT:
      return proto.f();
    case Proto::STRING:
      return proto.s();
    case Proto::INTS:
      return std::vector<std::int64_t>(proto.ints().begin(), proto.ints().end());
    case Proto::FLOATS:
      return std::vector<float>(proto.floats().begin(), proto.floats().end());
    case Proto::STRINGS:
      return std::vector<std::string>(proto.strings().begin(), proto.strings().end());
    case Proto::TENSOR:
      return take_tensor(*proto.mutable_t(), folder_, what_ + ": " + what);
    case Proto::GRAPH:
    case Proto::GRAPHS:
      throw defect(words_for(node) + " contains a graph of its own, which this program does not read");
    default:
      throw defect(what + " is of a kind that this program does not read");
    }
  }

  fs::path folder_;
  std::string what_;
  Model model_;
};

/// A coded stream bounded as a model is.
void bound(google::protobuf::io::CodedInputStream& coded) {
  coded.SetTotalBytesLimit(std::numeric_limits<int>::max());
  coded.SetRecursionLimit(64);
}

PartSurvey checked_parts(google::protobuf::io::ZeroCopyInputStream& stream, const std::string& what) {
  google::protobuf::io::CodedInputStream coded(&stream);
  bound(coded);
  auto survey = survey_parts(coded, most_parts_of_a_model);
  if (survey.parts > most_parts_of_a_model)
    throw bad_data(what + ": it consists of more than " + std::to_string(most_parts_of_a_model) +
                   " nodes, attributes, names and other parts, which no network that this program reads has");
  return survey;
}

Model parse_stream(google::protobuf::io::ZeroCopyInputStream& stream, const fs::path& folder, const std::string& what) {
  // protobuf writes to stderr by itself; what it would say, the exceptions here say in a sentence.
  static std::once_flag silenced;
  std::call_once(silenced, [] { google::protobuf::SetLogHandler(nullptr); });
  onnx::ModelProto proto;
  google::protobuf::io::CodedInputStream coded(&stream);
  bound(coded);
  if (!proto.ParseFromCodedStream(&coded) || !coded.ConsumedEntireMessage())
    throw bad_data(what + ": this is not an ONNX model, or it is truncated or damaged");
  return Reader(folder, what).read(proto);
}

void check_size(std::uintmax_t bytes, const std::string& what) {
  if (bytes > static_cast<std::uintmax_t>(std::numeric_limits<int>::max()))
    throw bad_data(what +
                   ": it is longer than the 2 GB that an ONNX file can have; its weights belong in external data");
}

} // namespace

Model parse_model(std::string_view bytes, const fs::path& folder, const std::string& what) {
  check_size(bytes.size(), what);
  google::protobuf::io::ArrayInputStream counted(bytes.data(), static_cast<int>(bytes.size()));
  static_cast<void>(checked_parts(counted, what));
  google::protobuf::io::ArrayInputStream stream(bytes.data(), static_cast<int>(bytes.size()));
  return parse_stream(stream, folder, what);
}

Model read_model(const fs::path& file) {
  std::error_code error;
  const auto bytes = fs::file_size(file, error);
  std::ifstream input(file, std::ios::binary);
  if (error || !input || !fs::is_regular_file(file, error))
    throw Error(ExitCode::io, "cannot open the model " + file.string() + " for reading: " +
                                  (error ? error.message() : std::string("it is not a readable file")));
  check_size(bytes, file.string());
  // Streamed: the file's bytes and the message made of them are never in memory together.
  try {
    {
      google::protobuf::io::IstreamInputStream counted(&input, 1 << 20);
      static_cast<void>(checked_parts(counted, file.string()));
    }
    input.clear();
    input.seekg(0);
    google::protobuf::io::IstreamInputStream stream(&input, 1 << 20);
    return parse_stream(stream, file.parent_path(), file.string());
  } catch (const Error&) {
    if (input.bad()) throw Error(ExitCode::io, "reading the model " + file.string() + " failed");
    throw;
  }
}

std::vector<fs::path> external_files(const fs::path& file) {
  std::ifstream input(file, std::ios::binary);
  if (!input) throw Error(ExitCode::io, "cannot open the model " + file.string() + " for reading");
  google::protobuf::io::IstreamInputStream stream(&input, 1 << 20);
  std::vector<fs::path> files;
  for (const auto& location : checked_parts(stream, file.string()).locations)
    files.push_back(external_file(location, file.parent_path(), file.string()));
  return files;
}

} // namespace slr::graph
