#include "slr/layer/factored_map.hpp"

#include "wide_vectors.hpp"

#include "slr/linalg/blas.hpp"
#include "slr/mpi/agree.hpp"

#include <algorithm>
#include <cmath>

namespace slr {

void apply_to_features(const FactoredMap& map, const float* x, std::int64_t count, const float* features,
                       FactoredValues& values) {
  const std::int64_t n = map.rows, k = map.cols, q = map.basis_size, s = std::ssize(map.kept_columns);
  values.kept.resize(static_cast<std::size_t>(s * count));
  values.z.resize(static_cast<std::size_t>(n * count));
  for (std::int64_t c = 0; c < count; ++c) std::copy_n(map.mean.data(), n, values.z.data() + c * n);
  if (q > 0)
    blas::gemm(Op::none, Op::none, n, count, map.left_columns, 1.0F, map.left.data(), n, features, q, 1.0F,
               values.z.data(), n);
  if (s > 0) {
    for (std::int64_t c = 0; c < count; ++c)
      for (std::int64_t j = 0; j < s; ++j) {
        const auto column = map.kept_columns[static_cast<std::size_t>(j)];
        values.kept[static_cast<std::size_t>(c * s + j)] =
            x[c * k + column] - map.input_mean[static_cast<std::size_t>(column)];
      }
    blas::gemm(Op::none, Op::none, n, count, s, 1.0F, map.dense.data(), n, values.kept.data(), s, 1.0F, values.z.data(),
               n);
  }
}

void apply(const FactoredMap& map, const float* x, std::int64_t count, FactoredValues& values) {
  const std::int64_t k = map.cols, q = map.basis_size;
  values.features.resize(static_cast<std::size_t>(q * count));
  if (q > 0) {
    values.x.resize(static_cast<std::size_t>(k * count));
    for (std::int64_t c = 0; c < count; ++c)
      subtract(static_cast<std::size_t>(k), x + c * k, map.input_mean.data(), values.x.data() + c * k);
    const float limit = std::ldexp(1.0F, map.feature_exponent);
    blas::gemm(Op::none, Op::none, q, count, k, 1.0F, map.basis.data(), q, values.x.data(), k, 0.0F,
               values.features.data(), q);
    for (float& phi : values.features) phi = std::clamp(phi, -limit, limit);
  }
  apply_to_features(map, x, count, values.features.data(), values);
}

void RememberedFeatures::begin(const FactoredMap& map, std::int64_t samples) {
  const auto size = static_cast<std::size_t>(map.basis_size * samples);
  are_known_ = map.basis == basis_ && features_.size() == size;
  if (are_known_) return;
  basis_ = map.basis;
  features_.resize(size);
}

const float* RememberedFeatures::apply(const FactoredMap& map, const float* x, std::int64_t first, std::int64_t count,
                                       FactoredValues& values) {
  float* const here = features_.data() + first * map.basis_size;
  if (are_known_) {
    apply_to_features(map, x, count, here, values);
  } else {
    slr::apply(map, x, count, values);
    std::copy(values.features.begin(), values.features.end(), here);
  }
  return here;
}

double relative_error(const Communicator& comm, const LayerProblem& problem, const Samples& samples,
                      const FactoredMap& map, RememberedFeatures& features) {
  RelativeError error(problem);
  FactoredValues values;
  collectively(comm, [&] {
    features.begin(map, samples.count);
    for_each_sample_block(samples, [&](std::int64_t first, std::int64_t count) {
      (void)features.apply(map, samples.x.data() + first * problem.cols, first, count, values);
      error.add(samples, first, count, std::span<const float>(values.z));
    });
  });
  return error.value(comm);
}

double relative_error(const Communicator& comm, const LayerProblem& problem, const Samples& samples,
                      const LayerFactors& given) {
  const auto factors = rows_as_rank(given, problem.rows, problem.cols);
  const std::int64_t n = problem.rows, k = problem.cols, r = factors.numerical_rank;
  const auto order = kept_then_rest(factors.kept_groups, k, problem.group_columns);
  const auto s = std::ssize(factors.kept_groups) * problem.group_columns;
  const auto lead = [](std::int64_t rows) { return std::max<std::int64_t>(1, rows); };
  RelativeError error(problem);
  std::vector<double> x, inner, z;
  collectively(comm, [&] {
    for_each_sample_block(samples, [&](std::int64_t first, std::int64_t count) {
      x.resize(static_cast<std::size_t>(k * count));
      inner.resize(static_cast<std::size_t>(r * count));
      z.resize(static_cast<std::size_t>(n * count));
      for (std::int64_t c = 0; c < count; ++c) {
        const float* const from = samples.x.data() + (first + c) * k;
        for (std::int64_t j = 0; j < k; ++j)
          x[static_cast<std::size_t>(c * k + j)] = from[order[static_cast<std::size_t>(j)]];
        std::copy(factors.bias.begin(), factors.bias.end(), z.begin() + c * n);
      }
      // Z = U (V X_R) + B X_S + b
      blas::gemm(Op::none, Op::none, r, count, k - s, 1.0, factors.v.data(), lead(r), x.data() + s, k, 0.0,
                 inner.data(), lead(r));
      blas::gemm(Op::none, Op::none, n, count, r, 1.0, factors.u.data(), n, inner.data(), lead(r), 1.0, z.data(), n);
      blas::gemm(Op::none, Op::none, n, count, s, 1.0, factors.b.data(), n, x.data(), k, 1.0, z.data(), n);
      error.add(samples, first, count, std::span<const double>(z));
    });
  });
  return error.value(comm);
}

} // namespace slr
