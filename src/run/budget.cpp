#include "slr/run/budget.hpp"

#include "slr/graph/channels.hpp"
#include "slr/graph/count.hpp"
#include "slr/graph/rewrite.hpp"
#include "slr/run/solver_options.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <random>

namespace slr::run {
namespace {

const std::vector<Target>& targets_of(const Configuration& config, Resource resource) {
  switch (resource) {
  case Resource::macs:
    return config.budget.macs;
  case Resource::bytes:
    return config.budget.bytes;
  case Resource::latency:
    return config.budget.latency;
  default:
    return config.budget.parameters;
  }
}

std::string short_number(double value) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.6g", value);
  return text.data();
}

std::string value_text(const Target& target) {
  return target.at_most ? "at-most-" + short_number(*target.at_most) : short_number(*target.factor);
}

/// The least that the network can cost of a resource.
std::int64_t least(const Network& network, const LayerCosts& costs, const std::vector<std::string>& dense_reasons,
                   const Configuration& config, std::size_t resource) {
  auto sum = costs.whole()[resource];
  for (std::size_t i = 0; i < network.layers.size(); ++i) {
    if (!dense_reasons[i].empty()) continue;
    const auto fixed = config.budget.layers.find(network.layers[i].name);
    const Split split = fixed == config.budget.layers.end()
                            ? Split{0, 1}
                            : Split{fixed->second.groups.value_or(0), fixed->second.target_rank.value_or(0)};
    const auto dense = costs.dense(i)[resource];
    sum -= dense - std::min(dense, costs.of(i, split)[resource]);
  }
  return sum;
}

} // namespace

std::string to_text(Resource resource) {
  switch (resource) {
  case Resource::parameters:
    return "parameters";
  case Resource::macs:
    return "macs";
  case Resource::bytes:
    return "bytes";
  case Resource::latency:
    return "latency";
  }
  return "parameters";
}

LayerCosts::LayerCosts(const Network& network) : network_(network) {
  const auto counts = graph::count(network.model);
  whole_ = {counts.parameters, counts.macs, counts.bytes, 0};
  const auto shapes = graph::infer_shapes(network.model);
  for (const auto& layer : network.layers) {
    std::int64_t positions = 0;
    for (const auto* use : layer.uses()) {
      const auto shape = shapes.find(use->linear);
      const auto size = shape == shapes.end() ? 0
                                              : std::accumulate(shape->second.begin(), shape->second.end(),
                                                                std::int64_t(1), std::multiplies<>());
      positions += std::max<std::int64_t>(1, size / std::max<std::int64_t>(1, layer.rows));
    }
    positions_.push_back(positions);
    const auto parameters = dense_parameters(network, layer);
    dense_.push_back(
        {parameters, layer.rows * layer.cols * positions, parameters * static_cast<std::int64_t>(sizeof(float)), 0});
  }
}

Cost LayerCosts::of(std::size_t i, Split split) const {
  const auto cost = graph::cheapest_form(network_.layers[i], split.rank, split.groups);
  return {cost.parameters, cost.macs * positions_[i], cost.bytes, 0};
}

bool LayerCosts::is_faster(std::size_t i, Split split, double allowed) const {
  const auto& layer = network_.layers[i];
  const auto form = graph::cheapest_form(layer, split.rank, split.groups).form;
  return graph::products_of_time(layer, form, split.rank, split.groups, positions_[i]) <
         graph::products_of_time(layer, graph::Form::dense, 0, 0, positions_[i]) +
             allowed * static_cast<double>(whole_[index_of(Resource::macs)]);
}

namespace {

/// Groups that stand for those not chosen yet: scattered, and by a generator of each layer's own, since layers that
/// read the same value seldom keep the same channels, and share one order of them only where they do.
std::vector<std::int64_t> stand_ins(std::size_t layer, std::int64_t groups, std::int64_t count) {
  std::mt19937_64 engine(layer + 1);
  std::vector<std::pair<std::uint64_t, std::int64_t>> order;
  for (std::int64_t g = 0; g < groups; ++g) order.emplace_back(engine(), g);
  std::sort(order.begin(), order.end());
  std::vector<std::int64_t> kept;
  for (std::int64_t i = 0; i < count; ++i) kept.push_back(order[static_cast<std::size_t>(i)].second);
  std::sort(kept.begin(), kept.end());
  return kept;
}

} // namespace

