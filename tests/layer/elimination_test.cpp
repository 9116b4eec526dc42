// Backward elimination: planted and dead groups, independence of the ranks; exchanges after it; the choice of a split.
#include "slr/layer/elimination.hpp"

#include "layer/optimum.hpp"
#include "slr/dist/redistribute.hpp"
#include "slr/layer/constrained.hpp"
#include "slr/layer/exchange.hpp"
#include "slr/linalg/blas.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <numeric>

namespace slr {
namespace {

using namespace test;

std::vector<std::vector<std::int64_t>> eliminated(const Communicator& comm, Optimum optimum, std::int64_t group_columns,
                                                  const std::vector<std::int64_t>& counts) {
  return kept_by_elimination(comm, std::move(optimum.inverse), std::move(optimum.weights), group_columns, counts);
}

TEST(Elimination, KeepsPlantedGroups) {
  const Communicator world(MPI_COMM_WORLD);
  Recipe recipe{.rows = 10, .groups = 12, .planted_rank = 0, .planted_groups = {2, 3, 9}};
  const Prepared s(world, recipe);
  auto o = optimum_of(world, s, 1e-6);
  EXPECT_EQ(eliminated(world, std::move(o), 3, {3}).front(), recipe.planted_groups);
}

TEST(Elimination, DeadGroupsGoFirst) {
  const Communicator world(MPI_COMM_WORLD);
  const Prepared s(world, {.groups = 9, .dead_groups = {0, 8}});
  auto o = optimum_of(world, s, 1e-4 * s.statistics.mean_diagonal);
  EXPECT_EQ(eliminated(world, std::move(o), 3, {7}).front(), (std::vector<std::int64_t>{1, 2, 3, 4, 5, 6, 7}));
}

TEST(Elimination, DoesNotDependOnTheRanks) {
  const Communicator world(MPI_COMM_WORLD), alone(MPI_COMM_SELF);
  const Recipe recipe{.rows = 20, .groups = 61, .group_columns = 9, .samples = 700};
  const Prepared shared(world, recipe), serial(alone, recipe);
  auto a = optimum_of(world, shared, 0.01), b = optimum_of(alone, serial, 0.01);
  EXPECT_EQ(eliminated(world, std::move(a), 9, {20, 5}), eliminated(alone, std::move(b), 9, {20, 5}));
}

TEST(Elimination, AnswersSeveralCountsInOnePass) {
  const Communicator world(MPI_COMM_WORLD);
  const Prepared s(world, {.rows = 10, .groups = 40, .planted_rank = 0, .planted_groups = {2, 3, 9}});
  const auto left_at = [&](const std::vector<std::int64_t>& counts) {
    return eliminated(world, optimum_of(world, s, 1e-3), 3, counts);
  };
  const auto all = left_at({3, 25, 0, 10, 40});
  for (const std::size_t i : {0U, 1U, 2U, 3U, 4U}) EXPECT_EQ(all[i].size(), (std::array{3U, 25U, 0U, 10U, 40U}[i]));
  EXPECT_EQ(all[0], (std::vector<std::int64_t>{2, 3, 9}));
  EXPECT_EQ(all[1], left_at({25}).front()); // the largest is not touched by the others
  EXPECT_TRUE(std::includes(all[1].begin(), all[1].end(), all[3].begin(), all[3].end()));
  EXPECT_TRUE(std::includes(all[3].begin(), all[3].end(), all[0].begin(), all[0].end()));
}

/// Exchanges from these groups, with a tiny delta.
std::vector<std::int64_t> exchanged(const Communicator& comm, const Recipe& recipe, std::int64_t rank,
                                    std::vector<std::int64_t> kept) {
  const Prepared s(comm, recipe);
  constexpr double delta = 1e-6;
  const auto o = optimum_of(comm, s, delta);
  const auto n = s.problem.rows, k = s.problem.cols;
  const auto w = gather_everywhere(o.weights), p = gather_everywhere(o.pulled);
  std::vector<double> products(std::size_t(n * n));
  blas::gemm(Op::none, Op::transpose, n, n, k, 1.0, w.data(), n, p.data(), n, 0.0, products.data(), n);
  return improve_by_exchange(comm, {s.statistics.gram, o.pulled, delta, products, s.problem.group_columns}, rank,
                             std::move(kept));
}

TEST(Exchange, FindsPlantedGroupsFromWrongOnes) {
  const Communicator world(MPI_COMM_WORLD);
  const Recipe recipe{.rows = 10, .groups = 12, .samples = 2000, .planted_rank = 2, .planted_groups = {2, 3, 9}};
  EXPECT_EQ(exchanged(world, recipe, 2, {0, 1, 11}), recipe.planted_groups);
  EXPECT_EQ(exchanged(world, recipe, 2, recipe.planted_groups), recipe.planted_groups);
}

TEST(Exchange, LeavesNothingAndEverythingAsTheyAre) {
  const Communicator world(MPI_COMM_WORLD);
  const Recipe recipe{.rows = 5, .groups = 3};
  EXPECT_EQ(exchanged(world, recipe, 1, {}), std::vector<std::int64_t>{});
  EXPECT_EQ(exchanged(world, recipe, 1, {0, 1, 2}), (std::vector<std::int64_t>{0, 1, 2}));
}

TEST(Exchange, DoesNotDependOnTheRanks) {
  const Communicator world(MPI_COMM_WORLD), alone(MPI_COMM_SELF);
  const Recipe recipe{.rows = 20, .groups = 61, .group_columns = 9, .samples = 700};
  std::vector<std::int64_t> first(20);
  std::iota(first.begin(), first.end(), 0);
  const auto shared = exchanged(world, recipe, 3, first);
  EXPECT_EQ(shared, exchanged(alone, recipe, 3, first));
  EXPECT_NE(shared, first);
}

TEST(SolveSplits, IsNeverWorseThanItsPureCandidates) {
  const Communicator world(MPI_COMM_WORLD);
  const Prepared s(
      world,
      {.rows = 24, .groups = 16, .samples = 2000, .activation = relu(), .planted_rank = 3, .planted_groups = {4, 11}});
  const auto solve = [&](std::vector<Split> splits) {
    return solve_splits(world, s.problem, s.scale, s.statistics, splits, {});
  };
  const auto mixed = solve({{2, 3}, {0, 4}, {4, 0}});
  EXPECT_EQ(mixed.structure, (Structure{{4, 11}, 3}));
  EXPECT_LE(mixed.error_selection, solve({{0, 4}}).error_selection);
  EXPECT_LE(mixed.error_selection, solve({{4, 0}}).error_selection);
}

TEST(SplitsOfBudget, RunFromPureLowRankToPureGroups) {
  LayerProblem problem;
  problem.rows = 20;
  problem.cols = 90;
  problem.group_columns = 9;
  constexpr std::int64_t budget = 600;
  // n |S| + r (n + k - |S|) within the budget.
  const LargestRank largest = [&](std::int64_t groups) {
    const auto left = budget - problem.rows * groups * 9;
    return left < 0 ? std::int64_t(-1) : left / (problem.rows + problem.cols - groups * 9);
  };
  const auto splits = splits_of_budget(problem, largest, std::vector<double>{0, 0.5, 1});
  ASSERT_EQ(splits.size(), std::size_t(3));
  EXPECT_EQ(splits.front(), (Split{0, 5}));
  EXPECT_EQ(splits.back(), (Split{3, 0}));
}

} // namespace
} // namespace slr
