#pragma once
/// \file
/// Weights of a fixed structure in the form in which they are computed.
#include "slr/layer/factored_map.hpp"
#include "slr/layer/statistics.hpp"
#include "slr/layer/structure.hpp"

namespace slr {

/// W x = left M^T E x + dense x_S,  S the columns of the kept groups; b such that the outputs have the given mean. E
/// lives on all columns, in the order [S, R]. M takes the first r of its q rows (the others are guards) unless `mix`
/// says otherwise. Kept rows F are the first rows of E, each with one column of `left` that has one entry, and count as
/// rank here.
struct BasisForm {
  std::vector<std::int64_t> kept_groups; ///< of columns, increasing
  std::vector<std::int64_t> kept_rows;   ///< increasing
  std::int64_t basis_size = 0;           ///< q
  std::int64_t numerical_rank = 0;       ///< r <= q
  std::vector<double> left;              ///< n x r
  std::vector<double> mix;               ///< M, q x r, orthonormal columns; empty: the first r of the identity
  std::vector<double> right;             ///< E, q x k
  std::vector<double> dense;             ///< n x |S|
  std::vector<double> mean;              ///< of the values before the activation, n
};

/// As it is applied to samples, features beyond 2^feature_exponent cut off. Local.
[[nodiscard]] FactoredMap map_of(const LayerProblem& problem, const LayerStatistics& statistics, const BasisForm& form,
                                 int feature_exponent);
/// As a result is given: U = left, V the columns R of E, and U E_S belongs to the kept columns; or, with rows kept,
/// what rank_as_rows makes of U and V. Local.
[[nodiscard]] LayerFactors factors_of(const LayerProblem& problem, const LayerStatistics& statistics,
                                      const BasisForm& form);

} // namespace slr
