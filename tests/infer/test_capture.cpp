// Sampled patches times weights are the sampled outputs; positions depend on nothing but their key.
#include "network.hpp"
#include "slr/infer/capture.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

namespace slr::test {
namespace {

using infer::MapSize;
using infer::Sampling;

graph::Layer convolution(std::int64_t rows, std::int64_t channels, const Ints& kernel, std::int64_t groups = 1) {
  graph::Layer layer;
  layer.name = "conv";
  layer.rows = rows;
  layer.groups = groups;
  layer.cols = channels / groups * kernel[0] * kernel[1];
  layer.window.kernel = {kernel[0], kernel[1]};
  return layer;
}

std::vector<std::int64_t> consecutive(std::int64_t count, std::int64_t first = 0) {
  std::vector<std::int64_t> images(static_cast<std::size_t>(count));
  std::iota(images.begin(), images.end(), first);
  return images;
}

/// |W x + b - y| <= (k + 1) u sum |w x| at every sample.
void expect_product(const std::vector<float>& x, const float* w, const std::vector<float>& y, std::int64_t rows,
                    std::int64_t cols) {
  const auto samples = static_cast<std::int64_t>(y.size()) / rows;
  ASSERT_EQ(static_cast<std::int64_t>(x.size()), samples * cols);
  for (std::int64_t s = 0; s < samples; ++s)
    for (std::int64_t r = 0; r < rows; ++r) {
      double sum = 0, magnitude = 0;
      for (std::int64_t k = 0; k < cols; ++k) {
        const double term =
            static_cast<double>(w[r * cols + k]) * static_cast<double>(x[static_cast<std::size_t>(s * cols + k)]);
        sum += term;
        magnitude += std::abs(term);
      }
      ASSERT_NEAR(static_cast<double>(y[static_cast<std::size_t>(s * rows + r)]), sum,
                  static_cast<double>(cols + 1) * unit_roundoff * magnitude);
    }
}

TEST(Capture, PatchesTimesWeightsAreTheOutputs) {
  struct Case {
    Ints kernel, strides, dilations, pads;
    std::int64_t groups;
    std::string auto_pad;
  };
  for (const Case& c : {Case{{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 1, "NOTSET"},
                        Case{{3, 2}, {2, 1}, {1, 2}, {0, 2, 1, 0}, 1, "NOTSET"},
                        Case{{3, 3}, {2, 2}, {1, 1}, {0, 0, 0, 0}, 1, "SAME_UPPER"},
                        Case{{1, 1}, {1, 1}, {1, 1}, {0, 0, 0, 0}, 1, "VALID"},
                        Case{{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 2, "NOTSET"}}) {
    graph::Layer layer = convolution(10, 6, c.kernel, c.groups);
    for (std::size_t d = 0; d < 2; ++d) {
      layer.window.strides[d] = c.strides[d];
      layer.window.dilations[d] = c.dilations[d];
    }
    std::copy(c.pads.begin(), c.pads.end(), layer.window.pads.begin());
    layer.window.auto_pad = c.auto_pad;
    std::map<std::string, graph::Attribute> attributes{
        {"strides", c.strides}, {"dilations", c.dilations}, {"group", c.groups}};
    if (c.auto_pad == "NOTSET")
      attributes["pads"] = c.pads;
    else
      attributes["auto_pad"] = c.auto_pad;
    const Array x = array({5, 6, 9, 8}), w = array({10, 6 / c.groups, c.kernel[0], c.kernel[1]}, 2);
    const Array y = Network({6, 9, 8}).constant("w", w).node("Conv", {"x", "w"}, {"y"}, attributes).run(x);

    const MapSize map = infer::output_map(layer, x.dims);
    ASSERT_EQ((Dims{map.height, map.width}), (Dims{y.dims[2], y.dims[3]}));
    const auto table = infer::sample_batch({.seed = 3, .positions = 7}, consecutive(5, 100), layer.name, map);
    ASSERT_EQ(table.size(), 5 * 7);
    for (std::int64_t g = 0; g < c.groups; ++g)
      expect_product(infer::patches(x, layer, table, g), w.data.data() + g * (10 / c.groups) * layer.cols,
                     infer::outputs(y, layer, table, g), 10 / c.groups, layer.cols);
  }
}

TEST(Capture, FullyConnectedLayersHaveOnePositionPerRow) {
  graph::Layer layer;
  layer.name = "fc";
  layer.kind = graph::LayerKind::fully_connected;
  layer.rows = 6;
  layer.cols = 8;
  const Array w = array({8, 6}, 2);
  std::vector<float> weight(48); // rows x cols
  for (std::size_t r = 0; r < 6; ++r)
    for (std::size_t k = 0; k < 8; ++k) weight[r * 8 + k] = w.data[k * 6 + r];
  for (const Dims& dims : {Dims{5, 8}, Dims{5, 4, 8}}) {
    const Array x = array(dims);
    const Array y =
        Network(Dims(dims.begin() + 1, dims.end())).constant("w", w).node("MatMul", {"x", "w"}, {"y"}).run(x);
    const MapSize map = infer::output_map(layer, dims);
    EXPECT_EQ(map.positions(), dims.size() == 2 ? 1 : 4);
    const auto table = infer::sample_batch({.seed = 1, .positions = 3}, consecutive(5), layer.name, map);
    EXPECT_EQ(table.size(), dims.size() == 2 ? 5 : 15);
    expect_product(infer::patches(x, layer, table), weight.data(), infer::outputs(y, layer, table), 6, 8);
  }
}

TEST(Capture, PositionsAreDistinctIncreasingAndInside) {
  for (const std::int64_t wanted : {1, 2, 9, 10, 11, 99, 100, 101}) {
    const auto chosen = infer::sampled_positions({.seed = 1, .positions = wanted}, 17, "layer", {10, 10});
    EXPECT_EQ(static_cast<std::int64_t>(chosen.size()), std::min<std::int64_t>(wanted, 100));
    EXPECT_TRUE(std::is_sorted(chosen.begin(), chosen.end()));
    EXPECT_EQ(std::set<std::int64_t>(chosen.begin(), chosen.end()).size(), chosen.size());
    EXPECT_GE(chosen.front(), 0);
    EXPECT_LT(chosen.back(), 100);
  }
}

TEST(Capture, PositionsDependOnTheirKeyOnly) {
  const Sampling sampling{.seed = 5, .positions = 10};
  const MapSize map{32, 32};
  const auto whole = infer::sample_batch(sampling, consecutive(20), "conv", map);
  const auto tail = infer::sample_batch(sampling, consecutive(4, 16), "conv", map);
  EXPECT_TRUE(std::equal(tail.position.begin(), tail.position.end(), whole.position.begin() + 160));
  EXPECT_TRUE(std::equal(tail.sample.begin(), tail.sample.end(), whole.sample.begin() + 160));
  EXPECT_EQ(whole.sample[163], 16 * 10 + 3);
  EXPECT_EQ(tail.row[10], 1);
  const auto base = infer::sampled_positions(sampling, 3, "conv", map);
  EXPECT_NE(infer::sampled_positions(sampling, 4, "conv", map), base);
  EXPECT_NE(infer::sampled_positions(sampling, 3, "conv2", map), base);
  EXPECT_NE(infer::sampled_positions({.seed = 6, .positions = 10}, 3, "conv", map), base);
}

TEST(Capture, EveryPositionIsEquallyLikely) {
  // 4 of 20 positions for 20,000 images: each about 4,000 times, standard deviation sqrt(20000 * .2 * .8) = 57.
  std::vector<int> count(20);
  for (std::int64_t image = 0; image < 20000; ++image)
    for (const std::int64_t p : infer::sampled_positions({.seed = 2, .positions = 4}, image, "conv", {4, 5}))
      ++count[static_cast<std::size_t>(p)];
  for (const int c : count) EXPECT_NEAR(c, 4000, 5 * 57);
}

TEST(Capture, RefusesArraysOfAnotherLayer) {
  const graph::Layer layer = convolution(4, 3, {3, 3});
  EXPECT_NE(refusal([&] { return infer::output_map(layer, {1, 5, 8, 8}); }).find("layer 'conv'"), std::string::npos);
  EXPECT_NE(refusal([&] { return infer::output_map(layer, {1, 3, 2, 8}); }).find("does not fit"), std::string::npos);
  const auto table = infer::sample_batch({}, consecutive(1), "conv", {6, 6});
  EXPECT_NE(refusal([&] {
              return infer::patches(array({1, 3, 9, 9}), layer, table);
            }).find("another input size"),
            std::string::npos);
  EXPECT_NE(refusal([&] {
              return infer::outputs(array({1, 5, 6, 6}), layer, table);
            }).find("4 channels"),
            std::string::npos);
}

TEST(Capture, SamplesOfSeveralNodesFollowEachOtherImageByImage) {
  const Sampling sampling{1, 3};
  const auto images = consecutive(4, 7);
  const std::vector<infer::SampleTable> tables{
      infer::sample_batch(sampling, images, "a", {5, 5}),
      infer::sample_batch(sampling, images, "b", {1, 2})}; // only two positions
  std::vector<std::vector<float>> rows(2);
  for (std::size_t t = 0; t < 2; ++t)
    for (std::size_t s = 0; s < tables[t].row.size(); ++s)
      for (const auto value : {tables[t].row[s], tables[t].position[s]})
        rows[t].push_back(static_cast<float>(10000 * static_cast<std::int64_t>(t) + value));
  const auto numbers = infer::interleaved_samples(sampling, tables);
  const auto merged = infer::interleaved(tables, rows);
  ASSERT_EQ(numbers.size(), 4U * (3 + 2));
  ASSERT_EQ(merged.size(), 2 * numbers.size());
  std::size_t at = 0;
  for (std::int64_t i = 0; i < 4; ++i)
    for (std::size_t t = 0; t < 2; ++t)
      for (std::int64_t p = 0; p < (t == 0 ? 3 : 2); ++p, ++at) {
        EXPECT_EQ(numbers[at], ((7 + i) * 2 + static_cast<std::int64_t>(t)) * 3 + p);
        EXPECT_EQ(merged[2 * at], static_cast<float>(10000 * static_cast<std::int64_t>(t) + i));
      }
  EXPECT_TRUE(std::is_sorted(numbers.begin(), numbers.end()));
  // A single node keeps its rows and numbers.
  EXPECT_EQ(infer::interleaved(std::span(tables).first(1), {rows[0]}), rows[0]);
  EXPECT_EQ(infer::interleaved_samples(sampling, std::span(tables).first(1)), tables[0].sample);
}

} // namespace
} // namespace slr::test
