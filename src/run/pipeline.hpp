#pragma once
// schedule: pipelined. Groups own consecutive stages of a network, through which the items of a batch go.
#include "slr/mpi/node_groups.hpp"
#include "slr/run/output_folder.hpp"
#include "slr/run/sweep.hpp"

namespace slr::run {

/// One compression on its way through the stages; what it refers to outlives it.
struct PipelineItem {
  const Configuration& config;
  const Network& network;
  const std::vector<std::string>& dense_reasons;
  const Allotment& allotment;
  const store::FeatureSet& features;
  const ImageFeed& feed;
  std::optional<std::int64_t> limit;
  OutputFiles files;               ///< shards of inputs and finished layers go there
  std::vector<std::size_t> stages; ///< the layer at which each group begins, and the number of layers
};

/// Solves all layers of all items: while a group is at its layers of one item, the group before is at the next item.
/// Every layer is solved on exactly the inputs that a sequential sweep gives it, on the ranks of one group. Between two
/// groups go the finished layers and, for every image, the values that are still needed, point to point; one item at a
/// time waits on its way from a group. Collective over all ranks; the same result on every rank.
[[nodiscard]] std::vector<std::vector<LayerOutcome>> run_pipeline(const NodeGroups& groups,
                                                                  const std::vector<PipelineItem>& items,
                                                                  Progress& progress, const Checkpoints& checkpoints);

} // namespace slr::run
