#include "slr/plan/allocation.hpp"

#include "slr/base/error.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <limits>
#include <map>
#include <numeric>

namespace slr {
namespace {

constexpr int bisections = 200;
constexpr int rounds_of_limits = 30;
constexpr std::size_t most_states = 20'000, most_limits = 4;
constexpr std::array tolerances{0.0, 1e-4, 1e-3, 1e-2}; ///< of the harm, until the states are few enough
constexpr double infinity = std::numeric_limits<double>::infinity();

/// Pairs of costs of which none is at most another one in both.
class Staircase {
public:
  /// Whether a pair was added that is at most (a, b) in both.
  [[nodiscard]] bool has_below(std::int64_t a, std::int64_t b) const {
    const auto behind = steps_.upper_bound(a);
    return behind != steps_.begin() && std::prev(behind)->second <= b;
  }
  /// \pre !has_below(a, b)
  void add(std::int64_t a, std::int64_t b) {
    auto from = steps_.lower_bound(a);
    while (from != steps_.end() && from->second >= b) from = steps_.erase(from);
    steps_.emplace(a, b);
  }

private:
  std::map<std::int64_t, std::int64_t> steps_; ///< the second cost falls as the first one grows
};

class Problem {
public:
  Problem(std::span<const ChoiceCurve> curves, std::span<const std::int64_t> limits)
      : curves_(curves), limits_(limits) {
    require(limits.size() <= most_limits, "an allocation has more limits than there are resources");
    for (const auto& curve : curves) {
      require(!curve.empty(), "a layer has no choice");
      for (const auto& choice : curve)
        require(choice.costs.size() == limits.size() && choice.harm >= 0 && std::isfinite(choice.harm),
                "a choice has not one cost per limit or no finite harm");
    }
  }

  [[nodiscard]] static double penalised(const Choice& choice, const std::vector<double>& lambda) {
    double value = choice.harm;
    for (std::size_t j = 0; j < lambda.size(); ++j) value += lambda[j] * static_cast<double>(choice.costs[j]);
    return value;
  }
  /// The cheapest sum of penalised harm for these multipliers.
  [[nodiscard]] Allocation at(const std::vector<double>& lambda) const {
    Allocation result;
    for (const auto& curve : curves_) {
      std::size_t best = 0;
      double best_value = infinity;
      for (std::size_t i = 0; i < curve.size(); ++i)
        if (const double value = penalised(curve[i], lambda); value < best_value) {
          best_value = value;
          best = i;
        }
      result.chosen.push_back(best);
    }
    sum(result);
    return result;
  }
  void sum(Allocation& allocation) const {
    allocation.costs.assign(limits_.size(), 0);
    allocation.harm = 0;
    for (std::size_t i = 0; i < curves_.size(); ++i) {
      const auto& choice = curves_[i][allocation.chosen[i]];
      allocation.harm += choice.harm;
      for (std::size_t j = 0; j < limits_.size(); ++j) allocation.costs[j] += choice.costs[j];
    }
  }
  [[nodiscard]] bool fits(const Allocation& allocation) const {
    for (std::size_t j = 0; j < limits_.size(); ++j)
      if (allocation.costs[j] > limits_[j]) return false;
    return true;
  }

  /// The smallest multiplier of limit j, the others given, that meets limit j.
  [[nodiscard]] double smallest_multiplier(std::vector<double> lambda, std::size_t j, double largest) const {
    const auto meets = [&](double value) {
      lambda[j] = value;
      return at(lambda).costs[j] <= limits_[j];
    };
    if (meets(0)) return 0;
    double low = largest * 1e-30, high = largest;
    for (int step = 0; step < bisections && high > low * (1 + 1e-12); ++step) {
      const double middle = std::sqrt(low * high);
      (meets(middle) ? high : low) = middle;
    }
    return high;
  }

