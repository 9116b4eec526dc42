#pragma once
// Every P x Q of a number of ranks, seeded matrices, and plain references for the tests of dist and linalg.
#include "slr/dist/redistribute.hpp"
#include "slr/mpi/communicator.hpp"

#include <cmath>
#include <cstdint>
#include <mpi.h>
#include <random>
#include <span>
#include <utility>
#include <vector>

namespace slr_test {

inline slr::Communicator world() {
  return slr::Communicator(MPI_COMM_WORLD);
}

/// All grids that use every rank, and one that leaves the last rank idle.
inline std::vector<slr::Grid> all_grids(const slr::Communicator& comm) {
  std::vector<slr::Grid> grids;
  for (int rows = 1; rows <= comm.size(); ++rows)
    if (comm.size() % rows == 0) grids.push_back(slr::ProcessGrid::create(comm, rows, comm.size() / rows));
  if (comm.size() > 1) grids.push_back(slr::ProcessGrid::create(comm, 1, comm.size() - 1));
  return grids;
}

/// Standard normal entries, the same on every rank, column-major.
template <class T = double>
std::vector<T> random_matrix(std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> normal;
  std::vector<T> values(static_cast<std::size_t>(rows * cols));
  for (T& value : values) value = static_cast<T>(normal(generator));
  return values;
}

/// op(A) op(B), three loops in double.
template <class T>
std::vector<double> product(bool ta, bool tb, std::int64_t m, std::int64_t n, std::int64_t k, const std::vector<T>& a,
                            const std::vector<T>& b) {
  std::vector<double> c(static_cast<std::size_t>(m * n), 0.0);
  for (std::int64_t j = 0; j < n; ++j)
    for (std::int64_t l = 0; l < k; ++l) {
      const double right = double(b[static_cast<std::size_t>(tb ? j + l * n : l + j * k)]);
      for (std::int64_t i = 0; i < m; ++i)
        c[static_cast<std::size_t>(i + j * m)] +=
            double(a[static_cast<std::size_t>(ta ? l + i * k : i + l * m)]) * right;
    }
  return c;
}

template <class A, class B>
double max_difference(const std::vector<A>& a, const std::vector<B>& b) {
  if (a.size() != b.size()) return INFINITY;
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(double(a[i]) - double(b[i]));
    largest = difference > largest || std::isnan(difference) ? difference : largest;
  }
  return largest;
}

template <class T>
double norm(const std::vector<T>& a) {
  double sum = 0;
  for (const T value : a) sum += double(value) * double(value);
  return std::sqrt(sum);
}

/// A matrix whose whole content every rank knows.
template <class T>
slr::DistMatrix<T> distributed(const slr::Grid& grid, std::int64_t rows, std::int64_t cols, std::int64_t row_block,
                               std::int64_t col_block, const std::vector<T>& whole) {
  slr::DistMatrix<T> matrix(grid, rows, cols, row_block, col_block);
  slr::take_local(std::span<const T>(whole), matrix);
  return matrix;
}

} // namespace slr_test
