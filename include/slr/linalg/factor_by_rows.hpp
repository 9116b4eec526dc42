#pragma once
/// \file
/// The inverse of a triangular factor that several ranks share, for products with few rows.
#include "slr/dist/dist_matrix.hpp"

#include <span>
#include <vector>

namespace slr {

/// L^-T (upper triangular, k x k), each rank some block columns. Triangular solves of few rows on a grid of ranks
/// mostly wait for each other; with the inverse each is one local product, and the way back a sum over the ranks
/// besides.
class SharedInverse {
public:
  /// `upper`: L^-T on a 1 x P grid. Local.
  explicit SharedInverse(DistMatrix<double> upper);

  /// The numbers of this rank's columns, increasing. Local.
  [[nodiscard]] const std::vector<std::int64_t>& columns() const { return columns_; }

  /// This rank's columns of B L^-T, for B (m x k, column-major) that every rank has. Local, m k^2 / P flops.
  [[nodiscard]] std::vector<double> times_upper(std::span<const double> b, std::int64_t m) const;
  /// B L^-1 on every rank, for B (m x k) of which each rank gives its columns. Collective, m k^2 / P flops and one
  /// allreduce of m k doubles.
  [[nodiscard]] std::vector<double> times_lower(std::span<const double> share, std::int64_t m) const;

private:
  /// use(first local column, their number, rows that are not zero) for every block of columns.
  template <class Use>
  void for_each_block(Use&& use) const;

  DistMatrix<double> upper_;
  std::vector<std::int64_t> columns_;
};

} // namespace slr
