#pragma once
/// \file
/// From the solver's factors to what is written into the network.
#include "slr/graph/rewrite.hpp"
#include "slr/layer/problem.hpp"

namespace slr::run {

/// The factors of this layer in single precision and row-major, as the graph takes them. Local.
[[nodiscard]] graph::CompressedLayer compressed_layer(const LayerFactors& factors, const graph::Layer& layer);

} // namespace slr::run
