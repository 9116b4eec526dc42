// Conv, Gemm and MatMul against the sums that define them.
#include "network.hpp"

#include <cmath>
#include <sstream>

namespace slr::test {
namespace {

struct ConvCase {
  const char* name;
  std::int64_t channels, height, width, filters, groups;
  Ints kernel, strides, dilations, pads; // pads: top, left, bottom, right
  bool has_bias;
};
void PrintTo(const ConvCase& c, std::ostream* out) {
  *out << c.name;
}

std::map<std::string, graph::Attribute> attributes_of(const ConvCase& c) {
  return {{"kernel_shape", c.kernel},
          {"strides", c.strides},
          {"dilations", c.dilations},
          {"pads", c.pads},
          {"group", c.groups}};
}

/// y[n,f,i,j] = b[f] + sum over c, k, l of w[f,c,k,l] x[n,c,i s + k d - p, j s + l d - p]. Any order of summation of t
/// terms differs from the exact sum by at most (t + 1) u sum |w x|, and the bias is one term more.
Reference convolved(const ConvCase& c, const Array& x, const Array& w, const std::vector<float>& bias) {
  const std::int64_t per_group = c.channels / c.groups, filters_per_group = c.filters / c.groups;
  const std::int64_t out_h =
      (c.height + c.pads[0] + c.pads[2] - c.dilations[0] * (c.kernel[0] - 1) - 1) / c.strides[0] + 1;
  const std::int64_t out_w =
      (c.width + c.pads[1] + c.pads[3] - c.dilations[1] * (c.kernel[1] - 1) - 1) / c.strides[1] + 1;
  Reference y;
  y.dims = {x.dims[0], c.filters, out_h, out_w};
  const double terms = static_cast<double>(per_group * c.kernel[0] * c.kernel[1] + 3);
  for (std::int64_t n = 0; n < x.dims[0]; ++n)
    for (std::int64_t f = 0; f < c.filters; ++f)
      for (std::int64_t i = 0; i < out_h; ++i)
        for (std::int64_t j = 0; j < out_w; ++j) {
          double sum = static_cast<double>(bias[static_cast<std::size_t>(f)]), magnitude = std::abs(sum);
          for (std::int64_t ch = 0; ch < per_group; ++ch)
            for (std::int64_t k = 0; k < c.kernel[0]; ++k)
              for (std::int64_t l = 0; l < c.kernel[1]; ++l) {
                const std::int64_t row = i * c.strides[0] + k * c.dilations[0] - c.pads[0];
                const std::int64_t col = j * c.strides[1] + l * c.dilations[1] - c.pads[1];
                if (row < 0 || row >= c.height || col < 0 || col >= c.width) continue;
                const std::int64_t channel = f / filters_per_group * per_group + ch;
                const double product =
                    static_cast<double>(x.data[static_cast<std::size_t>(
                        ((n * c.channels + channel) * c.height + row) * c.width + col)]) *
                    static_cast<double>(
                        w.data[static_cast<std::size_t>(((f * per_group + ch) * c.kernel[0] + k) * c.kernel[1] + l)]);
                sum += product;
                magnitude += std::abs(product);
              }
          y.add(sum, terms * unit_roundoff * magnitude);
        }
  return y;
}

class Convolution : public testing::TestWithParam<ConvCase> {};

TEST_P(Convolution, EqualsItsSum) {
  const ConvCase& c = GetParam();
  const Array x = array({3, c.channels, c.height, c.width}, 1);
  const Array w = array({c.filters, c.channels / c.groups, c.kernel[0], c.kernel[1]}, 2);
  const std::vector<float> bias =
      c.has_bias ? numbers(c.filters, 3) : std::vector<float>(static_cast<std::size_t>(c.filters));
  Network network({c.channels, c.height, c.width});
  network.constant("w", w).constant("b", {c.filters}, bias);
  network.node("Conv", c.has_bias ? std::vector<std::string>{"x", "w", "b"} : std::vector<std::string>{"x", "w"}, {"y"},
               attributes_of(c));
  expect_near(network.run(x), convolved(c, x, w, bias));
}

INSTANTIATE_TEST_SUITE_P(
    Table, Convolution,
    testing::Values(ConvCase{"plain3x3", 3, 8, 9, 5, 1, {3, 3}, {1, 1}, {1, 1}, {0, 0, 0, 0}, true},
                    ConvCase{"padded3x3", 16, 7, 7, 32, 1, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, true},
                    ConvCase{"odd_channels", 17, 6, 5, 19, 1, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, false},
                    ConvCase{"stride2", 16, 9, 8, 16, 1, {3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}, true},
                    ConvCase{"unequal_strides", 4, 9, 11, 6, 1, {3, 2}, {2, 3}, {1, 1}, {0, 1, 2, 0}, true},
                    ConvCase{"asymmetric_pads", 8, 6, 6, 8, 1, {3, 3}, {1, 1}, {1, 1}, {0, 2, 1, 0}, true},
                    ConvCase{"dilated", 8, 10, 10, 16, 1, {3, 3}, {1, 1}, {2, 3}, {2, 3, 2, 3}, true},
                    ConvCase{"pointwise", 64, 5, 5, 48, 1, {1, 1}, {1, 1}, {1, 1}, {0, 0, 0, 0}, true},
                    ConvCase{"pointwise_stride2", 32, 6, 6, 16, 1, {1, 1}, {2, 2}, {1, 1}, {0, 0, 0, 0}, true},
                    ConvCase{"grouped", 12, 6, 6, 18, 3, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, true},
                    ConvCase{"grouped_wide", 32, 5, 5, 64, 2, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, true},
                    ConvCase{"depthwise", 24, 7, 7, 24, 24, {3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}, true},
                    ConvCase{"depthwise_multiplied", 8, 5, 5, 16, 8, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, true},
                    ConvCase{"whole_map", 16, 4, 4, 10, 1, {4, 4}, {1, 1}, {1, 1}, {0, 0, 0, 0}, true},
                    ConvCase{"large_kernel", 3, 15, 15, 8, 1, {7, 7}, {2, 2}, {1, 1}, {3, 3, 3, 3}, true},
                    ConvCase{"row_kernel", 8, 5, 9, 8, 1, {1, 7}, {1, 1}, {1, 1}, {0, 3, 0, 3}, false}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(Convolution, AutoPadIsThePaddingItStandsFor) {
  // 7 wide, kernel 4, stride 2: 4 outputs need (4 - 1) 2 + 4 - 7 = 3 cells, UPPER puts 1 before and 2 behind.
  const Array x = array({2, 3, 7, 7}), w = array({4, 3, 4, 4}, 2);
  const auto run = [&](std::map<std::string, graph::Attribute> attributes) {
    attributes["strides"] = Ints{2, 2};
    return Network({3, 7, 7}).constant("w", w).node("Conv", {"x", "w"}, {"y"}, attributes).run(x);
  };
  EXPECT_EQ(run({{"auto_pad", std::string("SAME_UPPER")}}).data, run({{"pads", Ints{1, 1, 2, 2}}}).data);
  EXPECT_EQ(run({{"auto_pad", std::string("SAME_LOWER")}}).data, run({{"pads", Ints{2, 2, 1, 1}}}).data);
  EXPECT_EQ(run({{"auto_pad", std::string("VALID")}}).data, run({}).data);
}

TEST(Convolution, OneDimensional) {
  const Array x = array({2, 3, 9}), w = array({5, 3, 3}, 2);
  const Array y = Network({3, 9}).constant("w", w).node("Conv", {"x", "w"}, {"y"}, {{"pads", Ints{1, 1}}}).run(x);
  const ConvCase flat{"", 3, 1, 9, 5, 1, {1, 3}, {1, 1}, {1, 1}, {0, 1, 0, 1}, false};
  Reference reference = convolved(flat, {{2, 3, 1, 9}, x.data}, {{5, 3, 1, 3}, w.data}, std::vector<float>(5));
  reference.dims = {2, 5, 9};
  expect_near(y, reference);
}

/// rows x inputs times inputs x outputs, with the matrix given as function of (input, output).
template <class W, class B>
Reference product(const Array& x, std::int64_t outputs, double alpha, W w, B bias) {
  const std::int64_t inputs = x.dims.back();
  const std::int64_t rows = static_cast<std::int64_t>(x.data.size()) / inputs;
  Reference y;
  y.dims = x.dims;
  y.dims.back() = outputs;
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t o = 0; o < outputs; ++o) {
      double sum = bias(r, o), magnitude = std::abs(sum);
      for (std::int64_t i = 0; i < inputs; ++i) {
        const double term = alpha * static_cast<double>(x.data[static_cast<std::size_t>(r * inputs + i)]) * w(i, o);
        sum += term;
        magnitude += std::abs(term);
      }
      // Scaled weights and biases are rounded once more.
      y.add(sum, static_cast<double>(inputs + 6) * unit_roundoff * magnitude);
    }
  return y;
}

double at(const Array& a, std::int64_t i) {
  return static_cast<double>(a.data[static_cast<std::size_t>(i)]);
}

TEST(Gemm, EqualsItsSumForBothOrdersOfTheWeight) {
  for (const bool transposed : {false, true}) {
    const std::int64_t inputs = 37, outputs = 21;
    const Array x = array({11, inputs}), w = array(transposed ? Dims{outputs, inputs} : Dims{inputs, outputs}, 2);
    const Array bias = array({outputs}, 3);
    const Array y = Network({inputs})
                        .constant("w", w)
                        .constant("b", bias)
                        .node("Gemm", {"x", "w", "b"}, {"y"},
                              {{"transB", std::int64_t(transposed)}, {"alpha", 0.5F}, {"beta", 3.0F}})
                        .run(x);
    expect_near(y, product(
                       x, outputs, 0.5,
                       [&](auto i, auto o) { return at(w, transposed ? o * inputs + i : i * outputs + o); },
                       [&](auto, auto o) { return 3.0 * at(bias, o); }));
  }
}

TEST(Gemm, TakesAScalarOrARuntimeSummand) {
  const Array x = array({9, 5}), w = array({5, 5}, 2);
  const auto weight = [&](auto i, auto o) { return at(w, i * 5 + o); };
  const Array scalar =
      Network({5}).constant("w", w).constant("c", {1}, {0.25F}).node("Gemm", {"x", "w", "c"}, {"y"}).run(x);
  expect_near(scalar, product(x, 5, 1.0, weight, [](auto, auto) { return 0.25; }));
  const Array runtime = Network({5}).constant("w", w).node("Gemm", {"x", "w", "x"}, {"y"}, {{"beta", 2.0F}}).run(x);
  expect_near(runtime, product(x, 5, 1.0, weight, [&](auto r, auto o) { return 2.0 * at(x, r * 5 + o); }));
}

TEST(MatMul, WithAConstantMatrix) {
  for (const Dims& dims : {Dims{3, 8}, Dims{3, 4, 8}}) {
    const Array x = array(dims), w = array({8, 6}, 2);
    const Array y =
        Network(Dims(dims.begin() + 1, dims.end())).constant("w", w).node("MatMul", {"x", "w"}, {"y"}).run(x);
    expect_near(y, product(
                       x, 6, 1.0, [&](auto i, auto o) { return at(w, i * 6 + o); }, [](auto, auto) { return 0.0; }));
  }
}

TEST(MatMul, OfTwoValuesImageByImage) {
  const Array x = array({9, 4, 4});
  const Array y = Network({4, 4}).node("MatMul", {"x", "x"}, {"y"}).run(x);
  for (std::int64_t n = 0; n < 9; ++n) {
    const auto first = static_cast<std::ptrdiff_t>(n * 16);
    const Array image{{4, 4}, {x.data.begin() + first, x.data.begin() + first + 16}};
    const Array part{{4, 4}, {y.data.begin() + first, y.data.begin() + first + 16}};
    expect_near(
        part, product(
                  image, 4, 1.0, [&](auto i, auto o) { return at(image, i * 4 + o); }, [](auto, auto) { return 0.0; }));
  }
}

TEST(Linear, WhatWouldMixImagesOrDoesNotFitIsRefused) {
  const Array w = array({8, 3}, 2), x = array({8, 3});
  const auto message = [&](const std::string& op, const std::vector<std::string>& inputs,
                           const std::map<std::string, graph::Attribute>& attributes) {
    return refusal([&] { return Network({3}).constant("w", w).node(op, inputs, {"y"}, attributes).run(x); });
  };
  EXPECT_NE(message("Gemm", {"x", "w"}, {}).find("node 'Gemm_y' (Gemm): an input of 3 columns"), std::string::npos);
  EXPECT_NE(message("Gemm", {"x", "w"}, {{"transA", std::int64_t(1)}}).find("images"), std::string::npos);
  EXPECT_NE(message("MatMul", {"w", "x"}, {}).find("images"), std::string::npos);
  const Array image = array({1, 3, 4, 4}), filter = array({2, 5, 3, 3});
  EXPECT_NE(refusal([&] {
              return Network({3, 4, 4}).constant("w", filter).node("Conv", {"x", "w"}, {"y"}).run(image);
            }).find("channels"),
            std::string::npos);
}

} // namespace
} // namespace slr::test
