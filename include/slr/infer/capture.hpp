#pragma once
/// \file
/// Sampling the features of a layer: which output positions, the input patch and the output there.
#include "slr/graph/layers.hpp"
#include "slr/infer/array.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace slr::infer {

/// Output positions of a layer in one image: height x width of a convolution's output, 1 x 1 for a fully connected
/// layer (height = product of the middle dimensions for a MatMul on more than two).
struct MapSize {
  std::int64_t height = 1, width = 1;
  [[nodiscard]] std::int64_t positions() const { return height * width; }
};

/// The output map of the layer for an input of these dimensions (batch first). Local.
/// \throws Error{bad_data} if the dimensions do not fit the layer.
[[nodiscard]] MapSize output_map(const graph::Layer& layer, const Dims& input);

/// How densely to sample.
struct Sampling {
  std::uint64_t seed = 1;
  std::int64_t positions = 10; ///< per image and layer; a smaller map gives all of its own
};

/// The sampled positions of one image, distinct and increasing, each in [0, map.positions()): a function of (seed,
/// image number, layer name) only, by a counter-based generator, so that it depends on no rank, batch or order. Local.
[[nodiscard]] std::vector<std::int64_t> sampled_positions(const Sampling& sampling, std::int64_t image,
                                                          const std::string& layer, MapSize map);

/// The samples of a batch: which image of the batch, which position, which sample number.
struct SampleTable {
  MapSize map;
  std::vector<std::int64_t> row;      ///< index of the image within the batch
  std::vector<std::int64_t> position; ///< y * width + x
  std::vector<std::int64_t> sample; ///< image number * sampling.positions + index of the position; increasing per image
  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(position.size()); }
};

/// Draws the positions of a batch whose images have these global numbers. Local.
[[nodiscard]] SampleTable sample_batch(const Sampling& sampling, std::span<const std::int64_t> images,
                                       const std::string& layer, MapSize map);

/// Input patches, size() x layer.cols, row-major; columns in the order of the weight matrix (channel, kernel row,
/// kernel column), zeros where the window reaches into the padding: rows of im2col. With layer.groups > 1 those of one
/// group. Local. \pre table.row indexes images of `input` \throws Error{bad_data} if the dimensions do not fit the
/// layer.
[[nodiscard]] std::vector<float> patches(const StridedView& input, const graph::Layer& layer, const SampleTable& table,
                                         std::int64_t group = 0);

/// Rows of several nodes that are one layer, in the order in which its samples are kept: of every image those of the
/// first table, then those of the second, and so on. rows[t] has one row, of the same length for all, per sample of
/// tables[t]. Local. \pre tables of the same images
[[nodiscard]] std::vector<float> interleaved(std::span<const SampleTable> tables, std::vector<std::vector<float>> rows);
/// Their numbers: (image number * tables.size() + t) * sampling.positions + index of the position. Local.
[[nodiscard]] std::vector<std::int64_t> interleaved_samples(const Sampling& sampling,
                                                            std::span<const SampleTable> tables);

/// The layer's outputs there, size() x (layer.rows / layer.groups), row-major. `output` is the value `layer.linear` or
/// `layer.output`. Local. \throws Error{bad_data} if the dimensions do not fit the layer or the map.
[[nodiscard]] std::vector<float> outputs(const StridedView& output, const graph::Layer& layer, const SampleTable& table,
                                         std::int64_t group = 0);

} // namespace slr::infer
