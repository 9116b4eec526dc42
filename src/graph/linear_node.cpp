#include "linear_node.hpp"

#include "words.hpp"

#include <algorithm>

namespace slr::graph {
namespace {

const Tensor* float_initializer(const Model& model, const std::string& name) {
  const auto found = model.initializers.find(name);
  if (found == model.initializers.end() || found->second.type != ElementType::float32) return nullptr;
  return &found->second;
}

const std::string& input_or_empty(const Node& node, std::size_t i) {
  static const std::string none;
  return i < node.inputs.size() ? node.inputs[i] : none;
}

/// Whether the tensor is a row of `rows` numbers, or one number, that is added to every row of a matrix.
bool is_row(const Tensor& tensor, std::int64_t rows) {
  const auto& dims = tensor.dims;
  if (dims.size() > 2 || (dims.size() == 2 && dims[0] != 1)) return false;
  return dims.empty() || dims.back() == rows || dims.back() == 1;
}

std::optional<LinearNode> convolution(const Model& model, const Node& node, LinearNode linear) {
  const auto& dims = model.initializers.at(linear.weight).dims;
  const auto group = node.int_or("group", 1);
  if (dims.size() < 3 || group < 1 || dims[0] % group != 0) return std::nullopt;
  linear.rows = dims[0];
  linear.cols = element_count(Dims(dims.begin() + 1, dims.end()));
  linear.bias_name = input_or_empty(node, 2);
  if (linear.bias_name.empty()) return linear;
  const auto* bias = float_initializer(model, linear.bias_name);
  return bias && bias->dims == Dims{linear.rows} ? std::optional(linear) : std::nullopt;
}

std::optional<LinearNode> gemm(const Model& model, const Node& node, LinearNode linear) {
  const auto& dims = model.initializers.at(linear.weight).dims;
  if (dims.size() != 2 || node.int_or("transA", 0) != 0) return std::nullopt;
  linear.is_transposed = node.int_or("transB", 0) == 0;
  linear.rows = linear.is_transposed ? dims[1] : dims[0];
  linear.cols = linear.is_transposed ? dims[0] : dims[1];
  linear.scale = node.float_or("alpha", 1);
  linear.bias_scale = node.float_or("beta", 1);
  linear.bias_name = input_or_empty(node, 2);
  if (linear.bias_name.empty()) return linear;
  const auto* bias = float_initializer(model, linear.bias_name);
  return bias && is_row(*bias, linear.rows) ? std::optional(linear) : std::nullopt;
}

/// The Add behind a MatMul, if it adds a constant of one number per output channel.
void take_bias_add(const Model& model, LinearNode& linear) {
  const auto& product = model.nodes[linear.node].outputs[0];
  const auto readers = model.consumers_of(product);
  if (readers.size() != 1 || model.is_output(product)) return;
  const auto& add = model.nodes[readers.front()];
  if (!is_op(add, "Add") || add.inputs.size() != 2 || add.outputs.size() != 1) return;
  const auto& other = add.inputs[0] == product ? add.inputs[1] : add.inputs[0];
  const auto* bias = other == product ? nullptr : float_initializer(model, other);
  if (!bias || bias->dims.empty() || !is_row(*bias, linear.rows) || bias->dims.back() != linear.rows) return;
  linear.bias_add = readers.front();
  linear.bias_name = other;
}

std::optional<LinearNode> matmul(const Model& model, LinearNode linear) {
  const auto& dims = model.initializers.at(linear.weight).dims;
  if (dims.size() != 2) return std::nullopt;
  linear.is_transposed = true;
  linear.rows = dims[1];
  linear.cols = dims[0];
  take_bias_add(model, linear);
  return linear;
}

} // namespace

std::optional<Tensor> constant_value(const Node& node) {
  if (!is_op(node, "Constant") || node.attributes.size() != 1) return std::nullopt;
  const auto& [key, attribute] = *node.attributes.begin();
  if (const auto* tensor = std::get_if<Tensor>(&attribute); tensor && key == "value") return *tensor;
  if (const auto* number = std::get_if<float>(&attribute); number && key == "value_float")
    return Tensor::of_floats({}, std::span(number, 1));
  if (const auto* number = std::get_if<std::int64_t>(&attribute); number && key == "value_int")
    return Tensor::of_int64s({}, std::span(number, 1));
  if (const auto* list = std::get_if<std::vector<float>>(&attribute); list && key == "value_floats")
    return Tensor::of_floats({static_cast<std::int64_t>(list->size())}, *list);
  if (const auto* list = std::get_if<std::vector<std::int64_t>>(&attribute); list && key == "value_ints")
    return Tensor::of_int64s({static_cast<std::int64_t>(list->size())}, *list);
  return std::nullopt;
}

std::optional<Tensor> constant_of(const Model& model, const std::string& value) {
  const auto found = model.initializers.find(value);
  if (found != model.initializers.end()) return found->second;
  const auto producer = model.producer_of(value);
  return producer ? constant_value(model.nodes[*producer]) : std::nullopt;
}

const std::string& LinearNode::output(const Model& model) const {
  return model.nodes[bias_add.value_or(node)].outputs[0];
}

std::vector<float> LinearNode::weights(const Model& model) const {
  const auto stored = model.initializers.at(weight).floats();
  std::vector<float> result(stored.begin(), stored.end());
  if (is_transposed)
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < cols; ++j)
        result[static_cast<std::size_t>(i * cols + j)] = stored[static_cast<std::size_t>(j * rows + i)];
  if (scale != 1)
    for (auto& value : result) value = static_cast<float>(scale * value);
  return result;
}

Tensor LinearNode::scaled_tensor(const Model& model, const std::vector<double>& factors) const {
  const auto& stored = model.initializers.at(weight);
  const auto values = stored.floats();
  std::vector<float> result(values.size());
  const auto n = static_cast<std::size_t>(is_transposed ? rows : cols);
  for (std::size_t k = 0; k < values.size(); ++k)
    result[k] = static_cast<float>(factors[is_transposed ? k % n : k / n] * values[k]);
  return Tensor::of_floats(stored.dims, result);
}

std::vector<double> LinearNode::bias(const Model& model) const {
  std::vector<double> result(static_cast<std::size_t>(rows), 0.0);
  if (bias_name.empty()) return result;
  const auto stored = model.initializers.at(bias_name).floats();
  for (std::size_t i = 0; i < result.size(); ++i) result[i] = bias_scale * stored[stored.size() == 1 ? 0 : i];
  return result;
}

std::optional<LinearNode> linear_node(const Model& model, std::size_t node) {
  const auto& n = model.nodes[node];
  const bool is_convolution = is_op(n, "Conv"), is_gemm = is_op(n, "Gemm"), is_matmul = is_op(n, "MatMul");
  if (!is_convolution && !is_gemm && !is_matmul) return std::nullopt;
  if (n.inputs.size() < 2 || n.outputs.size() != 1 || n.outputs[0].empty()) return std::nullopt;
  // Without an input that varies there is nothing to fit.
  if (n.inputs[0].empty() || model.initializers.contains(n.inputs[0])) return std::nullopt;
  LinearNode linear;
  linear.node = node;
  linear.weight = n.inputs[1];
  const auto* weight = float_initializer(model, linear.weight);
  if (!weight || weight->size() == 0) return std::nullopt;
  if (is_convolution) return convolution(model, n, linear);
  return is_gemm ? gemm(model, n, linear) : matmul(model, linear);
}

} // namespace slr::graph
