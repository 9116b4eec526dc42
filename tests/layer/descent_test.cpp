// The true objective over the factors: its gradient, where it is stationary, and what a solve gains by it.
#include "slr/layer/constrained.hpp"
#include "slr/layer/factored_objective.hpp"
#include "slr/layer/splitting.hpp"
#include "slr/linalg/lmvm.hpp"

#include "layer/problems.hpp"

#include <gtest/gtest.h>

#include <numeric>

namespace slr {
namespace {

using namespace test;

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}
double norm(const std::vector<double>& a) {
  return std::sqrt(dot(a, a));
}

constexpr double pull = 0.03;

/// An objective around the closed form of a linear layer (the first iterate of the others) or around a start given.
struct Setting {
  Setting(const Communicator& comm, const Recipe& recipe, const Structure& structure,
          const LayerFactors* start = nullptr)
      : s(comm, recipe), splitting(comm, s.problem, s.scale, s.statistics),
        fixed(comm, s.problem, s.statistics, structure, pull * s.statistics.mean_diagonal, Engine::automatic) {
    const auto cross = splitting.cross();
    fixed.start(cross.p);
    closed_form = fixed.factors(cross.target_mean);
    objective.emplace(comm, s.problem, s.scale, s.statistics, fixed, start ? *start : closed_form, pull,
                      splitting.output_squared());
  }
  [[nodiscard]] std::vector<double> zeros() const {
    return std::vector<double>(static_cast<std::size_t>(objective->size()), 0.0);
  }
  /// A point whose changes of W are of the size of W.
  [[nodiscard]] std::vector<double> elsewhere() const {
    auto x = random_matrix(objective->size(), 1, 77);
    const double size = norm(closed_form.u) / norm(x);
    for (double& v : x) v *= size;
    return x;
  }
  Prepared s;
  ActivationSplitting splitting;
  FixedStructure fixed;
  LayerFactors closed_form;
  std::optional<FactoredObjective> objective;
};

/// By the definition, in double precision.
double value_of(const Communicator& comm, const Prepared& s, const LayerFactors& f) {
  const auto w = assemble_weights(f, s.problem.rows, s.problem.cols, s.problem.group_columns);
  double off = 0, norm_squared = 0;
  for (std::size_t i = 0; i < w.size(); ++i) off += std::pow(w[i] - s.problem.weights[i], 2);
  for (const float y : s.problem.fit.y) norm_squared += double(y) * double(y);
  norm_squared = comm.allreduce_value(norm_squared);
  const double weight = static_cast<double>(s.statistics.samples) * pull * s.statistics.mean_diagonal;
  return 0.5 * error_on(comm, s, s.problem.fit, f) + 0.5 * weight * off / norm_squared;
}

class OfActivation : public testing::TestWithParam<Activation> {};

TEST_P(OfActivation, HasTheValueOfItsDefinition) {
  const Communicator world(MPI_COMM_WORLD);
  const Setting t(world, {.activation = GetParam()}, {{1, 5}, 3});
  auto gradient = t.zeros();
  for (const auto& x : {t.zeros(), t.elsewhere()}) {
    const double expected = value_of(world, t.s, t.objective->factors(x));
    // Z in single precision: k + r products each, the same for every sample at worst.
    EXPECT_NEAR(t.objective->evaluate(x, gradient), expected, 2 * (24 + 3) * std::ldexp(1.0, -24) * (1 + expected));
  }
}

TEST_P(OfActivation, HasTheGradientOfDifferences) {
  const Communicator world(MPI_COMM_WORLD);
  const Setting t(world, {.activation = GetParam()}, {{1, 5}, 3});
  const auto x = t.elsewhere();
  auto gradient = x, unused = x;
  (void)t.objective->evaluate(x, gradient);
  const std::size_t left = 12 * 3, mean = 12, dense = 12 * 6, basis = 3 * 18;
  ASSERT_EQ(x.size(), left + mean + dense + basis);
  std::size_t begin = 0;
  for (const auto size : {left, mean, dense, basis}) { // one kind of coordinates at a time
    auto direction = random_matrix(std::ssize(x), 1, static_cast<unsigned>(size));
    for (std::size_t i = 0; i < x.size(); ++i)
      if (i < begin || i >= begin + size) direction[i] = 0;
    begin += size;
    const auto difference = [&](double h) {
      const auto at = [&](double step) {
        auto moved = x;
        for (std::size_t i = 0; i < x.size(); ++i) moved[i] += step * direction[i];
        return t.objective->evaluate(moved, unused);
      };
      return (at(h) - at(-h)) / (2 * h);
    };
    const double h = 1e-3 * norm(x) / norm(direction), slope = dot(gradient, direction);
    // Values carry 2 k 2^-24 of themselves at worst. A kink that lies between both points moves a sample's share of the
    // difference by at most its slope there: a thousandth of the step's samples have one.
    const double noise = 2 * 27 * std::ldexp(1.0, -24) / h * t.objective->evaluate(x, unused);
    EXPECT_NEAR(difference(h), slope, noise + 1e-3 * std::abs(slope)) << size << " coordinates";
    EXPECT_GT(std::abs(slope), noise) << size << " coordinates";
  }
}

INSTANTIATE_TEST_SUITE_P(FactoredObjective, OfActivation,
                         testing::Values(Activation{}, relu(), Activation{ActivationType::leaky_relu, 0.1, 0, 0},
                                         Activation{ActivationType::clip, 0, 0, 6},
                                         Activation{ActivationType::sigmoid, 0, 0, 0},
                                         Activation{ActivationType::tanh, 0, 0, 0}),
                         [](const auto& test) {
                           const auto text = test.param.to_text();
                           return text.substr(0, text.find('('));
                         });

TEST(FactoredObjective, IsStationaryAtTheClosedFormOfALinearLayer) {
  const Communicator world(MPI_COMM_WORLD);
  const Setting t(world, {}, {{1, 5}, 3});
  auto here = t.zeros(), there = t.zeros();
  (void)t.objective->evaluate(t.zeros(), here);
  (void)t.objective->evaluate(t.elsewhere(), there);
  // Products in single precision: 2 (k + r) 2^-24 of what is summed, which is of the size of Y and not of the residual.
  EXPECT_LT(norm(here), 1e-4 * norm(there));
}

TEST(FactoredObjective, LeadsALinearLayerBackToTheClosedForm) {
  const Communicator world(MPI_COMM_WORLD);
  const Recipe recipe{.rows = 8, .groups = 6, .samples = 240};
  const Structure structure{{2}, 2};
  const Setting best(world, recipe, structure);
  const auto start = best.objective->factors(best.elsewhere());
  const Setting t(world, recipe, structure, &start);
  auto x = t.zeros(), gradient = x;
  const double before = t.objective->evaluate(x, gradient), optimum = value_of(world, t.s, t.closed_form);
  const auto function = [&](std::span<const double> at, std::span<double> slope) {
    return t.objective->evaluate(at, slope);
  };
  minimize_lmvm(function, x, 200, [](std::span<const double>, double) { return true; });
  const double after = t.objective->evaluate(x, gradient);
  EXPECT_GT(before, 1.5 * optimum);
  EXPECT_NEAR(after, optimum, 1e-4 * optimum);
  EXPECT_GT(after, optimum * (1 - 1e-5)); // the closed form is the minimum, up to single precision
}

TEST(FactoredObjective, HasTheSameBitsOnEveryNumberOfRanks) {
  const Communicator world(MPI_COMM_WORLD), alone(MPI_COMM_SELF);
  const Recipe recipe{.rows = 20, .groups = 15, .group_columns = 9, .samples = 300, .activation = relu()};
  const Setting shared(world, recipe, {{2, 11}, 4}), serial(alone, recipe, {{2, 11}, 4});
  const auto x = serial.elsewhere();
  auto a = x, b = x;
  EXPECT_EQ(shared.objective->evaluate(x, a), serial.objective->evaluate(x, b));
  EXPECT_EQ(a, b);
}

TEST(FactoredObjective, KeepsTheBasisWithoutAFactor) {
  const Communicator world(MPI_COMM_WORLD);
  const Prepared s(world, {.rows = 9, .groups = 60, .group_columns = 1, .samples = 40, .activation = relu()});
  const auto means = measure_in_samples(world, s.row_grid, s.problem);
  FixedStructure fixed(world, s.problem, means, {{}, 3}, pull * means.mean_diagonal, Engine::automatic);
  const auto mean = row_means(world, 9, s.problem.fit.linear, means.samples);
  auto target = s.problem.fit.linear;
  for (std::size_t i = 0; i < target.size(); ++i) target[i] -= static_cast<float>(mean[i % mean.size()]);
  fixed.start(target);
  const auto start = fixed.factors(mean);
  const auto outputs = measure_outputs(world, s.problem, means.samples);
  FactoredObjective objective(world, s.problem, s.scale, means, fixed, start, pull, outputs.squared);
  ASSERT_EQ(objective.size(), 9 * 3 + 9);
  auto x = random_matrix(objective.size(), 1, 3), gradient = x;
  EXPECT_EQ(objective.factors(x).v, start.v);
  EXPECT_NEAR(objective.evaluate(x, gradient), value_of(world, s, objective.factors(x)),
              2 * 63 * std::ldexp(1.0, -24) * (1 + objective.evaluate(x, gradient)));
}

ConstrainedResult solve(const Communicator& comm, const Prepared& s, std::int64_t evaluations,
                        const std::string& tao = {}) {
  return solve_structure(comm, s.problem, s.scale, s.statistics, {{1, 2}, 4},
                         {.iterations = 2, // which leave something to the descent
                          .trial_iterations = 2,
                          .refine_evaluations = evaluations,
                          .tao_options = tao});
}

TEST(Descent, IsTakenIfTheSelectionErrorFalls) {
  const Communicator world(MPI_COMM_WORLD);
  for (const std::int64_t samples : {200, 3000}) {
    const Prepared s(world, {.rows = 24, .groups = 10, .samples = samples, .activation = relu()});
    const auto without = solve(world, s, 0), with = solve(world, s, 30);
    EXPECT_EQ(without.refine_evaluations, 0);
    EXPECT_EQ(without.refine_gain, 0);
    EXPECT_GT(with.refine_evaluations, 0);
    EXPECT_LE(with.error_selection, without.error_selection);
    EXPECT_NEAR(with.refine_gain, 1 - with.error_selection / without.error_selection, 1e-12);
    const double selection = error_on(world, s, s.problem.selection, with.factors);
    EXPECT_NEAR(with.error_selection, selection, 1e-10 * selection);
    const double train = error_on(world, s, s.problem.fit, with.factors);
    EXPECT_NEAR(with.report.error_train, train, 1e-10 * train);
  }
}

TEST(Descent, LowersTheTrueObjective) {
  const Communicator world(MPI_COMM_WORLD);
  const Prepared s(world, {.rows = 24, .groups = 10, .samples = 3000, .activation = relu()});
  const auto without = solve(world, s, 0), with = solve(world, s, 30);
  EXPECT_GT(with.refine_gain, 0); // with samples enough the descent does not only fit noise
  EXPECT_LT(with.report.error_train, without.report.error_train);
}

TEST(Descent, TakesOptionsOfTao) {
  const Communicator world(MPI_COMM_WORLD);
  const Prepared s(world, {.rows = 24, .groups = 10, .samples = 1000, .activation = relu()});
  const auto with = solve(world, s, 30, "-tao_type cg");
  EXPECT_GT(with.refine_gain, 0);
  EXPECT_NE(with.factors.u, solve(world, s, 30).factors.u);
}

} // namespace
} // namespace slr
