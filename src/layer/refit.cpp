#include "slr/layer/refit.hpp"

#include <cmath>
#include <limits>
#include <memory>

namespace slr {
namespace {

/// ADMM for one strength of the pull; can be continued.
class Candidate {
public:
  Candidate(const Communicator& comm, const LayerProblem& problem, const InputScale& scale,
            const LayerStatistics& statistics, const Structure& structure, const RefitOptions& options, double pull)
      : comm_(comm), problem_(problem), scale_(scale), statistics_(statistics), pull_(pull),
        fixed_(comm, problem, statistics, structure, pull * statistics.mean_diagonal / options.rho, options.engine),
        splitting_(comm, problem, scale, statistics, options.rho), cross_(splitting_.cross()) {
    step();
  }

  /// Up to `limit` iterations in all.
  void run(std::int64_t limit, double tolerance, std::int64_t shown_limit, const ProgressCallback& progress) {
    const double variation = std::sqrt(splitting_.output_variation());
    auto& report = result_.report;
    if (problem_.activation.is_identity() || variation == 0) {
      report.stop_reason = StopReason::not_needed;
      return;
    }
    while (report.iterations < limit && report.stop_reason != StopReason::converged) {
      cross_ = splitting_.advance(weights_, factors_.bias);
      const auto& sums = splitting_.sums();
      report.error_train = sums.loss / splitting_.output_squared(); // of the weights that entered this pass
      report.objective.push_back(report.error_train);
      report.primal_residual = std::sqrt(sums.primal_squared) / variation;
      report.dual_residual = std::sqrt(sums.dual_squared) / variation;
      ++report.iterations;
      step();
      const bool is_converged = report.primal_residual < tolerance && report.dual_residual < tolerance;
      report.stop_reason = is_converged ? StopReason::converged : StopReason::iteration_limit;
      if (progress)
        progress({report.iterations, shown_limit, result_.error_selection, factors_.numerical_rank,
                  static_cast<std::int64_t>(factors_.kept_groups.size())});
    }
  }

  [[nodiscard]] double best_error() const { return result_.error_selection; }
  [[nodiscard]] RefitResult finish() {
    result_.pull = pull_;
    result_.engine_counts = fixed_.engine_counts();
    result_.report.error_train = relative_error(
        comm_, problem_, scale_, problem_.fit,
        assemble_weights(result_.factors, problem_.rows, problem_.cols, problem_.group_columns), result_.factors.bias);
    return result_;
  }

private:
  /// W = argmin for the current P, b = mean T - W mean X; remembers the best on the selection samples.
  void step() {
    factors_ = fixed_.solve(cross_.p);
    weights_ = assemble_weights(factors_, problem_.rows, problem_.cols, problem_.group_columns);
    factors_.bias = cross_.target_mean;
    for (std::int64_t j = 0; j < problem_.cols; ++j)
      for (std::int64_t i = 0; i < problem_.rows; ++i)
        factors_.bias[static_cast<std::size_t>(i)] -= weights_[static_cast<std::size_t>(j * problem_.rows + i)] *
                                                      statistics_.input_mean[static_cast<std::size_t>(j)];
    const bool has_selection = comm_.allreduce_value(problem_.selection.count) > 0;
    const double error = relative_error(comm_, problem_, scale_, has_selection ? problem_.selection : problem_.fit,
                                        weights_, factors_.bias);
    if (error < result_.error_selection) {
      result_.error_selection = error;
      result_.factors = factors_;
    }
  }

  const Communicator& comm_;
  const LayerProblem& problem_;
  const InputScale& scale_;
  const LayerStatistics& statistics_;
  double pull_;
  FixedStructure fixed_;
  ActivationSplitting splitting_;
  CrossProducts cross_;
  LayerFactors factors_;
  std::vector<double> weights_;
  RefitResult result_{{}, {}, 0, std::numeric_limits<double>::infinity(), {}};
};

} // namespace

RefitResult refit(const Communicator& comm, const LayerProblem& problem, const InputScale& scale,
                  const LayerStatistics& statistics, const Structure& structure, const RefitOptions& options,
                  const ProgressCallback& progress) {
  std::unique_ptr<Candidate> best;
  for (const double pull : options.pulls) {
    auto candidate = std::make_unique<Candidate>(comm, problem, scale, statistics, structure, options, pull);
    candidate->run(options.trial_iterations, options.tolerance, options.iterations, progress);
    if (!best || candidate->best_error() < best->best_error()) best = std::move(candidate);
  }
  require(best != nullptr, "a refit needs at least one strength of the pull");
  best->run(options.iterations, options.tolerance, options.iterations, progress);
  return best->finish();
}

} // namespace slr
