#include "slr/layer/problem.hpp"

#include <algorithm>

namespace slr {

std::vector<std::int64_t> kept_then_rest(const std::vector<std::int64_t>& kept_groups, std::int64_t cols,
                                         std::int64_t group_columns) {
  std::vector<bool> is_kept(static_cast<std::size_t>(cols / group_columns), false);
  for (const auto group : kept_groups) is_kept[static_cast<std::size_t>(group)] = true;
  std::vector<std::int64_t> order;
  order.reserve(static_cast<std::size_t>(cols));
  for (const bool wanted : {true, false})
    for (std::int64_t j = 0; j < cols; ++j)
      if (is_kept[static_cast<std::size_t>(j / group_columns)] == wanted) order.push_back(j);
  return order;
}

std::vector<double> assemble_weights(const LayerFactors& factors, std::int64_t rows, std::int64_t cols,
                                     std::int64_t group_columns) {
  const auto order = kept_then_rest(factors.kept_groups, cols, group_columns);
  const auto kept = static_cast<std::int64_t>(factors.kept_groups.size()) * group_columns;
  const auto r = factors.numerical_rank;
  std::vector<double> weights(static_cast<std::size_t>(rows * cols), 0.0);
  for (std::int64_t j = 0; j < cols; ++j) {
    double* column = weights.data() + order[static_cast<std::size_t>(j)] * rows;
    if (j < kept) {
      std::copy_n(factors.b.data() + j * rows, rows, column);
      continue;
    }
    const double* v = factors.v.data() + (j - kept) * r;
    for (std::int64_t l = 0; l < r; ++l) {
      const double* u = factors.u.data() + l * rows;
      for (std::int64_t i = 0; i < rows; ++i) column[i] += u[i] * v[l];
    }
  }
  return weights;
}

} // namespace slr
