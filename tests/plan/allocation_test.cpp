// Allocation over made-up curves: against brute force, plateaus, jumps, several limits, what cannot be met.
#include "slr/plan/allocation.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>

namespace slr {
namespace {

using Curves = std::vector<ChoiceCurve>;

/// The smallest sum of harms within the limits, by trying everything; infinity if nothing fits.
double brute_force(const Curves& curves, const std::vector<std::int64_t>& limits, std::size_t layer = 0,
                   std::vector<std::int64_t> spent = {}) {
  if (spent.empty()) spent.assign(limits.size(), 0);
  for (std::size_t j = 0; j < limits.size(); ++j)
    if (spent[j] > limits[j]) return std::numeric_limits<double>::infinity();
  if (layer == curves.size()) return 0;
  double best = std::numeric_limits<double>::infinity();
  for (const auto& choice : curves[layer]) {
    auto next = spent;
    for (std::size_t j = 0; j < limits.size(); ++j) next[j] += choice.costs[j];
    best = std::min(best, choice.harm + brute_force(curves, limits, layer + 1, next));
  }
  return best;
}

/// A curve whose harm falls with its (first) cost, with plateaus and jumps.
ChoiceCurve random_curve(std::mt19937& engine, std::size_t limits, std::size_t size) {
  std::uniform_int_distribution<std::int64_t> cost(1, 40);
  std::uniform_real_distribution<double> harm(0, 1);
  std::uniform_int_distribution<int> coin(0, 3);
  ChoiceCurve curve(size);
  std::vector<double> harms;
  for (std::size_t i = 0; i < size; ++i) harms.push_back(coin(engine) == 0 && i > 0 ? harms.back() : harm(engine));
  std::sort(harms.rbegin(), harms.rend());
  std::vector<std::int64_t> costs;
  for (std::size_t i = 0; i < size; ++i) costs.push_back(cost(engine));
  std::sort(costs.begin(), costs.end());
  for (std::size_t i = 0; i < size; ++i) {
    curve[i].harm = harms[i];
    curve[i].costs.push_back(costs[i]);
    while (curve[i].costs.size() < limits) curve[i].costs.push_back(cost(engine));
  }
  return curve;
}

/// Sums of one harm per layer in another order: each addition rounds a partial sum, which is below the number of
/// layers.
double rounding(const Curves& curves) {
  const auto layers = static_cast<double>(curves.size());
  return 2 * layers * layers * std::numeric_limits<double>::epsilon();
}

std::vector<std::int64_t> sums(const Curves& curves, const Allocation& a) {
  std::vector<std::int64_t> total(curves.front().front().costs.size(), 0);
  for (std::size_t i = 0; i < curves.size(); ++i)
    for (std::size_t j = 0; j < total.size(); ++j) total[j] += curves[i][a.chosen[i]].costs[j];
  return total;
}

TEST(Allocation, IsTheBest) {
  std::mt19937 engine(1);
  for (int trial = 0; trial < 300; ++trial) {
    Curves curves;
    for (int layer = 0; layer < 4; ++layer) curves.push_back(random_curve(engine, 1, 6));
    const std::vector<std::int64_t> limits{std::uniform_int_distribution<std::int64_t>(10, 140)(engine)};
    const double best = brute_force(curves, limits);
    const auto found = allocate(curves, limits);
    ASSERT_EQ(found.has_value(), best < std::numeric_limits<double>::infinity());
    if (!found) continue;
    EXPECT_LE(found->costs[0], limits[0]);
    EXPECT_EQ(found->costs, sums(curves, *found));
    EXPECT_NEAR(found->harm, best, rounding(curves));
    EXPECT_NEAR(found->harm_bound, best, rounding(curves));
  }
}

TEST(Allocation, IsExactOnConvexCurves) {
  // Harm (10 - i)^2 at cost i for each of three layers: the best split of 12 units is even.
  Curves curves(3);
  for (auto& curve : curves)
    for (std::int64_t i = 0; i <= 10; ++i) curve.push_back({{i}, static_cast<double>((10 - i) * (10 - i))});
  const std::vector<std::int64_t> limits{12};
  const auto found = allocate(curves, limits);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->chosen, (std::vector<std::size_t>{4, 4, 4}));
  EXPECT_EQ(found->harm, brute_force(curves, limits));
}

TEST(Allocation, MoreBudgetIsNeverWorse) {
  std::mt19937 engine(7);
  Curves curves(5);
  for (auto& curve : curves) {
    const double scale = std::uniform_real_distribution<double>(0.1, 10)(engine);
    for (std::int64_t i = 1; i <= 30; ++i) curve.push_back({{i * i}, scale / static_cast<double>(i)});
  }
  double before = std::numeric_limits<double>::infinity();
  for (std::int64_t limit = 5; limit <= 4500; limit += 45) {
    const auto found = allocate(curves, std::vector<std::int64_t>{limit});
    ASSERT_TRUE(found);
    EXPECT_EQ(found->harm_bound, found->harm);
    EXPECT_LE(found->harm, before * (1 + 10 * std::numeric_limits<double>::epsilon())); // sums of five terms
    before = std::min(before, found->harm);
  }
}

TEST(Allocation, MeetsSeveralLimits) {
  std::mt19937 engine(3);
  for (int trial = 0; trial < 200; ++trial) {
    Curves curves;
    for (int layer = 0; layer < 3; ++layer) {
      curves.push_back(random_curve(engine, 2, 5));
      curves.back().push_back({{1, 1}, 2.0}); // the smallest form of all
    }
    const std::vector<std::int64_t> limits{std::uniform_int_distribution<std::int64_t>(10, 90)(engine),
                                           std::uniform_int_distribution<std::int64_t>(10, 90)(engine)};
    const auto found = allocate(curves, limits);
    ASSERT_TRUE(found);
    for (std::size_t j = 0; j < 2; ++j) EXPECT_LE(found->costs[j], limits[j]);
    EXPECT_NEAR(found->harm, brute_force(curves, limits), rounding(curves));
  }
}

TEST(Allocation, FindsWhatNoMultipliersMeet) {
  // Each limit's multiplier prefers the choice that breaks the other limit; only the dear one in the middle fits both.
  const Curves curves{{{{0, 10}, 0.1}, {{10, 0}, 0.1}, {{6, 6}, 5.0}}};
  const auto found = allocate(curves, std::vector<std::int64_t>{7, 7});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->chosen, (std::vector<std::size_t>{2}));
}

