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
  double harm_bound = 0; ///< no allocation within the limits has less harm; equal to `harm` where it is the best
};

/// Chooses one element of every curve so that the sum of harms is as small as it can be and no sum of costs exceeds its
/// limit; none if nothing fits. Local, a pure function.
///
/// First come the choices that minimise  harm + sum_j lambda_j cost_j  for multipliers lambda >= 0 found by bisection
/// (Everett, Oper. Res. 11, 1963: generalised Lagrange multipliers); what the limits leave is spent on the single
/// exchanges that lower the harm most per unit of cost. Then the gap is closed by dynamic programming over the layers:
/// partial allocations that others dominate, or that the dual bound shows to end no better, are dropped. Where too many
/// are left, those that could gain less than 1e-4, 1e-3, 1e-2 of the harm are dropped as well; `harm_bound` tells. With
/// several limits that no multipliers meet together, an allocation may be missed if too many partial ones are left.
/// Cost: O(total choices) per step of a bisection; at most 2e4 partial allocations per layer.
[[nodiscard]] std::optional<Allocation> allocate(std::span<const ChoiceCurve> curves,
                                                 std::span<const std::int64_t> limits);

} // namespace slr
