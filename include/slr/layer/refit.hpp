#pragma once
/// \file
/// Weights without shrinkage on a given structure, for the error after the activation.
#include "slr/layer/report.hpp"
#include "slr/layer/splitting.hpp"
#include "slr/layer/structure.hpp"

namespace slr {

struct RefitOptions {
  std::int64_t iterations = 20;
  double tolerance = 1e-4;
  double rho = 1;
  /// Strengths mu of the pull towards the original weights that are tried; relative to the mean diagonal of C.
  std::vector<double> pulls{1e-3, 1e-2, 1e-1};
  std::int64_t trial_iterations = 3; ///< before the best of them is chosen
  Engine engine = Engine::automatic;
};

struct [[nodiscard]] RefitResult {
  LayerFactors factors;
  SolveReport report;
  double pull = 0;
  double error_selection = 0; ///< of the factors, on the selection samples (on the fit samples if there are none)
  EngineCounts engine_counts;
};

/// Minimises  1/2 ||Y - r(W X + b)||_F^2 + (N mu d / 2) ||W - W0||_F^2  over W of the structure, by ADMM on
/// M = W X + b with the exact joint solution of FixedStructure as its W-step (delta = mu d / rho, d the mean diagonal
/// of C), starting from the original values before the activation. mu is the candidate whose weights have the smallest
/// error on the selection samples after a few iterations (ties to the smaller one), and the iterate with the smallest
/// error there is returned. For the identity the first iterate is the optimum. Collective; the same result on every
/// rank. Cost per iteration: one pass over the samples (ActivationSplitting), one over the selection samples, one
/// FixedStructure::solve.
RefitResult refit(const Communicator& comm, const LayerProblem& problem, const InputScale& scale,
                  const LayerStatistics& statistics, const Structure& structure, const RefitOptions& options,
                  const ProgressCallback& progress = {});

} // namespace slr
