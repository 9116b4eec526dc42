// Group soft thresholding against its optimality condition: Z - X lies in tau times the subdifferential of sum ||.||_F.
#include "slr/prox/thresholding.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace slr {
namespace {

TEST(ThresholdGroups, SatisfiesItsOptimalityCondition) {
  constexpr std::int64_t rows = 5, group = 3, groups = 40;
  std::mt19937_64 engine(7);
  std::normal_distribution<double> normal;
  std::vector<double> z(rows * group * groups);
  for (std::size_t i = 0; i < z.size(); ++i) z[i] = normal(engine) * static_cast<double>(i % 7);
  auto x = z;
  const double tau = 9;
  const auto kept = threshold_groups(x, rows, group, tau);
  const auto size = std::size_t(rows * group);
  int zero_groups = 0;
  for (std::size_t g = 0; g < groups; ++g) {
    double x_norm = 0, step_norm = 0, distance = 0;
    for (std::size_t i = g * size; i < (g + 1) * size; ++i) x_norm += x[i] * x[i];
    x_norm = std::sqrt(x_norm);
    EXPECT_EQ(kept[g], x_norm > 0);
    for (std::size_t i = g * size; i < (g + 1) * size; ++i) {
      step_norm += std::pow(z[i] - x[i], 2);
      if (x_norm > 0) distance += std::pow(z[i] - x[i] - tau * x[i] / x_norm, 2);
    }
    if (x_norm == 0) ++zero_groups;
    // A group of zeros: any subgradient of norm at most tau. A kept one: exactly tau X / ||X||, up to rounding.
    EXPECT_LE(std::sqrt(step_norm), tau * (1 + 1e-14));
    EXPECT_LE(std::sqrt(distance), 1e-14 * tau * static_cast<double>(size));
  }
  EXPECT_GT(zero_groups, 0);
  EXPECT_LT(zero_groups, groups);
}

TEST(ThresholdGroups, EdgesOfTheDomain) {
  std::vector<double> z{3, 4, 0, 0};
  EXPECT_EQ(group_norms(z, 2, 1), (std::vector<double>{5, 0}));
  auto x = z;
  EXPECT_EQ(threshold_groups(x, 2, 1, 0), (std::vector<bool>{true, false}));
  EXPECT_EQ(x, z);
  EXPECT_EQ(threshold_groups(x, 2, 1, 5), (std::vector<bool>{false, false}));
  EXPECT_EQ(x, (std::vector<double>{0, 0, 0, 0}));
  std::vector<double> empty;
  EXPECT_TRUE(threshold_groups(empty, 2, 1, 1).empty());
}

} // namespace
} // namespace slr
