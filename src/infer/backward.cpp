#include "backward.hpp"

#include "operators.hpp"

#include <algorithm>
#include <string_view>

namespace slr::infer {

namespace {

const std::map<std::string_view, GradientRule>& table() {
  static const std::map<std::string_view, GradientRule> rules{
      {"Add", binary_gradient},
      {"AveragePool", average_pool_gradient},
      {"BatchNormalization", batch_normalization_gradient},
      {"Cast", identity_gradient},
      {"Clip", eltwise_gradient},
      {"Concat", concat_gradient},
      {"Conv", conv_gradient},
      {"Div", binary_gradient},
      {"Dropout", identity_gradient},
      {"Erf", erf_gradient},
      {"Flatten", reshape_gradient},
      {"Gather", gather_gradient},
      {"Gelu", eltwise_gradient},
      {"Gemm", gemm_gradient},
      {"GlobalAveragePool", global_average_pool_gradient},
      {"GlobalMaxPool", global_max_pool_gradient},
      {"HardSigmoid", eltwise_gradient},
      {"HardSwish", eltwise_gradient},
      {"Identity", identity_gradient},
      {"LRN", lrn_gradient},
      {"LeakyRelu", eltwise_gradient},
      {"LogSoftmax", softmax_gradient},
      {"MatMul", matmul_gradient},
      {"MaxPool", max_pool_gradient},
      {"Mul", binary_gradient},
      {"Pad", pad_gradient},
      {"ReduceMean", reduce_mean_gradient},
      {"Relu", eltwise_gradient},
      {"Reshape", reshape_gradient},
      {"Sigmoid", eltwise_gradient},
      {"Slice", slice_gradient},
      {"Softmax", softmax_gradient},
      {"Split", split_gradient},
      {"Squeeze", reshape_gradient},
      {"Sub", binary_gradient},
      {"Tanh", eltwise_gradient},
      {"Transpose", transpose_gradient},
      {"Unsqueeze", reshape_gradient},
  };
  return rules;
}

} // namespace

GradientRule gradient_rule_of(const graph::Node& node) {
  const auto found = table().find(node.op);
  if (found == table().end()) refuse("the operator cannot be differentiated");
  return found->second;
}

Backward::Backward(Builder& builder, const TrainedWeights& weights) : builder_(builder) {
  for (const auto& [name, bytes] : weights) active_.insert(name);
  const auto& nodes = builder.model().nodes;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const graph::Node& node = nodes[i];
    if (!builder.is_needed(i) || node.op == "Shape") continue; // a shape depends on no number
    for (const auto& name : node.inputs)
      if (weights.contains(name)) first_reader_.emplace(name, i);
    const bool is_active =
        std::any_of(node.inputs.begin(), node.inputs.end(), [&](const auto& name) { return active_.contains(name); });
    if (!is_active) continue;
    for (const std::string& output : node.outputs)
      if (!output.empty()) active_.insert(output);
  }
}

void Backward::run(const std::string& value, const View& gradient, const Finished& finished) {
  gradients_.emplace(value, gradient);
  const auto& nodes = builder_.model().nodes;
  for (std::size_t i = nodes.size(); i-- > 0;) {
    const graph::Node& node = nodes[i];
    const bool is_reached = std::any_of(node.outputs.begin(), node.outputs.end(),
                                        [&](const auto& name) { return gradients_.contains(name); });
    const bool is_wanted =
        std::any_of(node.inputs.begin(), node.inputs.end(), [&](const auto& name) { return active_.contains(name); });
    if (!builder_.is_needed(i)) continue;
    if (is_reached && is_wanted) name_refusals(node, [&] { gradient_rule_of(node)(*this, node); });
    finish_weights_of(i, finished);
  }
}

void Backward::finish_weights_of(std::size_t node, const Finished& finished) {
  for (const auto& [weight, reader] : first_reader_) {
    const auto gradient = gradients_.find(weight);
    if (reader == node && gradient != gradients_.end()) finished(weight, gradient->second);
  }
}

std::optional<View> Backward::gradient_of(const std::string& value) const {
  const auto found = gradients_.find(value);
  if (found == gradients_.end()) return std::nullopt;
  return found->second;
}

bool Backward::wants(const graph::Node& node, std::size_t input) const {
  return input < node.inputs.size() && active_.contains(node.inputs[input]);
}

std::optional<View> Backward::of_output(const graph::Node& node, std::size_t index) const {
  if (index >= node.outputs.size()) return std::nullopt;
  return gradient_of(node.outputs[index]);
}

void Backward::add(const graph::Node& node, std::size_t input, const View& gradient) {
  if (!wants(node, input)) return;
  const auto [found, is_first] = gradients_.emplace(node.inputs[input], gradient);
  if (!is_first) found->second = binary(builder_, "Add", found->second, gradient);
}

} // namespace slr::infer
