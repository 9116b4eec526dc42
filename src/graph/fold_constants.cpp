#include "edit.hpp"
#include "fold.hpp"
#include "linear_node.hpp"
#include "shape_table.hpp"
#include "words.hpp"

#include <algorithm>
#include <cstring>
#include <unordered_map>

namespace slr::graph {
namespace {

/// Whether the node makes exactly one value and that is no output of the graph, so that an initializer may replace it.
bool is_replaceable(const Model& model, const Node& node) {
  return node.outputs.size() == 1 && !node.outputs[0].empty() && !model.is_output(node.outputs[0]);
}

/// Identity, or a Dropout that does nothing: not told to train, and its mask not asked for.
bool passes_through(const Model& model, const Node& node) {
  if (node.inputs.empty() || node.inputs[0].empty() || node.outputs.empty() || node.outputs[0].empty()) return false;
  if (is_op(node, "Identity")) return true;
  if (!is_op(node, "Dropout")) return false;
  if (node.outputs.size() > 1 && uses_of(model, node.outputs[1]) > 0) return false;
  if (node.inputs.size() < 3 || node.inputs[2].empty()) return true;
  const auto training = constant_of(model, node.inputs[2]);
  return training && std::ranges::all_of(training->data.bytes(), [](std::byte b) { return b == std::byte(0); });
}

/// An output of the graph cannot be renamed, so what it repeats takes its name, if that is free to.
bool give_name(Model& model, std::size_t node) {
  const auto from = model.nodes[node].inputs[0], to = model.nodes[node].outputs[0];
  const auto producer = model.producer_of(from);
  if (!producer || model.is_output(from)) return false;
  std::ranges::replace(model.nodes[*producer].outputs, from, to);
  redirect_reads(model, from, to);
  return true;
}

Tensor integer_tensor(ElementType type, const Dims& dims, const std::vector<std::int64_t>& values) {
  if (type == ElementType::int64) return Tensor::of_int64s(dims, values);
  std::vector<std::byte> bytes(values.size() * sizeof(std::int32_t));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto value = static_cast<std::int32_t>(values[i]);
    std::memcpy(bytes.data() + i * sizeof value, &value, sizeof value);
  }
  return {type, dims, Buffer(std::move(bytes))};
}

/// The target of a Reshape with what is not a number written as 0 or -1; none if that cannot be said.
std::optional<std::vector<std::int64_t>> free_target(const Shape& input, const Shape& target) {
  std::vector<std::int64_t> result;
  bool has_open = std::ranges::any_of(target, [](const Extent& extent) { return extent.is(-1); });
  for (std::size_t i = 0; i < target.size(); ++i) {
    if (target[i].is_known()) {
      result.push_back(target[i].value());
    } else if (i < input.size() && target[i].same_as(input[i])) {
      result.push_back(0);
    } else {
      if (has_open) return std::nullopt;
      has_open = true;
      result.push_back(-1);
    }
  }
  return result;
}

void free_reshape(Model& model, const ShapeTable& table, std::size_t index) {
  const auto& node = model.nodes[index];
  if (!is_op(node, "Reshape") || node.inputs.size() != 2 || model.initializers.contains(node.inputs[1])) return;
  const auto* input = table.shape(node.inputs[0]);
  const auto* target = table.integers(node.inputs[1]);
  if (!input || !target || target->known()) return;
  if (node.int_or("allowzero", 0) != 0 &&
      std::ranges::any_of(target->values, [](const Extent& extent) { return extent.is(0); }))
    return;
  const auto numbers = free_target(*input, target->values);
  if (!numbers) return;
  const auto name = unused_value_name(model, node.name + "/shape");
  model.initializers[name] = Tensor::of_int64s({static_cast<std::int64_t>(numbers->size())}, *numbers);
  model.nodes[index].inputs[1] = name;
  model.nodes[index].attributes.erase("allowzero");
}

/// The tensor with its dimensions in another order.
Tensor transposed(const Tensor& tensor, const std::vector<std::int64_t>& order) {
  const std::size_t n = tensor.dims.size(), size = element_size(tensor.type);
  Dims dims(n), strides(n, 1), steps(n);
  for (std::size_t i = n; i-- > 1;) strides[i - 1] = strides[i] * tensor.dims[i];
  for (std::size_t i = 0; i < n; ++i) {
    dims[i] = tensor.dims[static_cast<std::size_t>(order[i])];
    steps[i] = strides[static_cast<std::size_t>(order[i])];
  }
  const auto source = tensor.data.bytes();
  std::vector<std::byte> bytes(source.size());
  Dims at(n, 0);
  std::int64_t from = 0;
  for (std::size_t to = 0; to < bytes.size(); to += size) {
    std::memcpy(bytes.data() + to, source.data() + static_cast<std::size_t>(from) * size, size);
    for (std::size_t i = n; i-- > 0;) {
      from += steps[i];
      if (++at[i] < dims[i]) break;
      from -= steps[i] * dims[i];
      at[i] = 0;
    }
  }
  return {tensor.type, dims, Buffer(std::move(bytes))};
}

/// What the node makes of the tensor, none if it does not just move elements. `dims` are those of the result.
std::optional<Tensor> moved(const Node& node, const Tensor& tensor, const Dims& dims) {
  for (const auto* op : {"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
    if (is_op(node, op)) return Tensor{tensor.type, dims, tensor.data};
  if (!is_op(node, "Transpose")) return std::nullopt;
  std::vector<std::int64_t> order(tensor.dims.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int64_t>(order.size() - 1 - i);
  return transposed(tensor, node.ints_or("perm", order));
}

} // namespace

void fold_constant_nodes(Model& model) {
  std::vector<bool> is_erased(model.nodes.size(), false);
  for (std::size_t i = 0; i < model.nodes.size(); ++i) {
    auto tensor = is_replaceable(model, model.nodes[i]) ? constant_value(model.nodes[i]) : std::nullopt;
    if (!tensor) continue;
    model.initializers[model.nodes[i].outputs[0]] = std::move(*tensor);
    is_erased[i] = true;
  }
  erase_nodes(model, is_erased);
}

void fold_pass_through(Model& model) {
  std::vector<bool> is_erased(model.nodes.size(), false);
  std::unordered_map<std::string, std::string> stands_for;
  for (std::size_t i = 0; i < model.nodes.size(); ++i) {
    auto& node = model.nodes[i];
    for (auto& input : node.inputs)
      if (const auto found = stands_for.find(input); found != stands_for.end()) input = found->second;
    if (!passes_through(model, node)) continue;
    if (model.is_output(node.outputs[0])) {
      const auto renamed = node.inputs[0];
      is_erased[i] = give_name(model, i);
      // The old name must not come back through the map.
      if (is_erased[i])
        for (auto& [from, to] : stands_for)
          if (to == renamed) to = node.outputs[0];
    } else {
      stands_for[node.outputs[0]] = node.inputs[0];
      is_erased[i] = true;
    }
  }
  erase_nodes(model, is_erased);
}

void fold_integers(Model& model) {
  const auto table = symbolic_shapes(model);
  std::vector<bool> is_erased(model.nodes.size(), false);
  for (std::size_t i = 0; i < model.nodes.size(); ++i) {
    free_reshape(model, table, i);
    const auto& node = model.nodes[i];
    const auto* integers = is_replaceable(model, node) ? table.integers(node.outputs[0]) : nullptr;
    const auto known = integers ? integers->known() : std::nullopt;
    if (!known) continue;
    model.initializers[node.outputs[0]] = integer_tensor(integers->type, integers->dims, *known);
    is_erased[i] = true;
  }
  erase_nodes(model, is_erased);
}

void fold_moved_weights(Model& model) {
  const auto table = symbolic_shapes(model);
  std::vector<bool> is_erased(model.nodes.size(), false);
  for (std::size_t i = 0; i < model.nodes.size(); ++i) {
    const auto& node = model.nodes[i];
    if (!is_replaceable(model, node) || node.inputs.empty()) continue;
    const auto source = model.initializers.find(node.inputs[0]);
    const auto* shape = table.shape(node.outputs[0]);
    const auto dims = shape ? known_dims(*shape) : std::nullopt;
    // A shared weight would be held twice.
    if (source == model.initializers.end() || !dims || uses_of(model, node.inputs[0]) != 1) continue;
    auto tensor = moved(node, source->second, *dims);
    if (!tensor) continue;
    model.initializers.erase(source);
    model.initializers[node.outputs[0]] = std::move(*tensor);
    is_erased[i] = true;
  }
  erase_nodes(model, is_erased);
}

} // namespace slr::graph
