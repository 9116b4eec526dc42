#include "slr/layer/constrained.hpp"

#include "candidate.hpp"
#include "slr/base/trace.hpp"
#include "slr/dist/redistribute.hpp"
#include "slr/layer/elimination.hpp"
#include "slr/layer/exchange.hpp"
#include "slr/layer/kept_rows.hpp"
#include "slr/linalg/blas.hpp"
#include "slr/mpi/agree.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

namespace slr {
namespace {

/// The pull with the smallest selection error for this structure, its candidate run to the trial limit. Collective.
std::unique_ptr<Candidate> choose_pull(const SolverLayer& layer, const Structure& structure, double& pull) {
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

/// Block columns of P = Tc Xc^T / N + delta W0, of the unrestricted optimum W = P C^-1, and of C^-1 where columns are
/// kept; on the root Q Q^T = P C^-1 P^T (n x n) where the choice of groups needs it.
struct Unrestricted {
  DistMatrix<double> cross, weights, inverse;
  std::vector<double> products;
};

/// W P^T on the root, from panels of columns of one width, so that it has the same bits for every number of ranks.
/// Collective.
std::vector<double> products_on_root(const Communicator& comm, const DistMatrix<double>& weights,
                                     const DistMatrix<double>& cross) {
  constexpr std::int64_t width = 512;
  const std::int64_t n = weights.rows(), k = weights.cols();
  std::vector<double> result(comm.is_root() ? static_cast<std::size_t>(n * n) : 0);
  for (std::int64_t first = 0; first < k; first += width) {
    const auto count = std::min(width, k - first);
    const auto w = gather_columns(weights, GlobalCol(first), count), p = gather_columns(cross, GlobalCol(first), count);
    if (comm.is_root())
      blas::gemm(Op::none, Op::transpose, n, n, count, 1.0, w.data(), n, p.data(), n, 1.0, result.data(), n);
  }
  return result;
}

Unrestricted unrestricted(const SolverLayer& layer, const FixedStructure& no_groups, double pull) {
  const auto& problem = layer.problem;
  const std::int64_t k = problem.cols;
  Unrestricted result{layer.cross.clone(), {}, {}, {}};
  result.cross.for_each_local([&](GlobalRow i, GlobalCol j, double& value) {
    value += layer.delta(pull) * problem.weights[static_cast<std::size_t>(j.value() * problem.rows + i.value())];
  });
  result.weights = result.cross.clone();
  no_groups.solve(result.weights);
  if (problem.grouping != Grouping::filter) {
    result.inverse = make_block_columns(layer.statistics.grid, k, k, problem.group_columns);
    no_groups.factor()->inverse(result.inverse);
  }
  return result;
}

/// The rows to keep beside a low-rank part of the given rank of the others.
std::vector<std::int64_t> rows_beside(const SolverLayer& layer, const Unrestricted& free, std::int64_t rank,
                                      std::int64_t count) {
  std::vector<std::int64_t> rows;
  on_root(layer.comm, [&] { rows = choose_rows(layer.problem.rows, free.products, rank, count); });
  rows.resize(static_cast<std::size_t>(layer.comm.broadcast_value(std::ssize(rows))));
  layer.comm.broadcast(std::span<std::int64_t>(rows));
  return rows;
}

/// The groups to keep beside a low-rank part of the given rank, for each of several counts: by elimination on what that
/// part leaves of the optimum.
std::vector<std::vector<std::int64_t>> groups_beside(const SolverLayer& layer, const Unrestricted& free,
                                                     const FixedStructure& no_groups, std::int64_t rank,
                                                     std::span<const std::int64_t> counts) {
  auto rest = free.weights.clone();
  if (rank > 0) {
    const auto low_rank = no_groups.low_rank_part(rank);
    const auto n = layer.problem.rows;
    rest.for_each_local([&](GlobalRow i, GlobalCol j, double& value) {
      value -= low_rank[static_cast<std::size_t>(j.value() * n + i.value())];
    });
  }
  return kept_by_elimination(layer.comm, free.inverse.clone(), std::move(rest), layer.problem.group_columns, counts);
}

/// The inverse of the second moments and the unrestricted optimum, computed when they are first needed.
class Eliminator {
public:
  Eliminator(const SolverLayer& layer, const Candidate& no_groups, double pull)
      : layer_(layer), no_groups_(no_groups), pull_(pull) {}
  /// The groups to keep beside a low-rank part of the given rank: those of elimination, improved, where that is
  /// affordable, by exchanges in which the low-rank part follows.
  [[nodiscard]] std::vector<std::int64_t> groups(std::int64_t rank, std::int64_t count) {
    return layer_.choices->groups([&] {
      const TraceSpan span(TraceKind::step, "elimination");
      const auto& problem = layer_.problem;
      if (by_rows()) return rows_beside(layer_, free(true), rank, count);
      const bool exchanges = is_exchange_affordable(problem.rows, count * problem.group_columns);
      const auto& start = free(exchanges);
      auto kept = groups_beside(layer_, start, no_groups_.fixed(), rank, std::span(&count, 1)).front();
      if (!exchanges) return kept;
      return improve_by_exchange(
          layer_.comm,
          {layer_.statistics.gram, start.cross, no_groups_.fixed().damping(), start.products, problem.group_columns},
          rank, std::move(kept));
    });
  }
  /// The same for several counts beside one rank, without exchanges, which for each point of a path would cost more
  /// than its iterations: columns by one elimination.
  [[nodiscard]] std::vector<std::vector<std::int64_t>> groups_of_counts(std::int64_t rank,
                                                                        std::span<const std::int64_t> counts) {
    std::vector<std::vector<std::int64_t>> all, result;
    for (std::size_t i = 0; i < counts.size(); ++i)
      result.push_back(layer_.choices->groups([&] {
        const TraceSpan span(TraceKind::step, "elimination");
        if (by_rows()) return rows_beside(layer_, free(true), rank, counts[i]);
        if (all.empty()) all = groups_beside(layer_, free(false), no_groups_.fixed(), rank, counts);
        return all[i];
      }));
    return result;
  }

private:
  [[nodiscard]] bool by_rows() const { return layer_.problem.grouping == Grouping::filter; }
  const Unrestricted& free(bool needs_products) {
    if (!free_) free_.emplace(unrestricted(layer_, no_groups_.fixed(), pull_));
    if (needs_products && !has_products_) {
      free_->products = products_on_root(layer_.comm, free_->weights, free_->cross);
      has_products_ = true;
    }
    return *free_;
  }

  const SolverLayer& layer_;
  const Candidate& no_groups_;
  double pull_;
  std::optional<Unrestricted> free_;
  bool has_products_ = false;
};

/// The points of a path, which a stopped solve finds again, and the error with which each of them began.
class PathPoints {
public:
  PathPoints(Checkpoints* checkpoints, Grouping grouping) : grouping_(grouping) {
    if (const auto saved = take(checkpoints, "path")) restore(*saved);
    kept_ = keep(checkpoints, "path", [this](StateWriter& to) { save(to); });
  }
  std::vector<PathPoint> points;
  std::vector<double> errors_before;

private:
  void save(StateWriter& to) const {
    to.put_integers("points", {std::ssize(points)});
    for (std::size_t i = 0; i < points.size(); ++i) {
      const auto name = std::to_string(i);
      const auto& [structure, f, error] = points[i];
      std::vector<double> numbers{error, errors_before[i]};
      for (const auto* part : {&f.u, &f.v, &f.b, &f.bias}) numbers.insert(numbers.end(), part->begin(), part->end());
      std::vector<std::int64_t> counts{structure.target_rank, f.numerical_rank, std::ssize(f.u),
                                       std::ssize(f.v),       std::ssize(f.b),  std::ssize(f.bias)};
      counts.insert(counts.end(), structure.kept_groups.begin(), structure.kept_groups.end());
      to.put_integers(name + ".counts", counts);
      to.put_doubles(name + ".numbers", numbers);
    }
  }
  void restore(StateReader& from) {
    const auto count = from.get<std::int64_t>("points").at(0);
    for (std::int64_t i = 0; i < count; ++i) {
      const auto name = std::to_string(i);
      const auto counts = from.get<std::int64_t>(name + ".counts");
      const auto numbers = from.get<double>(name + ".numbers");
      auto& [structure, f, error] = points.emplace_back();
      f.grouping = grouping_;
      structure.target_rank = counts.at(0);
      f.numerical_rank = counts.at(1);
      structure.kept_groups.assign(counts.begin() + 6, counts.end());
      if (counts.at(5) > 0) f.kept_groups = structure.kept_groups; // there are factors
      error = numbers.at(0);
      errors_before.push_back(numbers.at(1));
      std::size_t at = 2, which = 2;
      for (auto* part : {&f.u, &f.v, &f.b, &f.bias})
        for (auto left = counts.at(which++); left > 0; --left) part->push_back(numbers.at(at++));
    }
  }
  Grouping grouping_;
  Checkpoints::Kept kept_;
};

bool is_estimated(const PathRow& row, std::int64_t rank) {
  return std::find(row.estimated.begin(), row.estimated.end(), rank) != row.estimated.end();
}

/// Estimated points of a row get what the iterations made of the error at the next point, else at the last before.
void estimate_errors(std::span<PathPoint> points, std::span<const double> errors_before) {
  std::optional<double> last, next;
  const auto gain = [&](std::size_t i) { return points[i].error_selection / std::max(errors_before[i], 1e-300); };
  for (std::size_t i = 0; i < points.size(); ++i)
    if (!points[i].is_estimated()) last = gain(i);
  for (std::size_t i = points.size(); i-- > 0;) {
    if (!points[i].is_estimated())
      next = gain(i);
    else
      points[i].error_selection *= next.value_or(last.value_or(1));
  }
}

/// The errors of a path's rows over their costs, as far as they are followed.
class RowsByCost {
public:
  void begin_row() { rows_.emplace_back(); }
  /// Adds a point to the last row, cheaper than those before; how many times the error of the best earlier row at its
  /// cost, 0 if none reaches there.
  double add(double cost, double error) {
    const double log_error = std::log(std::max(error, 1e-300));
    rows_.back().emplace_back(cost, log_error);
    double times = 0;
    for (auto row = rows_.begin(); row != rows_.end() - 1; ++row)
      if (const auto there = at(*row, cost)) times = std::max(times, std::exp(log_error - *there));
    return times;
  }

private:
  using Row = std::vector<std::pair<double, double>>; ///< cost, descending, and log error
  static std::optional<double> at(const Row& row, double cost) {
    const auto below = std::find_if(row.begin(), row.end(), [&](const auto& point) { return point.first <= cost; });
    if (below == row.end() || (below == row.begin() && below->first < cost)) return {};
    if (below->first == cost) return below->second;
    const auto above = below - 1;
    return std::lerp(below->second, above->second, (cost - below->first) / (above->first - below->first));
  }
  std::vector<Row> rows_;
};

} // namespace

ConstrainedResult solve_structure(const Communicator& comm, const LayerProblem& problem, const InputScale& scale,
                                  const LayerStatistics& statistics, const Structure& structure,
                                  const ConstrainedOptions& options, const ProgressCallback& progress) {
  const SolverLayer layer(comm, problem, scale, statistics, options, progress);
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
    split.rank = std::min(largest_rank(split.groups), problem.largest_rank(split.groups));
    if (split.rank >= 0 && split.groups + split.rank > 0 &&
        std::find(splits.begin(), splits.end(), split) == splits.end())
      splits.push_back(split);
  }
  return splits;
}

Path trace_path(const Communicator& comm, const LayerProblem& problem, const InputScale& scale,
                const LayerStatistics& statistics, std::span<const PathRow> rows, const ConstrainedOptions& options,
                const ProgressCallback& progress) {
  const SolverLayer layer(comm, problem, scale, statistics, options, progress);
  std::int64_t top_rank = 1;
  for (const auto& row : rows)
    for (const auto rank : row.ranks) top_rank = std::max(top_rank, rank);
  PathPoints found(options.checkpoints, problem.grouping);
  Path path;
  const auto middle = [](const PathRow& row) { return row.ranks.empty() ? 0 : row.ranks[row.ranks.size() / 2]; };
  auto chosen = choose_pull(layer, {{}, std::max<std::int64_t>(1, middle(rows.front()))}, path.pull);
  // The factor without groups serves every elimination, and then its own row.
  auto no_groups = std::make_unique<Candidate>(layer, Structure{{}, top_rank}, path.pull, chosen.get());
  chosen.reset();
  std::vector<Structure> structures;
  std::vector<std::size_t> with_groups;
  std::vector<std::int64_t> counts;
  for (const auto& row : rows) {
    if (row.groups > 0 && !row.ranks.empty()) {
      with_groups.push_back(structures.size());
      counts.push_back(row.groups);
    }
    structures.push_back({{}, row.ranks.empty() ? 0 : row.ranks.front()});
  }
  if (!counts.empty()) {
    auto kept = Eliminator(layer, *no_groups, path.pull).groups_of_counts(middle(rows[with_groups.front()]), counts);
    for (std::size_t i = 0; i < kept.size(); ++i) structures[with_groups[i]].kept_groups = std::move(kept[i]);
  }
  std::size_t at = 0;
  std::vector<std::size_t> row_ends;
  RowsByCost by_cost;
  bool groups_lose = false;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    auto& structure = structures[i];
    if (groups_lose && !structure.kept_groups.empty()) {
      row_ends.push_back(at);
      continue;
    }
    auto candidate = structure.kept_groups.empty() && no_groups
                         ? std::move(no_groups)
                         : std::make_unique<Candidate>(layer, structure, path.pull);
    candidate->run(0);
    const auto& ranks = rows[i].ranks;
    const auto& costs = rows[i].costs;
    int beaten = 0, lost = 0; // points in turn
    by_cost.begin_row();
    for (std::size_t r = 0; r < ranks.size() && beaten < 2; ++r, ++at) {
      const bool is_new = at == found.points.size(); // else of an earlier start
      if (is_new) {
        candidate->run_with_rank(ranks[r], 0);
        found.errors_before.push_back(candidate->error_before());
      }
      const double times = costs.empty() ? 0 : by_cost.add(costs[r], found.errors_before[at]);
      beaten = times > beaten_by ? beaten + 1 : 0;
      lost = times > lost_by ? lost + 1 : 0;
      if (!is_new) continue;
      const bool is_iterated = beaten < 2 && !is_estimated(rows[i], ranks[r]);
      if (is_iterated) candidate->run_with_rank(ranks[r], options.trial_iterations);
      structure.target_rank = ranks[r];
      found.points.push_back({structure, is_iterated ? candidate->best() : LayerFactors{}, candidate->best_error()});
    }
    groups_lose = groups_lose || (lost == 2 && !structure.kept_groups.empty());
    row_ends.push_back(at);
  }
  for (std::size_t first = 0; const auto end : row_ends) {
    const auto points = std::span(found.points).subspan(first, end - first);
    estimate_errors(points, std::span(found.errors_before).subspan(first, end - first));
    path.rows.emplace_back(std::make_move_iterator(points.begin()), std::make_move_iterator(points.end()));
    first = end;
  }
  return path;
}

