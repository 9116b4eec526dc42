#include "descent.hpp"

#include "slr/layer/factored_objective.hpp"
#include "slr/linalg/remembered_function.hpp"

namespace slr {
namespace {

constexpr int patience = 5; // iterations in a row without a smaller error

} // namespace

void descend(const SolverLayer& layer, const FixedStructure& fixed, ConstrainedResult& result) {
  const auto& [comm, problem, options] = std::tie(layer.comm, layer.problem, layer.options);
  // For the identity the iteration's first result is the optimum.
  if (options.refine_evaluations == 0 || problem.activation.is_identity() || layer.output_variation == 0) return;
  FactoredObjective objective(comm, problem, layer.scale, layer.statistics, fixed, result.factors, result.pull,
                              layer.output_squared);
  RememberedFunction function(
      [&](std::span<const double> x, std::span<double> gradient) { return objective.evaluate(x, gradient); },
      options.checkpoints, {"descent"});
  const auto& judges = layer.has_selection ? problem.selection : problem.fit;
  RememberedFeatures features;
  const auto error_at = [&](std::span<const double> x) {
    return relative_error(comm, problem, judges, objective.map(x), features);
  };
  std::vector<double> x(static_cast<std::size_t>(objective.size()), 0.0), best = x;
  double best_error = error_at(x);
  int in_vain = 0;
  minimize_lmvm([&](std::span<const double> at, std::span<double> gradient) { return function(at, gradient); }, x,
                static_cast<int>(options.refine_evaluations),
                [&](std::span<const double> at, double) {
                  const double error = error_at(at);
                  ++in_vain;
                  if (error < best_error) {
                    best_error = error;
                    best.assign(at.begin(), at.end());
                    in_vain = 0;
                  }
                  if (layer.progress)
                    layer.progress({function.evaluations(), options.refine_evaluations, best_error,
                                    result.factors.numerical_rank, std::ssize(result.factors.kept_groups)});
                  return in_vain < patience;
                },
                options.tao_options);
  result.refine_evaluations = function.evaluations();
  const auto factors = objective.factors(best);
  const double error_fit = relative_error(comm, problem, problem.fit, factors),
               error = layer.has_selection ? relative_error(comm, problem, problem.selection, factors) : error_fit;
  if (!(error < result.error_selection)) return;
  result.refine_gain = 1 - error / result.error_selection;
  result.factors = factors;
  result.report.error_train = error_fit;
  result.error_selection = error;
}

} // namespace slr
