#pragma once
/// \file
/// (C + delta I)^-1 for a Gram matrix C, by Cholesky factors.
#include "slr/dist/dist_matrix.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace slr {

/// What the factorisation found; the same on every rank.
struct CholeskyReport {
  std::int64_t numerical_rank = 0;     ///< columns that the factor covers
  std::vector<std::int64_t> dead;      ///< columns of (nearly) no variance, ascending
  std::vector<std::int64_t> dependent; ///< left out: combinations of the columns that were kept, ascending
  double delta = 0;                    ///< the damping in the factor (more than asked for only beyond fallback_columns)
  bool used_fallback = false;
};

struct CholeskyOptions {
  double dead_tolerance = 1e-12;        ///< C_jj up to this times the largest diagonal entry
  std::int64_t one_rank_columns = 1792; ///< up to this everything runs on rank 0
  std::int64_t fallback_columns = 8192; ///< up to this the rank-revealing fallback runs, on rank 0
};

/// C + delta I = L L^T, with a rank-revealing fallback.
///
/// If the plain factorisation fails, or a pivot L_jj^2 is below max(k, 10) 8 eps (C_jj + delta), columns are found that
/// the others determine: dead ones (only when delta is too small to carry them) and those that a pivoted Cholesky
/// factorisation of the correlation matrix leaves (largest pivot first, ties to the smaller index). Their rows and
/// columns are replaced by those of the identity, and the solves return zeros there: the least squares solution that
/// uses the independent columns only. Matrices beyond `fallback_columns`, which one rank should not hold, get ten times
/// more damping instead (at least 1e-10 of the mean diagonal) until they factor.
///
/// Up to `one_rank_columns` the factor, the report and every solve have the same bits for every number of ranks, given
/// the same C; beyond that they agree to rounding times the condition number.
class CholeskyFactor {
public:
  /// Collective over C's communicator. C is k x k on any grid, both triangles, and is consumed. k^3/3 flops.
  /// @pre delta >= 0. \throws Error{numerical} if C is not finite or has no usable column; `context` names the layer.
  CholeskyFactor(DistMatrix<double> c, double delta, std::string_view context = {},
                 const CholeskyOptions& options = {});
  ~CholeskyFactor();
  CholeskyFactor(CholeskyFactor&&) noexcept;
  CholeskyFactor& operator=(CholeskyFactor&&) noexcept;

  [[nodiscard]] const CholeskyReport& report() const; ///< Local.

  /// B := B (C + delta I)^-1, B m x k on any grid of the communicator. Collective. 2 m k^2 flops.
  void solve(DistMatrix<double>& b) const;

  /// B := B (C + delta I)^-1, B := B L^-T, and B := B L^-1, for matrices that every rank has whole and equal (m x k,
  /// column-major), as the result is. B L^-T are the coordinates in which the metric of C is the plain one (||B L|| is
  /// B's norm in it), L^-1 is the way back. Collective. Where several ranks share the factor, in the steps of
  /// slr/linalg/factor_by_rows.hpp: the first call brings it by rows, k^2 / P doubles more. Else on the root, whose
  /// values alone count, and broadcast.
  void solve(std::vector<double>& b, std::int64_t rows) const;
  void solve_upper(std::vector<double>& b, std::int64_t rows) const;
  void solve_lower(std::vector<double>& b, std::int64_t rows) const;

  /// Whether several ranks share the factor: else the root has it whole. Local.
  [[nodiscard]] bool is_shared() const;
  /// B := B L^-T on the root alone. Local. @pre not is_shared(), on the root
  void solve_upper_here(std::vector<double>& b, std::int64_t rows) const;
  /// Fills the k x k matrix, of which every rank holds whole columns (a 1 x P grid), with (C + delta I)^-1, zero for
  /// what the factor leaves out. Collective, 2 k^3/3 flops, three matrices of this size meanwhile.
  void inverse(DistMatrix<double>& result) const;

private:
  struct State;
  std::unique_ptr<State> state_;
};

} // namespace slr
