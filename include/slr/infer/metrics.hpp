#pragma once
/// \file
/// How good logits are, image by image; the caller sums (exactly, over ranks).
#include "slr/infer/array.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace slr::infer {

/// The model's first output. Where an operator that cannot be run stands behind the last linear layer (a TopK, say), it
/// is what goes into that operator. Local. \throws Error{bad_data} if the model has no output, or names the operator if
/// layers depend on it.
[[nodiscard]] std::string runnable_output(const graph::Model& model);

/// The value that holds a model's logits: its runnable output, or what goes into the final Softmax or LogSoftmax if
/// there is one (also before trailing Identity, Dropout, Flatten, Reshape, Squeeze and Unsqueeze nodes). Local. \throws
/// Error{bad_data} as runnable_output.
[[nodiscard]] std::string logits_value(const graph::Model& model);

/// One entry per image, 0 or 1.
struct Hits {
  std::vector<std::uint8_t> top1, top5;
};
/// Whether the label is the largest logit, or among the five largest (among all if there are fewer); of equal logits
/// the smaller index is the larger one. Logits: N x classes (further dimensions of 1 are allowed). Local. \throws
/// Error{bad_data} if there are not N labels in [0, classes), Error{numerical} if a logit is not finite.
[[nodiscard]] Hits hits(const ArrayView& logits, std::span<const std::int32_t> labels);

/// One entry per image.
struct Comparison {
  std::vector<double> kl;              ///< sum over classes of p_ref log(p_ref / p), natural logarithm
  std::vector<std::uint8_t> agreement; ///< 1 if the argmax is the same (ties to the smaller index)
};
/// A candidate against a reference, p = softmax of the logits in double. Both N x classes. Local.
/// \throws Error{bad_data} if the dimensions differ, Error{numerical} if a logit is not finite.
[[nodiscard]] Comparison compare(const ArrayView& reference, const ArrayView& candidate);

} // namespace slr::infer
