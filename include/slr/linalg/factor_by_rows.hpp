#pragma once
/// \file
/// Triangular solves of few rows with a factor that several ranks share.
#include "slr/dist/dist_matrix.hpp"

#include <cstdint>
#include <vector>

namespace slr {

/// L (lower triangular, k x k) by rows on all ranks, for B L^-T and B L^-1 of matrices B that every rank has.
///
/// p?trsm would step through the columns in blocks of the grid, 64 at a time, and mostly wait. Here a step is about
/// `step_columns` columns J wide, of which every rank owns as many as any other, and the blocks on the diagonal are
/// inverted beforehand:
///
///     T_J = (B_J - T_{<J} L_{J,<J}^T) L_JJ^-T,    J ascending;    each rank its columns of both products
///     E_J = (T_J - E_{>J} L_{>J,J}) L_JJ^-1,      J descending;   each rank its share of the sum, its columns of E_J
///
/// Memory k^2 / P doubles, and the inverted blocks. All results agree to rounding times the condition number, for
/// different numbers of ranks.
class FactorByRows {
public:
  /// Takes L from `lower`, on any grid; what is above its diagonal is not read. Collective. k step_columns^2 flops for
  /// the blocks, one exchange of the matrix.
  explicit FactorByRows(const DistMatrix<double>& lower, std::int64_t step_columns = 512);

  /// B := B L^-T, for B (m x k, column-major) of the same values on every rank, which all get the result. Collective.
  /// m k (k + 2 step) / P flops, two allgathers of m x step per step.
  void solve_upper(std::vector<double>& b, std::int64_t m) const;
  /// B := B L^-1, likewise; an allreduce and an allgather per step.
  void solve_lower(std::vector<double>& b, std::int64_t m) const;

private:
  /// The columns J of one step: [first, first + count) of all; of them `mine` from `my_first` on are this rank's, which
  /// are the rows from `row` on of its rows of L.
  struct Step {
    std::int64_t first = 0, count = 0, my_first = 0, mine = 0, row = 0;
    std::vector<int> counts;           ///< columns of each rank
    std::vector<double> columns, rows; ///< of L_JJ^-T: this rank's columns, count x mine, and rows, mine x count
  };
  void invert_diagonal(Step& step) const;
  /// Columns J of B from what each rank has of them.
  void gather(const Step& step, std::int64_t m, const std::vector<double>& mine, std::vector<double>& b) const;

  DistMatrix<double> rows_; ///< whole rows of L, on a P x 1 grid
  std::vector<Step> steps_;
};

} // namespace slr
