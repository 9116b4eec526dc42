#include "slr/layer/statistics.hpp"

#include "slr/dist/redistribute.hpp"
#include "slr/layer/exact_products.hpp"
#include "slr/linalg/blas.hpp"
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

/// Sum over all samples of x x^T, exact for rounded inputs, panel by panel of block columns onto their owners.
void sum_products(const Communicator& comm, const LayerProblem& problem, DistMatrix<double>& gram) {
  const std::int64_t k = problem.cols, block = gram.distribution().cols.block(), panel = block * comm.size();
  for (std::int64_t first = 0; first < k; first += panel) {
    const auto width = std::min(panel, k - first);
    std::vector<double> product(static_cast<std::size_t>(k * width), 0.0);
    for_each_piece(problem.fit.x, k, problem.fit.count, [&](std::int64_t, std::int64_t count, const double* x) {
      blas::gemm(Op::none, Op::transpose, k, width, count, 1.0, x, k, x + first, k, 1.0, product.data(), k);
    });
    std::vector<int> counts;
    for (int rank = 0; rank < comm.size(); ++rank)
      counts.push_back(narrow<int>(k * std::clamp<std::int64_t>(width - rank * block, 0, block), "a panel"));
    const auto mine = static_cast<std::size_t>(counts[static_cast<std::size_t>(comm.rank())]);
    const auto at = static_cast<std::size_t>(first / panel * block * k);
    comm.reduce_scatter(std::span<const double>(product), gram.local().subspan(mine > 0 ? at : 0, mine), counts);
  }
}

} // namespace

LayerStatistics measure_statistics(const Communicator& comm, const Grid& row_grid, const LayerProblem& problem) {
  LayerStatistics result;
  const std::int64_t k = problem.cols;
  result.samples = comm.allreduce_value(problem.fit.count);
  (void)exact_product_bits(std::max<std::int64_t>(result.samples, 1),
                           2 * input_bits - 12); // X X^T needs 34 bits a term
  result.gram = DistMatrix<double>(row_grid, k, k, std::max<std::int64_t>(1, k), column_block(problem.group_columns));
  result.input_mean.assign(static_cast<std::size_t>(k), 0.0);
  for (std::size_t i = 0; i < problem.fit.x.size(); ++i)
    result.input_mean[i % result.input_mean.size()] += problem.fit.x[i];
  comm.allreduce(std::span<double>(result.input_mean));
  const double samples = static_cast<double>(std::max<std::int64_t>(1, result.samples));
  for (double& mean : result.input_mean) mean /= samples;
  sum_products(comm, problem, result.gram);
  result.gram.for_each_local([&](GlobalRow i, GlobalCol j, double& value) {
    value = value / samples - result.input_mean[static_cast<std::size_t>(i.value())] *
                                  result.input_mean[static_cast<std::size_t>(j.value())];
  });
  double trace = 0;
  std::vector<double> diagonal(static_cast<std::size_t>(k), 0.0);
  result.gram.for_each_local([&](GlobalRow i, GlobalCol j, const double& value) {
    if (i.value() == j.value()) diagonal[static_cast<std::size_t>(i.value())] = value;
  });
  comm.allreduce(std::span<double>(diagonal)); // each entry has one owner: nothing is rounded
  for (const double value : diagonal) trace += value;
  result.mean_diagonal = k > 0 ? trace / static_cast<double>(k) : 0.0;
  result.largest_eigenvalue = largest_eigenvalue(result.gram);
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