TEST(Allocation, BoundsWhatItLeavesOpen) {
  // Fifty layers of a hundred choices: far beyond trying everything; the gap stays below the documented hundredth.
  std::mt19937 engine(11);
  Curves curves;
  for (int layer = 0; layer < 50; ++layer) curves.push_back(random_curve(engine, 2, 100));
  const std::vector<std::int64_t> limits{700, 700};
  const auto found = allocate(curves, limits);
  ASSERT_TRUE(found);
  EXPECT_LE(found->costs[0], limits[0]);
  EXPECT_LE(found->costs[1], limits[1]);
  EXPECT_LE(found->harm_bound, found->harm);
  EXPECT_GE(found->harm_bound, 0.99 * found->harm);
}

TEST(Allocation, SaysWhenNothingFits) {
  const Curves curves{{{{5}, 1.0}, {{9}, 0.0}}, {{{4}, 1.0}}};
  EXPECT_FALSE(allocate(curves, std::vector<std::int64_t>{8}));
  const auto exactly = allocate(curves, std::vector<std::int64_t>{9});
  ASSERT_TRUE(exactly);
  EXPECT_EQ(exactly->costs[0], 9);
}

TEST(Allocation, FindsWhatIsAboveTheHull) {
  // The step to cost 9 is above the hull: no multiplier chooses it, and the exchange with the best rate (0.5 for 3
  // units) leaves no room for it, though it saves twice as much.
  const Curves curves{{{{0}, 10.0}, {{9}, 9.0}, {{10}, 0.0}}, {{{0}, 1.0}, {{3}, 0.5}}};
  const auto found = allocate(curves, std::vector<std::int64_t>{9});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->chosen, (std::vector<std::size_t>{1, 0}));
  EXPECT_DOUBLE_EQ(found->harm, 10.0);
}

TEST(Allocation, NoLimitsMeansNoHarm) {
  const Curves curves{{{{}, 1.0}, {{}, 0.0}}, {{{}, 0.0}, {{}, 0.3}}};
  const auto found = allocate(curves, std::vector<std::int64_t>{});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->chosen, (std::vector<std::size_t>{1, 0}));
}

} // namespace
} // namespace slr
