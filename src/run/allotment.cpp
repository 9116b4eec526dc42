#include "slr/plan/allocation.hpp"
#include "slr/run/solver_options.hpp"
#include "slr/run/sweep.hpp"

#include <algorithm>
#include <cmath>

namespace slr::run {

Allotment no_limit(const Network& network) {
  Allotment result;
  for (const auto& layer : network.layers) result.parameters.push_back(dense_parameters(network, layer));
  result.points.resize(network.layers.size());
  result.splits.resize(network.layers.size());
  result.pulls.resize(network.layers.size(), 0.0);
  return result;
}

namespace {

constexpr int spending_rounds = 10;
constexpr int most_exchanges = 40, exchanges_at_once = 8; // counts of a network as it is written
constexpr auto parameters = index_of(Resource::parameters), macs = index_of(Resource::macs),
               latency = index_of(Resource::latency);

/// Another choice of one layer.
struct Exchange {
  double gain = 0;
  std::size_t layer = 0, choice = 0;
};

/// Exchanges that lower the harm and cost no more than is left, the largest gain first.
std::vector<Exchange> exchanges_within(const std::vector<ChoiceCurve>& choices, const std::vector<std::size_t>& chosen,
                                       const std::vector<std::int64_t>& slack) {
  std::vector<Exchange> result;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    const auto& now = choices[i][chosen[i]];
    for (std::size_t c = 0; c < choices[i].size(); ++c) {
      const auto& other = choices[i][c];
      bool fits = other.harm < now.harm;
      for (std::size_t j = 0; j < slack.size(); ++j) fits = fits && other.costs[j] - now.costs[j] <= slack[j];
      if (fits) result.push_back({now.harm - other.harm, i, c});
    }
  }
  std::stable_sort(result.begin(), result.end(), [](const auto& a, const auto& b) { return a.gain > b.gain; });
  return result;
}

/// Whether the configuration's roundings allow it.
bool is_allowed(Split split, const Budget& budget) {
  return (split.rank == 0 || split.rank >= budget.minimum_rank) && split.rank % budget.multiple == 0 &&
         split.groups % budget.multiple == 0;
}

} // namespace

