#include "slr/infer/preprocess.hpp"

#include "slr/base/error.hpp"

#include <array>
#include <cmath>

namespace slr::infer {

namespace {

constexpr std::int64_t rgb_channels = 3;

double number_for(const std::vector<double>& numbers, std::int64_t channel, std::int64_t channels, const char* key) {
  if (numbers.size() != 1 && static_cast<std::int64_t>(numbers.size()) != channels)
    throw Error(ExitCode::configuration, std::string("data.preprocess.") + key + " has " +
                                             std::to_string(numbers.size()) + " numbers, but the network's input has " +
                                             std::to_string(channels) + " channels");
  return numbers[numbers.size() == 1 ? 0 : static_cast<std::size_t>(channel)];
}

/// What becomes of each of the 256 pixel values in one channel.
std::array<float, 256> table_for(const Preprocess& settings, std::int64_t channel, std::int64_t channels) {
  const double mean = number_for(settings.mean, channel, channels, "mean");
  const double deviation = number_for(settings.std, channel, channels, "std");
  if (deviation == 0 || !std::isfinite(deviation) || !std::isfinite(mean) || !std::isfinite(settings.scale))
    throw Error(ExitCode::configuration,
                "data.preprocess: scale, mean and std must be finite and std must not be zero");
  std::array<float, 256> table{};
  for (std::size_t pixel = 0; pixel < table.size(); ++pixel)
    table[pixel] = static_cast<float>((static_cast<double>(pixel) * settings.scale - mean) / deviation);
  return table;
}

void check_images(std::span<const std::uint8_t> pixels, const Dims& dims, const InputShape& input) {
  if (dims.size() != 4 || graph::element_count(dims) != static_cast<std::int64_t>(pixels.size()))
    throw Error(ExitCode::bad_data, "the packed images' dimensions do not fit their pixels");
  const bool replicated = dims[1] == 1 && input.channels == rgb_channels;
  if (dims[1] != input.channels && !replicated)
    throw Error(ExitCode::bad_data, "images of " + std::to_string(dims[1]) + " channels do not fit a network for " +
                                        std::to_string(input.channels) + " channels");
  if (dims[2] < input.height || dims[3] < input.width)
    throw Error(ExitCode::bad_data, "images of " + std::to_string(dims[2]) + " x " + std::to_string(dims[3]) +
                                        " are smaller than the network's input of " + std::to_string(input.height) +
                                        " x " + std::to_string(input.width));
}

} // namespace

InputShape input_shape(const graph::Model& model) {
  const bool is_image = model.inputs.size() == 1 && model.inputs[0].dims.size() == 4;
  if (!is_image || model.inputs[0].dims[1] < 1 || model.inputs[0].dims[2] < 1 || model.inputs[0].dims[3] < 1)
    throw Error(ExitCode::bad_data,
                "the network must have exactly one input, N x channels x height x width, with only the batch N free");
  return {model.inputs[0].dims[1], model.inputs[0].dims[2], model.inputs[0].dims[3]};
}

Array preprocess(const Preprocess& settings, std::span<const std::uint8_t> pixels, const Dims& dims,
                 const InputShape& input) {
  check_images(pixels, dims, input);
  Array result;
  result.dims = {dims[0], input.channels, input.height, input.width};
  result.data.resize(static_cast<std::size_t>(graph::element_count(result.dims)));
  const std::int64_t top = (dims[2] - input.height) / 2, left = (dims[3] - input.width) / 2;
  const bool swaps = settings.channels == ChannelOrder::bgr && dims[1] == rgb_channels;
  for (std::int64_t c = 0; c < input.channels; ++c) {
    const std::array<float, 256> table = table_for(settings, c, input.channels);
    const std::int64_t stored = dims[1] == 1 ? 0 : (swaps ? rgb_channels - 1 - c : c);
    for (std::int64_t n = 0; n < dims[0]; ++n)
      for (std::int64_t y = 0; y < input.height; ++y) {
        const std::uint8_t* from = pixels.data() + ((n * dims[1] + stored) * dims[2] + top + y) * dims[3] + left;
        float* to = result.data.data() + ((n * input.channels + c) * input.height + y) * input.width;
        for (std::int64_t x = 0; x < input.width; ++x) to[x] = table[from[x]];
      }
  }
  return result;
}

} // namespace slr::infer
