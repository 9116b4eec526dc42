#include "slr/graph/layers.hpp"

#include "linear_node.hpp"
#include "words.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <tuple>

namespace slr::graph {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

template <std::size_t n>
std::array<std::int64_t, n> ints_of(const Node& node, const std::string& key, std::int64_t otherwise,
                                    std::int64_t smallest) {
  const auto values = node.ints_or(key, std::vector<std::int64_t>(n, otherwise));
  if (values.size() != n) throw bad_data(words_for(node) + " does not have " + std::to_string(n) + " " + key);
  std::array<std::int64_t, n> result{};
  for (std::size_t i = 0; i < n; ++i) {
    if (values[i] < smallest) throw bad_data(words_for(node) + " has impossible " + key);
    result[i] = values[i];
  }
  return result;
}

Window window_of(const Node& node, const Dims& weight) {
  Window window;
  window.kernel = {weight[2], weight[3]};
  if (node.ints_or("kernel_shape", {weight[2], weight[3]}) != Dims{weight[2], weight[3]})
    throw bad_data(words_for(node) + " has a kernel_shape other than its weight's");
  window.strides = ints_of<2>(node, "strides", 1, 1);
  window.dilations = ints_of<2>(node, "dilations", 1, 1);
  window.auto_pad = node.string_or("auto_pad", "NOTSET");
  if (window.auto_pad == "NOTSET") window.pads = ints_of<4>(node, "pads", 0, 0);
  return window;
}

/// A bound of a Clip: an attribute before operator set 11, an optional constant input since. False if it is not
/// constant.
bool read_bound(const Model& model, const Node& node, const std::string& attribute, std::size_t input, double& bound) {
  const bool is_lower = bound < 0;
  if (node.attributes.contains(attribute)) bound = node.float_or(attribute, 0);
  if (input < node.inputs.size() && !node.inputs[input].empty()) {
    const auto tensor = constant_of(model, node.inputs[input]);
    if (!tensor || tensor->type != ElementType::float32 || tensor->size() != 1) return false;
    bound = tensor->floats().front();
  }
  // The largest float stands for "no bound" in files that must write one.
  const double largest = std::numeric_limits<float>::max();
  if (is_lower ? bound <= -largest : bound >= largest) bound = is_lower ? -infinity : infinity;
  return true;
}

/// The activation that this node is, none if it is no scalar function that the solver knows.
std::optional<Activation> activation_of(const Model& model, const Node& node) {
  if (is_op(node, "Relu")) return Activation{ActivationKind::relu, 0, 0, 0};
  if (is_op(node, "Sigmoid")) return Activation{ActivationKind::sigmoid, 0, 0, 0};
  if (is_op(node, "Tanh")) return Activation{ActivationKind::tanh, 0, 0, 0};
  if (is_op(node, "LeakyRelu"))
    return Activation{ActivationKind::leaky_relu, static_cast<double>(node.float_or("alpha", 0.01F)), 0, 0};
  if (!is_op(node, "Clip")) return std::nullopt;
  Activation clip{ActivationKind::clip, 0, -infinity, infinity};
  if (!read_bound(model, node, "min", 1, clip.low) || !read_bound(model, node, "max", 2, clip.high))
    return std::nullopt;
  return clip.low <= clip.high ? std::optional(clip) : std::nullopt;
}

void find_activation(const Model& model, Layer& layer) {
  layer.output = layer.linear;
  const auto readers = model.consumers_of(layer.linear);
  if (readers.size() != 1 || model.is_output(layer.linear)) return;
  const auto& node = model.nodes[readers.front()];
  if (node.inputs[0] != layer.linear || node.outputs.size() != 1) return;
  if (std::ranges::count(node.inputs, layer.linear) != 1) return;
  if (const auto activation = activation_of(model, node)) {
    layer.activation = *activation;
    layer.output = node.outputs[0];
  }
}

/// What nodes must have in common to be one layer: besides weight and bias how they are stored and what follows.
auto signature(const Model& model, const LinearNode& linear, const Layer& layer) {
  const auto& f = layer.activation;
  return std::tuple(model.nodes[linear.node].op, linear.weight, linear.bias_name, linear.bias_add.has_value(),
                    linear.is_transposed, linear.scale, linear.bias_scale, f.kind, f.alpha, f.low, f.high);
}

} // namespace

std::vector<Layer> find_layers(const Model& model) {
  std::vector<Layer> layers;
  std::set<std::string> names;
  std::map<decltype(signature(model, {}, {})), std::size_t> first_of; // index of the first node's layer
  for (std::size_t i = 0; i < model.nodes.size(); ++i) {
    const auto& node = model.nodes[i];
    const auto linear = linear_node(model, i);
    if (!linear) continue;
    const auto& weight = model.initializers.at(linear->weight);
    const bool is_convolution = is_op(node, "Conv");
    if (is_convolution && weight.dims.size() != 4) continue;
    Layer layer;
    const auto wanted = node.is_named ? node.name : linear->weight;
    layer.name = wanted;
    for (int k = 2; !names.insert(layer.name).second; ++k) layer.name = wanted + "_" + std::to_string(k);
    layer.node = i;
    layer.kind = is_convolution ? LayerKind::convolution : LayerKind::fully_connected;
    layer.rows = linear->rows;
    layer.cols = linear->cols;
    if (is_convolution) {
      layer.groups = node.int_or("group", 1);
      layer.window = window_of(node, weight.dims);
    }
    layer.input = node.inputs[0];
    layer.linear = linear->output(model);
    layer.weight = linear->weight;
    layer.bias_name = linear->bias_name;
    const auto bias = linear->bias(model);
    layer.bias.assign(bias.begin(), bias.end());
    find_activation(model, layer);
    if (layer.groups == 1) {
      const auto [first, is_new] = first_of.try_emplace(signature(model, *linear, layer), layers.size());
      if (!is_new) {
        layers[first->second].others.push_back(std::move(layer));
        continue;
      }
    }
    layers.push_back(std::move(layer));
  }
  return layers;
}

std::vector<float> weight_matrix(const Model& model, const Layer& layer) {
  for (std::size_t i = 0; i < model.nodes.size(); ++i)
    if (const auto linear = linear_node(model, i); linear && linear->output(model) == layer.linear)
      return linear->weights(model);
  require(false, "the layer " + in_quotes(layer.name) + " is not in the model");
  return {};
}

} // namespace slr::graph
