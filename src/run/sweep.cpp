#include "slr/run/sweep.hpp"

#include "layer_state.hpp"
#include "slr/graph/count.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/run/compressed_layer.hpp"
#include "slr/run/layer_work.hpp"
#include "slr/run/solver_options.hpp"

#include <algorithm>
#include <chrono>

namespace slr::run {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

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
    std::int64_t low = -1, high = std::min(layer.rows, layer.cols - groups * layer.window_area());
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

/// What all layers of a sweep share.
struct Job {
  const Communicator& comm;
  const Grid& row_grid;
  const Network& network;
  const Allotment& allotment;
  const store::FeatureSet& features;
  const Configuration& config;
  Progress& progress;
  Checkpoints& checkpoints;

  [[nodiscard]] ConstrainedOptions constrained() const {
    auto options = constrained_options(config);
    options.checkpoints = &checkpoints;
    return options;
  }
};

/// Structure and weights by the relaxed problem: what it keeps, then the best weights of that structure.
void solve_relaxed(const Job& job, const PreparedProblem& prepared, const LayerStatistics& statistics,
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
void solve_constrained(const Job& job, const PreparedProblem& prepared, const LayerStatistics& statistics,
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

void solve_layer(const Job& job, const PreparedProblem& prepared, std::size_t index,
                 std::optional<std::int64_t> allowance, LayerOutcome& outcome) {
  const auto& [problem, scale] = prepared;
  const auto& split = job.allotment.splits[index];
  const bool needs_moments = job.config.method.kind == MethodKind::relaxed || (split && split->groups > 0);
  const auto way = needs_moments ? LeastSquares::gram : least_squares(job.comm, problem, job.config);
  const auto statistics = measure(job.comm, job.row_grid, problem, way);
  outcome.samples = statistics.samples;
  outcome.least_squares = way;
  if (job.config.method.kind == MethodKind::relaxed)
    solve_relaxed(job, prepared, statistics, index, allowance, outcome);
  else
    solve_constrained(job, prepared, statistics, index, allowance.value_or(outcome.parameters_before), outcome);
  if (!outcome.is_compressed) return;
  outcome.engine_counts = outcome.engine_counts + outcome.solved.engine_counts;
  outcome.factors = outcome.solved.factors;
  outcome.error_heldout = relative_error(job.comm, problem, problem.report, outcome.factors);
}

/// Writes the inputs that a layer is fitted on; those of an earlier start, perhaps by other ranks, go first.
void rewrite_inputs(const Job& job, const graph::Layer& layer, Share share, const std::vector<float>& rows,
                    const std::filesystem::path& folder) {
  on_root(job.comm, [&] { std::filesystem::remove_all(store::inputs_folder(folder, layer.name)); });
  collectively(job.comm, [&] { write_inputs(job.comm, job.network, layer, job.features, share, rows, folder); });
}

/// Puts the factors into the network in the place of the layer.
void replace(const graph::Layer& layer, graph::Model& model, LayerOutcome& outcome) {
  const auto now = graph::find_layers(model);
  const auto here = std::find_if(now.begin(), now.end(), [&](const auto& l) { return l.name == layer.name; });
  require(here != now.end(), "layer " + layer.name + " disappeared from the network");
  outcome.form = graph::replace_layer(model, *here,
                                      compressed_layer(outcome.factors, layer.rows, layer.cols, layer.window_area()));
  outcome.parameters_after = cost_of(layer, {outcome.factors.kept_groups, outcome.factors.numerical_rank}).parameters;
}

/// What an earlier start had solved.
std::vector<LayerOutcome> restore_outcomes(Checkpoints& checkpoints, const Network& network) {
  std::vector<LayerOutcome> outcomes;
  const auto saved = checkpoints.take("sweep");
  if (!saved) return outcomes;
  const auto count = saved->get<std::int64_t>("layers").at(0);
  for (std::int64_t i = 0; i < count; ++i)
    outcomes.push_back(restore_outcome(*saved, std::to_string(i), network.layers.at(static_cast<std::size_t>(i))));
  return outcomes;
}

} // namespace

Checkpoints::Kept keep_outcomes(Checkpoints& checkpoints, const std::vector<LayerOutcome>& layers) {
  return checkpoints.keep("sweep", [&layers](StateWriter& to) {
    to.put_integers("layers", {std::ssize(layers)});
    for (std::size_t i = 0; i < layers.size(); ++i) save_outcome(to, std::to_string(i), layers[i]);
  });
}

SweepResult sweep(const Communicator& comm, const Grid& row_grid, const Network& network,
                  const std::vector<std::string>& dense_reasons, const Allotment& allotment,
                  const store::FeatureSet& features, const ImageFeed* feed, const Configuration& config,
                  std::optional<std::int64_t> parameter_limit, const std::filesystem::path& inputs_folder,
                  Progress& progress, Checkpoints& checkpoints) {
  const Job job{comm, row_grid, network, allotment, features, config, progress, checkpoints};
  const auto share = share_of_rank(comm, config.calibration.images);
  const infer::Sampling sampling{static_cast<std::uint64_t>(config.calibration.seed), config.calibration.positions};
  const auto& limit = parameter_limit;

  // A layer that does not pay on the original inputs stays dense. The others share what the limit leaves in proportion
  // to what they are expected to need; what one does not use goes to the next.
  auto reasons = dense_reasons;
  std::int64_t budget_left = limit.value_or(0), expected_left = 0;
  budget_left -= graph::count(network.model).parameters;
  for (std::size_t i = 0; i < network.layers.size(); ++i) {
    const auto dense = dense_parameters(network, network.layers[i]);
    if (reasons[i].empty() && !allotment.splits[i] && allotment.parameters[i] >= dense &&
        (limit || config.method.kind == MethodKind::constrained))
      reasons[i] = "does not pay";
    if (!reasons[i].empty()) continue;
    budget_left += dense;
    expected_left += allotment.parameters[i];
  }

  auto earlier = restore_outcomes(checkpoints, network);
  SweepResult result{network.model, {}, false};
  const auto kept = keep_outcomes(checkpoints, result.layers);
  const bool follows_compressed = config.calibration.inputs == CalibrationInputs::compressed;
  require(!follows_compressed || feed, "compressed inputs need images");
  std::optional<Frontier> frontier;
  collectively(comm, [&] {
    if (follows_compressed && earlier.size() < network.layers.size()) frontier.emplace(network, *feed, share);
  });
  const auto count = static_cast<std::int64_t>(network.layers.size());
  progress.stage("solve", count, solve_weights(network, reasons, allotment.parameters, config));
  for (std::size_t i = 0; i < network.layers.size(); ++i) {
    const auto& layer = network.layers[i];
    const auto start = std::chrono::steady_clock::now();
    progress.layer(static_cast<std::int64_t>(i), count, layer.name);
    const bool is_earlier = i < earlier.size();
    LayerOutcome outcome;
    if (is_earlier) outcome = std::move(earlier[i]);
    outcome.name = layer.name;
    outcome.rows = layer.rows;
    outcome.cols = layer.cols;
    outcome.parameters_before = outcome.parameters_after = dense_parameters(network, layer);
    if (!is_earlier) outcome.dense_reason = reasons[i];
    if (reasons[i].empty()) {
      std::optional<std::int64_t> allowance;
      if (limit) allowance = expected_left > 0 ? budget_left * allotment.parameters[i] / expected_left : 0;
      const Checkpoints::Unit unit(checkpoints, "layer-" + std::to_string(i));
      try {
        const auto inputs = collectively(comm, [&] {
          return frontier ? frontier->inputs_of(result.model, layer.name, sampling, !is_earlier) : std::vector<float>();
        });
        if (!is_earlier) {
          if (follows_compressed) rewrite_inputs(job, layer, share, inputs, inputs_folder);
          solve_layer(job, prepare_problem(comm, network, layer, features, share, inputs), i, allowance, outcome);
        }
      } catch (const Error& error) {
        if (error.code() != ExitCode::numerical || config.on_failure != OnFailure::keep_dense) throw;
        outcome.dense_reason = failed_layer + error.what();
        progress.warning(std::string(error.what()) + "; the layer stays dense (on_failure: keep_dense)");
      }
    }
    if (outcome.is_compressed) replace(layer, result.model, outcome);
    if (outcome.dense_reason.starts_with(failed_layer)) result.is_failure_tolerated = true;
    if (reasons[i].empty()) {
      budget_left -= outcome.parameters_after;
      expected_left -= allotment.parameters[i];
    }
    if (!is_earlier) outcome.seconds = seconds_since(start);
    result.layers.push_back(std::move(outcome));
    if (!is_earlier) checkpoints.poll();
  }
  return result;
}

} // namespace slr::run
