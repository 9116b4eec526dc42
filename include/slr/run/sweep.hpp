#pragma once
/// \file
/// Solving the layers of a network one after the other.
#include "slr/graph/rewrite.hpp"
#include "slr/layer/refit.hpp"
#include "slr/layer/relaxed.hpp"
#include "slr/run/features.hpp"

#include <optional>

namespace slr::run {

/// Sum of two layers' or phases' counts. Local.
[[nodiscard]] inline EngineCounts operator+(const EngineCounts& a, const EngineCounts& b) {
  return {a.pdgesvd + b.pdgesvd, a.gram + b.gram, a.subspace + b.subspace, a.fallbacks + b.fallbacks};
}

/// What became of one layer.
struct LayerOutcome {
  std::string name;
  std::int64_t rows = 0, cols = 0;
  bool is_compressed = false;
  std::string dense_reason; ///< why not: "kept", "depthwise", "grouped", "does not pay", "failed: ..."
  graph::Form form = graph::Form::dense;
  std::int64_t parameters_before = 0, parameters_after = 0;
  LayerFactors factors;
  RefitResult refit;        ///< report and error of the returned weights
  SolveReport relaxed;      ///< of the search for the structure
  Certificate certificate;  ///< of the relaxed problem, where the search ended
  double lambda_factor = 1; ///< both lambdas were multiplied by it
  double error_heldout = 0;
  std::int64_t samples = 0; ///< fitted ones
  EngineCounts engine_counts;
  double seconds = 0;
};

/// The compressed network and how it came about.
struct SweepResult {
  graph::Model model;
  std::vector<LayerOutcome> layers;  ///< all of the network's, in its order
  bool is_failure_tolerated = false; ///< a layer was kept dense by on_failure
};

/// Largest number of parameters of the whole network that the budget allows, none without a budget. Local.
/// \throws Error{configuration} if the layers that must stay dense already exceed it.
[[nodiscard]] std::optional<std::int64_t>
parameter_limit(const Network& network, const std::vector<std::string>& dense_reasons, const Configuration& config);

/// Both lambdas of all layers are multiplied by one factor; this finds it on the original inputs, so that the whole
/// network has about `limit` parameters: interpolation and bisection on logarithms, every layer warm-started from the
/// last factor. Returns the factor, the number of parameters of each layer there, and where the iterations stood.
/// Collective.
struct SharedFactor {
  double factor = 1;
  std::vector<std::int64_t> parameters;            ///< per layer of the network
  std::vector<std::optional<RelaxedPoint>> points; ///< likewise, none for dense layers
};
/// Without a budget: the lambdas as the configuration has them, nothing to start from. Local.
[[nodiscard]] SharedFactor no_penalty_change(const Network& network);
[[nodiscard]] SharedFactor find_shared_factor(const Communicator& comm, const Grid& row_grid, const Network& network,
                                              const std::vector<std::string>& dense_reasons,
                                              const store::FeatureSet& features, const Configuration& config,
                                              std::int64_t limit, Progress& progress);

/// Solves every layer in topological order on the inputs that the partly compressed network really produces
/// (calibration.inputs: compressed), writes these inputs into shards below `features_folder`, replaces the layer, and
/// goes on. Collective; the same result on every rank.
[[nodiscard]] SweepResult sweep(const Communicator& comm, const Grid& row_grid, const Network& network,
                                const std::vector<std::string>& dense_reasons, const SharedFactor& shared,
                                const store::FeatureSet& features, const ImageFeed& feed, const Configuration& config,
                                const std::filesystem::path& features_folder, Progress& progress);

} // namespace slr::run
