#include "slr/plan/iteration_steps.hpp"

#include <algorithm>
#include <cmath>

namespace slr {
namespace {

constexpr double exact_sum_values = 72;        // doubles of one sum that is exact (slr/mpi/exact_sum.hpp)
constexpr std::int64_t samples_of_block = 128; // that are never split

/// Of `share` of all samples those of the rank that has the most.
double most_samples(const LayerWork& w, double share, std::int64_t ranks) {
  const auto blocks = static_cast<std::int64_t>(std::ceil(share * static_cast<double>(w.samples) / samples_of_block));
  const auto most = (blocks + ranks - 1) / ranks * samples_of_block;
  return static_cast<double>(most);
}

} // namespace

std::vector<IterationStep> iteration_steps(const LayerWork& w, std::int64_t ranks, RowSpace row_space) {
  const auto n = static_cast<double>(w.rows), k = static_cast<double>(w.cols), s = static_cast<double>(w.kept_columns);
  const double r = static_cast<double>(w.rank), q = basis_size(w);
  const double fit = most_samples(w, fit_share, ranks), judged = most_samples(w, selection_share, ranks);
  constexpr double value = sizeof(double), word = sizeof(int);
  std::vector<IterationStep> steps;
  const auto sum = [&](Flops each, double bytes) { steps.push_back({each, {}, Exchange::allreduce, bytes}); };
  const auto on_root = [&](double flops) { steps.push_back({{}, {0, flops}, Exchange::allreduce, word}); };
  const auto broadcast = [&](double values) { steps.push_back({{}, {}, Exchange::broadcast, values * value}); };

  const bool moves = row_space == RowSpace::moves;
  const double features = moves ? q * k + n * r : n * q;
  sum({2 * fit * (features + n * s + n * q + n * s), 0}, value * (n * (q + s + 2) + 3 * exact_sum_values + 1));
  if (s > 0) {
    on_root(2 * n * s * s);
    broadcast(n * s);
  }
  if (q > 0 && !moves) {
    if (k > one_rank_columns) // the pull
      sum({0, 2 * n * q * k / static_cast<double>(ranks)}, value * n * q);
    else
      on_root(2 * n * q * k);
    on_root(4 * n * q * q + 9 * q * q * q);
    for (const double values : {1.0, q, n * q, q * q}) broadcast(values);
  } else if (q > 0 && k <= one_rank_columns) {
    on_root(2 * n * q * k + 4 * n * q * q); // the pull, orthogonalisation
    broadcast(n * q);
    sum({2 * fit * (n * q + q * k), 0}, value * q * k);
    on_root(2 * n * q * k + 2 * q * k * k + 4 * q * q * k + 2 * n * q * q); // the pull, two solves, a decomposition
    for (const double values : {1.0, q, q * k, n * q}) broadcast(values);
  } else if (q > 0) {
    const double share = k / static_cast<double>(ranks);
    const auto gather = [&](double flops, double columns) {
      steps.push_back({{0, flops}, {}, Exchange::allgather, columns * q * value});
    };
    sum({0, 2 * n * q * share}, value * n * q);
    on_root(4 * n * q * q);
    broadcast(n * q);
    sum({2 * fit * (n * q + q * k), 0}, value * q * k);
    gather(2 * n * q * share, k); // the pull
    // The steps of a solve: use(columns before it, its columns, one rank's of them).
    const auto width = (solve_columns + ranks - 1) / ranks * ranks;
    const auto each_step = [&](bool is_upper, auto&& use) {
      const auto count = (w.cols + width - 1) / width;
      for (std::int64_t i = 0; i < count; ++i) {
        const auto first = (is_upper ? i : count - 1 - i) * width;
        const auto columns = static_cast<double>(std::min(width, w.cols - first));
        use(static_cast<double>(first), columns, columns / static_cast<double>(ranks));
      }
    };
    each_step(true, [&](double first, double columns, double mine) {
      gather(2 * q * first * mine, columns);
      gather(2 * q * columns * mine, columns);
    });
    sum({0, q * q * share}, value * q * q); // a decomposition
    on_root(9 * q * q * q);
    for (const double values : {1.0, q, q * q}) broadcast(values);
    gather(2 * q * q * share, k);
    each_step(false, [&](double first, double columns, double mine) {
      const double below = k - first - columns;
      if (below > 0) sum({0, 2 * q * mine * below}, value * q * columns);
      gather(2 * q * columns * mine, columns);
    });
  }
  sum({2 * judged * (features + n * s), 0}, word);
  sum({}, 2 * exact_sum_values * value);
  return steps;
}

double bytes_per_rank(const IterationStep& step, std::int64_t ranks) {
  const double share = static_cast<double>(ranks - 1) / static_cast<double>(ranks);
  return (step.exchange == Exchange::allreduce ? 2 : 1) * share * step.bytes;
}

} // namespace slr
