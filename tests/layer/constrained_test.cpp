// The constrained problem: recovery, the activation in the objective pays, noise is not fitted, ranks do not matter.
#include "slr/layer/constrained.hpp"

#include "layer/problems.hpp"

#include <gtest/gtest.h>

namespace slr {
namespace {

using namespace test;

ConstrainedResult solve(const Communicator& comm, const Prepared& s, const Structure& structure,
                        const ConstrainedOptions& options = {}) {
  return solve_structure(comm, s.problem, s.scale, s.statistics, structure, options);
}

TEST(SolveStructure, RecoversAPlantedLayer) {
  const Communicator world(MPI_COMM_WORLD);
  const Prepared s(world, {.activation = relu(), .planted_rank = 2, .planted_groups = {0, 6}});
  const auto result = solve(world, s, {{0, 6}, 2}, {.pulls = {1e-6}});
  // Inputs are rounded to 17 bits: relative squared errors of the order of (2^-17)^2 times the gain of the layer.
  EXPECT_LT(error_on(world, s, s.problem.report, result.factors), 1e-8);
}

TEST(SolveStructure, TheActivationInTheObjectivePays) {
  const Communicator world(MPI_COMM_WORLD);
  const Prepared s(world, {.rows = 24, .groups = 10, .samples = 3000, .activation = relu()});
  const Structure structure{{1, 2}, 4};
  const auto linear = solve(world, s, structure, {.iterations = 0, .trial_iterations = 0});
  const auto full = solve(world, s, structure);
  EXPECT_LT(full.error_selection, 0.98 * linear.error_selection);
  EXPECT_LT(error_on(world, s, s.problem.report, full.factors), error_on(world, s, s.problem.report, linear.factors));
}

TEST(SolveStructure, IdentityNeedsNoIteration) {
  const Communicator world(MPI_COMM_WORLD);
  const Prepared s(world, {});
  const auto result = solve(world, s, {{0}, 3});
  EXPECT_EQ(result.report.stop_reason, StopReason::not_needed);
  EXPECT_EQ(result.report.iterations, 0);
}

TEST(SolveStructure, ReturnsTheBestOnTheSelectionSamples) {
  const Communicator world(MPI_COMM_WORLD);
  const Prepared s(world, {.rows = 16, .groups = 16, .samples = 160, .activation = relu()}); // few samples: it overfits
  const auto result = solve(world, s, {{1, 9}, 4});
  // Z differs by at most 2 (k + r) eps of its terms' size, an error of the size e by 2 sqrt(e) times that: far below
  // 1e-10 e for k = 48 and e above 1e-3.
  const double selection = error_on(world, s, s.problem.selection, result.factors);
  EXPECT_NEAR(result.error_selection, selection, 1e-10 * selection);
  const double train = error_on(world, s, s.problem.fit, result.factors);
  EXPECT_NEAR(result.report.error_train, train, 1e-10 * train);
  for (const double pull : {1e-3, 1e-2, 1e-1}) {
    const auto one = solve(world, s, {{1, 9}, 4}, {.iterations = 3, .pulls = {pull}});
    // Iterates are compared in single precision.
    EXPECT_LE(result.error_selection, one.error_selection * (1 + 1e-5));
  }
}

class EveryKind : public testing::TestWithParam<Activation> {};

TEST_P(EveryKind, EndsWithFiniteWeightsAndAnErrorBelowTheMeans) {
  const Communicator world(MPI_COMM_WORLD);
  const Prepared s(world, {.activation = GetParam()});
  const auto result = solve(world, s, {{0, 1}, 4});
  EXPECT_LT(error_on(world, s, s.problem.report, result.factors), 0.5) << GetParam().to_text();
}

INSTANTIATE_TEST_SUITE_P(SolveStructure, EveryKind,
                         testing::Values(Activation{}, Activation{ActivationType::relu, 0, 0, 0},
                                         Activation{ActivationType::leaky_relu, 0.1, 0, 0},
                                         Activation{ActivationType::clip, 0, 0, 6},
                                         Activation{ActivationType::sigmoid, 0, 0, 0},
                                         Activation{ActivationType::tanh, 0, 0, 0}));

TEST(SolveStructure, DoesNotDependOnTheRanks) {
  const Communicator world(MPI_COMM_WORLD), alone(MPI_COMM_SELF);
  const Recipe recipe{.rows = 20, .groups = 15, .group_columns = 9, .samples = 300, .activation = relu()};
  const Prepared shared(world, recipe), serial(alone, recipe);
  const Structure structure{{2, 11}, 4};
  const auto a = solve(world, shared, structure, {.iterations = 8});
  const auto b = solve(alone, serial, structure, {.iterations = 8});
  EXPECT_EQ(a.factors.u, b.factors.u);
  EXPECT_EQ(a.factors.v, b.factors.v);
  EXPECT_EQ(a.factors.b, b.factors.b);
  EXPECT_EQ(a.pull, b.pull);
  EXPECT_EQ(a.report.objective, b.report.objective);
}

} // namespace
} // namespace slr
