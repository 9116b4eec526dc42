#pragma once
/// \file
/// Which channels go where when a layer is split.
#include "slr/graph/rewrite.hpp"

#include <array>
#include <optional>
#include <span>
#include <vector>

namespace slr::graph {

/// Where the kept channels (or rows) lie among all of them.
enum class Placement { first, last, scattered };

/// \pre the kept channels increase.
[[nodiscard]] Placement placement_of(std::span<const std::int64_t> kept, std::int64_t channels);

/// The channels that are not kept, increasing.
[[nodiscard]] std::vector<std::int64_t> rest_of(std::span<const std::int64_t> kept, std::int64_t channels);

/// The channels that columns belong to, each once. \pre the columns increase.
[[nodiscard]] std::vector<std::int64_t> channels_of(std::span<const std::int64_t> columns, std::int64_t area);

/// Top, left, bottom, right, unless they depend on the size of the input.
[[nodiscard]] std::optional<std::array<std::int64_t, 4>> fixed_pads(const Window& window);

/// What a 1x1 convolution with the layer's strides needs for the kept columns of one place of the kernel: these
/// channels, their maps padded like that (cut where negative), so that every output position finds its input there.
struct KeptPlace {
  std::int64_t number = 0;
  std::vector<std::int64_t> channels, columns; ///< columns: their numbers among the kept ones
  std::array<std::int64_t, 4> pads{0, 0, 0, 0};
  [[nodiscard]] bool is_shifted() const { return pads != std::array<std::int64_t, 4>{0, 0, 0, 0}; }
};
/// The places that have kept columns. \pre fixed_pads
[[nodiscard]] std::vector<KeptPlace> places_of(const Layer& layer, std::span<const std::int64_t> columns);

} // namespace slr::graph
