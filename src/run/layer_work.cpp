#include "slr/run/layer_work.hpp"

#include "slr/layer/statistics.hpp"
#include "slr/run/budget.hpp"

#include <algorithm>

namespace slr::run {
namespace {

constexpr std::int64_t trial_share = 2;      // trials take about as many iterations as the final solve
constexpr double path_rank_share = 0.125;    // of the smaller side: about the mean over a path's iterations
constexpr std::int64_t path_iterations = 20; // about as many points that are not estimated, and the choice of the pull
constexpr double points_measured = 2;        // of a path, in the network; more where that is quick

double operations(const LayerWork& work) {
  const auto flops = count_flops(work);
  return flops.single_precision + 2 * flops.double_precision; // a double takes the time of two floats
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

std::vector<double> curve_weights(const Network& network, const std::vector<std::string>& dense_reasons,
                                  const std::vector<double>& behind, std::int64_t images, const Configuration& config) {
  std::vector<double> weights(network.layers.size(), 0.0);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const auto& layer = network.layers[i];
    if (!dense_reasons[i].empty()) continue;
    const auto side = static_cast<double>(std::min(layer.rows, layer.cols));
    const auto rank = std::max<std::int64_t>(1, static_cast<std::int64_t>(path_rank_share * side));
    auto work = work_of(layer, {0, rank}, config);
    work.iterations = path_iterations;
    weights[i] = operations(work) + points_measured * 2 * behind[i] * static_cast<double>(images);
  }
  return weights;
}

} // namespace slr::run
