#pragma once
/// \file
/// The best weights of a given structure, for a given target.
#include "slr/layer/problem.hpp"
#include "slr/layer/statistics.hpp"
#include "slr/linalg/svd.hpp"

namespace slr {

/// Which groups of columns are kept dense, and the rank of the rest.
struct Structure {
  std::vector<std::int64_t> kept_groups; ///< increasing
  std::int64_t target_rank = 0;
};

/// Exact joint optimum of
///
///   min over W   ||T - W X - b||_F^2 / N + delta ||W - W0||_F^2      with W_S free and rank(W_R) <= r
///
/// (S: columns of the kept groups, R: the rest, b eliminated by centring). With C = Xc Xc^T / N + delta I permuted to
/// the order [S, R] and C = L L^T, P = Tc Xc^T / N + delta W0 likewise and Q = P L^-T, the problem is ||Q - W L||_F^2,
/// in which the columns S of W L are free and the columns R are W_R L_RR: so with the truncated singular value
/// decomposition Q_R ~ U T of rank r,  W = [Q_S, U T] L^-1. (L_RR is the Cholesky factor of the Schur complement C_RR -
/// C_RS C_SS^-1 C_SR.)
///
/// The factor L is computed once per structure and delta: k^3 / 3 flops; a solution costs n k^2 + r k^2 + n |S|^2 and a
/// truncation. A floor of 1e-9 of C's mean diagonal is added to delta, so that dead and dependent inputs do no harm.
/// Small problems run on one rank: their result has the same bits for every number of ranks; larger ones on a square
/// grid, to a tolerance of order k eps cond(C).
class FixedStructure {
public:
  /// Collective. \throws Error{numerical} naming the layer if C is not positive definite despite delta.
  FixedStructure(const Communicator& comm, const LayerProblem& problem, const LayerStatistics& statistics,
                 Structure structure, double delta, Engine engine);

  /// The factors for P = Tc Xc^T / N (without the pull, which is added here); `bias` is not set. The same on every
  /// rank. Collective.
  [[nodiscard]] LayerFactors solve(const DistMatrix<double>& p);
  [[nodiscard]] const EngineCounts& engine_counts() const { return svd_.counts(); }

private:
  const Communicator& comm_;
  const LayerProblem& problem_;
  Structure structure_;
  double delta_;
  std::vector<std::int64_t> order_; ///< kept columns, then the rest
  std::int64_t kept_columns_ = 0;
  Svd<double> svd_;
  DistMatrix<double> factor_; ///< L on the grid of the factorisation
};

} // namespace slr
