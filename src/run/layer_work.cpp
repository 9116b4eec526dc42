#include "slr/run/layer_work.hpp"

#include "slr/graph/count.hpp"
#include "slr/layer/statistics.hpp"
#include "slr/mpi/node_groups.hpp"
#include "slr/run/budget.hpp"

#include <algorithm>
#include <limits>

namespace slr::run {
namespace {

constexpr std::int64_t trial_share = 2;      // trials take about as many iterations as the final solve
constexpr double path_rank_share = 0.125;    // of the smaller side: about the mean over a path's iterations
constexpr std::int64_t path_iterations = 20; // about as many points that are not estimated, and the choice of the pull
// The first selection images are enough for a mean KL divergence: so many, but as few as a probe of this many products
// allows, and not below the least.
constexpr std::int64_t most_probe_images = 256, least_probe_images = 16;
constexpr double largest_probe_macs = 1e12;
constexpr double points_measured = 2; // of a path, in the network; more where that is quick

double operations(const LayerWork& work) {
  const auto flops = count_flops(work);
  return flops.single_precision + 2 * flops.double_precision; // a double takes the time of two floats
}

/// Of a layer's path.
LayerWork path_work(const graph::Layer& layer, const Configuration& config) {
  const auto side = static_cast<double>(std::min(layer.rows, layer.cols));
  const auto rank = std::max<std::int64_t>(1, static_cast<std::int64_t>(path_rank_share * side));
  auto work = work_of(layer, {0, rank}, config);
  work.iterations = path_iterations;
  return work;
}

} // namespace

LayerWork work_of(const graph::Layer& layer, Split split, const Configuration& config) {
  const bool is_convolution = layer.kind == graph::LayerKind::convolution;
  const auto samples =
      config.calibration.images * (is_convolution ? config.calibration.positions : 1) * std::ssize(layer.uses());
  const LeastSquaresSize size{layer.rows, layer.cols, samples * 8 / 10, config.method.iteration_limit()};
  const bool is_implicit = split.groups == 0 && config.method.kind == MethodKind::constrained &&
                           choose_least_squares(config.method.least_squares, size) != LeastSquares::gram;
  return {layer.rows,
          layer.cols,
          samples,
          split.rank + (layer.grouping == Grouping::filter ? split.groups : 0),
          layer.grouping == Grouping::filter ? 0 : split.groups * layer.group_columns(),
          trial_share * config.method.iteration_limit() + config.method.refine.evaluations,
          is_implicit ? 1 : 3,
          is_implicit};
}

std::vector<double> solve_weights(const Network& network, const std::vector<std::string>& dense_reasons,
                                  const std::vector<std::int64_t>& allotted, const Configuration& config) {
  std::vector<double> weights(network.layers.size(), 0.0);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const auto& layer = network.layers[i];
    const auto rank = std::clamp<std::int64_t>(allotted[i] / (layer.rows + layer.cols), 1, layer.rows);
    if (dense_reasons[i].empty()) weights[i] = operations(work_of(layer, {0, rank}, config));
  }
  return weights;
}

std::vector<double> products_behind(const Network& network) {
  const LayerCosts costs(network);
  std::vector<double> products(network.layers.size(), 0.0);
  double rest = 0;
  for (std::size_t i = products.size(); i-- > 0;)
    products[i] = rest += static_cast<double>(costs.dense(i)[index_of(Resource::macs)]);
  return products;
}

std::int64_t probed_images(const Network& network, const Configuration& config) {
  const auto macs = static_cast<double>(std::max<std::int64_t>(1, graph::count(network.model).macs));
  const auto affordable = static_cast<std::int64_t>(std::min(largest_probe_macs / macs, double(most_probe_images)));
  return std::min(config.calibration.images, 10 * std::max(affordable, least_probe_images));
}

JobTimes curve_times(const Network& network, const std::vector<std::string>& dense_reasons, const Configuration& config,
                     const std::vector<int>& ranks_of_group) {
  const auto behind = products_behind(network);
  const auto images = static_cast<double>(probed_images(network, config) / 10);
  JobTimes times(network.layers.size(), std::vector<double>(ranks_of_group.size(), 0.0));
  for (std::size_t i = 0; i < times.size(); ++i) {
    if (!dense_reasons[i].empty()) continue;
    const auto work = path_work(network.layers[i], config);
    const double probes = points_measured * 2 * behind[i] * images / nominal_machine.single_precision;
    for (std::size_t g = 0; g < ranks_of_group.size(); ++g)
      times[i][g] = predict_seconds(work, ranks_of_group[g], nominal_machine) + probes / ranks_of_group[g];
  }
  return times;
}

double curve_bytes(const Network& network, const std::vector<std::string>& dense_reasons, const Configuration& config,
                   const std::vector<int>& ranks_of_group) {
  const auto fewest = *std::min_element(ranks_of_group.begin(), ranks_of_group.end());
  double bytes = 0;
  for (std::size_t i = 0; i < dense_reasons.size(); ++i)
    if (dense_reasons[i].empty()) bytes = std::max(bytes, count_bytes(path_work(network.layers[i], config), fewest));
  return bytes;
}

int choose_curve_groups(const Network& network, const std::vector<std::string>& dense_reasons,
                        const Configuration& config, const std::vector<int>& node_of_rank, std::int64_t memory) {
  const auto traced = std::count(dense_reasons.begin(), dense_reasons.end(), std::string());
  const auto most = std::clamp<std::int64_t>(traced, 1, std::ssize(node_of_rank));
  int best = 1;
  double least = std::numeric_limits<double>::infinity();
  for (int groups = 1; groups <= most; ++groups) {
    const auto sizes = group_sizes(node_of_rank, groups);
    const bool fits = curve_bytes(network, dense_reasons, config, sizes) <= static_cast<double>(memory);
    if (groups > 1 && !fits) break; // smaller groups hold more
    const double seconds = end_of(deal_largest_first(curve_times(network, dense_reasons, config, sizes)));
    if (seconds < least) {
      least = seconds;
      best = groups;
    }
  }
  return best;
}

} // namespace slr::run
