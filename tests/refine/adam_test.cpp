#include "slr/refine/adam.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace slr::refine {
namespace {

TEST(OneCycle, RisesAndFalls) {
  const OneCycle cycle{0.5, 1001};
  EXPECT_NEAR(cycle.rate(0), 0.5 / 25, 1e-15);
  EXPECT_DOUBLE_EQ(cycle.rate(300), 0.5);
  EXPECT_NEAR(cycle.rate(1000), 0.5 * 1e-4, 1e-15);
  EXPECT_NEAR(cycle.rate(150), 0.5 * (1 + 1.0 / 25) / 2, 1e-12) << "half a cosine is half way up in the middle";
  for (std::int64_t i = 0; i < 1000; ++i)
    EXPECT_TRUE(i < 300 ? cycle.rate(i) < cycle.rate(i + 1) : cycle.rate(i) > cycle.rate(i + 1)) << i;
}

TEST(OneCycle, OfOneStep) {
  EXPECT_GT((OneCycle{0.5, 1}.rate(0)), 0);
}

TEST(Adam, FirstStepIsTheRateWhateverTheGradient) {
  // m / (1 - .9) = g and v / (1 - .999) = g^2, so the step is rate s g / (|g| + 1e-8).
  Adam adam({1, 3, 1});
  std::vector<double> weights{1, 2, 3};
  const std::vector<double> gradient{1e-3, -40, 0};
  adam.step(weights, gradient, 0.25);
  EXPECT_NEAR(weights[0], 1 - 0.25 * 1e-3 / (1e-3 + 1e-8), 1e-14);
  EXPECT_NEAR(weights[1], 2 + 3 * 0.25, 1e-9);
  EXPECT_EQ(weights[2], 3);
}

TEST(Adam, FindsTheMinimumOfAParabola) {
  // f = sum a_i (w_i - c_i)^2 / 2 with a_i a thousandfold apart.
  const std::vector<double> a{1e-2, 1, 10}, c{3, -1, 0.5};
  std::vector<double> weights{0, 0, 0}, gradient(3);
  const OneCycle cycle{0.1, 2000};
  Adam adam({1, 1, 1});
  for (std::int64_t i = 0; i < cycle.steps; ++i) {
    for (std::size_t k = 0; k < 3; ++k) gradient[k] = a[k] * (weights[k] - c[k]);
    adam.step(weights, gradient, cycle.rate(i));
  }
  for (std::size_t k = 0; k < 3; ++k) EXPECT_NEAR(weights[k], c[k], 1e-3);
}

} // namespace
} // namespace slr::refine
