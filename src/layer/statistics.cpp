#include "slr/layer/statistics.hpp"

#include "slr/dist/redistribute.hpp"
#include "slr/layer/exact_products.hpp"
#include "slr/linalg/blas.hpp"
#include "slr/linalg/gram.hpp"
#include "slr/mpi/exact_sum.hpp"

#include <cmath>

namespace slr {
namespace {

/// The largest eigenvalue of C by power iteration from the diagonal, times 1.01: an upper estimate for the length of
/// gradient steps. Every rank multiplies its columns, so C x needs one gather of k numbers.
double largest_eigenvalue(const DistMatrix<double>& c) {
  constexpr int steps = 30;
  const std::int64_t k = c.cols();
  DistMatrix<double> x(c.grid(), 1, k, 1, c.distribution().cols.block()), y = x.clone();
  for (LocalCol j(0); j.value() < x.local_cols(); ++j)
    x.at(LocalRow(0), j) = c.at(LocalRow(c.global_col(j).value()), j);
  double value = 0;
  for (int step = 0; step < steps; ++step) {
    auto whole = gather_everywhere(x);
    double squares = 0;
    for (const double v : whole) squares += v * v;
    if (squares == 0) return 0;
    for (double& v : whole) v /= std::sqrt(squares);
    for (LocalCol j(0); j.value() < c.local_cols(); ++j) {
      double dot = 0; // (C x)_j = column j of the symmetric C times x
      const double* column = c.local().data() + j.value() * c.lld();
      for (std::int64_t i = 0; i < k; ++i) dot += column[i] * whole[static_cast<std::size_t>(i)];
      y.at(LocalRow(0), j) = dot;
    }
    const auto product = gather_everywhere(y);
    value = 0;
    for (const double v : product) value += v * v;
    value = std::sqrt(value);
    std::swap(x, y);
  }
  return 1.01 * value;
}

} // namespace

LayerStatistics measure_statistics(const Communicator& comm, const Grid& row_grid, const LayerProblem& problem) {
  LayerStatistics result;
  const std::int64_t k = problem.cols;
  result.samples = comm.allreduce_value(problem.fit.count);
  // x_i x_j takes twice the bits of an input: what a sum may have beside them bounds the number of samples.
  (void)exact_product_bits(std::max<std::int64_t>(result.samples, 1), 2 * input_bits - 12);
  result.grid = row_grid;
  result.gram = DistMatrix<double>(row_grid, k, k, std::max<std::int64_t>(1, k), column_block(problem.group_columns));
  auto summary = gram<float>(problem.fit.x, true, result.gram, std::int64_t(128) << 20, "layer " + problem.name);
  result.input_mean = std::move(summary.means);
  result.mean_diagonal = summary.mean_diagonal;
  result.largest_eigenvalue = largest_eigenvalue(result.gram);
  return result;
}

LayerStatistics measure_means(const Communicator& comm, const Grid& row_grid, const LayerProblem& problem) {
  LayerStatistics result;
  result.grid = row_grid;
  const auto k = static_cast<std::size_t>(problem.cols);
  result.samples = comm.allreduce_value(problem.fit.count);
  // Inputs lie on a grid of 17 bits: their sums, and those of their squares, are exact.
  (void)exact_product_bits(std::max<std::int64_t>(result.samples, 1), 2 * input_bits - 12);
  std::vector<double> sums(2 * k, 0.0);
  for (std::int64_t s = 0; s < problem.fit.count; ++s)
    for (std::size_t j = 0; j < k; ++j) {
      const double x = problem.fit.x[static_cast<std::size_t>(s) * k + j];
      sums[j] += x;
      sums[k + j] += x * x;
    }
  comm.allreduce(std::span<double>(sums));
  const auto samples = static_cast<double>(std::max<std::int64_t>(1, result.samples));
  result.input_mean.resize(k);
  for (std::size_t j = 0; j < k; ++j) {
    const double mean = result.input_mean[j] = sums[j] / samples;
    result.mean_diagonal += std::max(0.0, sums[k + j] / samples - mean * mean);
  }
  result.mean_diagonal /= static_cast<double>(std::max<std::size_t>(1, k));
  return result;
}

DistMatrix<double> times_gram(const std::vector<double>& weights, std::int64_t rows, const LayerStatistics& statistics,
                              std::int64_t group_columns) {
  const auto& c = statistics.gram;
  auto product = make_block_columns(c.grid(), rows, c.cols(), group_columns);
  for_each_block(product, [&](std::int64_t first, std::int64_t count) {
    blas::gemm(Op::none, Op::none, rows, count, c.rows(), 1.0, weights.data(), rows, c.local().data() + first * c.lld(),
               c.lld(), 0.0, product.local().data() + first * product.lld(), product.lld());
  });
  return product;
}

} // namespace slr
