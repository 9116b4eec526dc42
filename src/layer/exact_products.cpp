#include "slr/layer/exact_products.hpp"

#include "slr/linalg/blas.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/mpi/exact_sum.hpp"

#include <algorithm>
#include <cmath>

namespace slr {
namespace {

constexpr int dead_input_exponent = -500;
constexpr std::int64_t panel_values = std::int64_t(1) << 22; // of the weights, copied at a time

void require_finite(const LayerProblem& problem, const std::vector<float>& values, const char* what) {
  for (const float value : values)
    if (!std::isfinite(value))
      throw Error(ExitCode::numerical, "layer " + problem.name + ": its " + what +
                                           " on the calibration images hold a value that is not finite; check the "
                                           "network and data.preprocess");
}

} // namespace

InputScale round_inputs(const Communicator& comm, LayerProblem& problem) {
  const auto k = static_cast<std::size_t>(problem.cols);
  std::vector<float> largest(k, 0.0F);
  collectively(comm, [&] {
    for (const Samples* samples : {&problem.fit, &problem.selection, &problem.report}) {
      require_finite(problem, samples->x, "inputs");
      require_finite(problem, samples->y, "outputs");
      require_finite(problem, samples->linear, "values before the activation");
      for (auto row = samples->x.begin(); row != samples->x.end(); row += problem.cols)
        for (std::size_t j = 0; j < k; ++j) largest[j] = std::max(largest[j], std::abs(row[std::ptrdiff_t(j)]));
    }
  });
  comm.allreduce(std::span<float>(largest), Reduction::max);
  InputScale scale;
  std::vector<FixedPoint> grid;
  for (const float value : largest) {
    grid.push_back(FixedPoint::covering(value, input_bits));
    // An input that is always zero must not set the scale of the others: its products are zero whatever its weight.
    scale.exponent.push_back(value > 0 ? grid.back().exponent() + input_bits : dead_input_exponent);
  }
  for (Samples* samples : {&problem.fit, &problem.selection, &problem.report})
    for (auto row = samples->x.begin(); row != samples->x.end(); row += problem.cols)
      for (std::size_t j = 0; j < k; ++j) {
        float& x = row[std::ptrdiff_t(j)];
        x = static_cast<float>(grid[j].round(x));
      }
  return scale;
}

void round_weights(const InputScale& scale, std::int64_t rows, std::vector<double>& weights) {
  const auto k = static_cast<std::int64_t>(scale.exponent.size());
  const int bits = exact_product_bits(std::max<std::int64_t>(k, 1), input_bits);
  std::vector<double> largest(static_cast<std::size_t>(rows), 0.0);
  const auto at = [&](std::int64_t i, std::int64_t j) { return static_cast<std::size_t>(j * rows + i); };
  for (std::int64_t j = 0; j < k; ++j)
    for (std::int64_t i = 0; i < rows; ++i) {
      auto& here = largest[static_cast<std::size_t>(i)];
      here = std::max(here, std::ldexp(std::abs(weights[at(i, j)]), scale.exponent[static_cast<std::size_t>(j)]));
    }
  std::vector<FixedPoint> grid;
  for (const double value : largest) grid.push_back(FixedPoint::covering(value, bits));
  for (std::int64_t j = 0; j < k; ++j) {
    const double up = std::ldexp(1.0, scale.exponent[static_cast<std::size_t>(j)]), down = 1 / up;
    for (std::int64_t i = 0; i < rows; ++i)
      weights[at(i, j)] = grid[static_cast<std::size_t>(i)].round(weights[at(i, j)] * up) * down;
  }
}

void forward(std::int64_t rows, std::int64_t cols, const double* weights, const std::vector<double>& bias,
             const double* x, std::int64_t count, double* z) {
  blas::gemm(Op::none, Op::none, rows, count, cols, 1.0, weights, rows, x, cols, 0.0, z, rows);
  for (std::int64_t s = 0; s < count; ++s)
    for (std::int64_t i = 0; i < rows; ++i) z[s * rows + i] += bias[static_cast<std::size_t>(i)];
}

std::vector<float> linear_values(const LayerProblem& problem, const InputScale& scale,
                                 const std::vector<float>& weights, const std::vector<double>& bias) {
  const std::int64_t n = problem.rows, k = problem.cols;
  std::vector<float> values(static_cast<std::size_t>(n * problem.fit.count));
  std::vector<double> z;
  // In panels of rows: a second n x k matrix would be the largest thing in memory.
  const auto height = std::max<std::int64_t>(1, panel_values / std::max<std::int64_t>(1, k));
  for (std::int64_t top = 0; top < n; top += height) {
    const auto rows = std::min(height, n - top);
    std::vector<double> panel(static_cast<std::size_t>(rows * k));
    for (std::int64_t j = 0; j < k; ++j) std::copy_n(weights.begin() + j * n + top, rows, panel.begin() + j * rows);
    round_weights(scale, rows, panel);
    const std::vector<double> its_bias(bias.begin() + top, bias.begin() + top + rows);
    for_each_piece(problem.fit.x, k, problem.fit.count, [&](std::int64_t first, std::int64_t count, const double* x) {
      z.resize(static_cast<std::size_t>(rows * count));
      forward(rows, k, panel.data(), its_bias, x, count, z.data());
      for (std::int64_t c = 0; c < count; ++c)
        std::copy_n(z.begin() + c * rows, rows, values.begin() + (first + c) * n + top);
    });
  }
  return values;
}

template <class T>
void RelativeError::add(const Samples& samples, std::int64_t first, std::int64_t count, std::span<const T> z) {
  const std::int64_t n = problem_.rows;
  for (std::int64_t s = 0; s < count; ++s) {
    double error = 0, norm = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const double y = samples.y[static_cast<std::size_t>((first + s) * n + i)];
      const double d = y - problem_.activation(static_cast<double>(z[static_cast<std::size_t>(s * n + i)]));
      error += d * d;
      norm += y * y;
    }
    sums_[0].add(error);
    sums_[1].add(norm);
  }
}
template void RelativeError::add(const Samples&, std::int64_t, std::int64_t, std::span<const float>);
template void RelativeError::add(const Samples&, std::int64_t, std::int64_t, std::span<const double>);

double RelativeError::value(const Communicator& comm) const {
  const auto total = allreduce_exact(comm, sums_);
  return total[1] > 0 ? total[0] / total[1] : 0.0;
}

} // namespace slr
