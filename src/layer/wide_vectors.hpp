#pragma once
/// \file
/// Loops over elements for processors with wider vectors than those that everything else is compiled for.
#include "slr/base/wide_vectors.hpp"

#include <cstddef>

namespace slr {

/// difference = a - b, element by element. Local, linear.
void subtract(std::size_t count, const float* a, const float* b, float* difference);

} // namespace slr
