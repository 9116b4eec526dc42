#pragma once
/// \file
/// From stored 8-bit images to a network's input.
#include "slr/infer/array.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace slr::infer {

enum class ChannelOrder { rgb, bgr };

/// (pixel * scale - mean) / std per channel, after the channels have been put in the named order.
struct Preprocess {
  double scale = 1;
  std::vector<double> mean{0}; ///< one number for all channels, or one per input channel in the named order
  std::vector<double> std{1};  ///< likewise, not zero
  ChannelOrder channels = ChannelOrder::rgb;
};

/// What one image of the network's input looks like.
struct InputShape {
  std::int64_t channels = 0, height = 0, width = 0;
};

/// The shape of the model's only input. Local.
/// \throws Error{bad_data} if the model has not exactly one input of four dimensions, the last three of them numbers.
[[nodiscard]] InputShape input_shape(const graph::Model& model);

/// N x C x H x W pixels, RGB or grey, as the network's input N x channels x height x width. Grey images are replicated
/// if the input has three channels; larger ones are cut in the centre at offset floor((size - input) / 2). Computed in
/// double and rounded once. Local. \throws Error{bad_data} if the images are smaller than the input or have other
/// channels, Error{configuration} if mean or std have the wrong length or std is zero.
[[nodiscard]] Array preprocess(const Preprocess& settings, std::span<const std::uint8_t> pixels, const Dims& dims,
                               const InputShape& input);

} // namespace slr::infer
