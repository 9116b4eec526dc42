#include "basis_form.hpp"

#include "slr/linalg/blas.hpp"

#include <algorithm>

namespace slr {
namespace {

std::vector<float> to_float(const std::vector<double>& values) {
  return {values.begin(), values.end()};
}

} // namespace

FactoredMap map_of(const LayerProblem& problem, const LayerStatistics& statistics, const BasisForm& form,
                   int feature_exponent) {
  const std::int64_t k = problem.cols, q = form.basis_size, s = std::ssize(form.kept_groups) * problem.group_columns;
  const auto order = kept_then_rest(form.kept_groups, k, problem.group_columns);
  FactoredMap result;
  result.rows = problem.rows;
  result.cols = k;
  result.basis_size = q;
  result.numerical_rank = form.numerical_rank;
  result.kept_columns.assign(order.begin(), order.begin() + s);
  result.basis.resize(static_cast<std::size_t>(q * k));
  for (std::int64_t j = 0; j < k; ++j) {
    const auto to = order[static_cast<std::size_t>(j)];
    for (std::int64_t l = 0; l < q; ++l)
      result.basis[static_cast<std::size_t>(to * q + l)] =
          static_cast<float>(form.right[static_cast<std::size_t>(j * q + l)]);
  }
  result.left_columns = form.mix.empty() ? form.numerical_rank : q;
  if (form.mix.empty()) {
    result.left = to_float(form.left);
  } else { // left M^T
    std::vector<double> left(static_cast<std::size_t>(problem.rows * q));
    blas::gemm(Op::none, Op::transpose, problem.rows, q, form.numerical_rank, 1.0, form.left.data(), problem.rows,
               form.mix.data(), q, 0.0, left.data(), problem.rows);
    result.left = to_float(left);
  }
  result.dense = to_float(form.dense);
  result.input_mean = to_float(statistics.input_mean);
  result.mean = to_float(form.mean);
  result.feature_exponent = feature_exponent;
  return result;
}

LayerFactors factors_of(const LayerProblem& problem, const LayerStatistics& statistics, const BasisForm& form) {
  const std::int64_t n = problem.rows, k = problem.cols, q = form.basis_size, r = form.numerical_rank,
                     s = std::ssize(form.kept_groups) * problem.group_columns;
  LayerFactors result;
  result.grouping = problem.grouping;
  result.kept_groups = form.kept_groups;
  result.numerical_rank = r;
  result.u = form.left;
  const auto cut = [&](std::int64_t first, std::int64_t count) {
    std::vector<double> part(static_cast<std::size_t>(r * count));
    if (form.mix.empty())
      for (std::int64_t j = 0; j < count; ++j)
        std::copy_n(form.right.begin() + (first + j) * q, r, part.begin() + j * r);
    else if (r > 0)
      blas::gemm(Op::transpose, Op::none, r, count, q, 1.0, form.mix.data(), q, form.right.data() + first * q, q, 0.0,
                 part.data(), r);
    return part;
  };
  result.v = cut(s, k - s);
  result.b = form.dense;
  if (r > 0 && s > 0) {
    const auto on_kept = cut(0, s); // U E_S belongs to the kept columns
    blas::gemm(Op::none, Op::none, n, s, r, 1.0, result.u.data(), n, on_kept.data(), r, 1.0, result.b.data(), n);
  }
  // b = mean - U (V mean x_R) - B mean x_S
  const auto order = kept_then_rest(form.kept_groups, k, problem.group_columns);
  std::vector<double> mean(static_cast<std::size_t>(k));
  for (std::int64_t j = 0; j < k; ++j)
    mean[static_cast<std::size_t>(j)] =
        statistics.input_mean[static_cast<std::size_t>(order[static_cast<std::size_t>(j)])];
  std::vector<double> inner(static_cast<std::size_t>(r), 0.0);
  const auto lead = std::max<std::int64_t>(1, r);
  blas::gemm(Op::none, Op::none, r, 1, k - s, 1.0, result.v.data(), lead, mean.data() + s,
             std::max<std::int64_t>(1, k - s), 0.0, inner.data(), lead);
  result.bias = form.mean;
  blas::gemm(Op::none, Op::none, n, 1, r, -1.0, result.u.data(), n, inner.data(), lead, 1.0, result.bias.data(), n);
  blas::gemm(Op::none, Op::none, n, 1, s, -1.0, result.b.data(), n, mean.data(), std::max<std::int64_t>(1, s), 1.0,
             result.bias.data(), n);
  return problem.grouping == Grouping::filter ? rank_as_rows(result, form.kept_rows, n, k) : result;
}

} // namespace slr
