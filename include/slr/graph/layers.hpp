#pragma once
/// \file
/// The layers of a network that can be compressed, as matrices.
#include "slr/base/grouping.hpp"
#include "slr/graph/model.hpp"

#include <algorithm>
#include <array>

namespace slr::graph {

enum class LayerKind { convolution, fully_connected };

/// The scalar function that follows a layer.
enum class ActivationKind { identity, relu, leaky_relu, clip, sigmoid, tanh };
struct Activation {
  ActivationKind kind = ActivationKind::identity;
  double alpha = 0;         ///< leaky_relu: slope below zero
  double low = 0, high = 0; ///< clip: bounds (infinite where the network has none)
};

/// Geometry of a two-dimensional convolution; all ones and zeros for a fully connected layer.
struct Window {
  std::array<std::int64_t, 2> kernel{1, 1}, strides{1, 1}, dilations{1, 1};
  std::array<std::int64_t, 4> pads{0, 0, 0, 0}; ///< top, left, bottom, right, as ONNX orders them
  std::string auto_pad = "NOTSET";              ///< NOTSET | SAME_UPPER | SAME_LOWER | VALID; pads hold for NOTSET
};

/// One linear node with weights in an initializer, and what surrounds it.
///
/// The weight matrix W is rows() x cols(), row-major: output channels x (input channels per group * kh * kw),
/// channel-major as ONNX stores convolutions; transposed on the way where a Gemm or MatMul stores it the other way
/// round. With `groups` > 1 it is `groups` independent problems of rows()/groups rows each.
struct Layer {
  std::string name;     ///< of the node (ONNX), else of the weight
  std::size_t node = 0; ///< index into Model::nodes
  LayerKind kind = LayerKind::convolution;
  std::int64_t rows = 0;   ///< output channels
  std::int64_t cols = 0;   ///< input channels per group * kernel area
  std::int64_t groups = 1; ///< of a grouped convolution
  Window window;
  std::string input;     ///< value that the node reads
  std::string linear;    ///< value that the node writes (before the activation)
  std::string output;    ///< value after the activation; equal to `linear` when the activation is the identity
  std::string weight;    ///< initializer
  std::string bias_name; ///< initializer, empty where there is none
  Activation activation;
  std::vector<float> bias; ///< rows() elements, zeros where the node has none
  /// Further nodes that apply the same weight and bias before the same activation, in topological order: one problem
  /// with more samples. Their own lists are empty.
  std::vector<Layer> others;
  Grouping grouping = Grouping::channel; ///< what a compressed form of it keeps; not the network's business

  [[nodiscard]] std::int64_t window_area() const { return window.kernel[0] * window.kernel[1]; }
  /// Neighbouring columns that are kept together, and how many groups could be kept.
  [[nodiscard]] std::int64_t group_columns() const { return grouping == Grouping::column ? 1 : window_area(); }
  [[nodiscard]] std::int64_t group_count() const {
    return grouping == Grouping::filter ? rows : cols / group_columns();
  }
  /// Dimensions of the factors with so many kept groups.
  [[nodiscard]] FactorSizes factor_sizes(std::int64_t kept_groups) const {
    return slr::factor_sizes(grouping, rows, cols, group_columns(), kept_groups);
  }
  /// Of what is left beside so many kept groups.
  [[nodiscard]] std::int64_t largest_rank(std::int64_t kept_groups) const {
    const auto sizes = factor_sizes(kept_groups);
    return std::min(sizes.u_rows, sizes.v_cols);
  }
  [[nodiscard]] bool is_depthwise() const { return groups > 1 && cols == window_area(); }
  /// Itself and the others.
  [[nodiscard]] std::vector<const Layer*> uses() const {
    std::vector<const Layer*> all{this};
    for (const Layer& other : others) all.push_back(&other);
    return all;
  }
};

/// Conv (1-d and 3-d ones are left alone), Gemm and MatMul nodes whose weight is a float32 initializer, in topological
/// order. The activation is that of the single consumer of the node's output (Relu, LeakyRelu, Clip, Sigmoid, Tanh);
/// the identity when the value goes to several nodes or to the graph's output. A MatMul followed by an Add of a
/// constant of rows() elements counts as one layer with that bias (`linear` is then the Add's output). Nodes of one
/// kind that share weight and bias, and are followed by the same activation, are one layer, the later ones its
/// `others`; grouped convolutions stay apart. Local.
[[nodiscard]] std::vector<Layer> find_layers(const Model& model);

/// The layer's W, rows x cols, row-major. Local.
[[nodiscard]] std::vector<float> weight_matrix(const Model& model, const Layer& layer);

} // namespace slr::graph
