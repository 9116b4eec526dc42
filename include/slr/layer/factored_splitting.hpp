#pragma once
/// \file
/// The half of an ADMM iteration that touches the samples, for weights of a fixed structure.
#include "slr/layer/factored_map.hpp"
#include "slr/layer/statistics.hpp"
#include "slr/mpi/checkpoints.hpp"

namespace slr {

/// What a pass yields, exactly summed over all ranks: for the W-step, of the target T = M - U and divided by N; and
/// squared norms.
struct FactoredCross {
  std::vector<double> features; ///< T Phi^T, rows x q
  std::vector<double> kept;     ///< (T - mean T)(X_S - mean X_S)^T, rows x |S|
  std::vector<double> target_mean;
  double loss = 0;           ///< ||Y - r(Z)||_F^2 of the weights that entered the pass
  double primal_squared = 0; ///< ||Z - M||_F^2
  double dual_squared = 0;   ///< rho^2 ||M - M_previous||_F^2
};

/// As ActivationSplitting, but weights are applied and products formed through their factors, in single precision: an
/// iteration costs O(N q (n + k) + N n |S|) flops over all ranks and never forms anything n x k.
///
/// Products are formed per fixed block of samples and summed exactly over the blocks (BlockSums): the same bits for any
/// number of ranks, given the same blocks.
class FactoredSplitting {
public:
  /// M = the original values before the activation, U = 0. Collective.
  FactoredSplitting(const Communicator& comm, const LayerProblem& problem, const InputScale& scale,
                    const LayerStatistics& statistics, double rho, double relaxation);

  /// Z = map(X);  M, U from Z (over-relaxed: Z replaced by a Z + (1 - a) M);  the sums over T = M - U. Collective, one
  /// allreduce of n (q + |S|) doubles. \throws Error{numerical} on every rank if a value is not finite.
  FactoredCross advance(const FactoredMap& map);
  /// Q^T (T - mean T) for this rank's samples, q x N column-major, for Q (n x q, orthonormal columns) and the T of the
  /// last advance. Local, 2 n q N flops.
  [[nodiscard]] std::vector<float> project_target(std::span<const double> q) const;
  /// Q^T (T - mean T)(X - mean X)^T / N, q x k column-major, for Q (n x q, orthonormal columns) and the T of the last
  /// advance. Collective, one allreduce of q k doubles.
  [[nodiscard]] std::vector<double> project(std::span<const double> q);

  /// M, U and what their sums need. Collective. \throws Error{bad_data} for another problem's state.
  void save(StateWriter& to) const;
  void restore(StateReader& from);

private:
  struct Work;
  void update_block(const FactoredMap& map, std::int64_t first, std::int64_t count, Work& work);

  const Communicator& comm_;
  const LayerProblem& problem_;
  const LayerStatistics& statistics_;
  double rho_, relaxation_;
  std::vector<float> split_, dual_;  ///< M and U, n x local samples
  std::vector<int> target_exponent_; ///< per row: |T - mean T| <= 2^exponent
  std::vector<int> input_exponent_;  ///< per column: |X - mean X| <= 2^exponent
  std::vector<double> target_mean_;
};

} // namespace slr
