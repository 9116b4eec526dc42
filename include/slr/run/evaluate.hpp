#pragma once
/// \file
/// How well a network does on labelled images, and how close a compressed one stays to the original.
#include "slr/mpi/checkpoints.hpp"
#include "slr/run/network.hpp"
#include "slr/run/progress.hpp"

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>

namespace slr::run {

/// Fractions over `images` images; what needs labels or a reference is absent without them.
struct Accuracy {
  std::int64_t images = 0;
  std::optional<double> top1, top5;                     ///< of the candidate
  std::optional<double> reference_top1, reference_top5; ///< of the reference
  /// Of the difference candidate - reference over the same images: sqrt(sum (d - mean d)^2 / (n (n - 1))).
  std::optional<double> top1_standard_error, top5_standard_error;
  std::optional<double> kl;        ///< mean of sum p_ref log(p_ref / p), natural logarithm
  std::optional<double> agreement; ///< share of images with the same argmax
};

/// Which images of a feed count: all, or those of a role.
using ImageFilter = std::function<bool(std::int64_t)>;

/// Runs candidate and reference (may be absent) over the images of the feed, dealt to the ranks in blocks. Exact sums:
/// the same bits for every number of ranks. Collective. `sink`, if given, receives this rank's inputs and candidate
/// logits in image order. With `checkpoints` it can be saved and stopped between two batches, and goes on from there on
/// any number of ranks (the sink then misses what an earlier start saw).
using EvaluationSink = std::function<void(const infer::Array& inputs, const infer::Array& logits)>;
[[nodiscard]] Accuracy evaluate(const Communicator& comm, const Network& candidate, const Network* reference,
                                const ImageFeed& feed, std::int64_t images, const ImageFilter& filter,
                                Progress& progress, const EvaluationSink& sink = {},
                                Checkpoints* checkpoints = nullptr);

/// `accuracy` as report.json has it: `top1_before` and so on from the reference, `top1_after` from the candidate.
[[nodiscard]] nlohmann::ordered_json before_after_json(const Accuracy& accuracy);
/// The same keys without before and after: what slr_evaluate writes.
[[nodiscard]] nlohmann::ordered_json plain_json(const Accuracy& accuracy);

} // namespace slr::run
