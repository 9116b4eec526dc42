#pragma once
/// \file
/// What forward and backward pass of normalising operators have in common.
#include "builder.hpp"

namespace slr::infer {

/// The axes of a ReduceMean: an attribute, since opset 18 an input; true for each dimension that goes.
[[nodiscard]] std::vector<bool> reduced_axes(Builder& builder, const graph::Node& node, std::size_t rank);

/// The numbers of an LRN.
struct LocalResponse {
  std::int64_t size;
  float alpha, beta, bias;
};
[[nodiscard]] LocalResponse local_response_of(const graph::Node& node);
/// oneDNN centres an even number of channels differently.
[[nodiscard]] bool has_lrn_primitive(const LocalResponse& lrn, const Dims& dims);

/// Dimensions under which a Softmax or LogSoftmax works along one axis. Before opset 13 all dimensions from the node's
/// axis on are one.
struct SoftmaxRows {
  Dims dims;
  int axis;
};
[[nodiscard]] SoftmaxRows softmax_rows(Builder& builder, const graph::Node& node, const Dims& dims);

} // namespace slr::infer
