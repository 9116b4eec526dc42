#pragma once
/// \file
/// How the matrices of a layer are dealt to the ranks.
#include "slr/dist/dist_matrix.hpp"

#include <algorithm>

namespace slr {

/// Columns per block: whole groups, about 64 columns, and independent of the number of ranks, so that what is computed
/// per block has the same bits for any number of them.
[[nodiscard]] constexpr std::int64_t column_block(std::int64_t group_columns) {
  return group_columns * std::max<std::int64_t>(1, 64 / group_columns);
}

/// A zero rows x cols matrix in block columns on a 1 x P grid: each rank holds whole columns, contiguous, in increasing
/// order. Local.
[[nodiscard]] inline DistMatrix<double> make_block_columns(const Grid& row_grid, std::int64_t rows, std::int64_t cols,
                                                           std::int64_t group_columns) {
  return {row_grid, rows, cols, std::max<std::int64_t>(1, rows), column_block(group_columns)};
}

/// Calls use(first local column, number of columns) for each block of this rank. Local.
template <class Use>
void for_each_block(const DistMatrix<double>& matrix, Use&& use) {
  const auto block = matrix.distribution().cols.block();
  for (std::int64_t first = 0; first < matrix.local_cols(); first += block)
    use(first, std::min(block, matrix.local_cols() - first));
}

} // namespace slr
