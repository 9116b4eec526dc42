#include "slr/prox/thresholding.hpp"

#include <cmath>

namespace slr {

std::vector<double> group_norms(std::span<const double> z, std::int64_t rows, std::int64_t group_columns) {
  const auto size = static_cast<std::size_t>(rows * group_columns);
  std::vector<double> norms;
  for (std::size_t at = 0; size > 0 && at < z.size(); at += size) {
    double squares = 0;
    for (const double value : z.subspan(at, size)) squares += value * value;
    norms.push_back(std::sqrt(squares));
  }
  return norms;
}

std::vector<bool> threshold_groups(std::span<double> z, std::int64_t rows, std::int64_t group_columns, double tau) {
  const auto size = static_cast<std::size_t>(rows * group_columns);
  const auto norms = group_norms(z, rows, group_columns);
  std::vector<bool> kept(norms.size());
  for (std::size_t g = 0; g < norms.size(); ++g) {
    kept[g] = norms[g] > tau;
    const double factor = kept[g] ? 1 - tau / norms[g] : 0.0;
    for (double& value : z.subspan(g * size, size)) value *= factor;
  }
  return kept;
}

} // namespace slr
