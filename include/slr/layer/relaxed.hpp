#pragma once
/// \file
/// The relaxed problem of the paper: nuclear norm plus l2,1 norm, with the activation inside the objective.
#include "slr/dist/dist_matrix.hpp"
#include "slr/dist/redistribute.hpp"
#include "slr/layer/report.hpp"
#include "slr/layer/splitting.hpp"
#include "slr/layer/statistics.hpp"
#include "slr/layer/structure.hpp"
#include "slr/linalg/svd.hpp"

#include <string>
#include <vector>

namespace slr {

struct RelaxedOptions {
  double nuclear = 0.05; ///< lambda_1 as a fraction of the value at which A vanishes, in (0, 1)
  double group = 0.05;   ///< lambda_2 likewise for B
  double rho = 1;
  int inner_steps = 2; ///< accelerated proximal gradient steps on A, then on B, per iteration
  Engine engine = Engine::automatic;
  Checkpoints* checkpoints = nullptr; ///< where iterations may be stopped and go on; not kept
  std::string part = "relaxed";       ///< what the solver is called there
};

/// A point of the relaxed problem from which an iteration can start: block columns of A and B, and b.
struct RelaxedPoint {
  DistMatrix<double> a, b;
  std::vector<double> bias;
};

/// Solves, for one layer,
///
///   min over A, B, b   1/2 ||Y - r((A+B) X + b)||_F^2 + lambda_1 ||A||_* + lambda_2 sum_g ||B_g||_F
///
/// by the extended ADMM on M = (A+B) X + b (X: inputs that the layer sees, g: groups of columns of one input channel).
/// With C = Xc Xc^T / N, P = (M - U)c Xc^T / N (centred; b is eliminated) and L the largest eigenvalue of C, an
/// iteration is
///   A  <-  SVT(A - ((A+B) C - P) / L,  lambda_1 / (N rho L))     singular value thresholding, a few accelerated steps
///   B  <-  GST(B - ((A+B) C - P) / L,  lambda_2 / (N rho L))     group soft thresholding, likewise
///   b  <-  mean(M - U) - (A+B) mean(X)
///   Z, M, U, P: one pass over the samples (ActivationSplitting)
///
/// lambda_1 = nuclear a_max and lambda_2 = group b_max, where a_max = ||Zc Xc^T||_2 and b_max = max_g ||(Zc Xc^T)_g||_F
/// are the smallest values at which A (or B) vanishes for the linear problem with the original Z = W0 X0 + b0 as its
/// target. Source: Ma et al., "A Unified Approximation Framework for Compressing and Accelerating Deep Neural
/// Networks", arXiv 1807.10119 (abstract).
///
/// A, B, P and C live in block columns on a 1 x P grid. All members are collective over the communicator, and all ranks
/// return the same values. Cost per iteration: 4 n k N / P flops for the pass, 4 inner_steps n k^2 / P for the steps,
/// inner_steps singular value thresholdings.
class RelaxedSolver {
public:
  RelaxedSolver(const Communicator& comm, const LayerProblem& problem, const InputScale& scale,
                const LayerStatistics& statistics, const RelaxedOptions& options);

  RelaxedSolver(const RelaxedSolver&) = delete;
  RelaxedSolver& operator=(const RelaxedSolver&) = delete;

  /// Whether it goes on from where an earlier start of the job was, and whether that had ended its last solve. Local.
  [[nodiscard]] bool is_restored() const { return is_restored_; }
  [[nodiscard]] bool is_solving() const { return is_solving_; }
  /// Of the last solve.
  [[nodiscard]] const SolveReport& report() const { return report_; }

  /// Iterates until primal and dual residual and the certificate's distances are below `tolerance`, or to the limit.
  /// Both lambdas are multiplied by `factor`. Starts from where the last call ended; a call that was stopped goes on.
  SolveReport solve(double factor, std::int64_t iteration_limit, double tolerance,
                    const ProgressCallback& progress = {});

  [[nodiscard]] Certificate certificate();
  /// Goes on from this point (of a similar problem of the same shape on the same grid) with a fresh multiplier.
  void start_from(const RelaxedPoint& point);
  [[nodiscard]] RelaxedPoint point() const { return {a_.now.clone(), b_.now.clone(), bias_}; }

  /// The groups that B keeps, and the rank of A without their columns, which are free anyway. Collective.
  [[nodiscard]] Structure structure() const;
  [[nodiscard]] const std::vector<double>& bias() const { return bias_; }
  [[nodiscard]] const EngineCounts& engine_counts() const { return svd_.counts(); }

private:
  /// One block of variables of the accelerated proximal gradient method: extrapolated from its last change.
  struct Block {
    DistMatrix<double> now, before;
    double momentum = 1;
  };
  /// The extrapolated point Y of a block, and Y - G / L with the gradient G there.
  struct Step {
    DistMatrix<double> point, start;
  };
  Step gradient_step(Block& block, const Block& other) const;
  void accept(Block& block, const DistMatrix<double>& point, DistMatrix<double> next);
  void save(StateWriter& to) const;
  void restore(StateReader& from);
  void step_low_rank();
  void step_groups();
  [[nodiscard]] double low_rank_distance(const DistMatrix<double>& g);
  [[nodiscard]] double group_distance(const DistMatrix<double>& g) const;
  [[nodiscard]] std::vector<double> weights() const;
  [[nodiscard]] double objective() const;
  [[nodiscard]] std::vector<std::int64_t> kept_groups() const;

  const Communicator& comm_;
  const LayerProblem& problem_;
  const LayerStatistics& statistics_;
  RelaxedOptions options_;
  double largest_eigenvalue_; ///< of C: the length of gradient steps
  Svd<double> svd_;
  ActivationSplitting splitting_;
  CrossProducts cross_;
  double low_rank_unit_ = 0, group_unit_ = 0;     ///< a_max / N and b_max / N
  double lambda_low_rank_ = 0, lambda_group_ = 0; ///< per sample: lambda / N
  Block a_, b_;
  std::int64_t numerical_rank_ = 0;
  std::vector<double> sigma_, u_; ///< of A: singular values, left vectors (n x r, on every rank)
  DistMatrix<double> vt_;         ///< r x k, block columns
  std::vector<double> bias_;
  SolveReport report_;
  bool is_solving_ = false, is_restored_ = false;
  Checkpoints::Kept kept_;
};

} // namespace slr
