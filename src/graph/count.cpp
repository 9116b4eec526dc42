#include "slr/graph/count.hpp"

#include "edit.hpp"
#include "linear_node.hpp"
#include "shape_table.hpp"
#include "slr/graph/layers.hpp"
#include "words.hpp"

#include <algorithm>
#include <array>
#include <set>

namespace slr::graph {
namespace {

bool is_floating(ElementType type) {
  return type == ElementType::float32 || type == ElementType::float16 || type == ElementType::float64;
}

std::int64_t sum(std::int64_t a, std::int64_t b, const Model& model) {
  std::int64_t result = 0;
  if (__builtin_add_overflow(a, b, &result))
    throw bad_data("the model " + in_quotes(model.name) + " is absurdly large");
  return result;
}

std::int64_t product(std::int64_t a, std::int64_t b, const Node& node) {
  std::int64_t result = 0;
  if (__builtin_mul_overflow(a, b, &result)) throw bad_data(words_for(node) + " computes an absurd number of products");
  return result;
}

/// The first node whose output dimensions are unknown although those of its inputs are not: an operator that this
/// program does not know, or one whose result depends on values.
std::string first_unknown(const Model& model, const std::map<std::string, Dims>& shapes) {
  const auto is_known = [&](const std::string& value) {
    return value.empty() || shapes.contains(value) || model.initializers.contains(value);
  };
  for (const auto& node : model.nodes)
    if (!std::all_of(node.outputs.begin(), node.outputs.end(), is_known) &&
        std::all_of(node.inputs.begin(), node.inputs.end(), is_known))
      return words_for(node);
  return "an input of the model";
}

/// Products that the node computes: elements of its output times the length of the sums they are.
std::int64_t macs_of(const Model& model, const Node& node, const std::map<std::string, Dims>& shapes) {
  const bool is_convolution = is_op(node, "Conv"), is_gemm = is_op(node, "Gemm");
  if (!is_convolution && !is_gemm && !is_op(node, "MatMul")) return 0;
  if (node.inputs.size() < 2 || node.outputs.empty()) throw bad_data(words_for(node) + " lacks an input or output");
  const auto output = shapes.find(node.outputs[0]), left = shapes.find(node.inputs[0]),
             right = shapes.find(node.inputs[1]);
  if (output == shapes.end() || left == shapes.end() || right == shapes.end())
    throw bad_data("the products of " + words_for(node) + " cannot be counted, because the dimensions that " +
                   first_unknown(model, shapes) +
                   " gives are not known: its operator is not supported, or they depend on the data");
  std::int64_t length = 1;
  if (is_convolution)
    length = element_count(Dims(right->second.begin() + 1, right->second.end()));
  else if (is_gemm)
    length = left->second[node.int_or("transA", 0) != 0 ? 0 : 1];
  else
    length = left->second.back();
  return product(element_count(output->second), length, node);
}

std::int64_t constant_parameters(const Node& node) {
  const auto tensor = constant_value(node);
  return tensor && is_floating(tensor->type) ? tensor->size() : 0;
}

} // namespace

std::map<std::string, Dims> infer_shapes(const Model& model, std::int64_t batch) {
  const ShapeTable table(model, [&](const Value& input) -> std::optional<Shape> {
    if (!input.has_shape)
      throw bad_data("the model " + in_quotes(model.name) + " does not say what dimensions its input " +
                     in_quotes(input.name) + " has");
    Dims dims = input.dims;
    for (std::size_t i = 0; i < dims.size(); ++i) {
      if (dims[i] >= 0) continue;
      if (i > 0)
        throw bad_data("dimension " + std::to_string(i) + " of the input " + in_quotes(input.name) + " of the model " +
                       in_quotes(model.name) +
                       " is free: only the first, the batch, may be; export it with fixed dimensions");
      dims[i] = batch;
    }
    return shape_of(dims);
  });
  std::map<std::string, Dims> shapes;
  for (const auto& [name, shape] : table.shapes())
    if (auto dims = known_dims(shape)) shapes[name] = std::move(*dims);
  return shapes;
}

Counts count(const Model& model) {
  const auto shapes = infer_shapes(model, 1);
  Counts counts;
  std::set<std::string> indices;
  for (const auto& node : model.nodes) {
    if (is_op(node, "Gather") && node.inputs.size() > 1) indices.insert(node.inputs[1]);
    counts.macs = sum(counts.macs, macs_of(model, node, shapes), model);
    counts.parameters = sum(counts.parameters, constant_parameters(node), model);
  }
  for (const auto& [name, tensor] : model.initializers) {
    if (is_floating(tensor.type) || indices.contains(name))
      counts.parameters = sum(counts.parameters, tensor.size(), model);
    counts.bytes = sum(counts.bytes, static_cast<std::int64_t>(tensor.data.bytes().size()), model);
  }
  return counts;
}

std::int64_t layer_parameters(const Model& model, const std::string& layer) {
  std::set<std::string> names;
  for (const auto& found : find_layers(model))
    if (found.name == layer) {
      names.insert(found.weight);
      if (!found.bias_name.empty() && uses_of(model, found.bias_name) == found.uses().size())
        names.insert(found.bias_name);
    }
  if (names.empty()) {
    // As replace_layer names the parts that have numbers.
    constexpr std::array parts{"order", "kept", "lowrank_v", "lowrank_u", "zero", "add"};
    for (const auto& node : model.nodes)
      for (const std::string part : parts)
        if (node.name == layer + "/" + part || node.name == layer + "/" + part + "/bias" ||
            node.name.starts_with(layer + "/order_"))
          names.insert(node.inputs.begin(), node.inputs.end());
  }
  std::int64_t parameters = 0;
  for (const auto& name : names)
    if (const auto found = model.initializers.find(name); found != model.initializers.end())
      parameters = sum(parameters, found->second.size(), model);
  return parameters;
}

} // namespace slr::graph
