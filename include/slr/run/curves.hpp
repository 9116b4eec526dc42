#pragma once
/// \file
/// What each layer costs along its best structures, and what that does to the network.
#include "slr/layer/constrained.hpp"
#include "slr/run/features.hpp"
#include "slr/run/solver_options.hpp"

#include <filesystem>
#include <map>
#include <optional>

namespace slr::run {

/// One structure of a layer, solved on the original inputs.
struct CurvePoint {
  Split split;
  double error_selection = 0;    ///< after the activation, on the selection images
  std::optional<double> kl;      ///< of the network with this layer alone compressed so, on the selection images
  std::optional<double> latency; ///< seconds of this layer for one image on one thread, where the budget needs it
};
/// Points of one number of kept groups, ranks descending.
using CurveRow = std::vector<CurvePoint>;

/// The trade-off of one layer; no rows for a layer that stays dense.
struct LayerCurve {
  double pull = 0;          ///< towards the original weights, as it was chosen for these points
  double dense_latency = 0; ///< seconds of the original layer, where the budget needs it
  std::vector<CurveRow> rows;
  std::string failure{}; ///< why there are no rows, where the layer failed and on_failure says keep_dense
};

/// All layers' curves, and what the network as a whole takes.
struct Curves {
  double network_latency = 0; ///< seconds of the original network, where the budget needs it
  std::vector<LayerCurve> layers;
  /// Seconds that the network takes beside its layers, once it meets the budget point of that name; below 0 where
  /// layers timed alone take longer.
  std::map<std::string, double> latency_beside{};
};

/// Traces every layer's path on the original inputs (trace_path), and measures for some points of each whole row what
/// the network's output loses when the layer alone is replaced: mean KL divergence from the original's output on the
/// selection images. No labels. Layers are dealt to groups of ranks (choose_curve_groups), which trace them at the same
/// time; where the budget limits the latency, all ranks trace one after the other, and rank 0 times these points too.
/// Finished layers are kept in files in `folder` until `forget_curves`, the layer under way in checkpoints where there
/// is one group. Collective; but for the times, the same values for every number of ranks and groups.
[[nodiscard]] Curves measure_curves(const Communicator& comm, const Network& network,
                                    const std::vector<std::string>& dense_reasons, const store::FeatureSet& features,
                                    const ImageFeed& feed, const Configuration& config,
                                    const std::filesystem::path& folder, Progress& progress, Checkpoints& checkpoints);
/// Local, on one rank.
void forget_curves(const std::filesystem::path& folder, std::size_t layers);

/// The curves as text, and back, bit for bit. Local. \throws Error{bad_data} for a text of another kind.
[[nodiscard]] std::string curves_text(const Curves& curves);
[[nodiscard]] Curves curves_from_text(const std::string& text);

/// One way to write a layer, measured or interpolated.
struct PredictedPoint {
  Split split;
  double error = 0, kl = 0; ///< of the layer; of the network with it alone compressed
  double latency = 0;       ///< seconds of the layer, 0 where it was not measured
};
/// Every rank of every row between its largest and smallest, and as many between neighbouring rows. Errors are
/// interpolated (their logarithm against the rank, then against the groups); the KL divergence is a error^b through the
/// measured points of the row, piece by piece if there are more than two. Local.
[[nodiscard]] std::vector<PredictedPoint> predict(const LayerCurve& curve);

} // namespace slr::run
