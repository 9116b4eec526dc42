#pragma once
/// \file
/// What each layer costs along its best structures, and what that does to the network.
#include "slr/layer/constrained.hpp"
#include "slr/run/features.hpp"
#include "slr/run/solver_options.hpp"

#include <optional>

namespace slr::run {

/// One structure of a layer, solved on the original inputs.
struct CurvePoint {
  Split split;
  double error_selection = 0; ///< after the activation, on the selection images
  std::optional<double> kl;   ///< of the network with this layer alone compressed so, on the selection images
};
/// Points of one number of kept groups, ranks descending.
using CurveRow = std::vector<CurvePoint>;

/// The trade-off of one layer; no rows for a layer that stays dense.
struct LayerCurve {
  double pull = 0; ///< towards the original weights, as it was chosen for these points
  std::vector<CurveRow> rows;
};

/// Traces every layer's path on the original inputs (trace_path), and measures for some points of each row what the
/// network's output loses when the layer alone is replaced: mean KL divergence from the original's output on the
/// selection images. No labels. Collective; the same values for every number of ranks.
[[nodiscard]] std::vector<LayerCurve> measure_curves(const Communicator& comm, const Grid& row_grid,
                                                     const Network& network,
                                                     const std::vector<std::string>& dense_reasons,
                                                     const store::FeatureSet& features, const ImageFeed& feed,
                                                     const Configuration& config, Progress& progress);

/// Every rank of a row between its largest and smallest, with the KL that the network is expected to lose: errors are
/// interpolated (their logarithm against the rank), and KL = a error^b through the measured points of the row. Local.
struct PredictedPoint {
  Split split;
  double error = 0, kl = 0;
};
[[nodiscard]] std::vector<PredictedPoint> predict(const CurveRow& row);

} // namespace slr::run
