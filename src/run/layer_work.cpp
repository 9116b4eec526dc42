#include "slr/run/layer_work.hpp"

#include "slr/graph/count.hpp"
#include "slr/layer/statistics.hpp"
#include "slr/mpi/node_groups.hpp"
#include "slr/run/budget.hpp"

#include <algorithm>
#include <limits>

namespace slr::run {
namespace {

constexpr std::int64_t pulls_tried = 3;   // where a curve has found about the right strength
constexpr double path_rank_share = 0.125; // of the smaller side: about the mean over a path's iterations
constexpr double path_group_share = 1.0 / 16;
constexpr std::int64_t path_iterations = 12; // about as many points that are not estimated, and the choice of the pull
constexpr std::int64_t path_factors = 5;     // of two pulls, and of the rows that are followed
// The first selection images are enough for a mean KL divergence: so many, but as few as a probe of this many products
// allows, and not below the least.
constexpr std::int64_t most_probe_images = 256, least_probe_images = 16;
constexpr double largest_probe_macs = 1e12;
constexpr double points_measured = 2; // of a path, in the network; more where that is quick

double operations(const LayerWork& work) {
  const auto flops = count_flops(work);
  const auto& machine = nominal_machine; // on which so many in single precision would take as long
  return flops.single_precision + machine.single_precision * (flops.double_precision / machine.double_precision +
                                                              flops.elements / machine.elements);
}

} // namespace

NetworkWork::NetworkWork(const Network& network, const std::vector<std::string>& dense_reasons,
                         const Configuration& config)
    : network_(network), config_(config), behind_(network.layers.size(), 0.0), since_last_(network.layers.size(), 0.0) {
  const LayerCosts costs(network);
  double since = 0;
  for (std::size_t i = 0; i < network.layers.size(); ++i) {
    const auto& layer = network.layers[i];
    const auto macs = costs.dense(i)[index_of(Resource::macs)];
    positions_.push_back(std::max<std::int64_t>(1, macs / (layer.rows * layer.cols * std::ssize(layer.uses()))));
    since_last_[i] = since;
    since = (dense_reasons[i].empty() ? 0 : since) + static_cast<double>(macs);
  }
  double rest = 0;
  for (std::size_t i = behind_.size(); i-- > 0;)
    behind_[i] = rest += static_cast<double>(costs.dense(i)[index_of(Resource::macs)]);
}

LayerWork NetworkWork::base(std::size_t i, Split split) const {
  const auto& layer = network_.layers[i];
  const auto positions = std::min(config_.calibration.positions, positions_[i]) * std::ssize(layer.uses());
  const auto samples = config_.calibration.images * positions;
  const LeastSquaresSize size{layer.rows, layer.cols,
                              static_cast<std::int64_t>(fit_share * static_cast<double>(samples)),
                              config_.method.iteration_limit()};
  const bool is_constrained = config_.method.kind == MethodKind::constrained;
  LayerWork work;
  work.rows = layer.rows;
  work.cols = layer.cols;
  work.samples = samples;
  work.rank = split.rank + (layer.grouping == Grouping::filter ? split.groups : 0);
  work.kept_columns = layer.grouping == Grouping::filter ? 0 : split.groups * layer.group_columns();
  work.is_implicit = split.groups == 0 && is_constrained &&
                     choose_least_squares(config_.method.least_squares, size) != LeastSquares::gram;
  work.block_samples = images_per_block * positions;
  return work;
}

LayerWork NetworkWork::of(std::size_t i, Split split, Solution solution) const {
  const ConstrainedOptions options;
  auto work = base(i, split);
  const bool is_relaxed = config_.method.kind == MethodKind::relaxed, has_groups = split.groups > 0;
  const auto last = is_relaxed ? options.iterations : config_.method.iteration_limit();
  const auto pulls = work.is_implicit ? 1 : pulls_tried;
  // The strength that is chosen goes on from its trial, unless groups are kept beside it.
  const auto trials = (has_groups ? pulls : pulls - 1) * options.trial_iterations;
  work.factorizations = solution == Solution::refit ? 1 : pulls + (has_groups ? 1 : 0);
  if (solution != Solution::refit) work.iterations += trials + (is_relaxed ? config_.method.iteration_limit() : 0);
  if (solution != Solution::first) {
    work.iterations += last;
    work.network_products = since_last_[i] * static_cast<double>(config_.calibration.images);
  } else {
    work.iterations += options.trial_iterations;
  }
  // Without an activation the first solution is the optimum.
  if (solver_activation(network_.layers[i].activation).is_identity() && !is_relaxed) work.iterations = 0;
  work.iterations += solution == Solution::first ? 0 : config_.method.refine.evaluations;
  return work;
}

LayerWork NetworkWork::path(std::size_t i) const {
  const auto& layer = network_.layers[i];
  const auto side = static_cast<double>(std::min(layer.rows, layer.cols));
  const auto rank = std::max<std::int64_t>(1, static_cast<std::int64_t>(path_rank_share * side));
  auto work = base(i, {0, rank});
  if (!work.is_implicit)
    work = base(i, {static_cast<std::int64_t>(path_group_share * static_cast<double>(layer.group_count())), rank});
  work.iterations = path_iterations;
  work.factorizations = work.is_implicit ? 1 : path_factors;
  return work;
}

std::vector<double> solve_weights(const Network& network, const std::vector<std::string>& dense_reasons,
                                  const std::vector<std::int64_t>& allotted, const Configuration& config) {
  const NetworkWork work(network, dense_reasons, config);
  std::vector<double> weights(network.layers.size(), 0.0);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const auto& layer = network.layers[i];
    const auto rank = std::clamp<std::int64_t>(allotted[i] / (layer.rows + layer.cols), 1, layer.rows);
    if (dense_reasons[i].empty()) weights[i] = operations(work.of(i, {0, rank}));
  }
  return weights;
}

std::int64_t probed_images(const Network& network, const Configuration& config) {
  const auto macs = static_cast<double>(std::max<std::int64_t>(1, graph::count(network.model).macs));
  const auto affordable = static_cast<std::int64_t>(std::min(largest_probe_macs / macs, double(most_probe_images)));
  return std::min(config.calibration.images, 10 * std::max(affordable, least_probe_images));
}

JobTimes curve_times(const Network& network, const std::vector<std::string>& dense_reasons, const Configuration& config,
                     const std::vector<int>& ranks_of_group) {
  const NetworkWork count(network, dense_reasons, config);
  const std::int64_t judged = probed_images(network, config) / 10;
  const auto images = static_cast<double>(judged);
  JobTimes times(network.layers.size(), std::vector<double>(ranks_of_group.size(), 0.0));
  for (std::size_t i = 0; i < times.size(); ++i) {
    if (!dense_reasons[i].empty()) continue;
    const auto work = count.path(i);
    const double probes = points_measured * 2 * count.products_behind(i) * images / nominal_machine.single_precision;
    for (std::size_t g = 0; g < ranks_of_group.size(); ++g)
      times[i][g] = predict_seconds(work, ranks_of_group[g], nominal_machine) + probes / ranks_of_group[g];
  }
  return times;
}

double curve_bytes(const Network& network, const std::vector<std::string>& dense_reasons, const Configuration& config,
                   const std::vector<int>& ranks_of_group) {
  const NetworkWork count(network, dense_reasons, config);
  const auto fewest = *std::min_element(ranks_of_group.begin(), ranks_of_group.end());
  double bytes = 0;
  for (std::size_t i = 0; i < dense_reasons.size(); ++i)
    if (dense_reasons[i].empty()) bytes = std::max(bytes, count_bytes(count.path(i), fewest));
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
