#pragma once
/// \file
/// What the singular value engines share. Everything here sees the short side as rows.
#include "slr/dist/dist_matrix.hpp"
#include "slr/linalg/svd.hpp"

#include <optional>
#include <random>
#include <span>
#include <vector>

namespace slr::detail {

/// What is wanted of Z.
struct Request {
  bool is_threshold = true;
  double tau = 0;
  std::int64_t target_rank = 0;
  SvdOptions options;
  std::string_view context;
};

/// An m x l matrix, m <= l, whose columns are dealt to the ranks of `comm` in blocks of `col_block`; `data` holds the
/// local ones, column-major. In one-rank problems `comm` is rank 0 alone.
template <class T>
struct Panel {
  const Communicator* comm = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t col_block = 1;
  std::int64_t local_cols = 0;
  const T* data = nullptr;
};

/// Factors of X. Small parts are valid on the root of the panel's communicator until `finish`.
template <class T>
struct Factors {
  bool accepted = false;     ///< the bound is within the engine's tolerance; the same on every rank
  std::vector<double> sigma; ///< singular values of Z that X keeps, descending, not shrunk
  std::vector<double> left;  ///< m x r
  std::vector<T> right;      ///< r x local_cols, on every rank
  double error_bound = 0;
  std::vector<double> values;  ///< for the memory: Ritz values (squares), guards included
  std::vector<double> vectors; ///< m x values.size()
};

/// The Gram matrix Z Z^T: its lower triangle on the root, or both triangles over the ranks in block columns.
struct GramMatrix {
  std::vector<double> whole;
  DistMatrix<double> block_columns;
  double trace = 0;      ///< ||Z||_F^2, on every rank
  bool is_rough = false; ///< formed in single precision: good for steering, not for the last word
  [[nodiscard]] bool is_distributed() const { return block_columns.grid() != nullptr; }
};

/// Largest short side for which several ranks put the Gram matrix on one of them.
constexpr std::int64_t root_gram_rows = 1024;

/// In double, or `is_rough`: products of floats, summed in float over `rough_chunk` columns in double over the chunks,
/// at twice the speed. Whoever takes a rough one must check what comes out of it, on Z. Rough ones are never
/// distributed.
template <class T>
[[nodiscard]] GramMatrix form_gram(const Panel<T>& panel, bool is_rough = false);

/// Columns of Z whose products are summed in float.
constexpr std::int64_t rough_chunk = 1536;
/// ||C - Z Z^T||_F / ||Z||_F^2 of a rough Gram matrix C, statistically: (4 k / sqrt(l) + 4) eps with k columns summed
/// in float. A sum of k terms of one sign is the worst case for its partial sums; their roundings have random signs.
[[nodiscard]] double rough_gram_error(std::int64_t long_side);
/// Squares of norms between which products of floats neither overflow nor drown.
[[nodiscard]] constexpr bool suits_floats(double norm_square) {
  return norm_square > 1e-24 && norm_square < 1e24;
}

/// C times a root's m x p matrix, on the root. Collective over the panel's communicator.
template <class T>
[[nodiscard]] std::vector<double> apply_gram(const Panel<T>& panel, const GramMatrix& gram,
                                             const std::vector<double>& q, std::int64_t columns);

template <class T>
[[nodiscard]] Factors<T> gram_engine(const Panel<T>& panel, const Request& request, const GramMatrix& gram);

/// `gram` is null for the form that passes over Z itself. `memory` is the root's. `affordable` is the cost (in flops as
/// counted in svd_cost.hpp) beyond which the engine gives up.
template <class T>
[[nodiscard]] Factors<T> subspace_engine(const Panel<T>& panel, const Request& request, const GramMatrix* gram,
                                         SvdMemory& memory, double affordable);

template <class T>
[[nodiscard]] Factors<T> pdgesvd_engine(const Panel<T>& panel, const Request& request);

/// Guard vectors kept below the threshold for so many above it.
[[nodiscard]] constexpr std::int64_t guards(std::int64_t numerical_rank) {
  return std::max<std::int64_t>(12, numerical_rank / 8);
}

/// Eigenvalues of a Gram matrix below this times the largest are rounding.
[[nodiscard]] inline double gram_floor(std::int64_t rows) {
  return static_cast<double>(rows) * 2.3e-16;
}

/// How many of the descending squares are kept.
[[nodiscard]] std::int64_t kept(const Request& request, std::span<const double> squares, std::int64_t rows);

/// ||X||_F from the unshrunk singular values.
[[nodiscard]] double norm_of_result(const Request& request, std::span<const double> sigma);

/// The statistical size of the rounding of X in the precision of T: (sqrt(r) + 4) eps ||Z||_F.
template <class T>
[[nodiscard]] double rounding_allowance(std::int64_t numerical_rank, double norm_z);
/// ||delta C||_F of a computed Gram matrix: 4 eps sqrt(l) trace, statistically (the products have random signs of
/// rounding; the worst case has l in place of its root).
[[nodiscard]] double gram_rounding(double trace, std::int64_t long_side);

/// right := diag(1/sigma) left^T Z on every rank, after broadcasting the root's sigma and left.
template <class T>
void finish(const Panel<T>& panel, Factors<T>& factors);

/// Random vectors that a norm is measured with; the failure probabilities below are those of this number.
constexpr std::int64_t probes = 8;
/// ||V^T V - I|| up to which measured_residual holds; its result over the least kept singular value is above that.
constexpr double largest_skewness = 0.05;
/// A bound of ||X - threshold(Z - R)||_F + ||R||_F from Z itself, wrong with probability < 3e-6, for factors whose left
/// vectors are orthonormal and whose right ones, V = Z^T U / sigma, are nearly so. With D = Z V - U diag(sigma), V^T V
/// = I + E and V' V's polar factor: U^T D = diag(sigma) E, so ||diag(sigma) (V - V')|| <= ||U^T D|| / (2 - ||E||), and
/// together with (I - U U^T) Z V' that is at most 1.2 ||D||_F for ||E|| <= .05. ||D||_F comes from Gaussian vectors:
/// ||D G||_F^2 is a sum of squares of D's singular values times chi-squares of 8 degrees, and P(chi^2 < .18) < 3e-6.
/// The result is the root's. Collective.
template <class T>
[[nodiscard]] double measured_residual(const Panel<T>& panel, const Factors<T>& factors);

/// Standard normal numbers, the same in every run. Local.
[[nodiscard]] std::vector<double> gaussian(std::int64_t count, std::uint64_t seed);

} // namespace slr::detail
