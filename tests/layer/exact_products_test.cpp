// Exactness: rounding stays below its bound, and what is computed over shards has the bits of one rank with all
// samples.
#include "layer/problems.hpp"

#include "slr/dist/redistribute.hpp"
#include "slr/layer/splitting.hpp"

#include <gtest/gtest.h>

#include <bit>

namespace slr {
namespace {

using namespace test;

TEST(RoundInputs, MovesNoInputByMoreThanHalfAStep) {
  const Communicator world(MPI_COMM_WORLD);
  const auto original = make_problem(world, {});
  auto problem = original;
  const auto scale = round_inputs(world, problem);
  for (std::size_t i = 0; i < problem.fit.x.size(); ++i) {
    const auto j = i % static_cast<std::size_t>(problem.cols);
    const double step = std::ldexp(1.0, scale.exponent[j] - input_bits);
    ASSERT_LE(std::abs(double(problem.fit.x[i]) - original.fit.x[i]), step / 2);
    ASSERT_LE(std::abs(problem.fit.x[i]), std::ldexp(1.0, scale.exponent[j]));
  }
}

TEST(RoundInputs, NamesTheLayerOfAValueThatIsNotFinite) {
  const Communicator world(MPI_COMM_WORLD);
  auto problem = make_problem(world, {});
  if (world.rank() == world.size() - 1) problem.selection.x.at(3) = std::nanf("");
  try {
    (void)round_inputs(world, problem);
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::numerical);
    EXPECT_NE(std::string(error.what()).find("made_up"), std::string::npos);
  }
}

TEST(ExactProducts, DoNotDependOnTheRanks) {
  const Communicator world(MPI_COMM_WORLD), alone(MPI_COMM_SELF);
  const Recipe recipe{.rows = 17, .groups = 29, .group_columns = 9, .samples = 333, .activation = relu()};
  const Prepared shared(world, recipe), serial(alone, recipe);
  EXPECT_EQ(shared.scale.exponent, serial.scale.exponent);
  EXPECT_EQ(shared.statistics.input_mean, serial.statistics.input_mean);
  EXPECT_EQ(gather_everywhere(shared.statistics.gram), gather_everywhere(serial.statistics.gram));
  EXPECT_EQ(largest_eigenvalue(shared.statistics.gram), largest_eigenvalue(serial.statistics.gram));

  const auto weights = random_matrix(recipe.rows, recipe.cols(), 77);
  LayerFactors factors{{3, 11},
                       2,
                       random_matrix(17, 2, 78),
                       random_matrix(2, 27 * 9, 79),
                       random_matrix(17, 18, 80),
                       shared.problem.bias};
  EXPECT_EQ(relative_error(world, shared.problem, shared.problem.fit, factors),
            relative_error(alone, serial.problem, serial.problem.fit, factors));

  ActivationSplitting a(world, shared.problem, shared.scale, shared.statistics);
  ActivationSplitting b(alone, serial.problem, serial.scale, serial.statistics);
  EXPECT_EQ(gather_everywhere(a.cross().p), gather_everywhere(b.cross().p));
  for (int pass = 0; pass < 3; ++pass) {
    const auto from_shards = a.advance(weights, shared.problem.bias),
               from_all = b.advance(weights, serial.problem.bias);
    EXPECT_EQ(gather_everywhere(from_shards.p), gather_everywhere(from_all.p)) << "pass " << pass;
    EXPECT_EQ(from_shards.target_mean, from_all.target_mean);
    EXPECT_EQ(a.sums().loss, b.sums().loss);
    EXPECT_EQ(a.sums().primal_squared, b.sums().primal_squared);
    EXPECT_EQ(a.sums().lambda_squared, b.sums().lambda_squared);
  }
}

TEST(Splitting, CrossProductsAreTheirDefinition) {
  const Communicator alone(MPI_COMM_SELF);
  const Prepared s(alone, {.activation = relu()});
  ActivationSplitting splitting(alone, s.problem, s.scale, s.statistics);
  const auto cross = splitting.cross();
  const auto p = gather_everywhere(cross.p);
  const auto& fit = s.problem.fit;
  const auto n = std::size_t(s.problem.rows), k = std::size_t(s.problem.cols), samples = std::size_t(fit.count);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < k; ++j) {
      double product = 0, t_sum = 0, x_sum = 0, t_max = 0, x_max = 0;
      for (std::size_t q = 0; q < samples; ++q) {
        const double t = fit.linear[q * n + i], x = fit.x[q * k + j];
        product += t * x;
        t_sum += t;
        x_sum += x;
        t_max = std::max(t_max, std::abs(t));
        x_max = std::max(x_max, std::abs(x));
      }
      const double count = static_cast<double>(samples);
      // Targets keep 53 - 17 - ceil(log2 384) = 27 bits of at least a quarter of their range: an error of at most
      // 2^-26 t_max per term, averaged over the terms.
      EXPECT_NEAR(p[j * n + i], product / count - t_sum / count * x_sum / count, std::ldexp(4.0, -26) * t_max * x_max);
    }
}

TEST(Splitting, MultiplierIsAGeneralisedDerivativeOfTheLoss) {
  const Communicator world(MPI_COMM_WORLD);
  const Prepared s(world, {.activation = relu()});
  ActivationSplitting splitting(world, s.problem, s.scale, s.statistics, 0.8);
  const auto weights = random_matrix(s.problem.rows, s.problem.cols, 5);
  for (int pass = 0; pass < 4; ++pass) {
    (void)splitting.advance(weights, s.problem.bias);
    EXPECT_LE(splitting.multiplier_distance(), 1e-13); // rounding of rho (Z + U - M) against r'(M) (r(M) - y)
  }
}

} // namespace
} // namespace slr