  /// Spends what is left: the exchange of one layer's choice that lowers the harm most per cost, as long as one fits.
  void improve(Allocation& allocation) const {
    while (true) {
      double best_rate = 0;
      std::size_t best_layer = 0, best_choice = 0;
      for (std::size_t i = 0; i < curves_.size(); ++i) {
        const auto& now = curves_[i][allocation.chosen[i]];
        for (std::size_t c = 0; c < curves_[i].size(); ++c) {
          const auto& other = curves_[i][c];
          const double gain = now.harm - other.harm;
          if (gain <= 0) continue;
          double price = 1e-30;
          bool fits_all = true;
          for (std::size_t j = 0; j < limits_.size(); ++j) {
            const auto more = other.costs[j] - now.costs[j];
            fits_all = fits_all && allocation.costs[j] + more <= limits_[j];
            price +=
                std::max(0.0, static_cast<double>(more) / static_cast<double>(std::max<std::int64_t>(1, limits_[j])));
          }
          if (!fits_all || gain / price <= best_rate) continue;
          best_rate = gain / price;
          best_layer = i;
          best_choice = c;
        }
      }
      if (best_rate == 0) return;
      allocation.chosen[best_layer] = best_choice;
      sum(allocation);
    }
  }

  [[nodiscard]] double largest_multiplier() const {
    double harm = 0;
    for (const auto& curve : curves_)
      for (const auto& choice : curve) harm = std::max(harm, choice.harm);
    return 1e3 * (harm + 1e-300); // one unit of cost outweighs any harm
  }

  /// The dual function: no allocation within the limits has less harm.
  [[nodiscard]] double dual(const std::vector<double>& lambda) const {
    double value = 0;
    for (const auto& curve : curves_) value += least(curve, lambda);
    for (std::size_t j = 0; j < limits_.size(); ++j) value -= lambda[j] * static_cast<double>(limits_[j]);
    return value;
  }
  [[nodiscard]] static double least(const ChoiceCurve& curve, const std::vector<double>& lambda) {
    double value = infinity;
    for (const auto& choice : curve) value = std::min(value, penalised(choice, lambda));
    return value;
  }

  /// The best allocation with less harm than `below`, if there is one: layer after layer, all partial allocations that
  /// are neither dominated nor, by the dual bound of what they leave open, at or above `below`.
  /// \returns whether the states stayed few enough to say so.
  bool search(const std::vector<double>& lambda, double below, std::optional<Allocation>& found) const {
    const std::size_t layers = curves_.size(), limits = limits_.size();
    struct State {
      Costs costs{};
      double harm = 0;
      std::size_t parent = 0, choice = 0;
    };
    std::vector<Costs> least_rest(layers + 1, Costs{});
    std::vector<double> dual_rest(layers + 1, 0.0), harm_rest(layers + 1, 0.0); // of the layers from i on, at least
    for (std::size_t i = layers; i-- > 0;) {
      dual_rest[i] = dual_rest[i + 1] + least(curves_[i], lambda);
      harm_rest[i] = harm_rest[i + 1] + least(curves_[i], {});
      for (std::size_t j = 0; j < limits; ++j) {
        auto smallest = curves_[i].front().costs[j];
        for (const auto& choice : curves_[i]) smallest = std::min(smallest, choice.costs[j]);
        least_rest[i][j] = least_rest[i + 1][j] + smallest;
      }
    }
    std::vector<std::vector<State>> stages{{State{}}};
    for (std::size_t i = 0; i < layers; ++i) {
      const auto useful = useful_choices(i, lambda, below);
      std::vector<State> next;
      for (std::size_t s = 0; s < stages[i].size(); ++s)
        for (const auto c : useful) {
          State state{stages[i][s].costs, stages[i][s].harm + curves_[i][c].harm, s, c};
          double bound = state.harm + dual_rest[i + 1];
          bool can_fit = true;
          for (std::size_t j = 0; j < limits; ++j) {
            state.costs[j] += curves_[i][c].costs[j];
            can_fit = can_fit && state.costs[j] + least_rest[i + 1][j] <= limits_[j];
            bound += lambda[j] * static_cast<double>(state.costs[j] - limits_[j]);
          }
          if (can_fit && std::max(bound, state.harm + harm_rest[i + 1]) < below) next.push_back(state);
          if (next.size() > 50 * most_states) return false;
        }
      std::stable_sort(next.begin(), next.end(), [](const auto& a, const auto& b) { return a.harm < b.harm; });
      std::vector<State> kept;
      Staircase cheapest;
      for (const auto& state : next) {
        const auto dominates = [&](const State& other) {
          return std::equal(other.costs.begin(), other.costs.end(), state.costs.begin(), std::less_equal<>());
        };
        const bool is_dominated = limits <= 2 ? cheapest.has_below(state.costs[0], state.costs[1])
                                              : std::any_of(kept.begin(), kept.end(), dominates);
        if (is_dominated) continue;
        if (kept.size() == most_states) return false;
        if (limits <= 2) cheapest.add(state.costs[0], state.costs[1]);
        kept.push_back(state);
      }
      stages.push_back(std::move(kept));
    }
    found.reset();
    if (stages.back().empty()) return true;
    Allocation best; // states are in the order of their harm
    best.chosen.resize(layers);
    for (std::size_t i = layers, s = 0; i-- > 0;) {
      best.chosen[i] = stages[i + 1][s].choice;
      s = stages[i + 1][s].parent;
    }
    sum(best);
    found = std::move(best);
    return true;
  }

private:
  using Costs = std::array<std::int64_t, most_limits>; // zeros beyond the limits that there are

