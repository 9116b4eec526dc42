#include "wide_vectors.hpp"

namespace slr {

SLR_WIDE_VECTORS
void subtract(std::size_t count, const float* __restrict a, const float* __restrict b, float* __restrict difference) {
  for (std::size_t i = 0; i < count; ++i) difference[i] = a[i] - b[i];
}

} // namespace slr
