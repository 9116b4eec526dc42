// Few samples for many columns: the implicit form against the explicit one, which has a factor of C.
#include "slr/dist/redistribute.hpp"
#include "slr/layer/constrained.hpp"
#include "slr/layer/splitting.hpp"
#include "slr/layer/structure.hpp"

#include "layer/problems.hpp"

#include <gtest/gtest.h>

namespace slr {
namespace {

using namespace test;

// Both forms solve the same equations, whose condition is at most (trace C + delta) / delta <= k d / delta + 1 = 6,001
// here: the solutions agree to about k eps cond = 60 * 2.2e-16 * 6,001 = 8e-11, and the tolerance is ten times that for
// the few products in between.
constexpr double tolerance = 1e-9;
constexpr double damping = 0.01;

const Recipe few_samples{.rows = 9, .groups = 60, .group_columns = 1, .samples = 18};

double relative_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  return std::sqrt(difference / size);
}

std::vector<double> weights(const Prepared& s, const LayerFactors& f) {
  return assemble_weights(f, s.problem.rows, s.problem.cols, s.problem.group_columns);
}

TEST(ImplicitStructure, MeansAreThoseOfTheGramMatrix) {
  const Communicator world(MPI_COMM_WORLD);
  const Prepared s(world, few_samples);
  const auto means = measure_means(world, s.row_grid, s.problem);
  EXPECT_TRUE(means.is_implicit());
  EXPECT_FALSE(s.statistics.is_implicit());
  EXPECT_EQ(means.samples, s.statistics.samples);
  EXPECT_EQ(means.input_mean, s.statistics.input_mean);
  EXPECT_NEAR(means.mean_diagonal, s.statistics.mean_diagonal, 1e-13 * s.statistics.mean_diagonal);
}

TEST(ImplicitStructure, EqualsTheExplicitOneStepByStep) {
  const Communicator world(MPI_COMM_WORLD);
  const Prepared s(world, few_samples);
  const auto means = measure_means(world, s.row_grid, s.problem);
  const double delta = damping * s.statistics.mean_diagonal;
  FixedStructure with_factor(world, s.problem, s.statistics, {{}, 3}, delta, Engine::automatic);
  FixedStructure without(world, s.problem, means, {{}, 3}, delta, Engine::automatic);
  ActivationSplitting splitting(world, s.problem, s.scale, means);
  const auto cross = splitting.cross();
  with_factor.start(cross.p);
  without.start(cross.p);
  EXPECT_NEAR(without.gain(), with_factor.gain(), tolerance * with_factor.gain());
  const auto before = weights(s, with_factor.factors(cross.target_mean));
  EXPECT_LT(relative_difference(weights(s, without.factors(cross.target_mean)), before), tolerance);

  // One iteration with another target: both see the same sums through their own (equal up to signs) bases.
  for (auto* fixed : {&with_factor, &without}) {
    FactoredSplitting admm(world, s.problem, s.scale, means, 1, 1.6);
    fixed->improve_left(admm.advance(fixed->map(cross.target_mean)));
    fixed->improve_right(admm.project(fixed->left_basis()));
  }
  // The pass is in single precision: sums of k + N products, amplified by the condition's root.
  const double single = 2 * (60 + 18) * std::ldexp(1.0, -24) * std::sqrt(60 / damping + 1);
  const auto after = weights(s, with_factor.factors(cross.target_mean));
  EXPECT_LT(relative_difference(weights(s, without.factors(cross.target_mean)), after), single);
}

TEST(ImplicitStructure, SolvesALayerAsWell) {
  const Communicator world(MPI_COMM_WORLD);
  auto recipe = few_samples;
  recipe.activation = relu();
  recipe.samples = 40; // one block per rank at least: 32 for the fit
  const Prepared s(world, recipe);
  const auto means = measure_means(world, s.row_grid, s.problem);
  ConstrainedOptions options;
  options.pulls = {damping};
  options.tolerance = 0;
  const auto explicitly = solve_structure(world, s.problem, s.scale, s.statistics, {{}, 4}, options, {});
  const auto implicitly = solve_structure(world, s.problem, s.scale, means, {{}, 4}, options, {});
  // Thirty iterations of a map that is not a contraction everywhere: compared are the errors, not the weights.
  EXPECT_NEAR(implicitly.report.error_train, explicitly.report.error_train, 0.01 * explicitly.report.error_train);
  EXPECT_NEAR(implicitly.error_selection, explicitly.error_selection, 0.01 * explicitly.error_selection);
}

TEST(ImplicitStructure, IsTakenWhereItIsCheaper) {
  EXPECT_TRUE(is_implicit_cheaper(205, 25088));
  EXPECT_TRUE(is_implicit_cheaper(1024, 4096));
  EXPECT_FALSE(is_implicit_cheaper(1025, 4096));
  EXPECT_FALSE(is_implicit_cheaper(100, 1152)); // one rank factors it: the same bits for every number of ranks
}

} // namespace
} // namespace slr
