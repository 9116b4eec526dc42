#pragma once
/// \file
/// From the solver's factors to what is written into the network.
#include "slr/graph/rewrite.hpp"
#include "slr/layer/problem.hpp"

namespace slr::run {

/// The factors in single precision and row-major, as the graph takes them. Local.
[[nodiscard]] graph::CompressedLayer compressed_layer(const LayerFactors& factors, std::int64_t rows, std::int64_t cols,
                                                      std::int64_t group_columns);

} // namespace slr::run