  /// The choices of a layer with which a sum below `below` is possible, by the dual bound of all other layers, and
  /// which no other one of the layer is as good as in every cost and in harm.
  [[nodiscard]] std::vector<std::size_t> useful_choices(std::size_t layer, const std::vector<double>& lambda,
                                                        double below) const {
    const auto& curve = curves_[layer];
    const double others = dual(lambda) - least(curve, lambda);
    std::vector<std::size_t> candidates, useful;
    for (std::size_t c = 0; c < curve.size(); ++c)
      if (others + penalised(curve[c], lambda) < below) candidates.push_back(c);
    std::stable_sort(candidates.begin(), candidates.end(),
                     [&](std::size_t a, std::size_t b) { return curve[a].harm < curve[b].harm; });
    for (const auto c : candidates) {
      const auto dominates = [&](std::size_t other) {
        return std::equal(curve[other].costs.begin(), curve[other].costs.end(), curve[c].costs.begin(),
                          std::less_equal<>());
      };
      if (std::none_of(useful.begin(), useful.end(), dominates)) useful.push_back(c);
    }
    return useful;
  }

  std::span<const ChoiceCurve> curves_;
  std::span<const std::int64_t> limits_;
};

} // namespace

std::optional<Allocation> allocate(std::span<const ChoiceCurve> curves, std::span<const std::int64_t> limits) {
  const Problem problem(curves, limits);
  const double largest = problem.largest_multiplier();
  std::vector<double> lambda(limits.size(), 0.0);
  auto best = problem.at(lambda);
  for (int round = 0; round < rounds_of_limits && !problem.fits(best); ++round) {
    for (std::size_t j = 0; j < limits.size(); ++j) lambda[j] = problem.smallest_multiplier(lambda, j, largest);
    best = problem.at(lambda);
  }
  // Multipliers that meet one limit may break another: from the cheapest side for all of them.
  if (!problem.fits(best)) best = problem.at(std::vector<double>(limits.size(), largest));
  const bool is_feasible = problem.fits(best);
  if (is_feasible) problem.improve(best);

  // The bound: at the multipliers found the dual function is close to its largest value.
  best.harm_bound = std::max(0.0, problem.dual(lambda));
  for (const double tolerance : tolerances) {
    const double below = is_feasible ? best.harm * (1 - tolerance) : infinity;
    if (best.harm_bound >= below) break;
    std::optional<Allocation> better;
    if (!problem.search(lambda, below, better)) continue;
    if (better)
      best = std::move(*better);
    else if (!is_feasible)
      return std::nullopt;
    best.harm_bound = std::min(best.harm, below);
    return best;
  }
  if (!is_feasible) return std::nullopt;
  return best;
}

} // namespace slr
