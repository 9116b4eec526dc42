#include "slr/layer/constrained.hpp"

#include "slr/dist/redistribute.hpp"
#include "slr/layer/elimination.hpp"
#include "slr/layer/factored_splitting.hpp"
#include "slr/layer/splitting.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>

namespace slr {
namespace {

/// What every solver of a layer refers to.
struct Layer {
  const Communicator& comm;
  const LayerProblem& problem;
  const InputScale& scale;
  const LayerStatistics& statistics;
  const ConstrainedOptions& options;
  const ProgressCallback& progress;
  DistMatrix<double> cross; ///< P of the original values before the activation
  std::vector<double> target_mean;
  double output_squared = 0, output_variation = 0; ///< ||Y||_F^2, ||Y - mean Y||_F^2
  bool has_selection = false;

  [[nodiscard]] double delta(double pull) const { return pull * statistics.mean_diagonal / options.rho; }
};

Layer make_layer(const Communicator& comm, const LayerProblem& problem, const InputScale& scale,
                 const LayerStatistics& statistics, const ConstrainedOptions& options,
                 const ProgressCallback& progress) {
  ActivationSplitting original(comm, problem, scale, statistics);
  auto cross = original.cross();
  return {comm,
          problem,
          scale,
          statistics,
          options,
          progress,
          std::move(cross.p),
          std::move(cross.target_mean),
          original.output_squared(),
          original.output_variation(),
          comm.allreduce_value(problem.selection.count) > 0};
}

/// ADMM for one structure and pull; can be continued.
class Candidate {
public:
  Candidate(const Layer& layer, const Structure& structure, double pull)
      : layer_(layer), pull_(pull),
        fixed_(std::make_unique<FixedStructure>(layer.comm, layer.problem, layer.statistics, structure,
                                                layer.delta(pull), layer.options.engine)),
        target_mean_(layer.target_mean) {
    fixed_->start(layer.cross);
  }

  /// Goes on with a smaller rank; what was best so far does not count any more.
  void lower_rank(std::int64_t rank) {
    fixed_->lower_rank(rank);
    best_error_ = std::numeric_limits<double>::infinity();
    report_.stop_reason = StopReason::iteration_limit;
    judge();
  }
  [[nodiscard]] const LayerFactors& best() const { return best_; }
  [[nodiscard]] std::int64_t iterations() const { return report_.iterations; }

  [[nodiscard]] double gain() const { return fixed_->gain(); }
  [[nodiscard]] const FixedStructure& fixed() const { return *fixed_; }
  [[nodiscard]] double best_error() const { return best_error_; }

  /// Up to `limit` iterations in all.
  void run(std::int64_t limit) {
    const auto& options = layer_.options;
    if (!splitting_) {
      splitting_.emplace(layer_.comm, layer_.problem, layer_.scale, layer_.statistics, options.rho, options.relaxation);
      judge();
    }
    const double variation = std::sqrt(layer_.output_variation);
    if (layer_.problem.activation.is_identity() || variation == 0) return;
    while (report_.iterations < limit && report_.stop_reason != StopReason::converged) {
      const auto cross = splitting_->advance(fixed_->map(target_mean_));
      report_.objective.push_back(cross.loss / layer_.output_squared); // of the weights that entered the pass
      report_.primal_residual = std::sqrt(cross.primal_squared) / variation;
      report_.dual_residual = std::sqrt(cross.dual_squared) / variation;
      ++report_.iterations;
      target_mean_ = cross.target_mean;
      fixed_->improve_left(cross);
      fixed_->improve_right(splitting_->project(fixed_->left_basis()));
      judge();
      const bool is_converged =
          report_.primal_residual < options.tolerance && report_.dual_residual < options.tolerance;
      report_.stop_reason = is_converged ? StopReason::converged : StopReason::iteration_limit;
      if (layer_.progress)
        layer_.progress(
            {report_.iterations, options.iterations, best_error_, best_.numerical_rank, std::ssize(best_.kept_groups)});
    }
  }

