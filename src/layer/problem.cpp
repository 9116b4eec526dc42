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

LayerFactors rows_as_rank(LayerFactors factors, std::int64_t rows, std::int64_t cols) {
  if (factors.grouping != Grouping::filter) return factors;
  const auto f = std::ssize(factors.kept_groups), r = factors.numerical_rank, left = rows - f;
  const auto order = kept_then_rest(factors.kept_groups, rows, 1);
  LayerFactors result;
  result.numerical_rank = f + r;
  result.u.assign(static_cast<std::size_t>(rows * (f + r)), 0.0);
  for (std::int64_t i = 0; i < rows; ++i) {
    double* const row = result.u.data() + order[static_cast<std::size_t>(i)];
    if (i < f) row[i * rows] = 1;
    for (std::int64_t l = 0; l < r && i >= f; ++l) row[(f + l) * rows] = factors.u[std::size_t(l * left + i - f)];
  }
  for (std::int64_t j = 0; j < cols; ++j) {
    result.v.insert(result.v.end(), factors.b.begin() + j * f, factors.b.begin() + (j + 1) * f);
    result.v.insert(result.v.end(), factors.v.begin() + j * r, factors.v.begin() + (j + 1) * r);
  }
  result.bias = std::move(factors.bias);
  return result;
}

LayerFactors rank_as_rows(const LayerFactors& factors, const std::vector<std::int64_t>& kept_rows, std::int64_t rows,
                          std::int64_t cols) {
  const auto f = std::ssize(kept_rows), q = factors.numerical_rank, r = q - f;
  const auto order = kept_then_rest(kept_rows, rows, 1);
  LayerFactors result;
  result.grouping = Grouping::filter;
  result.kept_groups = kept_rows;
  result.numerical_rank = r;
  result.bias = factors.bias;
  for (std::int64_t l = f; l < q; ++l)
    for (std::int64_t i = f; i < rows; ++i)
      result.u.push_back(factors.u[static_cast<std::size_t>(l * rows + order[static_cast<std::size_t>(i)])]);
  for (std::int64_t j = 0; j < cols; ++j) {
    const auto column = factors.v.begin() + j * q;
    for (std::int64_t i = 0; i < f; ++i)
      result.b.push_back(column[i] *
                         factors.u[static_cast<std::size_t>(i * rows + order[static_cast<std::size_t>(i)])]);
    result.v.insert(result.v.end(), column + f, column + q);
  }
  return result;
}

std::vector<double> assemble_weights(const LayerFactors& factors, std::int64_t rows, std::int64_t cols,
                                     std::int64_t group_columns) {
  if (factors.grouping == Grouping::filter)
    return assemble_weights(rows_as_rank(factors, rows, cols), rows, cols, group_columns);
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
