#pragma once
/// \file
/// The best weights of a given structure, for a given target.
#include "slr/layer/factored_splitting.hpp"
#include "slr/linalg/damped_inverse.hpp"
#include "slr/linalg/svd.hpp"

#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <utility>

namespace slr {

/// Which groups are kept dense, and the rank of the rest.
struct Structure {
  std::vector<std::int64_t> kept_groups; ///< increasing
  std::int64_t target_rank = 0;
  friend bool operator==(const Structure&, const Structure&) = default;
};

/// Whether the row space of the low-rank part follows the target in an iteration, counted from 0 where the structure
/// began: in the first two, and then ever more rarely (0, 1, 3, 7, 15, ..), for it hardly moves any more, and an
/// iteration that leaves it costs a fifth to a half (bench/iteration).
[[nodiscard]] constexpr bool row_space_moves(std::int64_t iteration) {
  return (iteration & (iteration + 1)) == 0;
}

struct BasisForm;

/// Exact joint optimum of
///
///   min over W   ||T - W X - b||_F^2 / N + delta ||W - W0||_F^2      with W_S free and rank(W_R) <= r
///
/// (S: columns of the kept groups, R: the rest, b eliminated by centring). With C = Xc Xc^T / N + delta I permuted to
/// the order [S, R] and C = L L^T, P = Tc Xc^T / N + delta W0 likewise and Q = P L^-T, the problem is ||Q - W L||_F^2,
/// in which the columns S of W L are free and the columns R are W_R L_RR: so with the truncated singular value
/// decomposition Q_R ~ U Sigma T of rank r,  W = [Q_S, U Sigma T] L^-1. (L_RR is the Cholesky factor of the Schur
/// complement C_RR - C_RS C_SS^-1 C_SR.)
///
/// With E = [0, T] L^-1 (q x k, orthonormal in the metric of C, orthogonal to the columns S) the solution splits into
/// the regression on the kept columns alone, D = P_S C_SS^-1, and the low-rank part on features E x:  W = U Sigma E,
/// plus D on the columns S. FactoredMap applies it in this form.
///
/// `start` solves for a P that is at hand. In an iteration P changes little, and the bases follow it by one step of
/// block power iteration with Rayleigh-Ritz on Q_R, q = r + guards, which needs only Q_R T^T = P E^T ("improve_left")
/// and U^T P ("improve_right"): both are sums over the samples of products with r-sized factors. Each half step lowers
/// the objective. With the features as they are the best left factor of rank r is the truncation of P E^T itself
/// ("improve_within"): E stays, so nothing of the size of the inputs is touched.
///
/// Where rows F are kept instead of columns (LayerProblem::grouping), rows decouple: those of F take their free optimum
/// Q_F L^-1, and the truncation sees the others. Here every kept row counts as one more of rank, whose column of U is
/// e_i, whose sigma is ||q_i|| and whose row of T is the unit row q_i / ||q_i||; it takes part in the half steps like
/// the others, but is neither mixed with them nor orthogonal to them.
///
/// With fewer samples than columns (LayerStatistics::is_implicit; no kept groups then) neither C nor P is formed. With
/// K = Xc^T Xc, S = W0 Xc, D = Tc - S and R = D (K + N delta I)^-1 (n x N, over the samples) the free optimum is
///
///   P C^-1 = W0 + R Xc^T,     Q Q^T = P C^-1 P^T = Tc Tc^T / N + delta (W0 W0^T - R D^T),
///
/// which gives U and Sigma, and E = Sigma^-1 (U^T W0 + U^T R Xc^T); in the half steps the same with U^T T in the place
/// of T. W0 W0^T, K and S are measured once per layer (SampleMoments); a half step costs 2 n k q flops, in single
/// precision.
///
/// Otherwise L is computed once per structure and delta: k^3 / 3 flops (and |S|^3 / 3 for C_SS). A floor of 1e-9 of C's
/// mean diagonal is added to delta, so that dead and dependent inputs do no harm. Up to the one-rank limits of
/// CholeskyFactor and Svd everything has the same bits for every number of ranks; larger problems agree to k eps
/// cond(C).
class FixedStructure {
public:
  /// Collective. @pre no kept groups in the implicit form. \throws Error{numerical} naming the layer if C cannot be
  /// factored despite delta.
  /// `same_metric`: one of equal kept columns and delta, which shares its factors instead of computing them again.
  FixedStructure(const Communicator& comm, const LayerProblem& problem, const LayerStatistics& statistics,
                 Structure structure, double delta, Engine engine, const FixedStructure* same_metric = nullptr);

  [[nodiscard]] const Structure& structure() const { return structure_; }
  [[nodiscard]] double damping() const { return delta_; } ///< delta with its floor

  /// The optimum for P = Tc Xc^T / N (the pull is added here). Collective. n k^2 flops and a truncation.
  /// @pre not the implicit form
  void start(const DistMatrix<double>& p);
  /// The optimum for Tc on this rank's fit samples, n x N. Collective. 2 n^2 N + 2 n k q flops and the eigenvalues of
  /// an n x n matrix. @pre the implicit form
  void start(std::span<const float> target);
  /// ||T||^2 - objective at the solution of `start`, per sample: ||Q_S||_F^2 + sum of sigma_i^2. Local.
  [[nodiscard]] double gain() const { return gain_; }