Allotment allot(const Network& network, const std::vector<std::string>& dense_reasons, const Curves& measured,
                const BudgetPoint& point, const Configuration& config) {
  auto result = no_limit(network);
  const LayerCosts costs(network);
  const auto& curves = measured.layers;
  // Resources without a limit do not steer.
  std::vector<std::size_t> limited;
  std::vector<std::int64_t> left; // for the layers, all that is fixed taken off
  for (const auto& limit : point.limits) {
    limited.push_back(index_of(limit.resource));
    if (limit.resource == Resource::latency)
      left.push_back(limit.factor > 0 ? nanoseconds(measured.network_latency * (1 / limit.factor - 1))
                                      : limit.at_most - nanoseconds(measured.network_latency));
    else
      left.push_back(limit.at_most - costs.whole()[limited.back()]);
  }
  const auto steering = [&](const Cost& cost) {
    std::vector<std::int64_t> parts;
    for (const auto resource : limited) parts.push_back(cost[resource]);
    return parts;
  };
  std::vector<ChoiceCurve> choices(network.layers.size());
  std::vector<std::vector<std::optional<Split>>> splits(network.layers.size()); // none: dense
  for (std::size_t i = 0; i < network.layers.size(); ++i) {
    auto dense_cost = costs.dense(i);
    dense_cost[latency] = nanoseconds(curves[i].dense_latency);
    const auto dense = steering(dense_cost);
    for (std::size_t j = 0; j < left.size(); ++j) left[j] += dense[j];
    const auto offer = [&](std::optional<Split> split, std::vector<std::int64_t> cost, double harm) {
      choices[i].push_back({std::move(cost), harm});
      splits[i].push_back(split);
    };
    const auto fixed = config.budget.layers.find(network.layers[i].name);
    if (fixed != config.budget.layers.end() && dense_reasons[i].empty()) {
      const Split split{fixed->second.groups.value_or(0), fixed->second.target_rank.value_or(0)};
      auto cost = costs.of(i, split);
      cost[latency] = dense_cost[latency]; // never measured: no faster than it was
      offer(split, steering(cost), 0);
      continue;
    }
    offer(std::nullopt, dense, 0);
    for (const auto& predicted : predict(curves[i])) {
      auto cost = costs.of(i, predicted.split);
      cost[latency] = nanoseconds(predicted.latency);
      if (cost[parameters] >= dense_cost[parameters] || cost[macs] >= dense_cost[macs])
        continue; // never larger nor slower than dense
      if (dense_cost[latency] > 0 && cost[latency] >= dense_cost[latency]) continue;
      if (is_allowed(predicted.split, config.budget)) offer(predicted.split, steering(cost), predicted.kl);
    }
  }
  const auto chosen_splits = [&](const Allocation& allocation) {
    std::vector<std::optional<Split>> chosen;
    for (std::size_t i = 0; i < splits.size(); ++i) chosen.push_back(splits[i][allocation.chosen[i]]);
    return chosen;
  };
  // What is written is smaller than the sum of the layers' own costs: the difference is spent, too.
  auto allocation = allocate(choices, left);
  double share = 1; // of the difference: another choice may be written less compactly, and then be too large
  for (int round = 0; allocation && round < spending_rounds; ++round) {
    const auto written = cost_as_written(network, chosen_splits(*allocation));
    auto allowance = allocation->costs;
    bool has_slack = false;
    for (std::size_t j = 0; j < limited.size(); ++j) {
      const bool is_counted = limited[j] != latency;
      const auto slack = is_counted ? point.limits[j].at_most - written[limited[j]] : left[j] - allowance[j];
      allowance[j] += static_cast<std::int64_t>(share * static_cast<double>(slack));
      has_slack = has_slack || (is_counted && slack > point.limits[j].at_most / 500);
    }
    if (!has_slack) break;
    const auto next = allocate(choices, allowance);
    const bool is_better = next && next->harm < allocation->harm;
    const auto next_written = is_better ? cost_as_written(network, chosen_splits(*next)) : Cost{};
    bool fits = is_better;
    for (std::size_t j = 0; j < limited.size(); ++j)
      fits = fits && (limited[j] == latency || next_written[limited[j]] <= point.limits[j].at_most);
    if (fits) {
      allocation = next;
      share = 1;
    } else {
      share /= 2;
    }
  }
  // Where an allocation anew does not fit as it is written, one layer after the other takes what it can.
  const auto slack_of = [&](const Allocation& spent) {
    const auto written = cost_as_written(network, chosen_splits(spent));
    std::vector<std::int64_t> slack;
    for (std::size_t j = 0; j < limited.size(); ++j)
      slack.push_back(limited[j] == latency ? left[j] - spent.costs[j] : point.limits[j].at_most - written[limited[j]]);
    return slack;
  };
  auto slack = allocation ? slack_of(*allocation) : std::vector<std::int64_t>{};
  const auto take_best = [&](int& counted) {
    const auto exchanges = exchanges_within(choices, allocation->chosen, slack);
    for (std::size_t e = 0; e < std::min<std::size_t>(exchanges.size(), exchanges_at_once); ++e, ++counted) {
      const auto& [gain, i, choice] = exchanges[e];
      auto next = *allocation;
      for (std::size_t j = 0; j < limited.size(); ++j)
        next.costs[j] += choices[i][choice].costs[j] - choices[i][next.chosen[i]].costs[j];
      next.chosen[i] = choice;
      next.harm -= gain;
      const auto rest = slack_of(next);
      if (std::any_of(rest.begin(), rest.end(), [](std::int64_t s) { return s < 0; })) continue;
      allocation = std::move(next);
      slack = rest;
      return true;
    }
    return false;
  };
  for (int counted = 0; allocation && counted < most_exchanges;)
    if (!take_best(counted)) break;
  if (!allocation)
    throw Error(ExitCode::configuration, config.where("budget") +
                                             ": the layers have no structures as small as the budget asks for; allow "
                                             "more, or fewer roundings");
  for (std::size_t i = 0; i < network.layers.size(); ++i) {
    const auto& split = splits[i][allocation->chosen[i]];
    if (!split) continue;
    result.splits[i] = split;
    result.parameters[i] = costs.of(i, *split)[parameters];
    result.pulls[i] = curves[i].pull;
  }
  result.predicted_kl = allocation->harm;
  return result;
}

Allotment allot_uniformly(const Network& network, const std::vector<std::string>& dense_reasons, std::int64_t limit) {
  const LayerCosts costs(network);
  const auto at = [&](double factor, std::int64_t& total) {
    auto result = no_limit(network);
    total = costs.whole()[parameters];
    for (std::size_t i = 0; i < network.layers.size(); ++i) {
      if (!dense_reasons[i].empty()) continue;
      const auto dense = costs.dense(i)[parameters], least = std::min(dense, costs.of(i, {0, 1})[parameters]);
      result.parameters[i] = std::clamp(static_cast<std::int64_t>(static_cast<double>(dense) / factor), least, dense);
      total += result.parameters[i] - dense;
    }
    return result;
  };
  std::int64_t total = 0;
  double low = 1, high = static_cast<double>(costs.whole()[parameters]); // too many parameters, few enough
  for (int step = 0; step < 100; ++step) {
    const double middle = std::sqrt(low * high);
    (void)at(middle, total);
    (total > limit ? low : high) = middle;
  }
  return at(high, total);
}

} // namespace slr::run
