// Every proximal map against its definition: no point of a fine grid has a lower objective, the stationarity condition
// holds, and for ReLU the closed form.
#include "slr/prox/activation.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace slr {
namespace {

double objective(const Activation& r, double m, double v, double y, double rho) {
  return 0.5 * std::pow(y - r(m), 2) + 0.5 * rho * std::pow(m - v, 2);
}

std::vector<Activation> all_activations() {
  return {
      {ActivationType::identity, 0, 0, 0},     {ActivationType::relu, 0, 0, 0},
      {ActivationType::leaky_relu, 0.1, 0, 0}, {ActivationType::leaky_relu, 0.0, 0, 0},
      {ActivationType::clip, 0, 0.0, 6.0},     {ActivationType::clip, 0, -1.0, std::numeric_limits<double>::infinity()},
      {ActivationType::sigmoid, 0, 0, 0},      {ActivationType::tanh, 0, 0, 0}};
}

class EveryActivation : public testing::TestWithParam<Activation> {};

TEST_P(EveryActivation, MinimisesGlobally) {
  const Activation r = GetParam();
  std::mt19937_64 engine(4);
  std::normal_distribution<double> normal(0, 3);
  for (const double rho : {0.01, 0.05, 0.3, 1.0, 7.0})
    for (int trial = 0; trial < 60; ++trial) {
      const double v = normal(engine), y = r(normal(engine)) + (trial % 5 == 0 ? normal(engine) : 0.0);
      const double m = prox_activation(r, v, y, rho), cost = objective(r, m, v, y, rho);
      // |m - v| <= sqrt((y - r(v))^2 / rho) for any point that beats m = v: the grid covers every rival.
      const double reach = std::sqrt(std::pow(y - r(v), 2) / rho) + 1e-3;
      for (int i = -2000; i <= 2000; ++i) {
        const double rival = v + reach * i / 2000.0;
        ASSERT_GE(objective(r, rival, v, y, rho), cost - 1e-12 * (1 + cost))
            << r.to_text() << " v " << v << " y " << y << " rho " << rho << " m " << m << " rival " << rival;
      }
    }
}

TEST_P(EveryActivation, SatisfiesItsOptimalityCondition) {
  const Activation r = GetParam();
  std::mt19937_64 engine(5);
  std::normal_distribution<double> normal(0, 2);
  for (const double rho : {0.05, 1.0, 4.0})
    for (int trial = 0; trial < 200; ++trial) {
      const double v = normal(engine), y = r(normal(engine));
      const double m = prox_activation(r, v, y, rho);
      // rho (v - m) is a (generalised) derivative of the loss at m; Newton ends within a few last places of m, the
      // curvature is at most 1 + rho + |y - r|.
      const double bound = 64 * 2.2e-16 * (1 + std::abs(m) + std::abs(v) + std::abs(y)) * (2 + rho);
      EXPECT_LE(r.stationarity_distance(m, y, rho * (v - m)), bound)
          << r.to_text() << " v " << v << " y " << y << " rho " << rho << " m " << m;
    }
}

TEST_P(EveryActivation, ArraysAgreeWithScalars) {
  const Activation r = GetParam();
  std::mt19937_64 engine(6);
  std::normal_distribution<double> normal(0, 2);
  std::vector<double> v(97), m(97);
  std::vector<float> y(97);
  for (std::size_t i = 0; i < v.size(); ++i) {
    v[i] = normal(engine);
    y[i] = static_cast<float>(r(normal(engine)));
  }
  prox_activation(r, v, y, 0.7, m);
  for (std::size_t i = 0; i < v.size(); ++i)
    EXPECT_NEAR(m[i], prox_activation(r, v[i], y[i], 0.7), 1e-15 * (1 + std::abs(v[i])));
}

TEST_P(EveryActivation, LossHasTheDerivativeOfDifferences) {
  const Activation r = GetParam();
  std::mt19937_64 engine(7);
  std::normal_distribution<double> normal(0, 2);
  std::vector<float> m(97), y(97), g(97);
  for (std::size_t i = 0; i < m.size(); ++i) {
    m[i] = static_cast<float>(normal(engine));
    y[i] = static_cast<float>(r(normal(engine)));
  }
  r.differentiate_loss(m, y, g);
  constexpr double h = 1e-4; // no value lies so close to a kink
  for (std::size_t i = 0; i < m.size(); ++i) {
    const double at = m[i], target = y[i];
    const double slope = (objective(r, at + h, 0, target, 0) - objective(r, at - h, 0, target, 0)) / (2 * h);
    // h^2 / 6 times the third derivative, at most 4 (1 + |y|), and a float's rounding.
    EXPECT_NEAR(g[i], slope, (h * h + 6e-8) * 10 * (1 + std::abs(at) + std::abs(target)))
        << r.to_text() << " at " << at;
    EXPECT_LE(r.stationarity_distance(at, target, double(g[i])), 6e-8 * 4 * (1 + std::abs(at) + std::abs(target)));
  }
}

TEST_P(EveryActivation, TextRoundTrip) {
  const Activation r = GetParam();
  const auto back = Activation::from_text(r.to_text());
  EXPECT_EQ(back.to_text(), r.to_text());
  EXPECT_EQ(back(1.3), r(1.3));
  EXPECT_EQ(back(-1.3), r(-1.3));
}

INSTANTIATE_TEST_SUITE_P(Prox, EveryActivation, testing::ValuesIn(all_activations()));

TEST(Relu, ClosedForm) {
  const Activation relu{ActivationType::relu, 0, 0, 0};
  EXPECT_EQ(prox_activation(relu, 2.0, 1.0, 1.0), 1.5);
  EXPECT_EQ(prox_activation(relu, -2.0, 0.0, 1.0), -2.0);
  // y = 1, v = -0.1, rho = 1: at .45 the cost is .30125, at -.1 it is .5: the active branch wins.
  EXPECT_DOUBLE_EQ(prox_activation(relu, -0.1, 1.0, 1.0), 0.45);
  // y = .1, v = -1: at max(0, -.45) = 0 the cost is .505, at -1 it is .005.
  EXPECT_EQ(prox_activation(relu, -1.0, 0.1, 1.0), -1.0);
}

TEST(ActivationText, RefusesNonsense) {
  for (const char* text : {"", "rel", "clip(6,0)", "clip(0,6", "leaky_relu(2)", "relu "})
    EXPECT_ANY_THROW((void)Activation::from_text(text)) << text;
}

} // namespace
} // namespace slr