ConstrainedResult solve_splits(const Communicator& comm, const LayerProblem& problem, const InputScale& scale,
                               const LayerStatistics& statistics, std::span<const Split> splits,
                               const ConstrainedOptions& options, const ProgressCallback& progress) {
  require(!splits.empty(), "layer " + problem.name + ": no structure to choose from");
  const SolverLayer layer(comm, problem, scale, statistics, options, progress);
  // The largest rank without groups chooses the pull, and its factor serves the elimination of all others.
  std::int64_t top_rank = 1;
  for (const auto& split : splits) top_rank = std::max(top_rank, split.rank);
  top_rank = std::min({top_rank, problem.rows, problem.cols});
  double pull = 0;
  auto low_rank = choose_pull(layer, {{}, top_rank}, pull);
  std::vector<std::unique_ptr<Candidate>> candidates;
  const bool needs_groups = std::any_of(splits.begin(), splits.end(), [](const Split& s) { return s.groups > 0; });
  if (needs_groups) {
    Eliminator eliminator(layer, *low_rank, pull);
    for (const auto& split : splits)
      if (split.groups > 0)
        candidates.push_back(std::make_unique<Candidate>(
            layer, Structure{eliminator.groups(split.rank, split.groups), split.rank}, pull));
  }
  // The pure ones stay whatever the linear fit says; of the others the finalists.
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const auto& a, const auto& b) { return a->gain() > b->gain(); });
  std::int64_t taken = 0;
  std::erase_if(candidates,
                [&](const auto& candidate) { return candidate->target_rank() > 0 && ++taken > options.finalists; });
  std::unique_ptr<Candidate> best;
  for (const auto& split : splits)
    if (split.groups == 0) {
      if (split.rank == top_rank)
        best = std::move(low_rank);
      else
        candidates.push_back(std::make_unique<Candidate>(layer, Structure{{}, split.rank}, pull));
    }
  low_rank.reset();
  for (auto& candidate : candidates) {
    candidate->run(std::min(options.trial_iterations, options.iterations));
    if (!best || candidate->best_error() < best->best_error()) best = std::move(candidate);
    candidate.reset();
  }
  best->run(options.iterations);
  return best->finish();
}

} // namespace slr
