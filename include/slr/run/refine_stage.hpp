#pragma once
/// \file
/// The stage behind the layers: all of the compressed network's weights together.
#include "slr/refine/refine.hpp"
#include "slr/run/network.hpp"
#include "slr/run/progress.hpp"
#include "slr/run/sweep.hpp"
#include "slr/store/factors.hpp"

#include <map>
#include <nlohmann/json.hpp>
#include <optional>

namespace slr::run {

/// The weights that a refinement moves: those of the nodes that took the place of compressed layers, with `has_dense`
/// also those of the other linear layers, as far as `output` depends on them. In the order of the nodes. Local.
[[nodiscard]] std::vector<std::string> trained_weights(const graph::Model& model, const std::string& output,
                                                       const std::vector<graph::Layer>& layers,
                                                       const std::vector<LayerOutcome>& outcomes, bool has_dense);

/// What became of the network.
struct RefineOutcome {
  bool is_accepted = false;
  double loss_before = 0, loss_after = 0; ///< mean on the report images
  std::int64_t images = 0;                ///< fitted ones
  double seconds = 0;
  refine::Result result;
  std::vector<std::string> trained; ///< names of the weights that were moved
  /// The weights that were moved, by layer and name within the layer, as the accepted model has them.
  std::map<std::string, std::map<std::string, store::RefinedWeight>> weights;
};

/// Refines `result.model` on the fit images (i mod 10 > 1) of the whole feed, at most refine.images of them, and
/// replaces it if the loss on the selection images (i mod 10 = 1) of the same part of the feed falls. Collective; the
/// same bits for every number of ranks. None if no layer is compressed or if the feed has no selection image.
/// \pre refine.epochs > 0 \throws Error{bad_data} naming the node that cannot be differentiated.
[[nodiscard]] std::optional<RefineOutcome> refine_network(const Communicator& comm, const Network& network,
                                                          const ImageFeed& feed, const Configuration& config,
                                                          SweepResult& result, Progress& progress,
                                                          Checkpoints& checkpoints);

/// Keeps what became of a network in checkpoints, from which `refine_network` returns it at once. Local.
[[nodiscard]] Checkpoints::Kept keep_refined(Checkpoints& checkpoints, const std::optional<RefineOutcome>& outcome);

/// `refine` of report.json; null for none.
[[nodiscard]] nlohmann::ordered_json refine_json(const std::optional<RefineOutcome>& outcome);

} // namespace slr::run
