#pragma once
/// \file
/// Second moments of a layer's inputs.
#include "slr/layer/block_columns.hpp"
#include "slr/layer/problem.hpp"
#include "slr/linalg/damped_inverse.hpp"
#include "slr/linalg/sample_kernel.hpp"

#include <memory>

namespace slr {

/// How the damped least squares of a layer are solved.
enum class LeastSquares {
  automatic,
  gram,   ///< C (k x k) is formed and factored
  kernel, ///< the kernel of the samples (N x N) is formed and factored; no kept groups
  ksp     ///< nothing is formed: PETSc's KSP, conjugate gradients on the samples; no kept groups
};
[[nodiscard]] std::string to_text(LeastSquares way);

/// What takes the place of C where there are few samples for many columns.
struct SampleMoments {
  SampleKernel kernel;                ///< K = Xc^T Xc
  std::vector<double> original;       ///< S = W0 Xc, n x (fit samples of this rank)
  DistMatrix<double> weights_squared; ///< W0 W0^T, n x n on the most square grid
};

/// Of the fit samples of all ranks.
struct LayerStatistics {
  std::int64_t samples = 0;       ///< N
  std::vector<double> input_mean; ///< mean of X per row, k
  Grid grid;                      ///< 1 x P, of everything in block columns
  DistMatrix<double> gram;        ///< C = (X - mean)(X - mean)^T / N, k x k, block columns; empty in the implicit form
  double mean_diagonal = 0;       ///< d, trace(C) / k
  std::shared_ptr<const SampleMoments> in_samples; ///< the implicit form
  LeastSquares way = LeastSquares::gram;           ///< never automatic

  /// Whether C exists only as the samples that it is made of.
  [[nodiscard]] bool is_implicit() const { return in_samples != nullptr; }
};

/// Collective; N k^2 / P flops and k^2 / P doubles per rank. All numbers have the same bits for every number of ranks.
/// \pre the inputs were rounded by `round_inputs`
[[nodiscard]] LayerStatistics measure_statistics(const Communicator& comm, const Grid& row_grid,
                                                 const LayerProblem& problem);

/// The implicit form: k (n^2 + 2 N^2 + 2 n N) / P flops; (n^2 + N^2 + n N) / P doubles per rank. Collective. The means
/// and the mean diagonal have the same bits for every number of ranks. With `ksp` k (n^2 + 2 n N) / P flops, and the
/// problem must outlive the result. @pre kernel or ksp
[[nodiscard]] LayerStatistics measure_in_samples(const Communicator& comm, const Grid& row_grid,
                                                 const LayerProblem& problem, LeastSquares way = LeastSquares::kernel);

/// Whether so few samples make the implicit form the cheaper one: no k x k matrix, and no k^3 / 3 flops for its factor.
/// It has no kept groups. Never where one rank factors C: there all results have the same bits for every number of
/// ranks, which the implicit form does not promise. Local.
[[nodiscard]] inline bool is_implicit_cheaper(std::int64_t samples, std::int64_t cols) {
  return cols > CholeskyOptions{}.one_rank_columns && 4 * samples <= cols;
}

/// The size of a layer's least squares.
struct LeastSquaresSize {
  std::int64_t rows = 0, cols = 0, samples = 0;
  std::int64_t steps = 1; ///< how often they will be solved for all rows
};
/// The way that is wanted or, if that is automatic, the one with the fewest flops: gram or kernel as
/// is_implicit_cheaper says, and ksp in the place of the kernel where the conjugate gradients' products (50 iterations
/// are assumed, of 4 n k N flops) cost less than forming and factoring it (2 k N^2 + N^3 / 3) and its solves (2 n N^2).
/// That takes very few rows: N above some 100 n per step. Local.
[[nodiscard]] LeastSquares choose_least_squares(LeastSquares wanted, const LeastSquaresSize& size);
/// The statistics for it. Collective, as measure_statistics and measure_in_samples.
[[nodiscard]] LayerStatistics measure(const Communicator& comm, const Grid& row_grid, const LayerProblem& problem,
                                      LeastSquares way);

/// The largest eigenvalue of C by power iteration from the diagonal, times 1.01: an upper estimate for the length of
/// gradient steps. Collective: every rank multiplies its columns, 60 k^2 / P flops, and 60 gathers of k numbers.
[[nodiscard]] double largest_eigenvalue(const DistMatrix<double>& gram);

/// W C for W (n x k, on every rank, column-major) in block columns like C: each block is one product of a fixed shape.
/// Local, 2 n k^2 / P flops.
[[nodiscard]] DistMatrix<double> times_gram(const std::vector<double>& weights, std::int64_t rows,
                                            const LayerStatistics& statistics, std::int64_t group_columns);

} // namespace slr
