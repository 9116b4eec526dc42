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

/// Of the network's products: what a layer may take longer where it is the size that counts. Else a fully connected
/// layer of many parameters and little time would stay dense for its second node.
constexpr double negligible_time = 0.002;

/// What the layers can become under the limits of a budget; resources without a limit do not steer.
struct Offers {
  std::vector<std::size_t> limited;                      ///< resources, in the order of the budget's limits
  std::vector<std::int64_t> limits, left;                ///< of the network; of its layers, what is fixed taken off
  std::vector<ChoiceCurve> choices;                      ///< of each layer, a cost per limit
  std::vector<std::vector<std::optional<Split>>> splits; ///< of each choice; none: dense

  [[nodiscard]] bool is_limited(std::size_t resource) const {
    return std::find(limited.begin(), limited.end(), resource) != limited.end();
  }
  [[nodiscard]] std::vector<std::int64_t> steering(const Cost& cost) const {
    std::vector<std::int64_t> parts;
    for (const auto resource : limited) parts.push_back(cost[resource]);
    return parts;
  }
  void offer(std::size_t layer, std::optional<Split> split, const Cost& cost, double harm) {
    choices[layer].push_back({steering(cost), harm});
    splits[layer].push_back(split);
  }
};

/// Whether the configuration's roundings allow it.
bool is_allowed(Split split, const Budget& budget) {
  return (split.rank == 0 || split.rank >= budget.minimum_rank) && split.rank % budget.multiple == 0 &&
         split.groups % budget.multiple == 0;
}

/// The network's latency if the layers' own and what is beside them add up.
std::int64_t summed_latency(const Curves& measured, const BudgetPoint& point) {
  const auto beside = measured.latency_beside.find(point.name);
  if (beside == measured.latency_beside.end()) return nanoseconds(measured.network_latency);
  auto sum = nanoseconds(beside->second);
  for (const auto& layer : measured.layers) sum += nanoseconds(layer.dense_latency);
  return sum;
}

/// The limits, and what is left for the layers if all of them cost nothing.
Offers limits_of(const LayerCosts& costs, const Curves& measured, const BudgetPoint& point) {
  Offers result;
  for (const auto& limit : point.limits) {
    const auto resource = index_of(limit.resource);
    const auto whole = resource == latency ? summed_latency(measured, point) : costs.whole()[resource];
    result.limited.push_back(resource);
    result.limits.push_back(
        resource == latency && limit.factor > 0 ? nanoseconds(measured.network_latency / limit.factor) : limit.at_most);
    result.left.push_back(result.limits.back() - whole);
  }
  return result;
}

Offers offers_of(const Network& network, const std::vector<std::string>& dense_reasons, const LayerCosts& costs,
                 const Curves& measured, const BudgetPoint& point, const Configuration& config) {
  auto result = limits_of(costs, measured, point);
  result.choices.resize(network.layers.size());
  result.splits.resize(network.layers.size());
  const bool wants_time = result.is_limited(macs) || result.is_limited(latency);
  const bool wants_size = result.is_limited(parameters) || result.is_limited(index_of(Resource::bytes));
  for (std::size_t i = 0; i < network.layers.size(); ++i) {
    auto dense = costs.dense(i);
    dense[latency] = nanoseconds(measured.layers[i].dense_latency);
    for (std::size_t j = 0; j < result.left.size(); ++j) result.left[j] += dense[result.limited[j]];
    const auto fixed = config.budget.layers.find(network.layers[i].name);
    if (fixed != config.budget.layers.end() && dense_reasons[i].empty()) {
      const Split split{fixed->second.groups.value_or(0), fixed->second.target_rank.value_or(0)};
      auto cost = costs.of(i, split);
      cost[latency] = dense[latency]; // never measured: no faster than it was
      result.offer(i, split, cost, 0);
      continue;
    }
    result.offer(i, std::nullopt, dense, 0);
    for (const auto& predicted : predict(measured.layers[i])) {
      auto cost = costs.of(i, predicted.split);
      cost[latency] = nanoseconds(predicted.latency);
      // Never larger nor slower than dense; who limits products wants time, and who limits this library's time others'.
      if (cost[parameters] >= dense[parameters] || cost[macs] >= dense[macs]) continue;
      if (dense[latency] > 0 && cost[latency] >= dense[latency]) continue;
      if (wants_time && !costs.is_faster(i, predicted.split, wants_size ? negligible_time : 0)) continue;
      if (is_allowed(predicted.split, config.budget)) result.offer(i, predicted.split, cost, predicted.kl);
    }
  }
  return result;
}

/// Says which limit the smallest choices exceed, and what they come to.
Error not_small_enough(const Offers& offers, const LayerCosts& costs, const Curves& measured,
                       const Configuration& config) {
  for (std::size_t j = 0; j < offers.limited.size(); ++j) {
    auto smallest = offers.limits[j] - offers.left[j]; // what is fixed
    for (const auto& curve : offers.choices)
      smallest += std::min_element(curve.begin(), curve.end(), [&](const Choice& a, const Choice& b) {
                    return a.costs[j] < b.costs[j];
                  })->costs[j];
    if (smallest <= offers.limits[j]) continue;
    const auto resource = offers.limited[j];
    const auto whole = resource == latency ? nanoseconds(measured.network_latency) : costs.whole()[resource];
    return cannot_be_met(config, resources[resource], {whole, offers.limits[j], smallest});
  }
  return {ExitCode::configuration, config.where("budget") + ": the layers have no structures as small as all limits "
                                                            "together ask for; allow more, or fewer roundings"};
}

