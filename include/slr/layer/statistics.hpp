#pragma once
/// \file
/// Second moments of a layer's inputs.
#include "slr/layer/block_columns.hpp"
#include "slr/layer/problem.hpp"

namespace slr {

/// Of the fit samples of all ranks.
struct LayerStatistics {
  std::int64_t samples = 0;       ///< N
  std::vector<double> input_mean; ///< mean of X per row, k
  DistMatrix<double> gram;        ///< C = (X - mean)(X - mean)^T / N, k x k, block columns on a 1 x P grid
  double mean_diagonal = 0;       ///< d, trace(C) / k
  double largest_eigenvalue = 0;  ///< of C, an upper estimate within 1 %
};

/// Collective; N k^2 / P flops and k^2 / P doubles per rank. All numbers have the same bits for every number of ranks.
/// \pre the inputs were rounded by `round_inputs`
[[nodiscard]] LayerStatistics measure_statistics(const Communicator& comm, const Grid& row_grid,
                                                 const LayerProblem& problem);

/// W C for W (n x k, on every rank, column-major) in block columns like C: each block is one product of a fixed shape.
/// Local, 2 n k^2 / P flops.
[[nodiscard]] DistMatrix<double> times_gram(const std::vector<double>& weights, std::int64_t rows,
                                            const LayerStatistics& statistics, std::int64_t group_columns);

} // namespace slr
