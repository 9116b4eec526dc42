// The joint optimum of a structure: closed forms, a serial least-squares reference, recovery, monotonicity.
#include "slr/dist/redistribute.hpp"
#include "slr/layer/structure.hpp"

#include "layer/problems.hpp"
#include "slr/layer/splitting.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace slr {
namespace {

using namespace test;

// The target comes from inputs before their rounding to 17 bits of a range of at most 8 (a step of 2^-14): one output
// is off by sqrt(k) |W| step / sqrt(12) ~ 9e-5, a weight by that over sqrt(N) and the smallest singular value of Xc /
// sqrt(N) (above 0.4): 1.1e-5 as a standard deviation; the largest of 288 stays within five of them, twice for the
// planted |W|.
constexpr double weight_tolerance = 1.1e-4;

/// f(W) = tr(W C W^T) - 2 tr(W P^T), the objective up to a constant, for the damping `delta` (included in C and P
/// here).
double objective(const Prepared& s, const DistMatrix<double>& p, const std::vector<double>& w, double delta) {
  const auto c = gather_everywhere(s.statistics.gram), q = gather_everywhere(p);
  const auto n = std::size_t(s.problem.rows), k = std::size_t(s.problem.cols);
  double value = 0;
  for (std::size_t j = 0; j < k; ++j)
    for (std::size_t i = 0; i < n; ++i) {
      double wc = delta * w[j * n + i];
      for (std::size_t l = 0; l < k; ++l) wc += w[l * n + i] * c[j * k + l];
      value += w[j * n + i] * (wc - 2 * (q[j * n + i] + delta * s.problem.weights[j * n + i]));
    }
  return value;
}

/// The sums that an iteration forms over the samples, for given cross products.
FactoredCross seen_through(const FactoredMap& map, const std::vector<double>& p) {
  const auto n = std::size_t(map.rows), k = std::size_t(map.cols), q = std::size_t(map.basis_size);
  FactoredCross cross;
  cross.features.assign(n * q, 0.0);
  for (std::size_t j = 0; j < k; ++j)
    for (std::size_t l = 0; l < q; ++l)
      for (std::size_t i = 0; i < n; ++i) cross.features[l * n + i] += p[j * n + i] * double(map.basis[j * q + l]);
  for (const auto j : map.kept_columns)
    cross.kept.insert(cross.kept.end(), p.begin() + j * map.rows, p.begin() + (j + 1) * map.rows);
  return cross;
}

class FixedStructureTest : public testing::Test {
protected:
  Communicator world{MPI_COMM_WORLD};
  LayerFactors solve(const Prepared& s, const Structure& structure, double delta) {
    FixedStructure fixed(world, s.problem, s.statistics, structure, delta, Engine::automatic);
    ActivationSplitting splitting(world, s.problem, s.scale, s.statistics);
    const auto cross = splitting.cross();
    fixed.start(cross.p);
    return fixed.factors(cross.target_mean);
  }
  std::vector<double> weights(const Prepared& s, const LayerFactors& f) {
    return assemble_weights(f, s.problem.rows, s.problem.cols, s.problem.group_columns);
  }
};

TEST_F(FixedStructureTest, EverythingKeptIsTheOriginal) {
  const Prepared s(world, {});
  const Structure all{{0, 1, 2, 3, 4, 5, 6, 7}, 0};
  const auto w = weights(s, solve(s, all, 0));
  for (std::size_t i = 0; i < w.size(); ++i) EXPECT_NEAR(w[i], s.problem.weights[i], weight_tolerance);
}

TEST_F(FixedStructureTest, RecoversAPlantedStructure) {
  const Prepared s(world, {.planted_rank = 2, .planted_groups = {1, 5}});
  auto factors = solve(s, {{1, 5}, 2}, 0);
  const auto w = weights(s, factors);
  for (std::size_t i = 0; i < w.size(); ++i) EXPECT_NEAR(w[i], s.problem.weights[i], weight_tolerance);
  EXPECT_EQ(factors.numerical_rank, 2);
  EXPECT_EQ(factors.u.size(), std::size_t(12 * 2));
  EXPECT_EQ(factors.b.size(), std::size_t(12 * 6));
}

TEST_F(FixedStructureTest, NoPerturbationOfTheSameStructureIsBetter) {
  const Prepared s(world, {.groups = 5});
  const Structure structure{{0, 3}, 2};
  const double delta = 0.01 * s.statistics.mean_diagonal;
  FixedStructure fixed(world, s.problem, s.statistics, structure, delta, Engine::automatic);
  ActivationSplitting splitting(world, s.problem, s.scale, s.statistics);
  const auto cross = splitting.cross();
  fixed.start(cross.p);
  const auto factors = fixed.factors(cross.target_mean);
  const double best = objective(s, cross.p, weights(s, factors), delta);
  std::mt19937_64 engine(9);
  std::normal_distribution<double> normal;
  for (const double step : {1e-3, 1e-2, 0.1, 1.0})
    for (int trial = 0; trial < 25; ++trial) {
      auto other = factors;
      for (auto* part : {&other.u, &other.v, &other.b})
        for (double& value : *part) value += step * normal(engine);
      // The floor of 1e-9 d that the solution has beside delta moves the objective by less than 1e-8 of its size.
      EXPECT_GE(objective(s, cross.p, weights(s, other), delta), best - 1e-7 * std::abs(best));
    }
}

TEST_F(FixedStructureTest, TheOptimumStaysWhereItIs) {
  // Both half steps of an iteration, fed with the target that `start` solved for; more columns than one rank factors.
  const Prepared s(world, {.rows = 6, .groups = 600, .samples = 2500, .planted_rank = 3, .planted_groups = {1, 5}});
  FixedStructure fixed(world, s.problem, s.statistics, {{1, 5}, 3}, 0.01 * s.statistics.mean_diagonal,
                       Engine::automatic);
  ActivationSplitting splitting(world, s.problem, s.scale, s.statistics);
  const auto cross = splitting.cross();
  fixed.start(cross.p);
  const auto before = weights(s, fixed.factors(cross.target_mean));
  const auto map = fixed.map(cross.target_mean);
  const auto p = gather_everywhere(cross.p);
  const auto n = std::size_t(s.problem.rows), k = std::size_t(s.problem.cols), q = std::size_t(map.basis_size);
  fixed.improve_left(seen_through(map, p));
  std::vector<double> projected(q * k, 0.0);
  for (std::size_t j = 0; j < k; ++j)
    for (std::size_t l = 0; l < q; ++l)
      for (std::size_t i = 0; i < n; ++i) projected[j * q + l] += fixed.left_basis()[l * n + i] * p[j * n + i];
  fixed.improve_right(projected);
  const auto after = weights(s, fixed.factors(cross.target_mean));
  // The basis is rounded to 24 bits: its rows, of unit length in the metric, turn by at most sqrt(k) 2^-24 |E||x|,
  // where |E||x| <= sqrt(largest / damped smallest eigenvalue) <= sqrt(k / 0.01).
  double change = 0, size = 0;
  for (std::size_t i = 0; i < after.size(); ++i) {
    change += (after[i] - before[i]) * (after[i] - before[i]);
    size += before[i] * before[i];
  }
  EXPECT_LT(std::sqrt(change / size), std::sqrt(double(k)) * std::ldexp(1.0, -24) * std::sqrt(double(k) / 0.01));
}

TEST_F(FixedStructureTest, TheBestLeftFactorForFeaturesThatStay) {
  const Prepared s(world, {.rows = 12, .groups = 20, .samples = 600});
  const Structure structure{{1, 5}, 3};
  const double delta = 0.01 * s.statistics.mean_diagonal;
  FixedStructure fixed(world, s.problem, s.statistics, structure, delta, Engine::automatic);
  ActivationSplitting splitting(world, s.problem, s.scale, s.statistics);
  auto cross = splitting.cross();
  fixed.start(cross.p);
  const auto first = weights(s, fixed.factors(cross.target_mean));
  // The same target: it is the optimum already, to the rounding of the basis (see above).
  fixed.improve_within(seen_through(fixed.map(cross.target_mean), gather_everywhere(cross.p)));
  const auto same = weights(s, fixed.factors(cross.target_mean));
  const double rounding = std::sqrt(60.0) * std::ldexp(1.0, -24) * std::sqrt(60 / 0.01);
  double change = 0, size = 0;
  for (std::size_t i = 0; i < same.size(); ++i) {
    change += std::pow(same[i] - first[i], 2);
    size += std::pow(first[i], 2);
  }
  EXPECT_LT(std::sqrt(change / size), rounding);
  // Another target: better than before, the rank is kept, and the map that is applied is the factors' own.
  cross.p.for_each_local(
      [](GlobalRow i, GlobalCol j, double& value) { value *= 1 + 0.5 * std::sin(double(3 * i.value() + j.value())); });
  const double before = objective(s, cross.p, same, delta);
  const auto sums = seen_through(fixed.map(cross.target_mean), gather_everywhere(cross.p));
  fixed.improve_within(sums);
  const auto factors = fixed.factors(cross.target_mean);
  const auto better = weights(s, factors);
  EXPECT_LT(objective(s, cross.p, better, delta), before);
  EXPECT_EQ(factors.numerical_rank, 3);
  const auto map = fixed.map(cross.target_mean);
  EXPECT_EQ(map.left_columns, map.basis_size);
  RememberedFeatures features;
  const double through_map = relative_error(world, s.problem, s.problem.fit, map, features),
               through_factors = relative_error(world, s.problem, s.problem.fit, factors);
  EXPECT_NEAR(through_map, through_factors, rounding * through_factors);
  EXPECT_EQ(relative_error(world, s.problem, s.problem.fit, map, features), through_map) << "remembered features";
  // Nothing of the same rank on the same features is better: least squares on all of them, then on three directions.
  std::mt19937_64 engine(5);
  std::normal_distribution<double> normal;
  const double best = objective(s, cross.p, better, delta);
  for (const double step : {1e-3, 1e-2, 0.1})
    for (int trial = 0; trial < 25; ++trial) {
      auto other = factors;
      for (auto* part : {&other.u, &other.b})
        for (double& value : *part) value += step * normal(engine);
      EXPECT_GE(objective(s, cross.p, weights(s, other), delta), best - rounding * std::abs(best));
    }
  // Lowering the rank from there leaves the leading directions what they are, up to rounding: sums of q terms, each at
  // most |U Sigma| |E| of its row and column.
  const auto before_lowering = fixed.low_rank_part(2);
  fixed.lower_rank(2);
  EXPECT_EQ(std::ssize(fixed.factors(cross.target_mean).u), 12 * 2);
  const auto lowered = fixed.low_rank_part(2);
  const double largest = std::abs(*std::ranges::max_element(lowered, {}, [](double value) { return std::abs(value); }));
  const double norms = std::sqrt(60 / 0.01); // |E||x|, see above
  for (std::size_t i = 0; i < lowered.size(); ++i)
    EXPECT_NEAR(lowered[i], before_lowering[i], double(map.basis_size) * 1e-15 * norms * largest);
}

TEST_F(FixedStructureTest, MoreBudgetIsNeverWorse) {
  const Prepared s(world, {});
  ActivationSplitting splitting(world, s.problem, s.scale, s.statistics);
  const auto cross = splitting.cross();
  const auto value = [&](const Structure& structure) {
    FixedStructure fixed(world, s.problem, s.statistics, structure, 0, Engine::automatic);
    fixed.start(cross.p);
    return objective(s, cross.p, weights(s, fixed.factors(cross.target_mean)), 0);
  };
  const double scale = std::abs(value({{0, 1, 2, 3, 4, 5, 6, 7}, 0}));
  double before = 0; // of W = 0
  for (std::int64_t r = 1; r <= 6; ++r) {
    const double now = value({{2}, r});
    EXPECT_LE(now, before + 1e-8 * scale);
    before = now;
  }
  EXPECT_LE(value({{2, 4}, 6}), before + 1e-8 * scale);
}

TEST_F(FixedStructureTest, DeadAndDependentInputsDoNoHarm) {
  const Prepared s(world, {.dead_groups = {0, 4}});
  const auto factors = solve(s, {{0, 1}, 3}, 0);
  for (const double value : weights(s, factors)) EXPECT_TRUE(std::isfinite(value));
  auto with_bias = factors;
  with_bias.bias.assign(std::size_t(s.problem.rows), 0.0);
  EXPECT_LT(error_on(world, s, s.problem.fit, with_bias), 10.0);
}

TEST_F(FixedStructureTest, StrongPullGivesTheTruncatedOriginal) {
  const Prepared s(world, {});
  const auto w = weights(s, solve(s, {{0, 1, 2, 3, 4, 5, 6, 7}, 0}, 1e9 * s.statistics.mean_diagonal));
  for (std::size_t i = 0; i < w.size(); ++i) EXPECT_NEAR(w[i], s.problem.weights[i], 1e-7);
}

TEST_F(FixedStructureTest, DoesNotDependOnTheRanks) {
  const Communicator alone(MPI_COMM_SELF);
  const Recipe recipe{.rows = 20, .groups = 31, .group_columns = 9, .samples = 400};
  const Prepared shared(world, recipe), serial(alone, recipe);
  const Structure structure{{0, 7, 30}, 5};
  const auto mine = solve(shared, structure, 0.01);
  FixedStructure fixed(alone, serial.problem, serial.statistics, structure, 0.01, Engine::automatic);
  ActivationSplitting splitting(alone, serial.problem, serial.scale, serial.statistics);
  const auto cross = splitting.cross();
  fixed.start(cross.p);
  const auto theirs = fixed.factors(cross.target_mean);
  EXPECT_EQ(mine.u, theirs.u);
  EXPECT_EQ(mine.v, theirs.v);
  EXPECT_EQ(mine.b, theirs.b);
}

} // namespace
} // namespace slr
