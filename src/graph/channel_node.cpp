#include "channel_node.hpp"

#include "edit.hpp"
#include "linear_node.hpp"
#include "slr/graph/rewrite.hpp"
#include "words.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <set>

namespace slr::graph {
namespace {

/// Operators of one value that treat every channel by itself, without constants per channel.
bool keeps_channels_apart(const Node& node) {
  static const std::set<std::string, std::less<>> operators{
      "Relu", "LeakyRelu", "Clip", "Sigmoid", "Tanh",        "HardSwish",     "HardSigmoid",       "Gelu",
      "Elu",  "Selu",      "Erf",  "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "Identity"};
  return node.domain.empty() && operators.contains(node.op) && node.outputs.size() == 1;
}

std::optional<std::vector<std::int64_t>> constant_integers(const Model& model, const std::string& value) {
  const auto found = model.initializers.find(value);
  if (found == model.initializers.end()) return std::nullopt;
  const auto type = found->second.type;
  if (type != ElementType::int64 && type != ElementType::int32) return std::nullopt;
  return found->second.int64s();
}

bool is_channel_axis(const Node& node, std::int64_t otherwise, std::size_t rank) {
  const auto axis = node.int_or("axis", otherwise);
  return axis == 1 || axis + static_cast<std::int64_t>(rank) == 1;
}

/// Under the old name if nobody else reads that.
void set_constant(Model& model, Node& node, std::size_t input, Tensor tensor) {
  auto& name = node.inputs[input];
  if (uses_of(model, name) > 1) name = unused_value_name(model, name + "/" + node.name);
  model.initializers[name] = std::move(tensor);
}

} // namespace

std::optional<std::int64_t> Channels::count(const std::string& value) const {
  if (value.empty() || is_constant(value)) return std::nullopt;
  const auto* shape = table_.shape(value);
  if (!shape || shape->size() < 2 || !(*shape)[1].is_known()) return std::nullopt;
  return (*shape)[1].value();
}

ChannelNode Channels::classify(const Node& node) const {
  for (const auto& rule :
       {&Channels::channelwise, &Channels::arithmetic, &Channels::linear, &Channels::moving, &Channels::flattening})
    if (auto result = (this->*rule)(node)) {
      const auto is_known = [&](const std::string& value) { return count(value).has_value(); };
      if (std::ranges::all_of(result->inputs, is_known) && std::ranges::all_of(result->outputs, is_known))
        return *std::move(result);
    }
  ChannelNode opaque;
  std::ranges::copy_if(node.inputs, std::back_inserter(opaque.inputs), [&](const auto& v) { return !!count(v); });
  std::ranges::copy_if(node.outputs, std::back_inserter(opaque.outputs), [&](const auto& v) { return !!count(v); });
  return opaque;
}

std::optional<ChannelNode> Channels::channelwise(const Node& node) const {
  ChannelNode result;
  result.kind = ChannelNode::Kind::channelwise;
  if (node.inputs.empty() || node.outputs.empty()) return std::nullopt;
  result.inputs = {node.inputs[0]};
  result.outputs = {node.outputs[0]};
  if (keeps_channels_apart(node)) {
    const bool has_constants = std::all_of(node.inputs.begin() + 1, node.inputs.end(),
                                           [&](const auto& v) { return v.empty() || is_constant(v); });
    return has_constants ? std::optional(result) : std::nullopt;
  }
  if (is_op(node, "BatchNormalization") && node.outputs.size() == 1 && node.inputs.size() == 5 &&
      std::all_of(node.inputs.begin() + 1, node.inputs.end(), [&](const auto& v) { return is_constant(v); })) {
    for (std::size_t i = 1; i < 5; ++i) result.constants.push_back({i, 0});
    return result;
  }
  const auto channels = count(node.inputs[0]);
  if (is_op(node, "Conv") && channels && *channels > 1 && node.int_or("group", 1) == *channels &&
      count(node.outputs[0]) == channels && is_constant(node.inputs[1])) {
    for (std::size_t i = 1; i < node.inputs.size(); ++i) {
      if (!is_constant(node.inputs[i])) return std::nullopt;
      result.constants.push_back({i, 0});
    }
    return result;
  }
  return std::nullopt;
}

/// Sums and products of values of the same dimensions, and with constants.
std::optional<ChannelNode> Channels::arithmetic(const Node& node) const {
  if (!is_op(node, "Add") && !is_op(node, "Sub") && !is_op(node, "Mul") && !is_op(node, "Div")) return std::nullopt;
  ChannelNode result;
  result.kind = ChannelNode::Kind::channelwise;
  result.outputs = node.outputs;
  const auto* shape = table_.shape(node.outputs[0]);
  if (!shape || shape->size() < 2 || node.inputs.size() != 2) return std::nullopt;
  for (std::size_t i = 0; i < 2; ++i) {
    const auto& input = node.inputs[i];
    if (!is_constant(input)) {
      const auto* own = table_.shape(input);
      if (!own || own->size() != shape->size() || !(*own)[1].same_as((*shape)[1])) return std::nullopt;
      result.inputs.push_back(input);
      continue;
    }
    const auto& dims = model_.initializers.at(input).dims;
    if (dims.size() > shape->size()) return std::nullopt;
    if (dims.size() + 1 < shape->size()) continue; // too short to reach the channels: the same for all
    const auto axis = dims.size() + 1 - shape->size();
    if (dims[axis] != 1) result.constants.push_back({i, axis});
  }
  return result;
}

std::optional<ChannelNode> Channels::linear(const Node& node) const {
  const auto at = static_cast<std::size_t>(&node - model_.nodes.data());
  const auto found = linear_node(model_, at);
  if (!found || uses_of(model_, found->weight) != 1) return std::nullopt;
  const auto* shape = table_.shape(node.outputs[0]);
  const bool is_convolution = is_op(node, "Conv");
  if (!shape || (is_convolution ? node.int_or("group", 1) != 1 : shape->size() != 2)) return std::nullopt;
  ChannelNode result;
  result.kind = ChannelNode::Kind::linear;
  result.inputs = {node.inputs[0]};
  result.outputs = {node.outputs[0]};
  result.constants.push_back({1, found->is_transposed ? 1U : 0U});
  result.columns = ChannelConstant{1, found->is_transposed ? 0U : 1U};
  if (node.inputs.size() > 2 && !node.inputs[2].empty()) {
    const auto& dims = model_.initializers.at(node.inputs[2]).dims;
    if (!dims.empty() && dims.back() == found->rows) result.constants.push_back({2, dims.size() - 1});
  }
  return result;
}

std::optional<ChannelNode> Channels::moving(const Node& node) const {
  ChannelNode result;
  if (node.inputs.empty()) return std::nullopt;
  const auto* shape = table_.shape(node.inputs[0]);
  if (!shape) return std::nullopt;
  result.inputs = {node.inputs[0]};
  result.outputs = node.outputs;
  if (is_op(node, "Concat") && is_channel_axis(node, 0, shape->size())) {
    result.kind = ChannelNode::Kind::concat;
    result.inputs = node.inputs;
    return result;
  }
  if (is_op(node, "Split") && is_channel_axis(node, 0, shape->size())) {
    result.kind = ChannelNode::Kind::split;
    const bool has_sizes = node.attributes.contains("split") ||
                           (node.inputs.size() > 1 && constant_integers(model_, node.inputs[1]).has_value());
    return has_sizes ? std::optional(result) : std::nullopt;
  }
  if (is_op(node, "Gather") && node.inputs.size() == 2 && is_channel_axis(node, 0, shape->size())) {
    auto indices = constant_integers(model_, node.inputs[1]);
    const auto channels = count(node.inputs[0]);
    if (!indices || !channels || model_.initializers.at(node.inputs[1]).dims.size() != 1) return std::nullopt;
    for (auto& i : *indices) {
      if (i < 0) i += *channels;
      if (i < 0 || i >= *channels) return std::nullopt;
    }
    result.kind = ChannelNode::Kind::gather;
    result.indices = *std::move(indices);
    return result;
  }
  return std::nullopt;
}

std::optional<ChannelNode> Channels::flattening(const Node& node) const {
  const bool is_flatten = is_op(node, "Flatten") && node.int_or("axis", 1) == 1;
  if (!is_flatten && !is_op(node, "Reshape")) return std::nullopt;
  const auto from = count(node.inputs[0]), to = count(node.outputs[0]);
  const auto *own = table_.shape(node.inputs[0]), *shape = table_.shape(node.outputs[0]);
  if (!from || !to || *from < 1 || *to % *from != 0 || shape->size() != 2) return std::nullopt;
  if (!(*own)[0].same_as((*shape)[0])) return std::nullopt;
  ChannelNode result;
  result.kind = ChannelNode::Kind::flatten;
  result.inputs = {node.inputs[0]};
  result.outputs = {node.outputs[0]};
  result.factor = *to / *from;
  if (!is_flatten) {
    const auto numbers =
        node.inputs.size() > 1 ? constant_integers(model_, node.inputs[1]) : std::optional(node.ints_or("shape", {}));
    result.has_fixed_count = !numbers || numbers->size() != 2 || numbers->back() != -1;
  }
  return result;
}

Tensor taken(const Tensor& tensor, std::size_t axis, std::span<const std::int64_t> indices) {
  Tensor result = tensor;
  result.dims[axis] = static_cast<std::int64_t>(indices.size());
  const auto size = [&](auto first, auto last) { return static_cast<std::size_t>(element_count({first, last})); };
  const auto at = tensor.dims.begin() + static_cast<std::ptrdiff_t>(axis);
  const auto outer = size(tensor.dims.begin(), at);
  const auto slice = size(at + 1, tensor.dims.end()) * element_size(tensor.type);
  std::vector<std::byte> bytes(outer * indices.size() * slice);
  auto* to = bytes.data();
  for (std::size_t o = 0; o < outer; ++o)
    for (const auto index : indices) {
      const auto* from =
          tensor.data.bytes().data() + (o * static_cast<std::size_t>(*at) + static_cast<std::size_t>(index)) * slice;
      std::memcpy(to, from, slice);
      to += slice;
    }
  result.data = Buffer(std::move(bytes));
  return result;
}

void take_constant(Model& model, Node& node, const ChannelConstant& constant, std::span<const std::int64_t> indices) {
  const auto& name = node.inputs[constant.input];
  set_constant(model, node, constant.input, taken(model.initializers.at(name), constant.axis, indices));
}

void set_integers(Model& model, Node& node, std::size_t input, std::span<const std::int64_t> values) {
  set_constant(model, node, input, Tensor::of_int64s({std::ssize(values)}, values));
}

void drop_idle_gathers(Model& model) {
  const Channels channels(model);
  std::vector<bool> is_erased(model.nodes.size(), false);
  for (std::size_t i = 0; i < model.nodes.size(); ++i) {
    const auto node = channels.classify(model.nodes[i]);
    if (node.kind != ChannelNode::Kind::gather || model.is_output(node.outputs[0])) continue;
    std::vector<std::int64_t> all(static_cast<std::size_t>(channels.count(node.inputs[0]).value_or(0)));
    std::iota(all.begin(), all.end(), 0);
    is_erased[i] = node.indices == all;
  }
  for (std::size_t i = 0; i < model.nodes.size(); ++i) {
    if (!is_erased[i]) continue;
    const auto from = model.nodes[i].outputs[0], to = model.nodes[i].inputs[0];
    redirect_reads(model, from, to);
  }
  erase_nodes(model, is_erased);
  remove_dead(model);
}

} // namespace slr::graph
