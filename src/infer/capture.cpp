#include "slr/infer/capture.hpp"

#include "slr/base/error.hpp"
#include "window.hpp"

#include <algorithm>
#include <numeric>
#include <string_view>

namespace slr::infer {

namespace {

using graph::Layer;
using graph::LayerKind;

[[noreturn]] void mismatch(const Layer& layer, const std::string& sentence) {
  throw Error(ExitCode::bad_data, "layer '" + layer.name + "': " + sentence);
}

/// The finalizer of splitmix64 (Steele, Lea, Flood 2014): a bijection whose output bits all depend on all input bits.
std::uint64_t mixed(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

std::uint64_t mixed_text(std::uint64_t seed, std::string_view text) {
  for (const char c : text) seed = mixed(seed ^ static_cast<unsigned char>(c));
  return mixed(seed ^ text.size());
}

/// Uniform in [0, bound) up to a bias of bound / 2^64.
std::int64_t below(std::uint64_t random, std::int64_t bound) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::int64_t>((Wide(random) * static_cast<std::uint64_t>(bound)) >> 64);
}

ResolvedWindow window_of(const Layer& layer, const Dims& spatial) {
  graph::Node node;
  node.attributes["strides"] = std::vector<std::int64_t>(layer.window.strides.begin(), layer.window.strides.end());
  node.attributes["dilations"] =
      std::vector<std::int64_t>(layer.window.dilations.begin(), layer.window.dilations.end());
  node.attributes["pads"] = std::vector<std::int64_t>(layer.window.pads.begin(), layer.window.pads.end());
  node.attributes["auto_pad"] = layer.window.auto_pad;
  return resolve_window(node, spatial, {layer.window.kernel[0], layer.window.kernel[1]});
}

std::int64_t channels_per_group(const Layer& layer) {
  const std::int64_t area = layer.window_area();
  if (area < 1 || layer.groups < 1 || layer.cols % area != 0 || layer.rows % layer.groups != 0)
    mismatch(layer, "its weight matrix does not fit its window and groups");
  return layer.cols / area;
}

void check_array(const StridedView& array, const Layer& layer, const SampleTable& table, std::int64_t group) {
  require(group >= 0 && group < layer.groups, "a group of channels that the layer does not have was sampled");
  require(table.row.size() == table.position.size(), "a table of samples contradicts itself");
  for (std::size_t s = 0; s < table.row.size(); ++s)
    require(table.row[s] >= 0 && table.row[s] < array.images() && table.position[s] >= 0 &&
                table.position[s] < table.map.positions(),
            "a sample lies outside of its batch");
}

/// One patch: channels x kernel window whose top left cell is (y, x) of the image, zeros outside.
void copy_patch(const StridedView& input, const float* image, std::int64_t channels, const ResolvedWindow& w,
                std::int64_t top, std::int64_t left, float* patch) {
  const std::int64_t area = w.kernel[0] * w.kernel[1];
  for (std::int64_t ky = 0; ky < w.kernel[0]; ++ky)
    for (std::int64_t kx = 0; kx < w.kernel[1]; ++kx, ++patch) {
      const std::int64_t y = top + ky * w.dilations[0], x = left + kx * w.dilations[1];
      const bool inside = y >= 0 && y < input.dims[2] && x >= 0 && x < input.dims[3];
      const float* from = image + y * input.strides[2] + x * input.strides[3];
      for (std::int64_t c = 0; c < channels; ++c) patch[c * area] = inside ? from[c * input.strides[1]] : 0.0F;
    }
}

std::vector<float> convolution_patches(const StridedView& input, const Layer& layer, const SampleTable& table,
                                       std::int64_t group) {
  const std::int64_t channels = channels_per_group(layer);
  const ResolvedWindow w = window_of(layer, {input.dims[2], input.dims[3]});
  std::vector<float> result(static_cast<std::size_t>(table.size() * layer.cols));
  for (std::size_t s = 0; s < table.position.size(); ++s) {
    const std::int64_t y = table.position[s] / table.map.width, x = table.position[s] % table.map.width;
    const float* image = input.data + table.row[s] * input.strides[0] + group * channels * input.strides[1];
    copy_patch(input, image, channels, w, y * w.strides[0] - w.pads_begin[0], x * w.strides[1] - w.pads_begin[1],
               result.data() + static_cast<std::int64_t>(s) * layer.cols);
  }
  return result;
}

/// Rows along the last dimension of an array N x .. x length, whose middle dimensions are the positions.
std::vector<float> sampled_rows(const StridedView& array, const SampleTable& table, std::int64_t length) {
  std::vector<float> result(static_cast<std::size_t>(table.size() * length));
  auto* to = result.data();
  for (std::size_t s = 0; s < table.position.size(); ++s) {
    const float* from = array.data + table.row[s] * array.strides[0];
    auto position = table.position[s];
    for (std::size_t d = array.dims.size() - 1; d-- > 1;) {
      from += position % array.dims[d] * array.strides[d];
      position /= array.dims[d];
    }
    for (std::int64_t i = 0; i < length; ++i) *to++ = from[i * array.strides.back()];
  }
  return result;
}

} // namespace

MapSize output_map(const Layer& layer, const Dims& input) {
  if (layer.kind == LayerKind::fully_connected) {
    if (input.size() < 2 || input.back() != layer.cols)
      mismatch(layer, "its input does not have " + std::to_string(layer.cols) + " columns");
    return {graph::element_count(Dims(input.begin() + 1, input.end() - 1)), 1};
  }
  if (input.size() != 4 || input[1] != channels_per_group(layer) * layer.groups)
    mismatch(layer, "its input does not have " + std::to_string(channels_per_group(layer) * layer.groups) +
                        " channels of two dimensions");
  try {
    const ResolvedWindow w = window_of(layer, {input[2], input[3]});
    return {w.output[0], w.output[1]};
  } catch (const Error& error) {
    mismatch(layer, error.what());
  }
}

std::vector<std::int64_t> sampled_positions(const Sampling& sampling, std::int64_t image, const std::string& layer,
                                            MapSize map) {
  const std::int64_t all = map.positions(), wanted = std::min(sampling.positions, all);
  std::vector<std::int64_t> chosen;
  if (wanted == all) {
    chosen.resize(static_cast<std::size_t>(all));
    std::iota(chosen.begin(), chosen.end(), 0);
    return chosen;
  }
  const std::uint64_t key = mixed(mixed_text(mixed(sampling.seed), layer) ^ static_cast<std::uint64_t>(image));
  // Floyd's method: each subset of this size is equally likely, with one draw per element.
  for (std::int64_t top = all - wanted; top < all; ++top) {
    const std::int64_t drawn = below(mixed(key ^ mixed(static_cast<std::uint64_t>(top))), top + 1);
    const auto place = std::lower_bound(chosen.begin(), chosen.end(), drawn);
    if (place == chosen.end() || *place != drawn)
      chosen.insert(place, drawn);
    else
      chosen.push_back(top); // larger than all before
  }
  return chosen;
}

SampleTable sample_batch(const Sampling& sampling, std::span<const std::int64_t> images, const std::string& layer,
                         MapSize map) {
  require(sampling.positions >= 1 && map.positions() >= 1, "a layer without positions was sampled");
  SampleTable table;
  table.map = map;
  for (std::size_t row = 0; row < images.size(); ++row) {
    const std::vector<std::int64_t> positions = sampled_positions(sampling, images[row], layer, map);
    for (std::size_t p = 0; p < positions.size(); ++p) {
      table.row.push_back(static_cast<std::int64_t>(row));
      table.position.push_back(positions[p]);
      table.sample.push_back(images[row] * sampling.positions + static_cast<std::int64_t>(p));
    }
  }
  return table;
}

namespace {

/// Calls take(t, s) for every sample s of every table t, image by image.
template <class Take>
void image_by_image(std::span<const SampleTable> tables, Take&& take) {
  std::vector<std::size_t> next(tables.size(), 0);
  bool is_over = false;
  for (std::int64_t row = 0; !is_over; ++row) {
    is_over = true;
    for (std::size_t t = 0; t < tables.size(); ++t) {
      const auto& rows = tables[t].row;
      for (; next[t] < rows.size() && rows[next[t]] == row; ++next[t]) take(t, next[t]);
      is_over = is_over && next[t] == rows.size();
    }
  }
}

} // namespace

std::vector<float> interleaved(std::span<const SampleTable> tables, std::vector<std::vector<float>> rows) {
  require(tables.size() == rows.size() && !rows.empty(), "samples of several nodes do not fit their tables");
  if (rows.size() == 1) return std::move(rows.front());
  std::vector<float> result;
  image_by_image(tables, [&](std::size_t t, std::size_t s) {
    const auto width = rows[t].size() / tables[t].row.size();
    const auto from = rows[t].begin() + static_cast<std::ptrdiff_t>(s * width);
    result.insert(result.end(), from, from + static_cast<std::ptrdiff_t>(width));
  });
  return result;
}

std::vector<std::int64_t> interleaved_samples(const Sampling& sampling, std::span<const SampleTable> tables) {
  std::vector<std::int64_t> result;
  const auto count = static_cast<std::int64_t>(tables.size());
  image_by_image(tables, [&](std::size_t t, std::size_t s) {
    const auto sample = tables[t].sample[s], image = sample / sampling.positions;
    result.push_back((image * count + static_cast<std::int64_t>(t)) * sampling.positions + sample % sampling.positions);
  });
  return result;
}

std::vector<float> patches(const StridedView& input, const Layer& layer, const SampleTable& table, std::int64_t group) {
  const MapSize map = output_map(layer, input.dims);
  if (map.height != table.map.height || map.width != table.map.width)
    mismatch(layer, "its samples were drawn for another input size");
  check_array(input, layer, table, group);
  if (layer.kind == LayerKind::convolution) return convolution_patches(input, layer, table, group);
  return sampled_rows(input, table, layer.cols);
}

std::vector<float> outputs(const StridedView& output, const Layer& layer, const SampleTable& table,
                           std::int64_t group) {
  check_array(output, layer, table, group);
  const std::int64_t positions = table.map.positions();
  const bool is_convolution = layer.kind == LayerKind::convolution;
  const bool fits = is_convolution ? output.dims.size() == 4 && output.dims[1] == layer.rows &&
                                         output.dims[2] * output.dims[3] == positions
                                   : output.dims.size() >= 2 && output.dims.back() == layer.rows;
  if (output.images() > 0 && (!fits || graph::element_count(output.dims) != output.images() * positions * layer.rows))
    mismatch(layer, "its output does not have " + std::to_string(layer.rows) + " channels at " +
                        std::to_string(positions) + " positions");
  if (!is_convolution) return sampled_rows(output, table, layer.rows);
  const std::int64_t rows = layer.rows / layer.groups;
  std::vector<float> result(static_cast<std::size_t>(table.size() * rows));
  auto* to = result.data();
  for (std::size_t s = 0; s < table.position.size(); ++s) {
    const auto position = table.position[s];
    const float* from = output.data + table.row[s] * output.strides[0] + group * rows * output.strides[1] +
                        position / output.dims[3] * output.strides[2] + position % output.dims[3] * output.strides[3];
    for (std::int64_t r = 0; r < rows; ++r) *to++ = from[r * output.strides[1]];
  }
  return result;
}

} // namespace slr::infer
