#pragma once
/// \file
/// One layer as a matrix problem over sharded samples.
#include "slr/base/grouping.hpp"
#include "slr/mpi/communicator.hpp"
#include "slr/prox/activation.hpp"

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace slr {

/// Samples of one layer on this rank, a column each, contiguous (column-major arrays).
struct Samples {
  std::int64_t count = 0;
  std::vector<float> x;      ///< cols() x count: inputs that the layer will really see
  std::vector<float> y;      ///< rows() x count: outputs of the original layer, after the activation
  std::vector<float> linear; ///< rows() x count: outputs of the original layer, before the activation
  /// Ends of the fixed blocks of neighbouring samples (at most the count; what follows the last is one more block).
  /// A block is never split between ranks, and what is computed from it depends on nothing else.
  std::vector<std::int64_t> block_ends;
};

/// Find weights W (n x k) and b (n) of a given structure such that r(W x + b) stays close to y on the samples.
struct LayerProblem {
  std::string name;
  std::int64_t rows = 0;                 ///< n, output channels
  std::int64_t cols = 0;                 ///< k, input channels times kernel area
  std::int64_t group_columns = 1;        ///< neighbouring columns of a group, unless rows are kept; divides cols
  Grouping grouping = Grouping::channel; ///< filter: rows are kept; else columns
  Activation activation;
  std::vector<float> weights; ///< W0, the original weights, n x k column-major, on every rank
  std::vector<double> bias;   ///< b0, n
  Samples fit;                ///< what weights are computed from
  Samples selection;          ///< what choices are judged by
  Samples report;             ///< what nothing is ever chosen by

  /// How many groups could be kept.
  [[nodiscard]] std::int64_t groups() const { return grouping == Grouping::filter ? rows : cols / group_columns; }
  /// Of what is left beside so many kept groups.
  [[nodiscard]] std::int64_t largest_rank(std::int64_t kept_groups) const {
    const auto sizes = factor_sizes(grouping, rows, cols, group_columns, kept_groups);
    return std::min(sizes.u_rows, sizes.v_cols);
  }
};

/// A compressed layer: W restricted to the kept groups is free (B), the rest has rank `numerical_rank` (U V). All
/// column-major, rows and columns in increasing order, with the dimensions of `factor_sizes`.
struct LayerFactors {
  std::vector<std::int64_t> kept_groups; ///< increasing
  std::int64_t numerical_rank = 0;
  std::vector<double> u;                 ///< n x r, less the kept rows
  std::vector<double> v;                 ///< r x k, less the kept columns
  std::vector<double> b;                 ///< the kept rows or columns
  std::vector<double> bias;              ///< n
  Grouping grouping = Grouping::channel; ///< filter: rows are kept; else columns
};

/// The same map with its kept rows as so many more of rank, the first ones: U = [I_F, U], V = [B; V]. Others as they
/// are. Local.
[[nodiscard]] LayerFactors rows_as_rank(LayerFactors factors, std::int64_t rows, std::int64_t cols);

/// The opposite, for U whose first columns have one entry each, in the rows that are to be kept (increasing), and whose
/// other columns vanish there. Local.
[[nodiscard]] LayerFactors rank_as_rows(const LayerFactors& factors, const std::vector<std::int64_t>& kept_rows,
                                        std::int64_t rows, std::int64_t cols);

/// W = U V scattered to what is left plus B scattered to what is kept, n x k column-major. Local.
[[nodiscard]] std::vector<double> assemble_weights(const LayerFactors& factors, std::int64_t rows, std::int64_t cols,
                                                   std::int64_t group_columns);

/// Columns of the kept groups, then the remaining columns, each increasing: a permutation of 0..cols-1. Local.
[[nodiscard]] std::vector<std::int64_t> kept_then_rest(const std::vector<std::int64_t>& kept_groups, std::int64_t cols,
                                                       std::int64_t group_columns);

} // namespace slr
