#pragma once
/// \file
/// One layer as a matrix problem over sharded samples.
#include "slr/mpi/communicator.hpp"
#include "slr/prox/activation.hpp"

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
  std::int64_t rows = 0;          ///< n, output channels
  std::int64_t cols = 0;          ///< k, input channels times kernel area
  std::int64_t group_columns = 1; ///< neighbouring columns of one input channel; divides cols
  Activation activation;
  std::vector<float> weights; ///< W0, the original weights, n x k column-major, on every rank
  std::vector<double> bias;   ///< b0, n
  Samples fit;                ///< what weights are computed from
  Samples selection;          ///< what choices are judged by
  Samples report;             ///< what nothing is ever chosen by

  [[nodiscard]] std::int64_t groups() const { return cols / group_columns; }
};

/// A compressed layer: W restricted to the kept columns is free (B), the rest has rank `numerical_rank` (U V).
struct LayerFactors {
  std::vector<std::int64_t> kept_groups; ///< increasing
  std::int64_t numerical_rank = 0;
  std::vector<double> u;    ///< n x r, column-major
  std::vector<double> v;    ///< r x (remaining columns), column-major, columns in increasing order
  std::vector<double> b;    ///< n x (kept columns), column-major
  std::vector<double> bias; ///< n
};

/// W = U V scattered to the remaining columns plus B scattered to the kept ones, n x k column-major. Local.
[[nodiscard]] std::vector<double> assemble_weights(const LayerFactors& factors, std::int64_t rows, std::int64_t cols,
                                                   std::int64_t group_columns);

/// Columns of the kept groups, then the remaining columns, each increasing: a permutation of 0..cols-1. Local.
[[nodiscard]] std::vector<std::int64_t> kept_then_rest(const std::vector<std::int64_t>& kept_groups, std::int64_t cols,
                                                       std::int64_t group_columns);

} // namespace slr
