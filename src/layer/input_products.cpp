#include "input_products.hpp"

#include "wide_vectors.hpp"

#include "slr/layer/factored_map.hpp"
#include "slr/linalg/blas.hpp"

#include <algorithm>

namespace slr {

void add_products_with_inputs(const LayerProblem& problem, const std::vector<float>& input_mean,
                              const std::vector<float>& values, std::int64_t size, BlockSums& sums) {
  constexpr std::int64_t panel_columns = 512; // whose sums stay in the cache from block to block
  const std::int64_t k = problem.cols;
  std::vector<float> product, inputs;
  for (std::int64_t j = 0; j < k && size > 0; j += panel_columns) {
    const auto width = std::min(panel_columns, k - j);
    product.resize(static_cast<std::size_t>(size * width));
    for_each_sample_block(problem.fit, [&](std::int64_t first, std::int64_t count) {
      inputs.resize(static_cast<std::size_t>(width * count));
      for (std::int64_t c = 0; c < count; ++c) {
        const auto* x = problem.fit.x.data() + (first + c) * k + j;
        subtract(static_cast<std::size_t>(width), x, input_mean.data() + j, inputs.data() + c * width);
      }
      blas::gemm(Op::none, Op::transpose, size, width, count, 1.0F, values.data() + first * size, size, inputs.data(),
                 width, 0.0F, product.data(), size);
      sums.add(std::span<const float>(product), static_cast<std::size_t>(j));
    });
  }
}

} // namespace slr
