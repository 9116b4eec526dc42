#pragma once
/// \file
/// How a layer's iteration went.
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace slr {

enum class StopReason { converged, iteration_limit, not_needed };
[[nodiscard]] std::string to_text(StopReason reason);

/// Optimality of a point of the relaxed problem, each distance relative (see RelaxedSolver::certificate).
struct Certificate {
  double low_rank_distance = 0; ///< dist(-Lambda X^T, lambda_1 d||A||_*) / (lambda_1 sqrt(max(1, rank)))
  double group_distance = 0;    ///< dist(-Lambda X^T, lambda_2 d||B||_{2,1}) / (lambda_2 sqrt(max(1, kept groups)))
  double bias_distance = 0;     ///< |Lambda 1| / (sqrt(N) ||Y - mean Y||_F)
  double loss_distance = 0;     ///< dist(Lambda, d_M loss) / ||Y - mean Y||_F
};

/// The outcome of an iteration; a limit reached is an outcome, not an error.
struct [[nodiscard]] SolveReport {
  std::int64_t iterations = 0;
  StopReason stop_reason = StopReason::not_needed;
  /// Relaxed problem: ||W X + b - M||_F and rho ||M - M_previous||_F over ||Y - mean Y||_F. Constrained: likewise of
  /// the changes of Z = W X + b and of the targets, ||Z - Z_previous||_F and rho ||T - T_previous||_F.
  double primal_residual = 0, dual_residual = 0;
  double error_train = 0;        ///< ||Y - r(W X + b)||_F^2 / ||Y||_F^2 at the end
  std::vector<double> objective; ///< per iteration, relative to the problem's scale
};

/// What an iteration says while it runs, on every rank (the run layer shows rank 0's).
struct SolveProgress {
  std::int64_t iteration = 0, limit = 0;
  double error = 0;
  std::int64_t numerical_rank = 0, kept_groups = 0;
};
using ProgressCallback = std::function<void(const SolveProgress&)>;

} // namespace slr
