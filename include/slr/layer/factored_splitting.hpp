#pragma once
/// \file
/// The half of an iteration that touches the samples, for weights of a fixed structure.
#include "slr/layer/factored_map.hpp"
#include "slr/layer/statistics.hpp"
#include "slr/mpi/checkpoints.hpp"

namespace slr {

/// What a pass yields, exactly summed over all ranks: for the W-step, of the target T and divided by N; and squared
/// norms.
struct FactoredCross {
  std::vector<double> features; ///< T Phi^T, rows x q
  std::vector<double> kept;     ///< (T - mean T)(X_S - mean X_S)^T, rows x |S|
  std::vector<double> target_mean;
  double loss = 0;           ///< ||Y - r(Z)||_F^2 of the weights that entered the pass
  double primal_squared = 0; ///< ||Z - Z_previous||_F^2
  double dual_squared = 0;   ///< rho^2 ||T - T_previous||_F^2
};

/// The loss 1/2 ||Y - r(Z)||_F^2 is replaced by a quadratic of curvature rho about a point Z' near Z = W X + b,
///
///   rho/2 ||T - W X - b||_F^2 + const,     T = Z' - r'(Z') (r(Z') - Y) / rho,     Z' = Z + beta (Z - Z_previous),
///
/// which the W-step minimises. For a piecewise linear r with slopes up to 1 it touches the loss at Z' and, for rho >=
/// 1, lies above it nearby. A smaller rho takes longer steps, for the loss is flat where values are cut off. beta is
/// Nesterov's, 0 again where the loss has risen or the rank has changed. In comparison to an ADMM on M = W X + b this
/// is the splitting with M = Z' and the multiplier rho U = r'(Z') (r(Z') - Y) known instead of followed, T = M - U.
///
/// Weights are applied and products formed through their factors, in single precision: an iteration costs
/// O(N q (n + k) + N n |S|) flops over all ranks and never forms anything n x k. Features are kept, q x N: where the
/// basis is that of the last pass, it costs O(N n (q + |S|)).
///
/// Products are formed per fixed block of samples and summed exactly over the blocks (BlockSums): the same bits for any
/// number of ranks, given the same blocks.
class FactoredSplitting {
public:
  /// Z and T = the original values before the activation. Collective. @pre rho > 0
  FactoredSplitting(const Communicator& comm, const LayerProblem& problem, const InputScale& scale,
                    const LayerStatistics& statistics, double rho);

  /// Z = map(X);  T from Z;  the sums over T. Collective, one allreduce of n (q + |S|) doubles. \throws
  /// Error{numerical} on every rank if a value is not finite.
  FactoredCross advance(const FactoredMap& map);
  /// Q^T (T - mean T) for this rank's samples, q x N column-major, for Q (n x q, orthonormal columns) and the T of the
  /// last advance. Local, 2 n q N flops.
  [[nodiscard]] std::vector<float> project_target(std::span<const double> q) const;
  /// Q^T (T - mean T)(X - mean X)^T / N, q x k column-major, for Q (n x q, orthonormal columns) and the T of the last
  /// advance. Collective, one allreduce of q k doubles.
  [[nodiscard]] std::vector<double> project(std::span<const double> q);

  /// Z, T, beta and what their sums need. Collective. \throws Error{bad_data} for another problem's state.
  void save(StateWriter& to) const;
  void restore(StateReader& from);

private:
  struct Work;
  void adapt_momentum(double loss);
  void update_block(const FactoredMap& map, std::int64_t first, std::int64_t count, Work& work);

  const Communicator& comm_;
  const LayerProblem& problem_;
  const LayerStatistics& statistics_;
  double rho_;
  std::vector<float> values_, targets_; ///< Z and T, n x local samples
  RememberedFeatures features_;         ///< of the last pass
  double age_ = 0;                      ///< Nesterov's t of this pass: beta = (t - 1) / t_next; 0: beta = 0
  double last_loss_ = 0;
  std::int64_t last_rank_ = -1;
  std::vector<int> target_exponent_; ///< per row: |T - mean T| <= 2^exponent
  std::vector<int> input_exponent_;  ///< per column: |X - mean X| <= 2^exponent
  std::vector<double> target_mean_;
};

} // namespace slr
