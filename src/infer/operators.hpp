#pragma once
/// \file
/// The ONNX operators that can be run.
#include "builder.hpp"

namespace slr::infer {

using Operator = void (*)(Builder&, const graph::Node&);

/// \throws Error{bad_data} if the operator is unknown.
[[nodiscard]] Operator operator_of(const graph::Node& node);

/// Whether there is such an operator; with its attributes and dimensions it may be refused nevertheless.
[[nodiscard]] bool is_supported(const graph::Node& node);

/// The node as scalar functions one after the other, empty if it is not such a node (or its bounds are not known by
/// now).
[[nodiscard]] std::vector<Eltwise> fusable_functions(Builder& builder, const graph::Node& node);

/// Whether the derivative of these functions follows from their value, so that they can be fused into a producer of
/// which the backward pass knows nothing else.
[[nodiscard]] bool has_derivative_by_value(const std::vector<Eltwise>& functions);

/// An axis counted from the end if negative. \throws Error{bad_data} if it is outside.
[[nodiscard]] std::size_t checked_axis(std::int64_t axis, std::size_t rank);

// linear.cpp
void plan_conv(Builder& builder, const graph::Node& node);
void plan_gemm(Builder& builder, const graph::Node& node);
void plan_matmul(Builder& builder, const graph::Node& node);
// pool.cpp
void plan_max_pool(Builder& builder, const graph::Node& node);
void plan_average_pool(Builder& builder, const graph::Node& node);
void plan_global_average_pool(Builder& builder, const graph::Node& node);
void plan_global_max_pool(Builder& builder, const graph::Node& node);
/// The mean over all spatial dimensions, which stay as ones.
[[nodiscard]] View spatial_mean(Builder& builder, const View& input);
// normalize.cpp
void plan_batch_normalization(Builder& builder, const graph::Node& node);
void plan_lrn(Builder& builder, const graph::Node& node);
void plan_softmax(Builder& builder, const graph::Node& node);
void plan_reduce_mean(Builder& builder, const graph::Node& node);
// elementwise.cpp
void plan_eltwise(Builder& builder, const graph::Node& node);
void plan_erf(Builder& builder, const graph::Node& node);
void plan_binary(Builder& builder, const graph::Node& node);
/// a op b with broadcasting; `op` is Add, Sub, Mul or Div.
[[nodiscard]] View binary(Builder& builder, const std::string& op, const View& a, const View& b);
// shape_operators.cpp
void plan_flatten(Builder& builder, const graph::Node& node);
void plan_reshape(Builder& builder, const graph::Node& node);
void plan_squeeze(Builder& builder, const graph::Node& node);
void plan_unsqueeze(Builder& builder, const graph::Node& node);
void plan_identity(Builder& builder, const graph::Node& node);
void plan_cast(Builder& builder, const graph::Node& node);
void plan_shape(Builder& builder, const graph::Node& node);
void plan_constant(Builder& builder, const graph::Node& node);
void plan_constant_of_shape(Builder& builder, const graph::Node& node);
// move_operators.cpp
void plan_concat(Builder& builder, const graph::Node& node);
void plan_slice(Builder& builder, const graph::Node& node);
void plan_split(Builder& builder, const graph::Node& node);
void plan_pad(Builder& builder, const graph::Node& node);
void plan_transpose(Builder& builder, const graph::Node& node);
void plan_gather(Builder& builder, const graph::Node& node);

} // namespace slr::infer
