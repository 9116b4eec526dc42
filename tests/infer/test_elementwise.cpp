// Activations, arithmetic with broadcasting and normalizations against their formulas.
#include "network.hpp"

#include <cmath>
#include <functional>

namespace slr::test {
namespace {

double wide(float value) {
  return static_cast<double>(value);
}

Reference mapped(const Array& x, const std::function<double(double)>& f, double tolerance) {
  Reference y;
  y.dims = x.dims;
  for (const float value : x.data) y.add(f(wide(value)), tolerance * std::max(1.0, std::abs(f(wide(value)))));
  return y;
}

struct Function {
  const char* op;
  std::map<std::string, graph::Attribute> attributes;
  std::function<double(double)> f;
  double tolerance; ///< of values around one: 0 exact, roundings otherwise
};
void PrintTo(const Function& f, std::ostream* out) {
  *out << f.op;
}

class Activation : public testing::TestWithParam<Function> {};

constexpr double few = 4 * unit_roundoff;
// oneDNN evaluates exp, tanh and erf by polynomials; its own tests accept errors of this size.
constexpr double polynomial = 64 * unit_roundoff;

TEST_P(Activation, EqualsItsFormulaForRowsAndImages) {
  const Function& function = GetParam();
  for (const Dims& dims : {Dims{3, 19}, Dims{2, 5, 3, 4}}) {
    Array x = array(dims);
    for (float& value : x.data) value *= 6.0F;
    Network network(Dims(dims.begin() + 1, dims.end()));
    network.node(function.op, {"x"}, {"y"}, function.attributes);
    expect_near(network.run(x), mapped(x, function.f, function.tolerance));
  }
}

double relu6(double v) {
  return std::min(std::max(v, 0.0), 6.0);
}
double erf_gelu(double v) {
  return 0.5 * v * (1 + std::erf(v / std::sqrt(2.0)));
}
double tanh_gelu(double v) {
  return 0.5 * v * (1 + std::tanh(std::sqrt(2.0 / M_PI) * (v + 0.044715 * v * v * v)));
}

INSTANTIATE_TEST_SUITE_P(
    Table, Activation,
    testing::Values(Function{"Relu", {}, [](double v) { return std::max(v, 0.0); }, 0},
                    Function{"LeakyRelu", {{"alpha", 0.25F}}, [](double v) { return v > 0 ? v : 0.25 * v; }, few},
                    Function{"Sigmoid", {}, [](double v) { return 1 / (1 + std::exp(-v)); }, polynomial},
                    Function{"Tanh", {}, [](double v) { return std::tanh(v); }, polynomial},
                    Function{"HardSwish", {}, [](double v) { return v * relu6(v + 3) / 6; }, few},
                    Function{"HardSigmoid",
                             {{"alpha", 0.125F}, {"beta", 0.5F}},
                             [](double v) { return std::min(std::max(0.125 * v + 0.5, 0.0), 1.0); },
                             few},
                    Function{"Gelu", {}, erf_gelu, polynomial},
                    Function{"Gelu", {{"approximate", std::string("tanh")}}, tanh_gelu, polynomial},
                    Function{"Erf", {}, [](double v) { return std::erf(v); }, few}),
    [](const auto& test) { return std::to_string(test.index) + test.param.op; });

TEST(Clip, BoundsAsAttributesInputsConstantsOrNone) {
  const Array x = array({2, 40});
  const auto bounded = [&](double low, double high) {
    return mapped(
        x, [=](double v) { return std::min(std::max(v, low), high); }, 0);
  };
  const double infinity = std::numeric_limits<double>::infinity();
  expect_near(Network({40}, 6).node("Clip", {"x"}, {"y"}, {{"min", -0.5F}, {"max", 0.25F}}).run(x),
              bounded(-0.5, 0.25));
  expect_near(Network({40}).constant("low", {}, {-0.5F}).node("Clip", {"x", "low"}, {"y"}).run(x),
              bounded(-0.5, infinity));
  expect_near(Network({40})
                  .node("Constant", {}, {"high"}, {{"value_float", 0.25F}})
                  .node("Clip", {"x", "", "high"}, {"y"})
                  .run(x),
              bounded(-infinity, 0.25));
}

TEST(Clip, IsFusedEvenIfItsBoundComesLater) {
  const Array x = array({3, 8}), w = array({8, 4}, 2);
  Network fused({8});
  fused.constant("w", w).node("Gemm", {"x", "w"}, {"a"});
  fused.node("Constant", {}, {"high"}, {{"value_float", 0.1F}}).node("Clip", {"a", "", "high"}, {"y"});
  Array expected = Network({8}).constant("w", w).node("Gemm", {"x", "w"}, {"y"}).run(x);
  for (float& value : expected.data) value = std::min(value, 0.1F);
  expect_equal(fused.run(x), {3, 4}, expected.data);
}

double applied(const std::string& op, double a, double b) {
  if (op == "Add") return a + b;
  if (op == "Sub") return a - b;
  if (op == "Mul") return a * b;
  return a / b;
}

TEST(Arithmetic, BroadcastsAConstantOnEitherSide) {
  const Dims shape{2, 3, 4, 5};
  const Array x = array(shape);
  for (const std::string op : {"Add", "Sub", "Mul", "Div"})
    for (const Dims& dims : {Dims{}, Dims{1}, Dims{5}, Dims{4, 1}, Dims{3, 1, 1}, Dims{1, 3, 1, 1}, Dims{1, 3, 4, 5}})
      for (const bool is_left : {false, true}) {
        Array c = array(dims, 7);
        Array input = x;
        for (float& value : c.data) value += 2.0F; // away from zero
        for (float& value : input.data) value += 2.0F;
        Reference y;
        y.dims = shape;
        for (std::int64_t i = 0; i < 120; ++i) {
          std::int64_t at = 0, rest = i;
          Ints index(4);
          for (std::size_t d = 4; d-- > 0; rest /= shape[d]) index[d] = rest % shape[d];
          for (std::size_t d = 0; d < dims.size(); ++d)
            at = at * dims[d] + (dims[d] == 1 ? 0 : index[4 - dims.size() + d]);
          const double a = wide(input.data[static_cast<std::size_t>(i)]),
                       b = wide(c.data[static_cast<std::size_t>(at)]);
          const double value = is_left ? applied(op, b, a) : applied(op, a, b);
          y.add(value, few * std::max(1.0, std::abs(value)));
        }
        Network network({3, 4, 5});
        network.constant("c", c);
        network.node(op, is_left ? std::vector<std::string>{"c", "x"} : std::vector<std::string>{"x", "c"}, {"y"});
        expect_near(network.run(input), y);
      }
}

TEST(Arithmetic, OfImagesAndOfTheirChannelMeans) {
  // Squeeze and excite: what scales the channels depends on the image.
  const Array x = array({9, 6, 3, 3});
  Network network({6, 3, 3});
  network.node("GlobalAveragePool", {"x"}, {"m"}).node("Mul", {"x", "m"}, {"y"});
  const Array y = network.run(x), mean = network.run(x, "m");
  for (std::size_t i = 0; i < x.data.size(); ++i) EXPECT_FLOAT_EQ(y.data[i], x.data[i] * mean.data[i / 9]);
  const Array twice = Network({6, 3, 3}).node("Add", {"x", "x"}, {"y"}).run(x);
  for (std::size_t i = 0; i < x.data.size(); ++i) EXPECT_EQ(twice.data[i], 2 * x.data[i]);
}

TEST(Arithmetic, WhatDiffersBetweenImagesOfABatchIsRefused) {
  const Array x = array({2, 3}), c = array({8, 3});
  EXPECT_NE(refusal([&] {
              return Network({3}).constant("c", c).node("Add", {"x", "c"}, {"y"}).run(x);
            }).find("images"),
            std::string::npos);
}

TEST(BatchNormalization, EqualsItsFormula) {
  const Array x = array({3, 11, 4, 3});
  const Array scale = array({11}, 2), shift = array({11}, 3), mean = array({11}, 4);
  Array variance = array({11}, 5);
  for (float& v : variance.data) v = std::abs(v) + 0.1F;
  Network network({11, 4, 3});
  network.constant("s", scale).constant("b", shift).constant("m", mean).constant("v", variance);
  network.node("BatchNormalization", {"x", "s", "b", "m", "v"}, {"y"}, {{"epsilon", 0.01F}});
  Reference y;
  y.dims = x.dims;
  for (std::size_t i = 0; i < x.data.size(); ++i) {
    const std::size_t c = i / 12 % 11;
    const double factor = wide(scale.data[c]) / std::sqrt(wide(variance.data[c]) + 0.01);
    // Eight roundings of quantities not larger than |factor| (|x| + |mean|) + |shift|.
    y.add(factor * (wide(x.data[i]) - wide(mean.data[c])) + wide(shift.data[c]),
          8 * unit_roundoff * (std::abs(factor) * (std::abs(wide(x.data[i])) + std::abs(wide(mean.data[c]))) + 1));
  }
  expect_near(network.run(x), y);
}

TEST(LocalResponseNormalization, OddAndEvenWindowsOfChannels) {
  const Array x = array({2, 13, 3, 3});
  for (const std::int64_t size : {1, 3, 5, 4}) {
    const double alpha = 0.5, beta = 0.75, bias = 2;
    Reference y;
    y.dims = x.dims;
    for (std::int64_t i = 0; i < 2 * 13 * 9; ++i) {
      const std::int64_t n = i / (13 * 9), c = i / 9 % 13, p = i % 9;
      double sum = 0;
      for (std::int64_t k = std::max<std::int64_t>(0, c - (size - 1) / 2);
           k <= std::min<std::int64_t>(12, c + size / 2); ++k)
        sum += std::pow(wide(x.data[static_cast<std::size_t>((n * 13 + k) * 9 + p)]), 2);
      // The power multiplies the relative error of its base (size + 3 roundings) by beta < 1.
      y.add(wide(x.data[static_cast<std::size_t>(i)]) / std::pow(bias + alpha / static_cast<double>(size) * sum, beta),
            static_cast<double>(size + 8) * unit_roundoff);
    }
    const Array got = Network({13, 3, 3})
                          .node("LRN", {"x"}, {"y"}, {{"size", size}, {"alpha", 0.5F}, {"beta", 0.75F}, {"bias", 2.0F}})
                          .run(x);
    expect_near(got, y);
  }
}

/// exp(x) / sum exp over `length` numbers that are `stride` apart, or its logarithm.
Reference softmax(const Array& x, std::int64_t length, std::int64_t stride, bool logarithm) {
  Reference y;
  y.dims = x.dims;
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(x.data.size()); ++i) {
    const std::int64_t first = i / (length * stride) * length * stride + i % stride;
    double sum = 0;
    for (std::int64_t k = 0; k < length; ++k)
      sum += std::exp(wide(x.data[static_cast<std::size_t>(first + k * stride)]));
    const double value = wide(x.data[static_cast<std::size_t>(i)]) - std::log(sum);
    const double roundings = static_cast<double>(length + 64) * unit_roundoff;
    y.add(logarithm ? value : std::exp(value), roundings * (logarithm ? 1 + std::abs(value) : 1));
  }
  return y;
}

TEST(Softmax, OverOneAxisSinceOpset13AndOverTheRestBefore) {
  const Array x = array({3, 4, 5});
  for (const std::string op : {"Softmax", "LogSoftmax"}) {
    const bool logarithm = op == "LogSoftmax";
    expect_near(Network({4, 5}, 13).node(op, {"x"}, {"y"}).run(x), softmax(x, 5, 1, logarithm));
    expect_near(Network({4, 5}, 13).node(op, {"x"}, {"y"}, {{"axis", std::int64_t(1)}}).run(x),
                softmax(x, 4, 5, logarithm));
    expect_near(Network({4, 5}, 11).node(op, {"x"}, {"y"}).run(x), softmax(x, 20, 1, logarithm));
    EXPECT_NE(refusal([&] {
                return Network({4, 5}, 13).node(op, {"x"}, {"y"}, {{"axis", std::int64_t(0)}}).run(x);
              }).find("images"),
              std::string::npos);
  }
}

TEST(ReduceMean, OverChosenAxes) {
  const Array x = array({2, 3, 4});
  Reference last;
  last.dims = {2, 3};
  for (std::size_t r = 0; r < 6; ++r) {
    double sum = 0;
    for (std::size_t i = 0; i < 4; ++i) sum += wide(x.data[4 * r + i]);
    last.add(sum / 4, unit_roundoff);
  }
  expect_near(
      Network({3, 4}).node("ReduceMean", {"x"}, {"y"}, {{"axes", Ints{-1}}, {"keepdims", std::int64_t(0)}}).run(x),
      last);
  last.dims = {2, 3, 1};
  expect_near(Network({3, 4}, 18).integers("a", {2}).node("ReduceMean", {"x", "a"}, {"y"}).run(x), last);
  EXPECT_NE(refusal([&] {
              return Network({3, 4}).node("ReduceMean", {"x"}, {"y"}).run(x);
            }).find("images"),
            std::string::npos);
}

} // namespace
} // namespace slr::test