  [[nodiscard]] ConstrainedResult finish() const {
    const auto& problem = layer_.problem;
    ConstrainedResult result{fixed_->structure(), best_, report_, pull_, 0, fixed_->engine_counts()};
    const auto error = [&](const Samples& samples) { return relative_error(layer_.comm, problem, samples, best_); };
    result.report.error_train = error(problem.fit);
    result.error_selection = layer_.has_selection ? error(problem.selection) : result.report.error_train;
    return result;
  }

private:
  /// Remembers the best iterate on the selection samples.
  void judge() {
    const auto& problem = layer_.problem;
    const double error = relative_error(layer_.comm, problem, layer_.has_selection ? problem.selection : problem.fit,
                                        fixed_->map(target_mean_));
    if (error < best_error_) {
      best_error_ = error;
      best_ = fixed_->factors(target_mean_);
    }
  }

  const Layer& layer_;
  double pull_;
  std::unique_ptr<FixedStructure> fixed_;
  std::optional<FactoredSplitting> splitting_;
  std::vector<double> target_mean_;
  LayerFactors best_;
  double best_error_ = std::numeric_limits<double>::infinity();
  SolveReport report_;
};

/// The pull with the smallest selection error for this structure, its candidate run to the trial limit. Collective.
std::unique_ptr<Candidate> choose_pull(const Layer& layer, const Structure& structure, double& pull) {
  std::unique_ptr<Candidate> best;
  require(!layer.options.pulls.empty(), "a solution needs at least one strength of the pull");
  for (const double each : layer.options.pulls) {
    auto candidate = std::make_unique<Candidate>(layer, structure, each);
    candidate->run(std::min(layer.options.trial_iterations, layer.options.iterations));
    if (!best || candidate->best_error() < best->best_error()) {
      best = std::move(candidate);
      pull = each;
    }
  }
  return best;
}

/// Block columns of the inverse second moments and of the unrestricted optimum W = P C^-1.
struct Unrestricted {
  DistMatrix<double> inverse, weights;
};
Unrestricted unrestricted(const Layer& layer, const FixedStructure& no_groups, double pull) {
  const auto& problem = layer.problem;
  const std::int64_t k = problem.cols;
  Unrestricted result{make_block_columns(layer.statistics.grid, k, k, problem.group_columns), layer.cross.clone()};
  result.inverse.for_each_diagonal([](std::int64_t, double& value) { value = 1; });
  no_groups.solve(result.inverse);
  result.weights.for_each_local([&](GlobalRow i, GlobalCol j, double& value) {
    value += layer.delta(pull) * problem.weights[static_cast<std::size_t>(j.value() * problem.rows + i.value())];
  });
  no_groups.solve(result.weights);
  return result;
}

/// The groups to keep beside a low-rank part of the given rank: elimination on what that part leaves of the optimum.
std::vector<std::int64_t> groups_beside(const Layer& layer, const Unrestricted& free, const FixedStructure& no_groups,
                                        std::int64_t rank, std::int64_t count) {
  auto rest = free.weights.clone();
  if (rank > 0) {
    const auto low_rank = no_groups.low_rank_part(rank);
    const auto n = layer.problem.rows;
    rest.for_each_local([&](GlobalRow i, GlobalCol j, double& value) {
      value -= low_rank[static_cast<std::size_t>(j.value() * n + i.value())];
    });
  }
  return kept_by_elimination(layer.comm, free.inverse.clone(), std::move(rest), layer.problem.group_columns, count);
}

} // namespace

ConstrainedResult solve_structure(const Communicator& comm, const LayerProblem& problem, const InputScale& scale,
                                  const LayerStatistics& statistics, const Structure& structure,
                                  const ConstrainedOptions& options, const ProgressCallback& progress) {
  const auto layer = make_layer(comm, problem, scale, statistics, options, progress);
  double pull = 0;
  const auto best = choose_pull(layer, structure, pull);
  best->run(options.iterations);
  return best->finish();
}

std::vector<Split> splits_of_budget(const LayerProblem& problem, const LargestRank& largest_rank,
                                    std::span<const double> shares) {
  std::int64_t most = 0;
  while (most < problem.groups() && largest_rank(most + 1) >= 0) ++most;
  std::vector<Split> splits;
  for (const double share : shares) {
    Split split{static_cast<std::int64_t>(std::llround(share * static_cast<double>(most))), 0};
    split.rank =
        std::min({largest_rank(split.groups), problem.rows, problem.cols - split.groups * problem.group_columns});
    if (split.rank >= 0 && split.groups + split.rank > 0 &&
        std::find(splits.begin(), splits.end(), split) == splits.end())
      splits.push_back(split);
  }
  return splits;
}

Path trace_path(const Communicator& comm, const LayerProblem& problem, const InputScale& scale,
                const LayerStatistics& statistics, std::span<const PathRow> rows, const ConstrainedOptions& options,
                const ProgressCallback& progress) {
  const auto layer = make_layer(comm, problem, scale, statistics, options, progress);
  std::int64_t top_rank = 1;
  for (const auto& row : rows)
    for (const auto rank : row.ranks) top_rank = std::max(top_rank, rank);
  Path path;
  const auto middle = [](const std::vector<std::int64_t>& ranks) {
    return ranks.empty() ? 0 : ranks[ranks.size() / 2];
  };
  (void)choose_pull(layer, {{}, std::max<std::int64_t>(1, middle(rows.front().ranks))}, path.pull);
  // The factor without groups serves every elimination, and then its own row.
  auto no_groups = std::make_unique<Candidate>(layer, Structure{{}, top_rank}, path.pull);
  std::vector<Structure> structures;
  std::optional<Unrestricted> free;
  for (const auto& row : rows) {
    structures.push_back({{}, row.ranks.empty() ? 0 : row.ranks.front()});
    if (row.groups == 0 || row.ranks.empty()) continue;
    if (!free) free.emplace(unrestricted(layer, no_groups->fixed(), path.pull));
    structures.back().kept_groups = groups_beside(layer, *free, no_groups->fixed(), middle(row.ranks), row.groups);
  }
  free.reset();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    auto& structure = structures[i];
    auto candidate = structure.kept_groups.empty() && no_groups
                         ? std::move(no_groups)
                         : std::make_unique<Candidate>(layer, structure, path.pull);
    candidate->run(0);
    for (const auto rank : rows[i].ranks) {
      candidate->lower_rank(rank);
      candidate->run(candidate->iterations() + options.trial_iterations);
      structure.target_rank = rank;
      path.points.push_back({structure, candidate->best(), candidate->best_error()});
    }
  }
  return path;
}

