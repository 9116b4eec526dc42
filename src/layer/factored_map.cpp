#include "slr/layer/factored_map.hpp"

#include "slr/linalg/blas.hpp"
#include "slr/mpi/agree.hpp"

#include <algorithm>
#include <cmath>
#include <functional>

namespace slr {

void apply(const FactoredMap& map, const float* x, std::int64_t count, FactoredValues& values) {
  const std::int64_t n = map.rows, k = map.cols, q = map.basis_size, s = std::ssize(map.kept_columns);
  values.features.resize(static_cast<std::size_t>(q * count));
  values.kept.resize(static_cast<std::size_t>(s * count));
  values.z.resize(static_cast<std::size_t>(n * count));
  values.x.resize(static_cast<std::size_t>(k * count));
  for (std::int64_t c = 0; c < count; ++c) {
    std::copy_n(map.mean.data(), n, values.z.data() + c * n);
    std::transform(x + c * k, x + (c + 1) * k, map.input_mean.begin(), values.x.begin() + c * k, std::minus<>());
  }
  if (q > 0) {
    const float limit = std::ldexp(1.0F, map.feature_exponent);
    blas::gemm(Op::none, Op::none, q, count, k, 1.0F, map.basis.data(), q, values.x.data(), k, 0.0F,
               values.features.data(), q);
    for (float& phi : values.features) phi = std::clamp(phi, -limit, limit);
    blas::gemm(Op::none, Op::none, n, count, map.numerical_rank, 1.0F, map.left.data(), n, values.features.data(), q,
               1.0F, values.z.data(), n);
  }
  if (s > 0) {
    for (std::int64_t c = 0; c < count; ++c)
      for (std::int64_t j = 0; j < s; ++j)
        values.kept[static_cast<std::size_t>(c * s + j)] =
            values.x[static_cast<std::size_t>(c * k + map.kept_columns[static_cast<std::size_t>(j)])];
    blas::gemm(Op::none, Op::none, n, count, s, 1.0F, map.dense.data(), n, values.kept.data(), s, 1.0F, values.z.data(),
               n);
  }
}

double relative_error(const Communicator& comm, const LayerProblem& problem, const Samples& samples,
                      const FactoredMap& map) {
  RelativeError error(problem);
  FactoredValues values;
  collectively(comm, [&] {
    for_each_sample_block(samples, [&](std::int64_t first, std::int64_t count) {
      apply(map, samples.x.data() + first * problem.cols, count, values);
      error.add(samples, first, count, std::span<const float>(values.z));
    });
  });
  return error.value(comm);
}

} // namespace slr
