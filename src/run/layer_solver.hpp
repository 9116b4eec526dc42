#pragma once
// One layer of a sweep: its inputs, its solution, and the network with it. The schedules are made of these.
#include "slr/run/sweep.hpp"

namespace slr::run {

/// What all layers that one group of ranks solves share.
struct LayerJob {
  const Communicator& comm;
  const Grid& row_grid;
  const Network& network;
  const Allotment& allotment;
  const store::FeatureSet& features;
  const Configuration& config;
  Progress& progress;
  Checkpoints& checkpoints;
  bool decides_only = false; ///< structure and pull are wanted, weights as good as it takes to compare

  [[nodiscard]] ConstrainedOptions constrained() const;
};

/// Why layers stay dense, those that do not pay on the original inputs included. Local.
[[nodiscard]] std::vector<std::string> reasons_with(const LayerJob& job, std::vector<std::string> dense_reasons,
                                                    std::optional<std::int64_t> parameter_limit);

/// What a limit leaves for the layers that do not stay dense, and the parameters that they are expected to need: they
/// share it in that proportion.
struct LayerBudget {
  std::int64_t left = 0, expected = 0;
  [[nodiscard]] std::int64_t share(std::int64_t parameters) const {
    return expected > 0 ? left * parameters / expected : 0;
  }
};
/// `reasons`: as reasons_with gives them. Local.
[[nodiscard]] LayerBudget budget_of(const LayerJob& job, const std::vector<std::string>& reasons,
                                    std::int64_t parameter_limit);

/// A layer that nothing was done with. Local.
[[nodiscard]] LayerOutcome dense_outcome(const Network& network, std::size_t index, const std::string& reason);

/// Structure and weights by the method of the configuration, within `allowance` parameters if there is a limit.
/// Collective. \throws Error{numerical}
void solve_layer(const LayerJob& job, const PreparedProblem& prepared, std::size_t index,
                 std::optional<std::int64_t> allowance, LayerOutcome& outcome);

/// The best weights of the structure of an earlier solution, with its pull, on other inputs. Collective.
/// \throws Error{numerical}
void refit_layer(const LayerJob& job, const PreparedProblem& prepared, const LayerOutcome& first,
                 LayerOutcome& outcome);

/// Runs the solution of a layer: where it fails and on_failure says so, the layer stays dense. Collective.
template <class Solve>
void solve_or_keep_dense(const LayerJob& job, LayerOutcome& outcome, Solve&& solve) {
  try {
    std::forward<Solve>(solve)();
  } catch (const Error& error) {
    if (error.code() != ExitCode::numerical || job.config.on_failure != OnFailure::keep_dense) throw;
    outcome.dense_reason = failed_layer + error.what();
    job.progress.warning(std::string(error.what()) + "; the layer stays dense (on_failure: keep_dense)");
  }
}

/// Writes the inputs that a layer is fitted on; those of an earlier start, perhaps by other ranks, go first.
/// Collective.
void rewrite_inputs(const LayerJob& job, const graph::Layer& layer, Share share, const std::vector<float>& rows,
                    const std::filesystem::path& folder);

/// Puts the factors into the network in the place of the layer. Local.
void replace(const graph::Layer& layer, graph::Model& model, LayerOutcome& outcome);

} // namespace slr::run
