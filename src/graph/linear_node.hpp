#pragma once
/// \file
/// Conv, Gemm and MatMul seen as one thing: a matrix with one row per output channel, and a bias.
#include "slr/graph/model.hpp"

#include <optional>
#include <string>
#include <vector>

namespace slr::graph {

/// The tensor that a Constant node makes, none if it is not one or is of a kind that is not followed (text). Local.
[[nodiscard]] std::optional<Tensor> constant_value(const Node& node);

/// The tensor behind a name: an initializer, or what a Constant node makes. Linear in the nodes. Local.
[[nodiscard]] std::optional<Tensor> constant_of(const Model& model, const std::string& value);

/// A node with constant weights. With `bias_add`, an Add of a constant that follows a MatMul belongs to it.
struct LinearNode {
  std::size_t node = 0;
  std::optional<std::size_t> bias_add;
  std::string weight;         ///< initializer, float32
  std::string bias_name;      ///< initializer, empty where there is none
  bool is_transposed = false; ///< rows of W are columns of the tensor
  double scale = 1;           ///< alpha of a Gemm: W is scale times the tensor
  double bias_scale = 1;      ///< beta of a Gemm
  std::int64_t rows = 0, cols = 0;

  /// Value after the bias.
  [[nodiscard]] const std::string& output(const Model& model) const;
  /// rows x cols, row-major, alpha included; computed in double and rounded once.
  [[nodiscard]] std::vector<float> weights(const Model& model) const;
  /// The stored tensor with row i of W multiplied by factors[i], without alpha; rounded once.
  [[nodiscard]] Tensor scaled_tensor(const Model& model, const std::vector<double>& factors) const;
  /// rows numbers, zeros where there is no bias.
  [[nodiscard]] std::vector<double> bias(const Model& model) const;
};

/// The node as a linear one: none if it is another operator, if its weight or bias is not a float32 initializer of
/// fitting dimensions, or if a Gemm transposes its input. Local.
/// \throws Error{bad_data} if attributes are of the wrong kind.
[[nodiscard]] std::optional<LinearNode> linear_node(const Model& model, std::size_t node);

} // namespace slr::graph
