#pragma once
/// \file
/// The backward pass over planned nodes.
#include "builder.hpp"

#include <set>

namespace slr::infer {

/// Adds the steps of the backward pass to a plan whose nodes are planned: node after node in reverse, the gradient of
/// every output is turned into those of the inputs that depend on a trained weight. Gradients lie in the layouts that
/// the primitives deliver. What the forward pass made and a gradient needs stays alive until then: the plan's liveness
/// sees the later steps.
class Backward {
public:
  Backward(Builder& builder, const TrainedWeights& weights);

  /// Called with a weight and its gradient as soon as no later step adds to it.
  using Finished = std::function<void(const std::string& weight, const View& gradient)>;
  /// Plans from the value's gradient down to the weights.
  void run(const std::string& value, const View& gradient, const Finished& finished);
  /// The finished gradient of a value, none if the output does not depend on it.
  [[nodiscard]] std::optional<View> gradient_of(const std::string& value) const;

  // For the operators
  // ---------------------------------------------------------------------------------------------------
  [[nodiscard]] Builder& builder() { return builder_; }
  /// Whether the gradient of this input is of use.
  [[nodiscard]] bool wants(const graph::Node& node, std::size_t input) const;
  /// The gradient of an output, none if nothing was made from it.
  [[nodiscard]] std::optional<View> of_output(const graph::Node& node, std::size_t index) const;
  /// One more reader's contribution to the gradient of an input. Nothing happens for one that is not wanted.
  void add(const graph::Node& node, std::size_t input, const View& gradient);

private:
  void finish_weights_of(std::size_t node, const Finished& finished);

  Builder& builder_;
  std::map<std::string, std::size_t> first_reader_; ///< of every weight: the node behind which its gradient is whole
  std::set<std::string> active_;                    ///< values that depend on a trained weight, and the weights
  std::map<std::string, View> gradients_;
};

/// Adds the gradients of a node's inputs. \pre its first output, or another one, has a gradient
using GradientRule = void (*)(Backward&, const graph::Node&);
/// \throws Error{bad_data} if the operator cannot be differentiated.
[[nodiscard]] GradientRule gradient_rule_of(const graph::Node& node);

// linear_gradients.cpp
void conv_gradient(Backward& back, const graph::Node& node);
void gemm_gradient(Backward& back, const graph::Node& node);
void matmul_gradient(Backward& back, const graph::Node& node);
// pool.cpp
void max_pool_gradient(Backward& back, const graph::Node& node);
void average_pool_gradient(Backward& back, const graph::Node& node);
void global_average_pool_gradient(Backward& back, const graph::Node& node);
void global_max_pool_gradient(Backward& back, const graph::Node& node);
// normalize_gradients.cpp
void batch_normalization_gradient(Backward& back, const graph::Node& node);
void lrn_gradient(Backward& back, const graph::Node& node);
void softmax_gradient(Backward& back, const graph::Node& node);
void reduce_mean_gradient(Backward& back, const graph::Node& node);
// elementwise_gradients.cpp
void eltwise_gradient(Backward& back, const graph::Node& node);
void erf_gradient(Backward& back, const graph::Node& node);
void binary_gradient(Backward& back, const graph::Node& node);
// move_gradients.cpp
void identity_gradient(Backward& back, const graph::Node& node);
void reshape_gradient(Backward& back, const graph::Node& node);
void concat_gradient(Backward& back, const graph::Node& node);
void slice_gradient(Backward& back, const graph::Node& node);
void split_gradient(Backward& back, const graph::Node& node);
void pad_gradient(Backward& back, const graph::Node& node);
void transpose_gradient(Backward& back, const graph::Node& node);
void gather_gradient(Backward& back, const graph::Node& node);

} // namespace slr::infer