graph::Model as_written(const Network& network, const std::vector<std::optional<Split>>& splits) {
  auto model = network.model;
  for (std::size_t i = 0; i < splits.size(); ++i) {
    if (!splits[i]) continue;
    const auto& layer = network.layers[i];
    const auto size = [](std::int64_t rows, std::int64_t cols) { return static_cast<std::size_t>(rows * cols); };
    const auto groups = splits[i]->groups;
    const auto sizes = layer.factor_sizes(groups);
    graph::CompressedLayer zeros;
    zeros.grouping = layer.grouping;
    zeros.kept_groups = stand_ins(i, layer.group_count(), groups);
    zeros.rank = splits[i]->rank;
    zeros.U.resize(size(sizes.u_rows, zeros.rank));
    zeros.V.resize(size(zeros.rank, sizes.v_cols));
    zeros.B.resize(size(sizes.b_rows, sizes.b_cols));
    zeros.bias.resize(size(layer.rows, 1));
    const auto now = graph::find_layers(model);
    const auto here = std::find_if(now.begin(), now.end(), [&](const auto& l) { return l.name == layer.name; });
    require(here != now.end(), "layer " + layer.name + " disappeared from the network");
    (void)graph::replace_layer(model, *here, zeros);
  }
  graph::remove_unread_channels(model);
  graph::order_channels(model);
  return model;
}

Cost cost_as_written(const Network& network, const std::vector<std::optional<Split>>& splits) {
  const auto counts = graph::count(as_written(network, splits));
  return {counts.parameters, counts.macs, counts.bytes, 0};
}

Error cannot_be_met(const Configuration& config, Resource resource, const Shortage& shortage) {
  const auto key = "budget." + to_text(resource);
  const auto amount = [&](std::int64_t value) {
    return resource == Resource::latency ? short_number(1e-9 * static_cast<double>(value)) + " s"
                                         : std::to_string(value);
  };
  const auto quotient = static_cast<double>(shortage.whole) / static_cast<double>(shortage.smallest);
  return {ExitCode::configuration, config.where(key) + ": " + key + " allows " + amount(shortage.limit) +
                                       ", but with every layer in its smallest form the network has " +
                                       amount(shortage.smallest) + "; the largest factor that can be met is " +
                                       short_number(std::floor(1e3 * quotient) / 1e3)};
}

std::optional<std::int64_t> BudgetPoint::limit_of(Resource resource) const {
  for (const auto& limit : limits)
    if (limit.resource == resource) return limit.at_most;
  return std::nullopt;
}

std::vector<BudgetPoint> budget_points(const Network& network, const std::vector<std::string>& dense_reasons,
                                       const Configuration& config) {
  std::size_t count = 1;
  for (const auto resource : resources) count = std::max(count, targets_of(config, resource).size());
  const LayerCosts costs(network);
  std::vector<BudgetPoint> points(count);
  for (const auto resource : resources) {
    const auto& targets = targets_of(config, resource);
    if (targets.empty()) continue;
    const auto key = "budget." + to_text(resource);
    if (targets.size() != 1 && targets.size() != count)
      throw Error(ExitCode::configuration, config.where(key) + ": " + key + " has " + std::to_string(targets.size()) +
                                               " values, another budget has " + std::to_string(count) +
                                               "; give both as many, or one of them a single value");
    if (resource == Resource::latency) { // whether it can be met is known once it is measured
      for (std::size_t i = 0; i < count; ++i) {
        const auto& target = targets[targets.size() == 1 ? 0 : i];
        points[i].limits.push_back({resource, nanoseconds(target.at_most.value_or(0)), target.factor.value_or(0)});
        if (count > 1 && targets.size() > 1)
          points[i].name += (points[i].name.empty() ? "" : "_") + to_text(resource) + "-" + value_text(target);
      }
      continue;
    }
    const auto whole = costs.whole()[index_of(resource)];
    const auto smallest = least(network, costs, dense_reasons, config, index_of(resource));
    for (std::size_t i = 0; i < count; ++i) {
      const auto& target = targets[targets.size() == 1 ? 0 : i];
      const auto limit = static_cast<std::int64_t>(
          std::floor(target.at_most ? *target.at_most : static_cast<double>(whole) / *target.factor));
      if (smallest > limit) throw cannot_be_met(config, resource, {whole, limit, smallest});
      points[i].limits.push_back({resource, limit, target.factor.value_or(0)});
      if (count > 1 && targets.size() > 1)
        points[i].name += (points[i].name.empty() ? "" : "_") + to_text(resource) + "-" + value_text(target);
    }
  }
  return points;
}

} // namespace slr::run
