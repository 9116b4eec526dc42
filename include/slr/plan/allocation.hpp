#pragma once
/// \file
/// Spending a budget over the layers of a network.
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace slr {

/// One way to write a layer: what it costs, in as many units as there are limits, and how much it harms the network.
struct Choice {
  std::vector<std::int64_t> costs;
  double harm = 0; ///< >= 0, finite; harms of different layers add up
};

/// The choices of one layer, in any order; at least one.
using ChoiceCurve = std::vector<Choice>;

/// What was chosen: an index per layer.
struct Allocation {
  std::vector<std::size_t> chosen;
  std::vector<std::int64_t> costs; ///< sums over the layers, one per limit
  double harm = 0;
};

/// Chooses one element of every curve so that the sum of harms is (nearly) as small as it can be and no sum of costs
/// exceeds its limit; none if the cheapest choices already do. Local, a pure function; ties go to the smaller index.
///
/// The choices minimise  harm + sum_j lambda_j cost_j  for multipliers lambda >= 0 found by bisection (one limit) or by
/// alternating bisection (several); what the limits leave is then spent on the single exchanges that lower the harm
/// most per unit of cost, until none fits. With one limit the harm is at most that of the best fractional allocation
/// plus the largest gap of one layer's curve (Everett, Oper. Res. 11, 1963: generalised Lagrange multipliers). Cost:
/// O(total choices) per step of a bisection.
[[nodiscard]] std::optional<Allocation> allocate(std::span<const ChoiceCurve> curves,
                                                 std::span<const std::int64_t> limits);

} // namespace slr
