#pragma once
// What the network's output loses on the selection images.
#include "slr/graph/rewrite.hpp"
#include "slr/run/features.hpp"

#include <optional>

namespace slr::run {

/// This rank's selection images among the first calibration images, at first as they enter the network, and what the
/// original network makes of them. Every KL divergence is the mean over the images of all ranks, summed exactly: the
/// same bits for every number of ranks.
class OutputProbe {
public:
  /// Runs the original network. Local. `network` and `comm` outlive the object. \throws as the feed
  OutputProbe(const Communicator& comm, const Network& network, const ImageFeed& feed, std::int64_t images);

  /// Goes on, in the original network, to the values that are still needed from this layer on. Local.
  void advance(const graph::Layer& layer);
  /// Of a network that differs from the original behind these values alone. Collective.
  [[nodiscard]] double kl_of(graph::Model model) const;
  /// Of the original network with this layer alone replaced. Collective. What follows the layer is prepared at the
  /// first call for it.
  [[nodiscard]] double kl_with(const graph::Layer& layer, const graph::CompressedLayer& replacement);

private:
  /// `run` gives the logits of this rank's images, by name.
  template <class Run>
  [[nodiscard]] double mean_kl(Run&& run) const;

  const Communicator& comm_;
  const Network& network_;
  std::int64_t count_ = 0;
  std::map<std::string, infer::Array> values_;
  infer::Array logits_;
  std::optional<infer::Executor> executor_;
};

} // namespace slr::run
