#include "slr/layer/statistics.hpp"

#include "slr/base/trace.hpp"
#include "slr/dist/redistribute.hpp"
#include "slr/layer/exact_products.hpp"
#include "slr/linalg/blas.hpp"
#include "slr/linalg/gram.hpp"
#include "slr/mpi/exact_sum.hpp"

#include <algorithm>
#include <cmath>

namespace slr {
namespace {

constexpr std::int64_t panel_width = 512; // of weights that are widened to double at a time
constexpr std::int64_t square_block = 64; // of W0 W0^T

} // namespace

LayerStatistics measure_statistics(const Communicator& comm, const Grid& row_grid, const LayerProblem& problem) {
  const TraceSpan span(TraceKind::step, "second moments");
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
  return result;
}

namespace {

/// W0 W0^T: the product of a share of the columns on each rank, summed a panel of columns at a time.
DistMatrix<double> squared_weights(const Communicator& comm, const LayerProblem& problem) {
  const std::int64_t n = problem.rows, k = problem.cols;
  const auto first = k * comm.rank() / comm.size(), end = k * (comm.rank() + 1) / comm.size();
  DistMatrix<double> result(ProcessGrid::square(comm), n, n, square_block, square_block);
  std::vector<double> panel, columns;
  for (std::int64_t left = 0; left < n; left += panel_width) {
    const auto width = std::min(panel_width, n - left);
    panel.assign(static_cast<std::size_t>(n * width), 0.0);
    for (std::int64_t j = first; j < end; j += panel_width) {
      const auto count = std::min(panel_width, end - j);
      columns.assign(problem.weights.begin() + j * n, problem.weights.begin() + (j + count) * n);
      // Below the diagonal only: rows from `left` on.
      blas::gemm(Op::none, Op::transpose, n - left, width, count, 1.0, columns.data() + left, n, columns.data() + left,
                 n, 1.0, panel.data() + left, n);
    }
    comm.allreduce(std::span<double>(panel));
    result.for_each_local([&](GlobalRow i, GlobalCol j, double& value) {
      const auto row = std::max(i.value(), j.value()), col = std::min(i.value(), j.value());
      if (col >= left && col < left + width) value = panel[static_cast<std::size_t>((col - left) * n + row)];
    });
  }
  return result;
}

/// S = W0 Xc for this rank's fit samples. Local.
std::vector<double> original_on_samples(const LayerProblem& problem, const std::vector<double>& input_mean) {
  const std::int64_t n = problem.rows, k = problem.cols, samples = problem.fit.count;
  std::vector<double> result(static_cast<std::size_t>(n * samples), 0.0), weights, inputs;
  for (std::int64_t j = 0; j < k; j += panel_width) {
    const auto count = std::min(panel_width, k - j);
    weights.assign(problem.weights.begin() + j * n, problem.weights.begin() + (j + count) * n);
    inputs.resize(static_cast<std::size_t>(count * samples));
    for (std::int64_t s = 0; s < samples; ++s)
      for (std::int64_t i = 0; i < count; ++i)
        inputs[static_cast<std::size_t>(s * count + i)] =
            double(problem.fit.x[static_cast<std::size_t>(s * k + j + i)]) -
            input_mean[static_cast<std::size_t>(j + i)];
    if (samples > 0)
      blas::gemm(Op::none, Op::none, n, samples, count, 1.0, weights.data(), n, inputs.data(), count, 1.0,
                 result.data(), n);
  }
  return result;
}

} // namespace

LayerStatistics measure_in_samples(const Communicator& comm, const Grid& row_grid, const LayerProblem& problem,
                                   LeastSquares way) {
  const TraceSpan span(TraceKind::step, "second moments");
  require(way == LeastSquares::kernel || way == LeastSquares::ksp, "only these two need no second moments");
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
  result.in_samples = std::make_shared<const SampleMoments>(
      SampleMoments{SampleKernel(comm, problem.fit.x, result.input_mean, "layer " + problem.name,
                                 way == LeastSquares::ksp ? KernelForm::matrix_free : KernelForm::factored),
                    original_on_samples(problem, result.input_mean), squared_weights(comm, problem)});
  result.way = way;
  return result;
}

std::string to_text(LeastSquares way) {
  switch (way) {
  case LeastSquares::automatic:
    return "auto";
  case LeastSquares::gram:
    return "gram";
  case LeastSquares::kernel:
    return "kernel";
  case LeastSquares::ksp:
    return "ksp";
  }
  return "auto";
}

LeastSquares choose_least_squares(LeastSquares wanted, const LeastSquaresSize& size) {
  constexpr double iterations = 50; // of conjugate gradients, for a pull of a thousandth of C's diagonal and above
  if (wanted != LeastSquares::automatic) return wanted;
  if (!is_implicit_cheaper(size.samples, size.cols)) return LeastSquares::gram;
  const auto n = static_cast<double>(size.rows), k = static_cast<double>(size.cols);
  const auto samples = static_cast<double>(size.samples), steps = static_cast<double>(size.steps);
  const double kernel = 2 * k * samples * samples + samples * samples * samples / 3 + steps * 2 * n * samples * samples;
  const double krylov = steps * iterations * 4 * n * k * samples;
  return krylov < kernel ? LeastSquares::ksp : LeastSquares::kernel;
}

double largest_eigenvalue(const DistMatrix<double>& gram) {
  constexpr int steps = 30;
  const std::int64_t k = gram.cols();
  DistMatrix<double> x(gram.grid(), 1, k, 1, gram.distribution().cols.block()), y = x.clone();
  for (LocalCol j(0); j.value() < x.local_cols(); ++j)
    x.at(LocalRow(0), j) = gram.at(LocalRow(gram.global_col(j).value()), j);
  double value = 0;
  for (int step = 0; step < steps; ++step) {
    auto whole = gather_everywhere(x);
    double squares = 0;
    for (const double v : whole) squares += v * v;
    if (squares == 0) return 0;
    for (double& v : whole) v /= std::sqrt(squares);
    for (LocalCol j(0); j.value() < gram.local_cols(); ++j) {
      double dot = 0; // (C x)_j = column j of the symmetric C times x
      const double* column = gram.local().data() + j.value() * gram.lld();
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

LayerStatistics measure(const Communicator& comm, const Grid& row_grid, const LayerProblem& problem, LeastSquares way) {
  return way == LeastSquares::gram ? measure_statistics(comm, row_grid, problem)
                                   : measure_in_samples(comm, row_grid, problem, way);
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
