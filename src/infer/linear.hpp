#pragma once
/// \file
/// What forward and backward pass of linear operators have in common.
#include "builder.hpp"
#include "window.hpp"

namespace slr::infer {

/// oneDNN chooses.
[[nodiscard]] dnnl::memory::desc any_layout(const Dims& dims);
/// oneDNN counts a dilation of one as zero.
[[nodiscard]] Dims lowered_by_one(Dims dims);
/// Weights out x (in per group) x kernel, split by group as oneDNN wants grouped ones.
[[nodiscard]] Dims weight_dims(const View& weight, std::int64_t groups);

/// A Conv node that fits its input.
struct Convolution {
  Dims input, output; ///< of a block
  ResolvedWindow window;
  std::int64_t groups;
  View weight; ///< known, plain
};
/// \throws Error{bad_data} if input and weight do not fit.
[[nodiscard]] Convolution convolution_of(Builder& builder, const graph::Node& node);

/// Rows x cols (known, plain, read through these strides) as matrix of a fully connected layer, with what oneDNN needs.
struct Matrix {
  View values;
  std::int64_t outputs = 0, inputs = 0;
  Dims strides; ///< of (output, input)
};
/// Rows of inputs, plain, and the matrix that they are multiplied by.
struct FullyConnected {
  View x;
  Matrix matrix;
};
[[nodiscard]] FullyConnected fully_connected_of_gemm(Builder& builder, const graph::Node& node);
/// None if the second factor is no known matrix.
[[nodiscard]] std::optional<FullyConnected> fully_connected_of_matmul(Builder& builder, const graph::Node& node);

} // namespace slr::infer
