// Backward elimination: against trying every subset, its invariances, and independence of the ranks.
#include "slr/layer/elimination.hpp"

#include "layer/problems.hpp"
#include "slr/dist/redistribute.hpp"
#include "slr/layer/block_columns.hpp"
#include "slr/layer/constrained.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace slr {
namespace {

using namespace test;

/// H = (C + delta I)^-1 and W = (P + delta W0) H of a made-up problem.
struct Optimum {
  DistMatrix<double> inverse, weights, cross;
};
Optimum optimum_of(const Communicator& comm, const Prepared& s, double delta) {
  const std::int64_t k = s.problem.cols;
  FixedStructure all(comm, s.problem, s.statistics, {{}, 1}, delta, Engine::automatic);
  auto cross = ActivationSplitting(comm, s.problem, s.scale, s.statistics).cross().p;
  Optimum result{make_block_columns(s.statistics.gram.grid(), k, k, s.problem.group_columns), cross.clone(),
                 cross.clone()};
  result.inverse.for_each_diagonal([](std::int64_t, double& v) { v = 1; });
  all.solve(result.inverse);
  result.weights.for_each_local([&](GlobalRow i, GlobalCol j, double& v) {
    v += delta * s.problem.weights[std::size_t(j.value() * s.problem.rows + i.value())];
  });
  all.solve(result.weights);
  return result;
}

/// ||T||^2 - the smallest error with these groups kept: what they explain.
double gain_of(const Communicator& comm, const Prepared& s, const DistMatrix<double>& cross,
               const std::vector<std::int64_t>& groups, double delta) {
  FixedStructure fixed(comm, s.problem, s.statistics, {groups, 0}, delta, Engine::automatic);
  fixed.start(cross);
  return fixed.gain();
}

TEST(Elimination, KeepsPlantedGroups) {
  const Communicator world(MPI_COMM_WORLD);
  Recipe recipe{.rows = 10, .groups = 12, .planted_rank = 0, .planted_groups = {2, 3, 9}};
  const Prepared s(world, recipe);
  auto o = optimum_of(world, s, 1e-6);
  EXPECT_EQ(kept_by_elimination(world, std::move(o.inverse), std::move(o.weights), 3, 3), recipe.planted_groups);
}

TEST(Elimination, IsCloseToTheBestSubset) {
  const Communicator world(MPI_COMM_WORLD);
  if (world.size() > 1) GTEST_SKIP() << "a statement about the choice, which DoesNotDependOnTheRanks";
  int close = 0;
  constexpr int seeds = 20;
  for (unsigned seed = 1; seed <= seeds; ++seed) {
    const Prepared s(world, {.rows = 6, .groups = 7, .group_columns = 2, .samples = 240, .seed = seed});
    const double delta = 1e-3 * s.statistics.mean_diagonal;
    auto o = optimum_of(world, s, delta);
    const auto kept = kept_by_elimination(world, o.inverse.clone(), o.weights.clone(), 2, 3);
    std::vector<bool> mask{true, true, true, false, false, false, false};
    const double all = gain_of(world, s, o.cross, {0, 1, 2, 3, 4, 5, 6}, delta);
    double best = 0;
    do {
      std::vector<std::int64_t> groups;
      for (std::size_t g = 0; g < mask.size(); ++g)
        if (mask[g]) groups.push_back(std::int64_t(g));
      best = std::max(best, gain_of(world, s, o.cross, groups, delta));
    } while (std::prev_permutation(mask.begin(), mask.end()));
    // Errors: what all columns explain and the subset does not.
    if (all - gain_of(world, s, o.cross, kept, delta) <= 1.1 * (all - best)) ++close;
  }
  EXPECT_GE(close, seeds * 95 / 100);
}

TEST(Elimination, DeadGroupsGoFirst) {
  const Communicator world(MPI_COMM_WORLD);
  const Prepared s(world, {.groups = 9, .dead_groups = {0, 8}});
  auto o = optimum_of(world, s, 1e-4 * s.statistics.mean_diagonal);
  EXPECT_EQ(kept_by_elimination(world, std::move(o.inverse), std::move(o.weights), 3, 7),
            (std::vector<std::int64_t>{1, 2, 3, 4, 5, 6, 7}));
}

TEST(Elimination, DoesNotDependOnTheRanks) {
  const Communicator world(MPI_COMM_WORLD), alone(MPI_COMM_SELF);
  const Recipe recipe{.rows = 20, .groups = 61, .group_columns = 9, .samples = 700};
  const Prepared shared(world, recipe), serial(alone, recipe);
  auto a = optimum_of(world, shared, 0.01), b = optimum_of(alone, serial, 0.01);
  EXPECT_EQ(kept_by_elimination(world, std::move(a.inverse), std::move(a.weights), 9, 20),
            kept_by_elimination(alone, std::move(b.inverse), std::move(b.weights), 9, 20));
}

TEST(SolveSplits, IsNeverWorseThanItsPureCandidates) {
  const Communicator world(MPI_COMM_WORLD);
  const Prepared s(world, {.rows = 24, .groups = 16, .samples = 2000, .activation = relu(), .planted_rank = 3,
                           .planted_groups = {4, 11}});
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
