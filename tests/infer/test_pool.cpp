// Pooling against a plain loop over windows.
#include "network.hpp"

#include <algorithm>
#include <cmath>

namespace slr::test {
namespace {

struct PoolCase {
  const char* name;
  std::int64_t channels, height, width;
  Ints kernel, strides, dilations, pads;
  bool ceil_mode;
};
void PrintTo(const PoolCase& c, std::ostream* out) {
  *out << c.name;
}

enum class Mode { max, average, average_with_padding };

/// Output positions along one dimension: windows that start before the padding at the end.
std::int64_t outputs_along(const PoolCase& c, std::size_t d) {
  const std::int64_t size = d == 0 ? c.height : c.width;
  const std::int64_t reach = c.dilations[d] * (c.kernel[d] - 1) + 1, padded = size + c.pads[d] + c.pads[d + 2];
  std::int64_t count = 0;
  for (std::int64_t start = 0; start < size + c.pads[d]; start += c.strides[d])
    if (start + reach <= padded || (c.ceil_mode && (start == 0 || start - c.strides[d] + reach < padded))) ++count;
  return count;
}

Reference pooled(const PoolCase& c, Mode mode, const Array& x) {
  Reference y;
  y.dims = {x.dims[0], c.channels, outputs_along(c, 0), outputs_along(c, 1)};
  for (std::int64_t map = 0; map < x.dims[0] * c.channels; ++map)
    for (std::int64_t i = 0; i < y.dims[2]; ++i)
      for (std::int64_t j = 0; j < y.dims[3]; ++j) {
        double largest = -1e30, sum = 0, magnitude = 0;
        std::int64_t inside = 0, in_padding = 0;
        for (std::int64_t k = 0; k < c.kernel[0]; ++k)
          for (std::int64_t l = 0; l < c.kernel[1]; ++l) {
            const std::int64_t row = i * c.strides[0] + k * c.dilations[0] - c.pads[0];
            const std::int64_t col = j * c.strides[1] + l * c.dilations[1] - c.pads[1];
            if (row >= c.height + c.pads[2] || col >= c.width + c.pads[3])
              continue; // behind the padding: counts nowhere
            if (row < 0 || row >= c.height || col < 0 || col >= c.width) {
              ++in_padding;
              continue;
            }
            const auto value =
                static_cast<double>(x.data[static_cast<std::size_t>((map * c.height + row) * c.width + col)]);
            largest = std::max(largest, value);
            sum += value;
            magnitude += std::abs(value);
            ++inside;
          }
        // t - 1 additions, a division and a correction: (t + 3) u, relative to the sum of magnitudes.
        const auto cells = static_cast<double>(mode == Mode::average_with_padding ? inside + in_padding : inside);
        if (mode == Mode::max)
          y.add(largest, 0);
        else
          y.add(sum / cells, static_cast<double>(inside + 3) * unit_roundoff * magnitude / cells);
      }
  return y;
}

class Pooling : public testing::TestWithParam<PoolCase> {};

TEST_P(Pooling, EqualsTheLoopOverItsWindow) {
  const PoolCase& c = GetParam();
  const Array x = array({3, c.channels, c.height, c.width});
  std::map<std::string, graph::Attribute> attributes{
      {"kernel_shape", c.kernel}, {"strides", c.strides}, {"pads", c.pads}, {"ceil_mode", std::int64_t(c.ceil_mode)}};
  if (c.dilations != Ints{1, 1}) attributes["dilations"] = c.dilations;
  const Network network({c.channels, c.height, c.width});
  expect_near(Network(network).node("MaxPool", {"x"}, {"y"}, attributes).run(x), pooled(c, Mode::max, x));
  expect_near(Network(network).node("AveragePool", {"x"}, {"y"}, attributes).run(x), pooled(c, Mode::average, x));
  attributes["count_include_pad"] = std::int64_t(1);
  expect_near(Network(network).node("AveragePool", {"x"}, {"y"}, attributes).run(x),
              pooled(c, Mode::average_with_padding, x));
}

INSTANTIATE_TEST_SUITE_P(
    Table, Pooling,
    testing::Values(PoolCase{"halving", 16, 8, 8, {2, 2}, {2, 2}, {1, 1}, {0, 0, 0, 0}, false},
                    PoolCase{"few_channels", 3, 7, 9, {3, 2}, {2, 3}, {1, 1}, {0, 0, 0, 0}, false},
                    PoolCase{"odd_channels", 19, 7, 7, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, false},
                    PoolCase{"asymmetric", 8, 6, 6, {3, 3}, {2, 2}, {1, 1}, {0, 1, 2, 0}, false},
                    PoolCase{"ceil", 32, 8, 8, {3, 3}, {2, 2}, {1, 1}, {0, 0, 0, 0}, true},
                    PoolCase{"ceil_padded", 8, 9, 8, {3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}, true},
                    PoolCase{"ceil_without_effect", 8, 9, 9, {3, 3}, {2, 2}, {1, 1}, {0, 0, 0, 0}, true},
                    PoolCase{"ceil_in_the_padding", 8, 5, 5, {2, 2}, {3, 3}, {1, 1}, {1, 1, 1, 1}, true},
                    PoolCase{"dilated", 8, 9, 9, {3, 3}, {1, 1}, {2, 2}, {1, 1, 1, 1}, false}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(GlobalPooling, IsPoolingOverTheWholeMap) {
  const PoolCase whole{"", 17, 5, 6, {5, 6}, {1, 1}, {1, 1}, {0, 0, 0, 0}, false};
  const Array x = array({2, 17, 5, 6});
  const Network network({17, 5, 6});
  expect_near(Network(network).node("GlobalMaxPool", {"x"}, {"y"}).run(x), pooled(whole, Mode::max, x));
  const Reference mean = pooled(whole, Mode::average, x);
  expect_near(Network(network).node("GlobalAveragePool", {"x"}, {"y"}).run(x), mean);
  expect_near(Network(network).node("ReduceMean", {"x"}, {"y"}, {{"axes", Ints{2, -1}}}).run(x), mean);
}

TEST(Pooling, AutoPadIsThePaddingItStandsFor) {
  const Array x = array({2, 8, 7, 7});
  const auto run = [&](std::map<std::string, graph::Attribute> attributes) {
    attributes["kernel_shape"] = Ints{2, 2};
    attributes["strides"] = Ints{2, 2};
    return Network({8, 7, 7}).node("AveragePool", {"x"}, {"y"}, attributes).run(x).data;
  };
  EXPECT_EQ(run({{"auto_pad", std::string("SAME_UPPER")}}), run({{"pads", Ints{0, 0, 1, 1}}}));
  EXPECT_EQ(run({{"auto_pad", std::string("SAME_LOWER")}}), run({{"pads", Ints{1, 1, 0, 0}}}));
}

TEST(Pooling, ImpossibleWindowsAreRefused) {
  const Array x = array({1, 2, 4, 4});
  const auto message = [&](const std::map<std::string, graph::Attribute>& attributes) {
    return refusal([&] { return Network({2, 4, 4}).node("MaxPool", {"x"}, {"y"}, attributes).run(x); });
  };
  EXPECT_NE(message({}).find("kernel_shape"), std::string::npos);
  EXPECT_NE(message({{"kernel_shape", Ints{5, 5}}}).find("does not fit"), std::string::npos);
  EXPECT_NE(message({{"kernel_shape", Ints{2, 2}}, {"strides", Ints{0, 1}}}).find("strides"), std::string::npos);
  EXPECT_NE(message({{"kernel_shape", Ints{2, 2}}, {"pads", Ints{0, 0, -1, 0}}}).find("pads"), std::string::npos);
  EXPECT_NE(message({{"kernel_shape", Ints{2, 2}}, {"strides", Ints{std::int64_t(1) << 62, 1}}}).find("strides"),
            std::string::npos);
}

} // namespace
} // namespace slr::test
