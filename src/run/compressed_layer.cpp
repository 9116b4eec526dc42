#include "slr/run/compressed_layer.hpp"

namespace slr::run {

graph::CompressedLayer compressed_layer(const LayerFactors& factors, const graph::Layer& layer) {
  const auto r = factors.numerical_rank;
  const auto sizes = layer.factor_sizes(std::ssize(factors.kept_groups));
  const auto transpose = [](const std::vector<double>& from, std::int64_t m, std::int64_t n) {
    std::vector<float> to(static_cast<std::size_t>(m * n));
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t j = 0; j < n; ++j)
        to[static_cast<std::size_t>(i * n + j)] = static_cast<float>(from[static_cast<std::size_t>(j * m + i)]);
    return to;
  };
  graph::CompressedLayer result;
  result.kept_groups = factors.kept_groups;
  result.rank = r;
  result.grouping = layer.grouping;
  result.U = transpose(factors.u, sizes.u_rows, r);
  result.V = transpose(factors.v, r, sizes.v_cols);
  result.B = transpose(factors.b, sizes.b_rows, sizes.b_cols);
  result.bias.assign(factors.bias.begin(), factors.bias.end());
  return result;
}

} // namespace slr::run