/// Another choice of one layer.
struct Exchange {
  double gain = 0;
  std::size_t layer = 0, choice = 0;
};

/// What is written is smaller than the sum of the layers' own costs: spends the difference, too.
class Spending {
public:
  Spending(const Network& network, const Offers& offers, Allocation first)
      : network_(network), offers_(offers), spent_(std::move(first)) {}

  /// Allocates anew with what is left over. Another choice may be written less compactly, and then be too large.
  void allocate_again() {
    double share = 1; // of the difference
    for (int round = 0; round < spending_rounds; ++round) {
      const auto slack = slack_of(spent_);
      auto allowance = spent_.costs;
      bool has_slack = false;
      for (std::size_t j = 0; j < slack.size(); ++j) {
        allowance[j] += static_cast<std::int64_t>(share * static_cast<double>(slack[j]));
        has_slack = has_slack || (is_counted(j) && slack[j] > offers_.limits[j] / 500);
      }
      if (!has_slack) break;
      auto next = allocate(offers_.choices, allowance);
      if (next && next->harm < spent_.harm && fits(*next)) {
        spent_ = *std::move(next);
        share = 1;
      } else {
        share /= 2;
      }
    }
  }

  /// Where an allocation anew does not fit as it is written, one layer after the other takes what it can.
  void exchange() {
    for (int counted = 0; counted < most_exchanges;)
      if (!take_best(counted)) break;
  }
  [[nodiscard]] const Allocation& result() const { return spent_; }

private:
  [[nodiscard]] bool is_counted(std::size_t limit) const { return offers_.limited[limit] != latency; }

  /// Of each limit, what the network as it is written leaves.
  [[nodiscard]] std::vector<std::int64_t> slack_of(const Allocation& spent) const {
    std::vector<std::optional<Split>> chosen;
    for (std::size_t i = 0; i < offers_.splits.size(); ++i) chosen.push_back(offers_.splits[i][spent.chosen[i]]);
    const auto written = cost_as_written(network_, chosen);
    std::vector<std::int64_t> slack;
    for (std::size_t j = 0; j < offers_.limited.size(); ++j)
      slack.push_back(is_counted(j) ? offers_.limits[j] - written[offers_.limited[j]]
                                    : offers_.left[j] - spent.costs[j]);
    return slack;
  }
  [[nodiscard]] bool fits(const Allocation& spent) const {
    return std::ranges::all_of(slack_of(spent), [](std::int64_t left) { return left >= 0; });
  }

  /// Exchanges that lower the harm and cost no more than is left, the largest gain first.
  [[nodiscard]] std::vector<Exchange> exchanges_within(const std::vector<std::int64_t>& slack) const {
    std::vector<Exchange> result;
    for (std::size_t i = 0; i < offers_.choices.size(); ++i) {
      const auto& curve = offers_.choices[i];
      const auto& now = curve[spent_.chosen[i]];
      for (std::size_t c = 0; c < curve.size(); ++c) {
        bool can_pay = curve[c].harm < now.harm;
        for (std::size_t j = 0; j < slack.size(); ++j)
          can_pay = can_pay && curve[c].costs[j] - now.costs[j] <= slack[j];
        if (can_pay) result.push_back({now.harm - curve[c].harm, i, c});
      }
    }
    std::stable_sort(result.begin(), result.end(), [](const auto& a, const auto& b) { return a.gain > b.gain; });
    return result;
  }

  /// Takes the best exchange whose network fits, of the first few.
  [[nodiscard]] bool take_best(int& counted) {
    const auto exchanges = exchanges_within(slack_of(spent_));
    for (std::size_t e = 0; e < std::min<std::size_t>(exchanges.size(), exchanges_at_once); ++e, ++counted) {
      const auto& [gain, i, choice] = exchanges[e];
      auto next = spent_;
      for (std::size_t j = 0; j < next.costs.size(); ++j)
        next.costs[j] += offers_.choices[i][choice].costs[j] - offers_.choices[i][next.chosen[i]].costs[j];
      next.chosen[i] = choice;
      next.harm -= gain;
      if (!fits(next)) continue;
      spent_ = std::move(next);
      return true;
    }
    return false;
  }

  const Network& network_;
  const Offers& offers_;
  Allocation spent_;
};

} // namespace

Allotment allot(const Network& network, const std::vector<std::string>& dense_reasons, const Curves& measured,
                const BudgetPoint& point, const Configuration& config) {
  const LayerCosts costs(network);
  const auto offers = offers_of(network, dense_reasons, costs, measured, point, config);
  auto first = allocate(offers.choices, offers.left);
  if (!first) throw not_small_enough(offers, costs, measured, config);
  Spending spending(network, offers, *std::move(first));
  spending.allocate_again();
  spending.exchange();
  const auto& allocation = spending.result();
  auto result = no_limit(network);
  for (std::size_t i = 0; i < network.layers.size(); ++i) {
    const auto& split = offers.splits[i][allocation.chosen[i]];
    if (!split) continue;
    result.splits[i] = split;
    result.parameters[i] = costs.of(i, *split)[parameters];
    result.pulls[i] = measured.layers[i].pull;
  }
  result.predicted_kl = allocation.harm;
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
