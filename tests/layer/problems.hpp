// Made-up layers whose samples are the same whatever the number of ranks, and what the tests ask of them.
#pragma once

#include "slr/layer/exact_products.hpp"
#include "slr/layer/problem.hpp"
#include "slr/layer/statistics.hpp"
#include "slr/layer/structure.hpp"

#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace slr::test {

struct Recipe {
  std::int64_t rows = 12, groups = 8, group_columns = 3, samples = 480;
  Activation activation{};
  std::int64_t planted_rank = -1;             ///< -1: full weights; else U V on the columns that are not planted
  std::vector<std::int64_t> planted_groups{}; ///< dense columns beside it
  std::vector<std::int64_t> dead_groups{};    ///< inputs that are always zero
  unsigned seed = 1;
  [[nodiscard]] std::int64_t cols() const { return groups * group_columns; }
};

inline std::vector<double> random_matrix(std::int64_t rows, std::int64_t cols, unsigned seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  std::vector<double> values(static_cast<std::size_t>(rows * cols));
  for (double& v : values) v = normal(engine);
  return values;
}

/// A weight is a float, so the planted factors have few bits: their products and sums fit one, and the planted rank
/// stays exact.
inline std::vector<double> random_short(std::int64_t rows, std::int64_t cols, unsigned seed) {
  auto values = random_matrix(rows, cols, seed);
  for (double& v : values) v = std::round(128 * v) / 128; // at most 10 bits, products at most 20
  return values;
}

inline std::vector<float> planted_weights(const Recipe& r) {
  const auto full = random_matrix(r.rows, r.cols(), r.seed * 100 + 1);
  std::vector<float> weights(full.begin(), full.end());
  if (r.planted_rank < 0) return weights;
  const auto u = random_short(r.rows, r.planted_rank, r.seed * 100 + 2);
  const auto v = random_short(r.planted_rank, r.cols(), r.seed * 100 + 3);
  for (std::int64_t j = 0; j < r.cols(); ++j) {
    bool is_planted = false;
    for (const auto group : r.planted_groups) is_planted = is_planted || j / r.group_columns == group;
    if (is_planted) continue;
    for (std::int64_t i = 0; i < r.rows; ++i) {
      double sum = 0;
      for (std::int64_t l = 0; l < r.planted_rank; ++l)
        sum += u[std::size_t(l * r.rows + i)] * v[std::size_t(j * r.planted_rank + l)];
      weights[std::size_t(j * r.rows + i)] = static_cast<float>(sum);
    }
  }
  return weights;
}

/// The share of the ranks is a contiguous range of samples; sample s depends on s and the seed alone. Inputs are
/// correlated (a mixture of a few common factors) and non-negative, as after a ReLU.
inline LayerProblem make_problem(const Communicator& comm, const Recipe& r) {
  LayerProblem p;
  p.name = "made_up";
  p.rows = r.rows;
  p.cols = r.cols();
  p.group_columns = r.group_columns;
  p.activation = r.activation;
  p.weights = planted_weights(r);
  p.bias = random_matrix(r.rows, 1, r.seed * 100 + 4);
  const auto mixing = random_matrix(r.cols(), 6, r.seed * 100 + 5);
  // Whole blocks of 20 samples are dealt to the ranks.
  constexpr std::int64_t block = 20;
  const std::int64_t blocks = (r.samples + block - 1) / block;
  const auto begin = block * (blocks * comm.rank() / comm.size());
  const auto end = std::min(r.samples, block * (blocks * (comm.rank() + 1) / comm.size()));
  for (std::int64_t s = begin; s < end; ++s) {
    std::mt19937_64 engine(r.seed * 1000003ULL + static_cast<unsigned long long>(s));
    std::normal_distribution<double> normal;
    std::vector<double> factors(6);
    for (double& f : factors) f = normal(engine);
    std::vector<double> x(static_cast<std::size_t>(r.cols()));
    for (std::int64_t j = 0; j < r.cols(); ++j) {
      double value = 0.7 * normal(engine);
      for (std::size_t l = 0; l < 6; ++l)
        value += 0.5 * mixing[l * std::size_t(r.cols()) + std::size_t(j)] * factors[l];
      x[std::size_t(j)] = static_cast<float>(std::max(value, 0.0));
    }
    for (const auto group : r.dead_groups)
      for (std::int64_t j = group * r.group_columns; j < (group + 1) * r.group_columns; ++j) x[std::size_t(j)] = 0;
    if (s % block == 0)
      for (Samples* samples : {&p.fit, &p.selection, &p.report}) samples->block_ends.push_back(samples->count);
    Samples& to = s % 10 == 0 ? p.report : s % 10 == 1 ? p.selection : p.fit;
    for (std::int64_t i = 0; i < r.rows; ++i) {
      double z = p.bias[std::size_t(i)];
      for (std::int64_t j = 0; j < r.cols(); ++j) z += p.weights[std::size_t(j * r.rows + i)] * x[std::size_t(j)];
      if (&to == &p.fit) to.linear.push_back(static_cast<float>(z));
      to.y.push_back(static_cast<float>(r.activation(z)));
    }
    to.x.insert(to.x.end(), x.begin(), x.end());
    ++to.count;
  }
  return p;
}

/// A problem ready to be solved, with everything that solvers refer to.
struct Prepared {
  Prepared(const Communicator& comm, const Recipe& recipe)
      : problem(make_problem(comm, recipe)), scale(round_inputs(comm, problem)), row_grid(ProcessGrid::row(comm)),
        statistics(measure_statistics(comm, row_grid, problem)) {}
  LayerProblem problem;
  InputScale scale;
  Grid row_grid;
  LayerStatistics statistics;
};

inline Activation relu() {
  return {ActivationType::relu, 0, 0, 0};
}

/// ||Y - r(W X + b)||_F^2 / ||Y||_F^2 by its definition, in double precision.
inline double error_on(const Communicator& comm, const Prepared& s, const Samples& samples, const LayerFactors& f) {
  const auto weights = assemble_weights(f, s.problem.rows, s.problem.cols, s.problem.group_columns);
  const auto n = static_cast<std::size_t>(s.problem.rows), k = static_cast<std::size_t>(s.problem.cols);
  double error = 0, norm = 0;
  for (std::size_t c = 0; c < static_cast<std::size_t>(samples.count); ++c)
    for (std::size_t i = 0; i < n; ++i) {
      double z = f.bias[i];
      for (std::size_t j = 0; j < k; ++j) z += weights[j * n + i] * double(samples.x[c * k + j]);
      const double y = samples.y[c * n + i], d = y - s.problem.activation(z);
      error += d * d;
      norm += y * y;
    }
  error = comm.allreduce_value(error);
  norm = comm.allreduce_value(norm);
  return norm > 0 ? error / norm : 0;
}

} // namespace slr::test
