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

/// The original values before the activation, less their means.
std::vector<float> centred(const Prepared& s, const std::vector<double>& mean) {
  auto values = s.problem.fit.linear;
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(values[i] - mean[i % mean.size()]);
  return values;
}

TEST(ImplicitStructure, MeansAreThoseOfTheGramMatrix) {
  const Communicator world(MPI_COMM_WORLD);
  const Prepared s(world, few_samples);
  const auto in_samples = measure_in_samples(world, s.row_grid, s.problem);
  EXPECT_TRUE(in_samples.is_implicit());
  EXPECT_FALSE(s.statistics.is_implicit());
  EXPECT_EQ(in_samples.samples, s.statistics.samples);
  EXPECT_EQ(in_samples.input_mean, s.statistics.input_mean);
  EXPECT_NEAR(in_samples.mean_diagonal, s.statistics.mean_diagonal, 1e-13 * s.statistics.mean_diagonal);
}

TEST(ImplicitStructure, EqualsTheExplicitOneStepByStep) {
  const Communicator world(MPI_COMM_WORLD);
  const Prepared s(world, few_samples);
  const auto in_samples = measure_in_samples(world, s.row_grid, s.problem);
  const double delta = damping * s.statistics.mean_diagonal;
  FixedStructure with_factor(world, s.problem, s.statistics, {{}, 3}, delta, Engine::automatic);
  FixedStructure without(world, s.problem, in_samples, {{}, 3}, delta, Engine::automatic);
  ActivationSplitting splitting(world, s.problem, s.scale, in_samples);
  const auto cross = splitting.cross();
  with_factor.start(cross.p);
  without.start(centred(s, cross.target_mean));
  // The target is rounded to single precision once: its square, and what is explained of it, change by twice that.
  EXPECT_NEAR(without.gain(), with_factor.gain(), 2 * std::ldexp(1.0, -24) * with_factor.gain());
  // E and, in an iteration, the pass over the samples are in single precision: sums of n, k and N products, amplified
  // by the root of the condition where E divides by small singular values.
  const double single = 2 * (9 + 60 + 18) * std::ldexp(1.0, -24) * std::sqrt(60 / damping + 1);
  const auto before = weights(s, with_factor.factors(cross.target_mean));
  EXPECT_LT(relative_difference(weights(s, without.factors(cross.target_mean)), before), single);

  // One iteration with another target: both see the same samples through their own (equal up to signs) bases.
  FactoredSplitting one(world, s.problem, s.scale, in_samples, 1), other(world, s.problem, s.scale, in_samples, 1);
  with_factor.improve_left(one.advance(with_factor.map(cross.target_mean)));
  with_factor.improve_right(one.project(with_factor.left_basis()));
  without.improve_left(other.advance(without.map(cross.target_mean)));
  without.improve_right(other.project_target(without.left_basis()));
  const auto after = weights(s, with_factor.factors(cross.target_mean));
  EXPECT_LT(relative_difference(weights(s, without.factors(cross.target_mean)), after), single);
}

TEST(ImplicitStructure, SolvesALayerAsWell) {
  const Communicator world(MPI_COMM_WORLD);
  auto recipe = few_samples;
  recipe.activation = relu();
  recipe.samples = 40; // one block per rank at least: 32 for the fit
  const Prepared s(world, recipe);
  const auto in_samples = measure_in_samples(world, s.row_grid, s.problem);
  ConstrainedOptions options;
  options.pulls = {damping};
  options.tolerance = 0;
  options.refine_evaluations = 0; // without a factor the basis does not move in it
  const auto explicitly = solve_structure(world, s.problem, s.scale, s.statistics, {{}, 4}, options, {});
  const auto implicitly = solve_structure(world, s.problem, s.scale, in_samples, {{}, 4}, options, {});
  // Thirty iterations of a map that is not a contraction everywhere: compared are the errors, not the weights.
  EXPECT_NEAR(implicitly.report.error_train, explicitly.report.error_train, 0.01 * explicitly.report.error_train);
  EXPECT_NEAR(implicitly.error_selection, explicitly.error_selection, 0.01 * explicitly.error_selection);
}

TEST(ImplicitStructure, IsTheSameByConjugateGradients) {
  const Communicator world(MPI_COMM_WORLD);
  auto recipe = few_samples;
  recipe.activation = relu();
  recipe.samples = 40;
  const Prepared s(world, recipe);
  const auto kernel = measure_in_samples(world, s.row_grid, s.problem),
             ksp = measure_in_samples(world, s.row_grid, s.problem, LeastSquares::ksp);
  EXPECT_EQ(ksp.way, LeastSquares::ksp);
  const ConstrainedOptions options{.iterations = 8, .tolerance = 0, .pulls = {damping}};
  const auto a = solve_structure(world, s.problem, s.scale, kernel, {{}, 4}, options, {});
  const auto b = solve_structure(world, s.problem, s.scale, ksp, {{}, 4}, options, {});
  // Systems to 1e-10 of the right sides times their condition, at most 6,001, in eight iterations of single precision.
  EXPECT_NEAR(a.error_selection, b.error_selection, 1e-3 * a.error_selection);
  EXPECT_NEAR(a.report.error_train, b.report.error_train, 1e-3 * a.report.error_train);
}

TEST(ImplicitStructure, IsChosenByItsCost) {
  const auto chosen = [](LeastSquares wanted, const LeastSquaresSize& size) {
    return choose_least_squares(wanted, size);
  };
  EXPECT_EQ(chosen(LeastSquares::automatic, {4096, 25088, 205, 30}), LeastSquares::kernel);
  EXPECT_EQ(chosen(LeastSquares::automatic, {512, 4608, 16000, 30}), LeastSquares::gram);
  // One row, one step: fifty products of 4 k N flops against 2 k N^2 and N^3 / 3.
  EXPECT_EQ(chosen(LeastSquares::automatic, {1, 40000, 10000, 1}), LeastSquares::ksp);
  EXPECT_EQ(chosen(LeastSquares::automatic, {1, 40000, 80, 1}), LeastSquares::kernel);
  EXPECT_EQ(chosen(LeastSquares::ksp, {512, 4608, 16000, 30}), LeastSquares::ksp);
  EXPECT_EQ(chosen(LeastSquares::gram, {4096, 25088, 205, 30}), LeastSquares::gram);
}

TEST(ImplicitStructure, IsTakenWhereItIsCheaper) {
  EXPECT_TRUE(is_implicit_cheaper(205, 25088));
  EXPECT_TRUE(is_implicit_cheaper(1024, 4096));
  EXPECT_FALSE(is_implicit_cheaper(1025, 4096));
  EXPECT_FALSE(is_implicit_cheaper(100, 1152)); // one rank factors it: the same bits for every number of ranks
}

} // namespace
} // namespace slr
