#include "peers.hpp"

#include "slr/dist/redistribute.hpp"
#include "slr/layer/splitting.hpp"
#include "slr/linalg/blas.hpp"

#include <algorithm>
#include <cmath>

namespace slr_bench {
namespace {

using namespace slr;

/// The exact optimum of a structure for cross products P and a target mean, without a pull.
LayerFactors closed_form(const PeerTask& task, const LayerStatistics& statistics, const Structure& structure,
                         const DistMatrix<double>& p, const std::vector<double>& target_mean) {
  FixedStructure fixed(task.comm, task.problem, statistics, structure, 0, task.options.engine);
  fixed.start(p);
  return fixed.factors(target_mean);
}

LayerFactors svd(const PeerTask& task) {
  // Inputs of mean zero whose second moments are the identity.
  LayerStatistics white;
  white.samples = task.statistics.samples;
  white.input_mean.assign(task.statistics.input_mean.size(), 0.0);
  white.gram =
      make_block_columns(task.statistics.gram.grid(), task.problem.cols, task.problem.cols, task.problem.group_columns);
  white.gram.for_each_diagonal([](std::int64_t, double& value) { value = 1; });
  white.mean_diagonal = 1;
  const std::vector<double> weights(task.problem.weights.begin(), task.problem.weights.end());
  const auto p = times_gram(weights, task.problem.rows, white, task.problem.group_columns);
  return closed_form(task, white, {{}, task.target_rank}, p, task.problem.bias);
}

LayerFactors whitened_svd(const PeerTask& task) {
  const auto& [comm, problem, scale, statistics, target_rank, groups, options] = task;
  auto mean = problem.bias; // of W X + b
  const std::vector<double> weights(problem.weights.begin(), problem.weights.end());
  blas::gemm(Op::none, Op::none, problem.rows, 1, problem.cols, 1.0, weights.data(), problem.rows,
             statistics.input_mean.data(), problem.cols, 1.0, mean.data(), problem.rows);
  const auto p = times_gram(weights, problem.rows, statistics, problem.group_columns);
  return closed_form(task, statistics, {{}, target_rank}, p, mean);
}

/// min 1/2 beta^T G beta - q^T beta + lambda ||beta||_1 by coordinate descent from the beta given.
void lasso(const std::vector<double>& g, const std::vector<double>& q, double lambda, std::vector<double>& beta) {
  constexpr int sweeps = 200;
  const std::size_t count = q.size();
  for (int sweep = 0; sweep < sweeps; ++sweep) {
    double moved = 0, size = 0;
    for (std::size_t c = 0; c < count; ++c) {
      const double diagonal = g[c * count + c];
      if (diagonal <= 0) continue;
      double slope = q[c] + diagonal * beta[c];
      for (std::size_t d = 0; d < count; ++d) slope -= g[c * count + d] * beta[d];
      const double next = std::copysign(std::max(0.0, std::abs(slope) - lambda), slope) / diagonal;
      moved += std::abs(next - beta[c]);
      size += std::abs(next);
      beta[c] = next;
    }
    if (moved <= 1e-4 * size) return;
  }
}

/// At most `count` channels: lambda is doubled until so few are left, then bisected.
std::vector<std::int64_t> lasso_channels_kept(const std::vector<double>& g, const std::vector<double>& q,
                                              std::int64_t count) {
  const auto chosen = [&](double lambda) {
    std::vector<double> beta(q.size(), 0.0);
    lasso(g, q, lambda, beta);
    std::vector<std::int64_t> groups;
    for (std::size_t c = 0; c < beta.size(); ++c)
      if (beta[c] != 0) groups.push_back(static_cast<std::int64_t>(c));
    return groups;
  };
  double high = 0; // nothing is left
  for (const double value : q) high = std::max(high, std::abs(value));
  double low = 1e-6 * high;
  std::vector<std::int64_t> best;
  for (int step = 0; step < 24; ++step) {
    const double middle = std::sqrt(low * high);
    auto groups = chosen(middle);
    if (std::ssize(groups) > count)
      low = middle;
    else {
      high = middle;
      if (groups.size() >= best.size()) best = std::move(groups);
    }
    if (std::ssize(best) == count) break;
  }
  return best;
}

LayerFactors lasso_channels(const PeerTask& task) {
  const auto& [comm, problem, scale, statistics, target_rank, groups, options] = task;
  const auto cross = ActivationSplitting(comm, problem, scale, statistics).cross(); // of Z
  const auto n = problem.rows, k = problem.cols;
  const auto c = gather_everywhere(statistics.gram), p = gather_everywhere(cross.p);
  std::vector<double> squares(static_cast<std::size_t>(k * k)); // W^T W
  const std::vector<double> weights(problem.weights.begin(), problem.weights.end());
  blas::gemm(Op::transpose, Op::none, k, k, n, 1.0, weights.data(), n, weights.data(), n, 0.0, squares.data(), k);
  const auto channels = static_cast<std::size_t>(problem.groups()),
             area = static_cast<std::size_t>(problem.group_columns);
  std::vector<double> g(channels * channels, 0.0), q(channels, 0.0); // <W_c X_c, W_d X_d>, <Z, W_c X_c>, over N
  for (std::size_t j = 0; j < static_cast<std::size_t>(k); ++j) {
    for (std::size_t i = 0; i < static_cast<std::size_t>(k); ++i)
      g[(j / area) * channels + i / area] += squares[j * std::size_t(k) + i] * c[j * std::size_t(k) + i];
    for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i)
      q[j / area] += problem.weights[j * std::size_t(n) + i] * p[j * std::size_t(n) + i];
  }
  return closed_form(task, statistics, {lasso_channels_kept(g, q, groups), 0}, cross.p, cross.target_mean);
}

LayerFactors low_rank_activation(const PeerTask& task) {
  const std::vector<Split> only{{0, task.target_rank}};
  return solve_splits(task.comm, task.problem, task.scale, task.statistics, only, task.options).factors;
}

} // namespace

const std::vector<Peer>& peers() {
  static const std::vector<Peer> all{{"svd", svd},
                                     {"whitened_svd", whitened_svd},
                                     {"lasso_channels", lasso_channels},
                                     {"low_rank_activation", low_rank_activation}};
  return all;
}

} // namespace slr_bench
