#pragma once
/// \file
/// Solving the layers of a network one after the other.
#include "slr/graph/rewrite.hpp"
#include "slr/layer/constrained.hpp"
#include "slr/layer/relaxed.hpp"
#include "slr/run/budget.hpp"
#include "slr/run/curves.hpp"
#include "slr/run/features.hpp"

#include <optional>

namespace slr::run {

/// How the reason for a layer's staying dense begins when that is a numerical failure (on_failure: keep_dense).
inline const std::string failed_layer = "failed: ";

/// What became of one layer.
struct LayerOutcome {
  std::string name;
  std::int64_t rows = 0, cols = 0;
  bool is_compressed = false;
  std::string dense_reason; ///< why not: "kept", "depthwise", "grouped", "does not pay", "failed: ..."
  graph::Form form = graph::Form::dense;
  std::int64_t parameters_before = 0, parameters_after = 0;
  LayerFactors factors;
  ConstrainedResult solved; ///< structure, report and error of the returned weights
  /// Of the relaxed problem, where its search for the structure ended; none for other methods.
  struct Relaxed {
    SolveReport report;
    Certificate certificate;
    double lambda_factor = 1; ///< both lambdas were multiplied by it
  };
  std::optional<Relaxed> relaxed;
  double error_heldout = 0;
  std::int64_t samples = 0; ///< fitted ones
  LeastSquares least_squares = LeastSquares::gram;
  EngineCounts engine_counts;
  double seconds = 0;
  double structure_seconds = 0; ///< that a parallel schedule took for the structure, before
};

/// The compressed network and how it came about.
struct SweepResult {
  graph::Model model;
  std::vector<LayerOutcome> layers;  ///< all of the network's, in its order
  bool is_failure_tolerated = false; ///< a layer was kept dense by on_failure
};

/// What each layer may cost, and for the relaxed problem where its iterations start.
struct Allotment {
  std::vector<std::int64_t> parameters;            ///< per layer of the network; the dense number where it stays dense
  std::vector<std::optional<Split>> splits;        ///< constrained: how that is split, where curves said so
  std::vector<double> pulls;                       ///< constrained: and the pull that they were made with; 0: none
  double predicted_kl = 0;                         ///< constrained: of the whole network
  double lambda_factor = 1;                        ///< relaxed: both lambdas are multiplied by it
  std::vector<std::optional<RelaxedPoint>> points; ///< relaxed: per layer, none for dense ones
};
/// Without a budget: every layer may cost what it costs dense, the lambdas are those of the configuration. Local.
[[nodiscard]] Allotment no_limit(const Network& network);

/// Relaxed: both lambdas of all layers are multiplied by one factor; this finds it on the original inputs, so that the
/// whole network has about `limit` parameters: interpolation and bisection on logarithms, every layer warm-started from
/// the last factor. Collective.
[[nodiscard]] Allotment find_shared_factor(const Communicator& comm, const Grid& row_grid, const Network& network,
                                           const std::vector<std::string>& dense_reasons,
                                           const store::FeatureSet& features, const Configuration& config,
                                           std::int64_t limit, Progress& progress, Checkpoints& checkpoints);

/// Keeps what it found in checkpoints, from which `find_shared_factor` returns it at once. Local.
[[nodiscard]] Checkpoints::Kept keep_shared_factor(Checkpoints& checkpoints, const Allotment& allotment);

/// Constrained: the choice along the layers' curves with the smallest predicted KL divergence that meets every limit of
/// the point. budget.layers, budget.minimum_rank and budget.multiple restrict the choices. Local.
/// \throws Error{configuration} if the curves reach no such size.
[[nodiscard]] Allotment allot(const Network& network, const std::vector<std::string>& dense_reasons,
                              const Curves& curves, const BudgetPoint& point, const Configuration& config);

/// Constrained: every layer that may shrink gets the same factor, so that the network has at most `limit` parameters;
/// how a layer splits its share between rank and groups is decided when it is solved. Local.
[[nodiscard]] Allotment allot_uniformly(const Network& network, const std::vector<std::string>& dense_reasons,
                                        std::int64_t limit);

/// Solves every layer in topological order on the inputs that the partly compressed network really produces
/// (calibration.inputs: compressed), writes these inputs into shards below `features_folder`, replaces the layer, and
/// goes on. What an earlier start of the job had solved is not solved again. With the original inputs no images are
/// needed (`feed` may be null), and shards that have inputs X of their own are fitted on those. `parameter_limit`:
/// relaxed, what all layers together may cost. `solved`: the first layers, where they are known. Collective; the same
/// result on every rank.
[[nodiscard]] SweepResult sweep(const Communicator& comm, const Grid& row_grid, const Network& network,
                                const std::vector<std::string>& dense_reasons, const Allotment& allotment,
                                const store::FeatureSet& features, const ImageFeed* feed, const Configuration& config,
                                std::optional<std::int64_t> parameter_limit, const std::filesystem::path& inputs_folder,
                                Progress& progress, Checkpoints& checkpoints, std::vector<LayerOutcome> solved = {});

/// What an earlier start had solved: layers from the first on. Collective.
[[nodiscard]] std::vector<LayerOutcome> restore_outcomes(Checkpoints& checkpoints, const Network& network);

/// Keeps finished layers in checkpoints; `sweep` takes them up again and does so itself while it runs. Local.
[[nodiscard]] Checkpoints::Kept keep_outcomes(Checkpoints& checkpoints, const std::vector<LayerOutcome>& layers);

/// Joins groups of convolutions that stayed dense, takes what no layer reads any more out of the compressed network,
/// and the Gathers that only reorder (graph/channels), and counts its layers again. Local, the same on every rank.
void tidy(SweepResult& result);

} // namespace slr::run
