// The coordinates in which inputs are nearer to white: S^4 is the inverse of the damped moments, for every way in which
// weights lie in memory, with the same bits for every number of ranks.
#include "slr/refine/input_metric.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace slr::refine {
namespace {

using graph::Dims;
using Ints = std::vector<std::int64_t>;

constexpr std::int64_t images = 43, channels = 3, height = 2, width = 2; // five whole blocks of 8 images and one of 3
constexpr double damping = 1e-3;

float pixel(std::int64_t image, std::int64_t channel, std::int64_t place) {
  const double t = 0.7 * static_cast<double>(image) + 2.1 * static_cast<double>(place) + static_cast<double>(channel);
  return static_cast<float>(std::sin(t * t) * std::pow(4.0, static_cast<double>(channel % 3)) + 0.5);
}

Examples::Source source(std::int64_t of_channels) {
  Examples::Source result;
  result.images = images;
  result.read = [of_channels](std::int64_t first, std::int64_t count) {
    infer::Array all{{count, of_channels, height, width}, {}};
    for (std::int64_t i = first; i < first + count; ++i)
      for (std::int64_t c = 0; c < of_channels; ++c)
        for (std::int64_t p = 0; p < height * width; ++p) all.data.push_back(pixel(i, c, p));
    return all;
  };
  return result;
}

/// One node with a weight "w" behind the images, flattened for a Gemm.
graph::Model network(const std::string& op, const Dims& weight, std::int64_t of_channels,
                     const std::map<std::string, graph::Attribute>& attributes) {
  graph::Model m;
  m.opsets[""] = 13;
  m.inputs.push_back({"x", graph::ElementType::float32, {-1, of_channels, height, width}, std::vector<std::string>(4)});
  m.outputs.push_back({"y", graph::ElementType::float32, {}, {}});
  m.initializers["w"] = graph::Tensor::of_floats(
      weight, std::vector<float>(static_cast<std::size_t>(graph::element_count(weight)), 1.0F));
  if (op == "Conv") {
    m.nodes.push_back({"conv", "Conv", "", {"x", "w"}, {"y"}, attributes});
  } else {
    m.nodes.push_back({"flatten", "Flatten", "", {"x"}, {"f"}, {}});
    m.nodes.push_back({"gemm", op, "", {"f", "w"}, {"y"}, attributes});
  }
  return m;
}

/// A metric of that network whose weight stands behind one number that has none.
struct Setting {
  Setting(MPI_Comm world, const graph::Model& model, std::int64_t of_channels)
      : comm(world), fit(comm, source(of_channels), {model, "x", "y"}),
        metric(comm, model, "x", {{"b", {1}, 0, 1}, {"w", model.initializers.at("w").dims, 1, size_of(model)}}, fit) {}
  static std::int64_t size_of(const graph::Model& model) {
    return graph::element_count(model.initializers.at("w").dims);
  }
  Communicator comm;
  Examples fit;
  InputMetric metric;
};

/// C / d + damping, where column j of a patch is the pixel (j / area, j % area) or, for area 1, one of all places.
std::vector<double> damped_moments(std::int64_t size, std::int64_t area) {
  std::vector<double> moments(static_cast<std::size_t>(size * size), 0.0);
  for (std::int64_t n = 0; n < images; ++n)
    for (std::int64_t p = 0; p < (area == 1 ? height * width : 1); ++p)
      for (std::int64_t i = 0; i < size; ++i)
        for (std::int64_t j = 0; j < size; ++j)
          moments[static_cast<std::size_t>(i * size + j)] +=
              static_cast<double>(pixel(n, i / area, area == 1 ? p : i % area)) *
              static_cast<double>(pixel(n, j / area, area == 1 ? p : j % area));
  double trace = 0;
  for (std::int64_t i = 0; i < size; ++i) trace += moments[static_cast<std::size_t>(i * size + i)];
  for (double& value : moments) value *= static_cast<double>(size) / trace;
  for (std::int64_t i = 0; i < size; ++i) moments[static_cast<std::size_t>(i * size + i)] += damping;
  return moments;
}

/// S^4 (C / d + damping) = I, to what single precision leaves of a condition number of at most size / damping, four
/// products and the root of the moments.
void expect_fourth_root(const InputMetric& metric, std::vector<double> moments, std::int64_t size) {
  moments.insert(moments.begin(), 7.0);
  for (int i = 0; i < 4; ++i) metric.multiply(moments);
  EXPECT_EQ(moments.front(), 7.0) << "not its weight";
  const double tolerance = 8 * static_cast<double>(size) * std::numeric_limits<float>::epsilon() / damping;
  for (std::int64_t i = 0; i < size; ++i)
    for (std::int64_t j = 0; j < size; ++j)
      EXPECT_NEAR(moments[static_cast<std::size_t>(1 + i * size + j)], i == j ? 1 : 0, tolerance) << i << ' ' << j;
}

TEST(InputMetric, IsTheFourthRootForAPointwiseConvolution) {
  const Setting s(MPI_COMM_WORLD, network("Conv", {channels, channels, 1, 1}, channels, {}), channels);
  expect_fourth_root(s.metric, damped_moments(channels, 1), channels);
}

TEST(InputMetric, IsTheFourthRootForFullyConnectedWeightsOfBothOrders) {
  constexpr std::int64_t k = channels * height * width;
  for (const std::int64_t order : {0, 1}) { // the moments are symmetric: a square weight may be taken either way
    const Setting s(MPI_COMM_WORLD, network("Gemm", {k, k}, channels, {{"transB", order}}), channels);
    expect_fourth_root(s.metric, damped_moments(k, height * width), k);
  }
}

TEST(InputMetric, ActsOnTheColumnsOfTheWeight) {
  // Of a weight with one row, one order lies in memory like the other.
  constexpr std::int64_t k = channels * height * width;
  std::vector<double> first(k + 1), second;
  std::iota(first.begin(), first.end(), -5.0);
  second = first;
  Setting(MPI_COMM_WORLD, network("Gemm", {1, k}, channels, {{"transB", std::int64_t(1)}}), channels)
      .metric.multiply(first);
  Setting(MPI_COMM_WORLD, network("MatMul", {k, 1}, channels, {}), channels).metric.multiply(second);
  for (std::size_t i = 0; i < first.size(); ++i) EXPECT_NEAR(first[i], second[i], 1e-4 * std::abs(first[i])) << i;
}

class OfSize : public testing::TestWithParam<std::int64_t> {};
INSTANTIATE_TEST_SUITE_P(Channels, OfSize, testing::Values(channels, InputMetric::most_columns / 9 + 1));

TEST_P(OfSize, DividingUndoesMultiplyingAndBothHaveTheSameBitsOnAnyRanks) {
  const auto model = network("Conv", {2, GetParam(), 3, 3}, GetParam(), {{"pads", Ints{1, 1, 1, 1}}});
  const Setting all(MPI_COMM_WORLD, model, GetParam()), alone(MPI_COMM_SELF, model, GetParam());
  std::vector<double> start(static_cast<std::size_t>(1 + Setting::size_of(model)));
  for (std::size_t i = 0; i < start.size(); ++i) start[i] = std::cos(static_cast<double>(i));
  auto here = start, there = start;
  all.metric.multiply(here);
  alone.metric.multiply(there);
  EXPECT_EQ(here, there);
  EXPECT_NE(here, start);
  all.metric.divide(here);
  // |S| |S^-1| <= (size / damping)^(1/4), beside rounding to single precision.
  const double norm = std::sqrt(std::inner_product(start.begin(), start.end(), start.begin(), 0.0));
  for (std::size_t i = 0; i < start.size(); ++i)
    EXPECT_NEAR(here[i], start[i], 64 * std::numeric_limits<float>::epsilon() * norm) << i;
}

} // namespace
} // namespace slr::refine
