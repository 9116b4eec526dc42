// The relaxed problem: optimality on a convex case, its limits, recovery, and independence of the number of ranks.
#include "slr/layer/relaxed.hpp"

#include "layer/problems.hpp"

#include <gtest/gtest.h>

namespace slr {
namespace {

using namespace test;

TEST(Relaxed, IdentityReachesTheOptimum) {
  const Communicator world(MPI_COMM_WORLD);
  const Prepared s(world, {});
  RelaxedSolver solver(world, s.problem, s.scale, s.statistics, {.nuclear = 0.05, .group = 0.1});
  const auto report = solver.solve(1, 5000, 1e-6);
  EXPECT_EQ(report.stop_reason, StopReason::converged);
  const auto c = solver.certificate();
  EXPECT_LT(c.low_rank_distance, 1e-6);
  EXPECT_LT(c.group_distance, 1e-6);
  EXPECT_LT(c.bias_distance, 1e-6);
  EXPECT_LT(c.loss_distance, 1e-6);
  EXPECT_LT(report.primal_residual, 1e-6);
  EXPECT_LT(report.dual_residual, 1e-6);
}

TEST(Relaxed, ReluConvergesOrSaysThatTheLimitEndedIt) {
  const Communicator world(MPI_COMM_WORLD);
  const Prepared s(world, {.activation = relu()});
  RelaxedSolver solver(world, s.problem, s.scale, s.statistics, {.nuclear = 0.05, .group = 0.1});
  const auto report = solver.solve(1, 400, 1e-4);
  const auto c = solver.certificate();
  const double worst = std::max({report.primal_residual, report.dual_residual, c.low_rank_distance, c.group_distance,
                                 c.bias_distance, c.loss_distance});
  if (report.stop_reason == StopReason::converged)
    EXPECT_LT(worst, 1e-4);
  else
    EXPECT_EQ(report.iterations, 400);
  EXPECT_LT(report.objective.back(), report.objective.front());
}

TEST(Relaxed, LambdasAtTheirLargestLeaveNothing) {
  const Communicator world(MPI_COMM_WORLD);
  const Prepared s(world, {});
  RelaxedSolver solver(world, s.problem, s.scale, s.statistics, {.nuclear = 0.5, .group = 0.5});
  (void)solver.solve(2.02, 300, 1e-8); // both fractions become 1.01: zero is optimal
  const auto nothing = solver.structure();
  EXPECT_EQ(nothing.target_rank, 0);
  EXPECT_TRUE(nothing.kept_groups.empty());
  (void)solver.solve(1.8, 300, 1e-8); // 0.9 each: not both can be zero
  const auto something = solver.structure();
  EXPECT_TRUE(something.target_rank > 0 || !something.kept_groups.empty());
}

TEST(Relaxed, MorePenaltyLeavesLess) {
  const Communicator world(MPI_COMM_WORLD);
  const Prepared s(world, {.rows = 24, .groups = 12, .activation = relu()});
  RelaxedSolver solver(world, s.problem, s.scale, s.statistics, {.nuclear = 0.02, .group = 0.02});
  double before = 0;
  for (const double factor : {1.0, 4.0, 16.0, 40.0}) {
    const auto report = solver.solve(factor, 200, 1e-5);
    EXPECT_GT(report.error_train, before);
    before = report.error_train;
  }
}

TEST(Relaxed, FindsPlantedGroupsAndRank) {
  // Two groups of random columns on top of a rank-one matrix: with the low-rank part cheap, B keeps just these.
  const Communicator world(MPI_COMM_WORLD);
  const Prepared s(
      world,
      {.rows = 30, .groups = 12, .group_columns = 2, .samples = 2000, .planted_rank = 1, .planted_groups = {3, 8}});
  RelaxedSolver solver(world, s.problem, s.scale, s.statistics, {.nuclear = 0.01, .group = 0.06});
  (void)solver.solve(1, 1500, 1e-6);
  const auto found = solver.structure();
  for (const auto group : found.kept_groups) EXPECT_TRUE(group == 3 || group == 8) << group;
  EXPECT_LE(found.target_rank, 6);
}

TEST(Relaxed, ChoicesDoNotDependOnTheRanksAlsoAtTheLimit) {
  const Communicator world(MPI_COMM_WORLD), alone(MPI_COMM_SELF);
  const Recipe recipe{.rows = 24, .groups = 20, .group_columns = 9, .samples = 420, .activation = relu()};
  const Prepared shared(world, recipe), serial(alone, recipe);
  const RelaxedOptions options{.nuclear = 0.05, .group = 0.1};
  RelaxedSolver a(world, shared.problem, shared.scale, shared.statistics, options);
  RelaxedSolver b(alone, serial.problem, serial.scale, serial.statistics, options);
  const auto from_shards = a.solve(1, 23, 1e-9), from_all = b.solve(1, 23, 1e-9);
  EXPECT_EQ(from_shards.stop_reason, StopReason::iteration_limit);
  EXPECT_EQ(from_shards.objective, from_all.objective); // the same bits
  EXPECT_EQ(a.structure().kept_groups, b.structure().kept_groups);
  EXPECT_EQ(a.structure().target_rank, b.structure().target_rank);
}

TEST(Relaxed, ConstantOutputsNeedNoWeights) {
  const Communicator world(MPI_COMM_WORLD);
  auto recipe = Recipe{.activation = relu()};
  auto problem = make_problem(world, recipe);
  for (auto* samples : {&problem.fit, &problem.selection, &problem.report}) {
    std::fill(samples->y.begin(), samples->y.end(), 2.0F);
    std::fill(samples->linear.begin(), samples->linear.end(), 2.0F);
  }
  const auto scale = round_inputs(world, problem);
  const auto grid = ProcessGrid::row(world);
  const auto statistics = measure_statistics(world, grid, problem);
  RelaxedSolver solver(world, problem, scale, statistics, {});
  const auto report = solver.solve(1, 50, 1e-6);
  EXPECT_EQ(report.stop_reason, StopReason::converged);
  for (const double b : solver.bias()) EXPECT_NEAR(b, 2.0, 1e-12);
}

} // namespace
} // namespace slr
