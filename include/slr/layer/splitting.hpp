#pragma once
/// \file
/// The half of an ADMM iteration that touches the samples.
#include "slr/layer/block_columns.hpp"
#include "slr/layer/exact_products.hpp"
#include "slr/layer/problem.hpp"
#include "slr/layer/statistics.hpp"
#include "slr/mpi/checkpoints.hpp"

namespace slr {

/// What one pass over the samples yields, summed exactly over all ranks.
struct PassSums {
  double loss = 0;           ///< ||Y - r(Z)||_F^2
  double primal_squared = 0; ///< ||Z - M||_F^2
  double dual_squared = 0;   ///< rho^2 ||M - M_previous||_F^2
  double linear_squared = 0; ///< ||Z||_F^2
  double split_squared = 0;  ///< ||M||_F^2
  double lambda_squared = 0; ///< ||Lambda||_F^2
};

/// P = (T - mean T)(X - mean X)^T / N for a target T, n x k, block columns, and the mean of T per row.
struct CrossProducts {
  DistMatrix<double> p;
  std::vector<double> target_mean;
};

/// Of the original outputs Y, over all ranks.
struct OutputSums {
  double squared = 0;   ///< ||Y||_F^2
  double variation = 0; ///< ||Y - mean Y||_F^2, mean per row
};
/// Collective; the same bits for every number of ranks.
[[nodiscard]] OutputSums measure_outputs(const Communicator& comm, const LayerProblem& problem, std::int64_t samples);

/// The mean of each row of values (rows x samples of this rank, column-major) over all ranks. Collective; the same bits
/// for every number of ranks.
[[nodiscard]] std::vector<double> row_means(const Communicator& comm, std::int64_t rows, std::span<const float> values,
                                            std::int64_t samples);

/// The constraint M = W X + b with its scaled dual variable U, for the samples of this rank.
///
/// Of   min 1/2 ||Y - r(M)||_F^2 + g(W)   subject to   M = W X + b,   the extended ADMM repeats
///   W, b  <-  argmin g(W) + rho/2 ||W X + b - (M - U)||_F^2        (somebody else's: see RelaxedSolver)
///   Z     <-  W X + b
///   M     <-  prox of the loss at Z + U, element by element        (slr/prox/activation.hpp)
///   U     <-  U + Z - M
/// and this class does the last three and sums P for the next first one. After it, Lambda = rho U is a (generalised)
/// derivative of the loss at M, exactly.
///
/// One collective per pass (and one more per panel of 2^23 entries of P beyond the first): a reduce-scatter that leaves
/// each rank its columns of P, and every rank the row sums of M - U, the norms, and a hash of W that shows whether all
/// ranks really work on the same weights.
class ActivationSplitting {
public:
  /// M = the original values before the activation, U = 0. Collective.
  ActivationSplitting(const Communicator& comm, const LayerProblem& problem, const InputScale& scale,
                      const LayerStatistics& statistics, double rho = 1);

  /// P of T = M - U as it stands. Collective.
  [[nodiscard]] CrossProducts cross();
  /// One pass with the weights (n x k column-major, equal on every rank) and bias. Collective; 4 n k N flops over all
  /// ranks, and 8 n k bytes in the reduce-scatter. \throws Error{bug} if the ranks' weights differ.
  CrossProducts advance(std::vector<double> weights, const std::vector<double>& bias);
  [[nodiscard]] const PassSums& sums() const { return sums_; }

  /// Lambda X^T / N (not centred; Lambda's row means are returned beside it). Collective.
  [[nodiscard]] CrossProducts multiplier_cross();
  /// dist(Lambda, d_M loss) over all samples, relative to ||Y - mean Y||_F. Collective.
  [[nodiscard]] double multiplier_distance() const;

  /// M, U and what their sums need. Collective. \throws Error{bad_data} for another problem's state.
  void save(StateWriter& to) const;
  void restore(StateReader& from);

  [[nodiscard]] double rho() const { return rho_; }
  [[nodiscard]] double output_squared() const { return outputs_.squared; }
  [[nodiscard]] double output_variation() const { return outputs_.variation; }

private:
  enum class Target { split_minus_dual, multiplier };
  struct Workspace;
  CrossProducts pass(const std::vector<double>* weights, const std::vector<double>* bias, Target target);
  void update_piece(std::int64_t first, std::int64_t count, const double* x, const std::vector<double>& weights,
                    const std::vector<double>& bias, Workspace& work);
  void round_target(std::int64_t first, std::int64_t count, Target target, bool is_counted, Workspace& work) const;
  void adapt_target_exponents(const Workspace& work);

  const Communicator& comm_;
  const LayerProblem& problem_;
  const InputScale& scale_;
  const LayerStatistics& statistics_;
  double rho_;
  OutputSums outputs_;
  std::vector<double> split_, dual_; ///< M and U, n x local samples
  std::vector<int> target_exponent_; ///< per row, bound of |M - U| as a power of two
  PassSums sums_;
};

} // namespace slr
