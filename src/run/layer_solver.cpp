#include "layer_solver.hpp"

#include "slr/graph/count.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/run/compressed_layer.hpp"
#include "slr/run/solver_options.hpp"

#include <algorithm>

namespace slr::run {
namespace {

graph::FormCost cost_of(const graph::Layer& layer, const Structure& structure) {
  return graph::cheapest_form(layer, structure.target_rank, static_cast<std::int64_t>(structure.kept_groups.size()));
}

/// Gives up rank, then kept groups, until the layer has at most `allowance` parameters, but not everything. What the
/// iteration on the original inputs counted and what the one on the real inputs finds differ by little.
void shrink_to(const graph::Layer& layer, std::int64_t allowance, Structure& structure) {
  while (cost_of(layer, structure).parameters > allowance) {
    if (structure.target_rank > 1 || (structure.target_rank == 1 && structure.kept_groups.empty()))
      --structure.target_rank;
    else if (!structure.kept_groups.empty())
      structure.kept_groups.pop_back();
    else
      return;
  }
}

/// What the layer may cost leaves this rank beside so many kept groups; negative if they cost too much already.
LargestRank rank_within(const graph::Layer& layer, std::int64_t allowance) {
  return [&layer, allowance](std::int64_t groups) {
    std::int64_t low = -1, high = layer.largest_rank(groups);
    while (low < high) { // the largest rank that fits, as the cost rises with it
      const auto middle = low + (high - low + 1) / 2;
      if (graph::cheapest_form(layer, middle, groups).parameters <= allowance)
        low = middle;
      else
        high = middle - 1;
    }
    return low;
  };
}

/// Structure and weights by the relaxed problem: what it keeps, then the best weights of that structure.
void solve_relaxed(const LayerJob& job, const PreparedProblem& prepared, const LayerStatistics& statistics,
                   std::size_t index, std::optional<std::int64_t> allowance, LayerOutcome& outcome) {
  const auto& [problem, scale] = prepared;
  const auto& layer = job.network.layers[index];
  auto options = relaxed_options(job.config);
  options.checkpoints = &job.checkpoints;
  RelaxedSolver solver(job.comm, problem, scale, statistics, options);
  if (const auto& start = job.allotment.points[index]; start && !solver.is_restored()) solver.start_from(*start);
  outcome.relaxed.emplace();
  outcome.relaxed->lambda_factor = job.allotment.lambda_factor;
  const bool has_ended = solver.is_restored() && !solver.is_solving();
  outcome.relaxed->report = has_ended ? solver.report()
                                      : solver.solve(job.allotment.lambda_factor, job.config.method.iteration_limit(),
                                                     job.config.method.tolerance, step_listener(job.progress));
  outcome.relaxed->certificate = solver.certificate();
  outcome.engine_counts = solver.engine_counts();
  auto structure = solver.structure();
  if (allowance) shrink_to(layer, *allowance, structure);
  if (cost_of(layer, structure).parameters >= outcome.parameters_before) {
    outcome.dense_reason = "does not pay";
    return;
  }
  outcome.solved =
      solve_structure(job.comm, problem, scale, statistics, structure, job.constrained(), step_listener(job.progress));
  outcome.is_compressed = true;
}

/// Structure and weights for what the layer may cost.
void solve_constrained(const LayerJob& job, const PreparedProblem& prepared, const LayerStatistics& statistics,
                       std::size_t index, std::int64_t allowance, LayerOutcome& outcome) {
  const auto& [problem, scale] = prepared;
  const auto& split = job.allotment.splits[index];
  const double pull = job.allotment.pulls[index];
  auto options = job.constrained();
  if (pull > 0) options.pulls = {pull / 3, pull, 3 * pull};
  // Without a factor a start costs as much as several iterations, and the curve's pull was chosen on as many samples.
  if (pull > 0 && statistics.is_implicit()) options.pulls = {pull};
  auto splits = split ? std::vector<Split>{*split}
                      : splits_of_budget(problem, rank_within(job.network.layers[index], allowance), options.shares);
  if (statistics.is_implicit()) std::erase_if(splits, [](const Split& each) { return each.groups > 0; });
  if (splits.empty() || (!split && allowance >= outcome.parameters_before)) {
    outcome.dense_reason = "does not pay";
    return;
  }
  outcome.solved = solve_splits(job.comm, problem, scale, statistics, splits, options, step_listener(job.progress));
  outcome.is_compressed = true;
}

/// Second moments, or what takes their place where that is cheaper.
LayerStatistics statistics_for(const LayerJob& job, const LayerProblem& problem, bool needs_moments,
                               LayerOutcome& outcome) {
  const auto way = needs_moments ? LeastSquares::gram : least_squares(job.comm, problem, job.config);
  auto statistics = measure(job.comm, job.row_grid, problem, way);
  outcome.samples = statistics.samples;
  outcome.least_squares = way;
  return statistics;
}

/// What is known of a layer once its weights are there.
void judge(const LayerJob& job, const LayerProblem& problem, LayerOutcome& outcome) {
  outcome.engine_counts = outcome.engine_counts + outcome.solved.engine_counts;
  outcome.factors = outcome.solved.factors;
  outcome.error_heldout = relative_error(job.comm, problem, problem.report, outcome.factors);
}

} // namespace

ConstrainedOptions LayerJob::constrained() const {
  auto options = constrained_options(config);
  options.checkpoints = &checkpoints;
  if (decides_only) {
    options.iterations = std::min(options.iterations, options.trial_iterations);
    options.refine_evaluations = 0;
  }
  return options;
}

std::vector<std::string> reasons_with(const LayerJob& job, std::vector<std::string> dense_reasons,
                                      std::optional<std::int64_t> parameter_limit) {
  for (std::size_t i = 0; i < dense_reasons.size(); ++i)
    if (dense_reasons[i].empty() && !job.allotment.splits[i] &&
        job.allotment.parameters[i] >= dense_parameters(job.network, job.network.layers[i]) &&
        (parameter_limit || job.config.method.kind == MethodKind::constrained))
      dense_reasons[i] = "does not pay";
  return dense_reasons;
}

LayerBudget budget_of(const LayerJob& job, const std::vector<std::string>& reasons, std::int64_t parameter_limit) {
  LayerBudget budget{parameter_limit - graph::count(job.network.model).parameters, 0};
  for (std::size_t i = 0; i < reasons.size(); ++i) {
    if (!reasons[i].empty()) continue;
    budget.left += dense_parameters(job.network, job.network.layers[i]);
    budget.expected += job.allotment.parameters[i];
  }
  return budget;
}

LayerOutcome dense_outcome(const Network& network, std::size_t index, const std::string& reason) {
  const auto& layer = network.layers[index];
  LayerOutcome outcome;
  outcome.name = layer.name;
  outcome.rows = layer.rows;
  outcome.cols = layer.cols;
  outcome.parameters_before = outcome.parameters_after = dense_parameters(network, layer);
  outcome.dense_reason = reason;
  return outcome;
}

void solve_layer(const LayerJob& job, const PreparedProblem& prepared, std::size_t index,
                 std::optional<std::int64_t> allowance, LayerOutcome& outcome) {
  const auto& [problem, scale] = prepared;
  const auto& split = job.allotment.splits[index];
  const bool needs_moments = job.config.method.kind == MethodKind::relaxed || (split && split->groups > 0);
  const auto statistics = statistics_for(job, problem, needs_moments, outcome);
  if (job.config.method.kind == MethodKind::relaxed)
    solve_relaxed(job, prepared, statistics, index, allowance, outcome);
  else
    solve_constrained(job, prepared, statistics, index, allowance.value_or(outcome.parameters_before), outcome);
  if (outcome.is_compressed) judge(job, problem, outcome);
}

void refit_layer(const LayerJob& job, const PreparedProblem& prepared, const LayerOutcome& first,
                 LayerOutcome& outcome) {
  const auto& [problem, scale] = prepared;
  const auto statistics = statistics_for(job, problem, !first.factors.kept_groups.empty(), outcome);
  auto options = job.constrained();
  options.pulls = {first.solved.pull};
  const Structure structure{first.factors.kept_groups, first.factors.numerical_rank};
  outcome.engine_counts = first.engine_counts;
  outcome.relaxed = first.relaxed;
  outcome.solved =
      solve_structure(job.comm, problem, scale, statistics, structure, options, step_listener(job.progress));
  outcome.is_compressed = true;
  judge(job, problem, outcome);
}

void rewrite_inputs(const LayerJob& job, const graph::Layer& layer, Share share, const std::vector<float>& rows,
                    const std::filesystem::path& folder) {
  on_root(job.comm, [&] { std::filesystem::remove_all(store::inputs_folder(folder, layer.name)); });
  collectively(job.comm, [&] { write_inputs(job.comm, job.network, layer, job.features, share, rows, folder); });
}

void replace(const graph::Layer& layer, graph::Model& model, LayerOutcome& outcome) {
  const auto now = graph::find_layers(model);
  const auto here = std::find_if(now.begin(), now.end(), [&](const auto& l) { return l.name == layer.name; });
  require(here != now.end(), "layer " + layer.name + " disappeared from the network");
  outcome.form = graph::replace_layer(model, *here, compressed_layer(outcome.factors, layer));
  outcome.parameters_after = cost_of(layer, {outcome.factors.kept_groups, outcome.factors.numerical_rank}).parameters;
}

} // namespace slr::run
