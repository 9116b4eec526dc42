#pragma once
// Compressed layers for the tests.
#include "slr/graph/rewrite.hpp"

#include <random>
#include <vector>

namespace slr::graph {

inline CompressedLayer random_factors(const Layer& layer, std::int64_t target_rank,
                                      const std::vector<std::int64_t>& kept, unsigned seed) {
  std::mt19937 engine(seed);
  const auto numbers = [&](std::int64_t n) {
    std::vector<float> values(static_cast<std::size_t>(n));
    for (auto& value : values) value = static_cast<float>(engine()) / float(std::mt19937::max()) * 2 - 1;
    return values;
  };
  const auto sizes = layer.factor_sizes(static_cast<std::int64_t>(kept.size()));
  return {kept,
          target_rank,
          numbers(sizes.u_rows * target_rank),
          numbers(target_rank * sizes.v_cols),
          numbers(sizes.b_rows * sizes.b_cols),
          numbers(layer.rows),
          layer.grouping};
}

} // namespace slr::graph
