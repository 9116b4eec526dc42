#pragma once
/// \file
/// Which channels go where when a layer is split.
#include "slr/graph/rewrite.hpp"

#include <span>
#include <vector>

namespace slr::graph {

/// Where the kept channels lie among all of them.
enum class Placement { first, last, scattered };

/// \pre the kept channels increase.
[[nodiscard]] Placement placement_of(std::span<const std::int64_t> kept, std::int64_t channels);

/// The channels that are not kept, increasing.
[[nodiscard]] std::vector<std::int64_t> rest_of(std::span<const std::int64_t> kept, std::int64_t channels);

} // namespace slr::graph
