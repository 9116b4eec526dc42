#include "slr/plan/allocation.hpp"

#include "slr/base/error.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace slr {
namespace {

constexpr int bisections = 200;
constexpr int rounds_of_limits = 30;

class Problem {
public:
  Problem(std::span<const ChoiceCurve> curves, std::span<const std::int64_t> limits)
      : curves_(curves), limits_(limits) {
    for (const auto& curve : curves) {
      require(!curve.empty(), "a layer has no choice");
      for (const auto& choice : curve)
        require(choice.costs.size() == limits.size() && choice.harm >= 0 && std::isfinite(choice.harm),
                "a choice has not one cost per limit or no finite harm");
    }
  }

  /// The cheapest sum of penalised harm for these multipliers.
  [[nodiscard]] Allocation at(const std::vector<double>& lambda) const {
    Allocation result;
    for (const auto& curve : curves_) {
      std::size_t best = 0;
      double best_value = std::numeric_limits<double>::infinity();
      for (std::size_t i = 0; i < curve.size(); ++i) {
        double value = curve[i].harm;
        for (std::size_t j = 0; j < lambda.size(); ++j) value += lambda[j] * static_cast<double>(curve[i].costs[j]);
        if (value < best_value) {
          best_value = value;
          best = i;
        }
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

private:
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
  if (!problem.fits(best)) {
    // Multipliers that meet one limit may break another: from the cheapest side for all of them.
    best = problem.at(std::vector<double>(limits.size(), largest));
    if (!problem.fits(best)) return std::nullopt;
  }
  problem.improve(best);
  return best;
}

} // namespace slr
