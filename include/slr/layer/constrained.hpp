#pragma once
/// \file
/// The constrained problem: a given number of stored values, the error after the activation as the only judge.
#include "slr/layer/report.hpp"
#include "slr/layer/structure.hpp"

#include <functional>

namespace slr {

struct ConstrainedOptions {
  std::int64_t iterations = 30;
  double tolerance = 1e-4;
  /// Curvature of the quadratic that replaces the loss (FactoredSplitting), relative to the largest of the activation's
  /// own: below 1 for longer steps.
  double rho = 2.0 / 3;
  /// Strengths mu of the pull towards the original weights that are tried, relative to the mean diagonal of C.
  std::vector<double> pulls{1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1};
  std::int64_t trial_iterations = 4; ///< before candidates are compared
  /// Fractions of a budget spent on kept groups, the rest on rank.
  std::vector<double> shares{0, 0.2, 0.4, 0.6, 0.8, 1};
  std::int64_t finalists = 3; ///< candidates, best on the linear fit, that get trial iterations (pure ones beside them)
  Engine engine = Engine::automatic;
  std::int64_t refine_evaluations = 0; ///< of the true objective, behind the iteration; 0: none
  std::string tao_options{};           ///< for its minimisation, in PETSc's words
  Checkpoints* checkpoints = nullptr;  ///< where iterations may be stopped and go on; not kept
};

struct [[nodiscard]] ConstrainedResult {
  Structure structure;
  LayerFactors factors;
  SolveReport report;
  double pull = 0;
  double error_selection = 0; ///< of the factors, on the selection samples (on the fit samples if there are none)
  EngineCounts engine_counts;
  std::int64_t refine_evaluations = 0; ///< of the true objective, behind the iteration
  double refine_gain = 0; ///< share of the selection error that they took away; 0: the iteration's result was kept
};

/// Minimises  1/2 ||Y - r(W X + b)||_F^2 + (N mu d / 2) ||W - W0||_F^2  over W of the structure, by replacing
/// the loss by quadratics (FactoredSplitting) of which FixedStructure finds the minimum (delta = mu d / rho, d the mean
/// diagonal of C), starting from the original values before the activation. mu is the candidate with the smallest error
/// on the selection samples after a few iterations (ties to the smaller one), and the iterate with the smallest error
/// there goes on. For the identity the first iterate is the optimum. Collective; the same result on every rank.
///
/// Last, the same objective is minimised over the factors U, V, B and b themselves (FactoredObjective, by PETSc/TAO, at
/// most `refine_evaluations` times its value and gradient), and the result taken if the error on the selection samples
/// falls.
///
/// Cost per iteration: 2 N (2 q (n + k) + 2 n |S|) / P flops and the same over the selection samples / 2, 2 q k^2 for
/// the triangular solves. Source of the acceleration: Beck and Teboulle, SIAM J. Imaging Sci. 2, 2009; of its restart:
/// O'Donoghue and Candes, Found. Comput. Math. 15, 2015.
ConstrainedResult solve_structure(const Communicator& comm, const LayerProblem& problem, const InputScale& scale,
                                  const LayerStatistics& statistics, const Structure& structure,
                                  const ConstrainedOptions& options, const ProgressCallback& progress = {});

/// How a number of stored values is split: kept groups, and the rank of the rest.
struct Split {
  std::int64_t groups = 0, rank = 0;
  friend bool operator==(const Split&, const Split&) = default;
};
/// What a budget leaves: the largest rank beside so many kept groups, negative if there are too many already.
using LargestRank = std::function<std::int64_t(std::int64_t groups)>;
/// The splits of a budget from pure low rank to pure groups, one per share, without repetitions. Local.
[[nodiscard]] std::vector<Split> splits_of_budget(const LayerProblem& problem, const LargestRank& largest_rank,
                                                  std::span<const double> shares);

/// One point of a layer's trade-off between what it costs and what it does.
struct PathPoint {
  Structure structure;
  LayerFactors factors; ///< none where the error is estimated
  double error_selection = 0;
  /// Neither iterated nor with factors.
  [[nodiscard]] bool is_estimated() const { return factors.bias.empty(); }
};
/// Ranks for one number of kept groups, descending.
struct PathRow {
  std::int64_t groups = 0;
  std::vector<std::int64_t> ranks;
  std::vector<std::int64_t> estimated{}; ///< ranks without iterations and factors
  std::vector<double> costs{};           ///< of each rank; none: the row is followed to its end
};
inline constexpr double beaten_by = 1.05, lost_by = 1.1; ///< the error of another structure at the same cost
/// Follows each row from its largest rank down: the kept groups are chosen once, by one elimination for all rows
/// (beside the middle rank of the first row that keeps any), the factors of the second moments serve the whole row, and
/// every point takes `trial_iterations` from where the point before ended. An estimated point takes none: its error is
/// that of the best map of its rank for the targets so far, times what the iterations made of it at the next rank that
/// has them (else at the last before). An iteration costs O(N r (n + k)), so that most of a row's work is in its
/// largest ranks. A row with costs ends where two points in turn are worse, by more than `beaten_by`, than the rows
/// before it at the same cost (log error linear in the cost between two of their points): from there down, groups in
/// the place of ranks only lose. Where both are worse by more than `lost_by`, the rows behind that keep groups, too,
/// are not begun: the caller puts those that keep more behind. Returns the points, as many of each row as it was
/// followed, and the pull that was used for all. Collective.
struct Path {
  double pull = 0;
  std::vector<std::vector<PathPoint>> rows;
};
[[nodiscard]] Path trace_path(const Communicator& comm, const LayerProblem& problem, const InputScale& scale,
                              const LayerStatistics& statistics, std::span<const PathRow> rows,
                              const ConstrainedOptions& options, const ProgressCallback& progress = {});

/// Finds the kept groups of every split, and of all splits the best, with its weights. S is chosen by backward
/// elimination on what the low-rank part of the same split leaves; the candidates best on the linear fit, and both pure
/// ones, are compared on the selection samples after a few iterations, and the best one is iterated to the end.
/// Collective. @pre not empty
ConstrainedResult solve_splits(const Communicator& comm, const LayerProblem& problem, const InputScale& scale,
                               const LayerStatistics& statistics, std::span<const Split> splits,
                               const ConstrainedOptions& options, const ProgressCallback& progress = {});

} // namespace slr