  /// First half step: the left basis for the present E. Collective, 2 n k q flops on the root.
  void improve_left(const FactoredCross& cross);
  [[nodiscard]] const std::vector<double>& left_basis() const { return left_; } ///< n x q, orthonormal columns
  /// Instead of both half steps: U, Sigma and M from the truncation of P E^T = U Sigma M^T, W = U Sigma M^T E. Lowers
  /// the objective. Collective, 2 n k q flops on the root. @pre has_features_to_stay()
  void improve_within(const FactoredCross& cross);
  /// Not where rows are kept, whose features are their own.
  [[nodiscard]] bool has_features_to_stay() const { return kept_rows_.empty(); }
  /// Second half step, with left_basis()^T Tc Xc^T / N (q x k, column-major). Collective, 2 q k^2 flops: on the root,
  /// or, where several ranks share L, over all of them.
  /// @pre not the implicit form
  void improve_right(std::vector<double> projected);
  /// Second half step, with left_basis()^T Tc on this rank's fit samples, q x N. Collective, 2 q k (n + N) flops.
  /// @pre the implicit form
  void improve_right(std::span<const float> projected);

  /// Goes on with a smaller rank: the leading directions stay. Local. @pre not above the present rank
  void lower_rank(std::int64_t rank);

  /// The weights as they stand, for targets of this mean. Local.
  [[nodiscard]] FactoredMap map(const std::vector<double>& target_mean) const;
  [[nodiscard]] LayerFactors factors(const std::vector<double>& target_mean) const;
  /// C + delta I, the columns in the order of kept_then_rest, and its part on the kept columns; null in the implicit
  /// form. Local.
  [[nodiscard]] const CholeskyFactor* factor() const { return metric_ ? &metric_->whole : nullptr; }
  [[nodiscard]] const CholeskyFactor* kept_factor() const { return metric_ ? &metric_->kept : nullptr; }
  /// U Sigma T L^-1 cut to a lower rank, n x k in the columns' own order. Local, 2 n k rank flops.
  [[nodiscard]] std::vector<double> low_rank_part(std::int64_t rank) const;

  [[nodiscard]] const EngineCounts& engine_counts() const { return svd_.counts(); }
  /// Bases and regression as they stand; what is factored once is computed again. Collective.
  void save(StateWriter& to) const;
  /// Instead of `start`. \throws Error{bad_data} for another problem's state
  void restore(StateReader& from);
  /// B := B C^-1 for B in the order of the columns (only without kept groups, and not in the implicit form).
  /// Collective.
  void solve(DistMatrix<double>& b) const;

private:
  /// What depends on the order of the columns and delta alone.
  struct Metric {
    CholeskyFactor whole, kept; ///< of C and C_SS
  };
  [[nodiscard]] std::int64_t basis_rows() const {
    return std::ssize(right_) / std::max<std::int64_t>(1, problem_.cols);
  }
  void take_left(const FactoredCross& cross); ///< D; left_ = P E^T, at least on the root
  /// The root's numbers of each of its directions, so many each and of the first part one, on every rank; how many
  /// directions. Collective.
  std::int64_t broadcast_directions(std::initializer_list<std::pair<std::vector<double>*, std::int64_t>> parts) const;
  [[nodiscard]] BasisForm form(const std::vector<double>& target_mean) const;
  void set_right(const std::vector<double>& t, std::int64_t q);
  void rotate_left(const std::vector<double>& by, std::int64_t size); ///< U := U by, before sigma_ is replaced
  /// The columns (of the order in use) that a rank multiplies with. Local.
  struct ColumnShare {
    std::int64_t first = 0, count = 0;
  };
  [[nodiscard]] ColumnShare share_of_columns(int rank) const;
  /// U, Sigma and T in the place of E, from U^T P in the order [S, R].
  void improve_right_on_root(std::vector<double> g);
  void improve_right_in_shares(std::vector<double> g); ///< where several ranks share L
  /// G += U^T delta W0, of so many columns in the order [S, R]. Local.
  void add_pull(std::int64_t first, std::int64_t count, double* g) const;
  void add_pull_in_shares(); ///< left_ += delta W0 E^T, where several ranks share L
  /// Columns of W0 in the order [S, R].
  [[nodiscard]] std::vector<double> original_columns(std::int64_t first, std::int64_t count) const;
  void set_right_in_samples(const std::vector<double>& r); ///< E from U^T R, q x (samples of this rank)
  void add_pull_on_features(); ///< left_ += delta W0 E^T, a share of the columns on each rank

  const Communicator& comm_;
  const LayerProblem& problem_;
  const LayerStatistics& statistics_;
  Structure structure_;
  double delta_;
  std::vector<std::int64_t> kept_column_groups_, kept_rows_; ///< structure_.kept_groups in one of them
  std::vector<std::int64_t> order_;                          ///< kept columns, then the rest
  std::int64_t kept_columns_ = 0;
  Svd<double> svd_;
  std::shared_ptr<Metric> metric_;         ///< none in the implicit form
  std::optional<DampedKernel> in_samples_; ///< of the implicit form
  double gain_ = 0;
  std::int64_t numerical_rank_ = 0;          ///< at most |F| + the target
  std::vector<double> sigma_, left_, right_; ///< q;  U, n x q;  E in the order [S, R], q x k; F first
  std::vector<double> mix_;                  ///< M, q x (values of sigma_); empty: the identity
  std::vector<double> dense_;                ///< D, n x |S|
};

} // namespace slr
