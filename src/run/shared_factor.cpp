#include "slr/graph/count.hpp"
#include "slr/run/solver_options.hpp"
#include "slr/run/sweep.hpp"

#include <algorithm>
#include <cmath>
#include <memory>

namespace slr::run {
namespace {

constexpr int evaluations = 8;
constexpr std::int64_t first_iterations = 40; // of the first factor
constexpr std::int64_t later_iterations = 20; // of the following ones, which start from the last
constexpr double close_enough = 0.03;         // the sweep trims what is left

/// A layer's problem on the original inputs, kept between factors so that each starts from the last one's solution.
struct WarmLayer {
  std::size_t index = 0;
  PreparedProblem prepared;
  LayerStatistics statistics;
  std::unique_ptr<RelaxedSolver> solver;
};

} // namespace

Allotment find_shared_factor(const Communicator& comm, const Grid& row_grid, const Network& network,
                             const std::vector<std::string>& dense_reasons, const store::FeatureSet& features,
                             const Configuration& config, std::int64_t limit, Progress& progress) {
  const auto share = share_of_rank(comm, config.calibration.images);
  const auto options = relaxed_options(config);
  std::vector<std::unique_ptr<WarmLayer>> layers;
  for (std::size_t i = 0; i < network.layers.size(); ++i) {
    if (!dense_reasons[i].empty()) continue;
    auto layer = std::make_unique<WarmLayer>();
    layer->index = i;
    layer->prepared = prepare_problem(comm, network, network.layers[i], features, share, {});
    layer->statistics = measure_statistics(comm, row_grid, layer->prepared.problem);
    layer->solver = std::make_unique<RelaxedSolver>(comm, layer->prepared.problem, layer->prepared.scale,
                                                    layer->statistics, options);
    layers.push_back(std::move(layer));
  }
  const auto whole = graph::count(network.model).parameters;
  progress.stage("budget", evaluations);

  const auto evaluate = [&](double factor, std::int64_t iterations) {
    auto result = no_limit(network);
    result.lambda_factor = factor;
    std::int64_t done = 0;
    for (const auto& layer : layers) {
      const auto& graph_layer = network.layers[layer->index];
      progress.layer(done++, static_cast<std::int64_t>(layers.size()), graph_layer.name);
      (void)layer->solver->solve(factor, iterations, config.method.tolerance, step_listener(progress));
      const auto structure = layer->solver->structure();
      result.points[layer->index] = layer->solver->point();
      auto& here = result.parameters[layer->index];
      here = std::min(here, graph::cheapest_form(graph_layer, structure.target_rank,
                                                 static_cast<std::int64_t>(structure.kept_groups.size()))
                                .parameters);
    }
    return result;
  };
  const auto total = [&](const Allotment& at) {
    std::int64_t sum = whole;
    for (std::size_t i = 0; i < network.layers.size(); ++i)
      sum += at.parameters[i] - dense_parameters(network, network.layers[i]);
    return sum;
  };
  const auto is_close = [&](const Allotment& at) {
    return std::abs(static_cast<double>(total(at) - limit)) <= close_enough * static_cast<double>(limit);
  };

  // The logarithm of the count falls with that of the factor: interpolate between the two sides, and bisect where that
  // would hardly move; double or halve until there are two sides.
  struct Side {
    double log_factor = 0, log_count = 0;
  };
  std::optional<Side> too_many, too_few;
  double log_factor = 0;
  Allotment best;
  const auto off = [&](const Allotment& at) { return std::abs(static_cast<double>(total(at) - limit)); };
  for (int i = 0; i < evaluations; ++i) {
    auto now = evaluate(std::exp(log_factor), i == 0 ? first_iterations : later_iterations);
    progress.advance(i + 1);
    (total(now) > limit ? too_many : too_few) = Side{log_factor, std::log(static_cast<double>(total(now)))};
    if (best.parameters.empty() || off(now) < off(best)) best = std::move(now);
    if (is_close(best)) break;
    if (!too_many || !too_few) {
      log_factor += too_many ? std::log(2.0) : -std::log(2.0);
      continue;
    }
    const double wanted =
        (std::log(static_cast<double>(limit)) - too_many->log_count) / (too_few->log_count - too_many->log_count);
    log_factor = std::lerp(too_many->log_factor, too_few->log_factor, std::clamp(wanted, 0.15, 0.85));
  }
  return best;
}

} // namespace slr::run