ConstrainedResult solve_splits(const Communicator& comm, const LayerProblem& problem, const InputScale& scale,
                               const LayerStatistics& statistics, std::span<const Split> splits,
                               const ConstrainedOptions& options, const ProgressCallback& progress) {
  require(!splits.empty(), "layer " + problem.name + ": no structure to choose from");
  const auto layer = make_layer(comm, problem, scale, statistics, options, progress);
  // The largest rank without groups chooses the pull, and its factor serves the elimination of all others.
  std::int64_t top_rank = 1;
  for (const auto& split : splits) top_rank = std::max(top_rank, split.rank);
  top_rank = std::min({top_rank, problem.rows, problem.cols});
  double pull = 0;
  auto low_rank = choose_pull(layer, {{}, top_rank}, pull);
  std::vector<std::unique_ptr<Candidate>> candidates;
  const bool needs_groups = std::any_of(splits.begin(), splits.end(), [](const Split& s) { return s.groups > 0; });
  if (needs_groups) {
    const auto free = unrestricted(layer, low_rank->fixed(), pull);
    for (const auto& split : splits)
      if (split.groups > 0)
        candidates.push_back(std::make_unique<Candidate>(
            layer, Structure{groups_beside(layer, free, low_rank->fixed(), split.rank, split.groups), split.rank},
            pull));
  }
  // The pure ones stay whatever the linear fit says; of the others the finalists.
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const auto& a, const auto& b) { return a->gain() > b->gain(); });
  std::int64_t taken = 0;
  std::erase_if(candidates, [&](const auto& candidate) {
    return candidate->fixed().structure().target_rank > 0 && ++taken > options.finalists;
  });
  std::unique_ptr<Candidate> best;
  for (const auto& split : splits)
    if (split.groups == 0) {
      if (split.rank == top_rank)
        best = std::move(low_rank);
      else
        candidates.push_back(std::make_unique<Candidate>(layer, Structure{{}, split.rank}, pull));
    }
  for (auto& candidate : candidates) {
    candidate->run(std::min(options.trial_iterations, options.iterations));
    if (!best || candidate->best_error() < best->best_error()) best = std::move(candidate);
  }
  best->run(options.iterations);
  return best->finish();
}

} // namespace slr
