// Rows kept beside a low-rank part of the others: closed form, recovery, the iteration, a path.

#include "layer/optimum.hpp"
#include "slr/dist/redistribute.hpp"
#include "slr/layer/constrained.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace slr {
namespace {

using namespace test;

struct RowProblem : Prepared {
  RowProblem(const Communicator& comm, const Recipe& recipe) : Prepared(comm, recipe) {
    problem.grouping = Grouping::filter;
  }
  [[nodiscard]] double delta() const { return 1e-3 * statistics.mean_diagonal; }
};

std::vector<double> weights_of(const Prepared& s, const LayerFactors& f) {
  return assemble_weights(f, s.problem.rows, s.problem.cols, s.problem.group_columns);
}

double gain_of(const Communicator& comm, const RowProblem& s, const DistMatrix<double>& cross,
               const std::vector<std::int64_t>& rows, std::int64_t target_rank) {
  FixedStructure fixed(comm, s.problem, s.statistics, {rows, target_rank}, s.delta(), Engine::automatic);
  fixed.start(cross);
  return fixed.gain();
}

/// A layer of rank 2 but for some rows.
Recipe planted() {
  return {.rows = 12, .groups = 5, .samples = 480, .planted_rank = 2};
}
void plant_rows(Prepared& s, const std::vector<std::int64_t>& rows) {
  const auto random = random_matrix(s.problem.rows, s.problem.cols, 77);
  const auto n = std::size_t(s.problem.rows);
  for (auto& weight : s.problem.weights) {
    const auto at = std::size_t(&weight - s.problem.weights.data());
    if (std::ranges::count(rows, std::int64_t(at % n)) > 0) weight = static_cast<float>(random[at]);
  }
  for (auto* samples : {&s.problem.fit, &s.problem.selection, &s.problem.report})
    for (std::size_t c = 0; c < std::size_t(samples->count); ++c)
      for (std::size_t i = 0; i < n; ++i) {
        double z = s.problem.bias[i];
        for (std::size_t j = 0; j < std::size_t(s.problem.cols); ++j)
          z += double(s.problem.weights[j * n + i]) * double(samples->x[c * std::size_t(s.problem.cols) + j]);
        samples->y[c * n + i] = static_cast<float>(s.problem.activation(z));
        if (samples == &s.problem.fit) samples->linear[c * n + i] = static_cast<float>(z);
      }
}

TEST(KeptRows, RowsThatAreKeptAreFreeAndTheRestHasTheRank) {
  const Communicator world(MPI_COMM_WORLD);
  const RowProblem s(world, {.rows = 9, .groups = 5});
  const auto o = optimum_of(world, s, s.delta());
  const auto mean = ActivationSplitting(world, s.problem, s.scale, s.statistics).cross().target_mean;
  const std::vector<std::int64_t> rows{1, 4, 7};
  FixedStructure fixed(world, s.problem, s.statistics, {rows, 2}, s.delta(), Engine::automatic);
  fixed.start(o.cross);
  const auto f = fixed.factors(mean);
  EXPECT_EQ(f.grouping, Grouping::filter);
  EXPECT_EQ(f.numerical_rank, 2);
  EXPECT_EQ(std::ssize(f.u), 6 * 2);
  EXPECT_EQ(std::ssize(f.v), 2 * 15);
  EXPECT_EQ(std::ssize(f.b), 3 * 15);
  const auto w = weights_of(s, f);
  // Kept rows are those of the unrestricted optimum, (P + delta W0) (C + delta I)^-1.
  const auto free = gather_everywhere(o.weights);
  for (const auto row : rows)
    for (std::int64_t j = 0; j < s.problem.cols; ++j)
      EXPECT_NEAR(w[std::size_t(j * 9 + row)], free[std::size_t(j * 9 + row)], 1e-6); // the floor beside delta
  // The others are the best of rank 2 for a problem that has no other rows: its gain is what is left of the gain.
  double of_rows = 0;
  for (const auto row : rows) of_rows += gain_of(world, s, o.cross, {row}, 0);
  RowProblem rest(world, {.rows = 9, .groups = 5});
  auto cross = o.cross.clone();
  cross.for_each_local([&](GlobalRow i, GlobalCol, double& value) {
    if (std::ranges::count(rows, i.value()) > 0) value = 0;
  });
  for (std::size_t i = 0; i < rest.problem.weights.size(); ++i)
    if (std::ranges::count(rows, std::int64_t(i % 9)) > 0) rest.problem.weights[i] = 0;
  EXPECT_NEAR(fixed.gain() - of_rows, gain_of(world, rest, cross, {}, 2), 1e-9 * fixed.gain());
}

TEST(KeptRows, APlantedStructureIsFoundAndRecovered) {
  const Communicator world(MPI_COMM_WORLD);
  RowProblem s(world, planted());
  plant_rows(s, {2, 9});
  const std::vector<Split> only{{2, 2}};
  const auto result = solve_splits(world, s.problem, s.scale, s.statistics, only, {.pulls = {1e-6}});
  EXPECT_EQ(result.structure.kept_groups, (std::vector<std::int64_t>{2, 9}));
  EXPECT_LT(error_on(world, s, s.problem.report, result.factors), 1e-8); // inputs are rounded to 17 bits
}

TEST(KeptRows, TheIterationLowersTheErrorAndKeepsTheStructure) {
  const Communicator world(MPI_COMM_WORLD);
  const RowProblem s(world, {.rows = 24, .groups = 10, .samples = 3000, .activation = relu()});
  const Structure structure{{3, 11, 20}, 3};
  const auto solve = [&](const ConstrainedOptions& options) {
    return solve_structure(world, s.problem, s.scale, s.statistics, structure, options);
  };
  const auto linear = solve({.iterations = 0, .trial_iterations = 0}), full = solve({});
  EXPECT_LT(full.error_selection, linear.error_selection);
  EXPECT_EQ(full.factors.kept_groups, structure.kept_groups);
  EXPECT_EQ(full.factors.numerical_rank, 3);
  EXPECT_NEAR(relative_error(world, s.problem, s.problem.report, full.factors),
              error_on(world, s, s.problem.report, full.factors), 1e-12);
  // Straight down from there, the structure stays.
  const auto refined = solve({.refine_evaluations = 10});
  EXPECT_LE(refined.error_selection, full.error_selection);
  EXPECT_EQ(std::ssize(refined.factors.u), 21 * 3);
  EXPECT_EQ(std::ssize(refined.factors.b), 3 * 30);
}

TEST(KeptRows, APathLowersTheRankBesideThem) {
  const Communicator world(MPI_COMM_WORLD);
  const RowProblem s(world, {.rows = 16, .groups = 8, .samples = 1200, .activation = relu()});
  const std::vector<PathRow> rows{{0, {8, 4, 1}, {}}, {4, {8, 4, 1}, {}}};
  const auto path = trace_path(world, s.problem, s.scale, s.statistics, rows, {.trial_iterations = 2});
  ASSERT_EQ(path.rows.size(), 2U);
  for (std::size_t i = 0; i < 2; ++i) {
    ASSERT_EQ(path.rows[i].size(), 3U);
    for (std::size_t r = 0; r < 3; ++r) {
      const auto& point = path.rows[i][r];
      EXPECT_EQ(point.structure.kept_groups.size(), i == 0 ? 0U : 4U);
      EXPECT_EQ(point.factors.numerical_rank, rows[0].ranks[r]);
      if (i > 0) {
        EXPECT_LT(point.error_selection, path.rows[0][r].error_selection);
      }
    }
  }
}

TEST(KeptRows, APathLeavesARowThatIsBeaten) {
  const Communicator world(MPI_COMM_WORLD);
  const RowProblem s(world, {.rows = 16, .groups = 8, .samples = 1200, .activation = relu()});
  const auto trace = [&](std::vector<double> costs) {
    const std::vector<PathRow> rows{
        {0, {12, 6, 1}, {}, {12, 6, 1}}, {1, {4, 3, 2, 1}, {}, std::move(costs)}, {2, {4, 2}, {}, {1, .8}}};
    return trace_path(world, s.problem, s.scale, s.statistics, rows, {.trial_iterations = 2});
  };
  // Beaten from the first point on at costs like the largest of the first row, never at costs like its smallest.
  const auto dear = trace({12, 11.5, 11, 10.5}), cheap = trace({1, .9, .8, .7});
  ASSERT_EQ(dear.rows[1].size(), 2U);
  EXPECT_FALSE(dear.rows[1][0].is_estimated());
  EXPECT_TRUE(dear.rows[1][1].is_estimated());
  ASSERT_EQ(cheap.rows[1].size(), 4U);
  for (std::size_t r = 0; r < 2; ++r) EXPECT_EQ(dear.rows[1][r].structure, cheap.rows[1][r].structure);
  EXPECT_EQ(dear.rows[1][0].error_selection, cheap.rows[1][0].error_selection);
  // Then more groups are not tried either.
  EXPECT_TRUE(dear.rows[2].empty());
  EXPECT_EQ(cheap.rows[2].size(), 2U);
}

TEST(KeptRows, DoNotDependOnTheRanks) {
  const Communicator world(MPI_COMM_WORLD), alone(MPI_COMM_SELF);
  const Recipe recipe{.rows = 20, .groups = 15, .group_columns = 9, .samples = 300, .activation = relu()};
  const RowProblem shared(world, recipe), serial(alone, recipe);
  const std::vector<Split> splits{{5, 3}, {0, 6}};
  const auto a = solve_splits(world, shared.problem, shared.scale, shared.statistics, splits, {.iterations = 6});
  const auto b = solve_splits(alone, serial.problem, serial.scale, serial.statistics, splits, {.iterations = 6});
  EXPECT_EQ(a.structure, b.structure);
  EXPECT_EQ(a.factors.u, b.factors.u);
  EXPECT_EQ(a.factors.v, b.factors.v);
  EXPECT_EQ(a.factors.b, b.factors.b);
}

} // namespace
} // namespace slr
