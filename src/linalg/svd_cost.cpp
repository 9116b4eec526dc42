#include "svd_cost.hpp"

#include <algorithm>
#include <cmath>

namespace slr::detail {
namespace {
/// Relative residual to expect of vectors whose matrix has changed by a few percent, before anything is known.
constexpr double usual_drift = 3e-3;
} // namespace

int filter_degree(double factor, double wanted, double unwanted) {
  if (factor <= 1) return 1;
  // T_d(x) with x the image of `wanted` when [0, unwanted] goes to [-1, 1].
  const double x = 2 * wanted / std::max(unwanted, 1e-3 * wanted) - 1;
  if (!(x > 1 + 1e-6)) return 1000;
  return std::max(1, static_cast<int>(std::ceil(std::acosh(factor) / std::acosh(x))));
}

SubspaceForecast forecast(const SvdMemory& memory, std::int64_t rows, std::int64_t cols, double tolerance,
                          bool gram_on_root) {
  const auto r = memory.numerical_rank;
  const auto p = std::min(rows, r + guards(r));
  const SvdShape shape{static_cast<double>(rows), static_cast<double>(cols), static_cast<double>(r),
                       static_cast<double>(p)};
  double applications = 2;
  if (p < rows && !memory.values.empty() && r >= 1) {
    const double wanted = memory.values[static_cast<std::size_t>(r - 1)];
    const double drift = memory.drift > 0 ? memory.drift : usual_drift;
    // Two Rayleigh-Ritz steps; the filter's first application comes with the first of them.
    applications = 1 + filter_degree(3 * drift / tolerance, wanted, memory.values.back());
  }
  const auto total = [&](const SubspaceCost& form) {
    return form.fixed + applications * form.application + 2 * ritz_cost(shape);
  };
  const auto direct = subspace_through_z(shape);
  const auto through_gram = subspace_through_gram(shape);
  if (gram_on_root && total(through_gram) <= total(direct)) return {through_gram, total(through_gram)};
  return {direct, total(direct)};
}

} // namespace slr::detail
