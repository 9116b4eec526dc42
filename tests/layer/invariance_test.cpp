// What must not matter to the constrained problem (orders of samples and channels), and inputs and outputs at the edge.
#include "slr/layer/constrained.hpp"

#include "layer/problems.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace slr {
namespace {

using namespace test;

/// A made-up problem, changed before anything is measured.
struct Changed {
  template <class Change>
  Changed(const Communicator& comm, const Recipe& recipe, Change&& change)
      : problem((make_problem(comm, recipe))), changed(change(problem)), scale(round_inputs(comm, problem)),
        statistics(measure_statistics(comm, ProcessGrid::row(comm), problem)) {}
  LayerProblem problem;
  bool changed;
  InputScale scale;
  LayerStatistics statistics;
};

/// The outputs of the original layer again, after its weights, bias or inputs were changed.
void recompute(LayerProblem& p) {
  const auto n = std::size_t(p.rows), k = std::size_t(p.cols);
  for (auto* samples : {&p.fit, &p.selection, &p.report})
    for (std::size_t c = 0; c < std::size_t(samples->count); ++c)
      for (std::size_t i = 0; i < n; ++i) {
        double z = p.bias[i];
        for (std::size_t j = 0; j < k; ++j) z += double(p.weights[j * n + i]) * double(samples->x[c * k + j]);
        samples->y[c * n + i] = static_cast<float>(p.activation(z));
        if (samples == &p.fit) samples->linear[c * n + i] = static_cast<float>(z);
      }
}

ConstrainedResult solve(const Communicator& comm, const Changed& s, const Split& split) {
  const std::vector<Split> only{split};
  return solve_splits(comm, s.problem, s.scale, s.statistics, only, {.iterations = 6, .pulls = {1e-3, 1e-2}});
}

double report_error(const Communicator& comm, const Changed& s, const ConstrainedResult& result) {
  return relative_error(comm, s.problem, s.problem.report, result.factors);
}

const Recipe recipe{.rows = 12, .groups = 9, .group_columns = 3, .samples = 600, .activation = relu()};

class Invariance : public testing::TestWithParam<Grouping> {
protected:
  Communicator world{MPI_COMM_WORLD};
  template <class Change>
  Changed problem(Change&& change) {
    return {world, recipe, [&](LayerProblem& p) {
              p.grouping = GetParam();
              change(p);
              return true;
            }};
  }
};

TEST_P(Invariance, TheOrderOfTheSamplesDoesNotMatter) {
  const auto plain = problem([](LayerProblem&) {});
  const auto reversed = problem([](LayerProblem& p) { // on each rank
    for (auto* samples : {&p.fit, &p.selection, &p.report}) {
      const auto turn = [&](std::vector<float>& values, std::int64_t size) {
        std::vector<float> turned;
        for (auto c = std::ssize(values) / size; c-- > 0;)
          turned.insert(turned.end(), values.begin() + c * size, values.begin() + (c + 1) * size);
        values = turned;
      };
      turn(samples->x, p.cols);
      turn(samples->y, p.rows);
      turn(samples->linear, p.rows);
    }
  });
  const auto a = solve(world, plain, {3, 3}), b = solve(world, reversed, {3, 3});
  EXPECT_EQ(a.structure, b.structure);
  EXPECT_EQ(a.pull, b.pull);
  // Passes are in single precision, whose blocks hold other samples now: some hundred roundings of 2^-24 per value.
  EXPECT_NEAR(a.error_selection, b.error_selection, 1e-4 * a.error_selection);
}

TEST_P(Invariance, TheOrderOfTheChannelsDoesNotMatter) {
  const std::vector<std::int64_t> order{4, 0, 7, 2, 8, 1, 3, 6, 5}; // channel c of the changed problem
  const auto plain = problem([](LayerProblem&) {});
  const auto moved = problem([&](LayerProblem& p) {
    const auto permute = [&](std::vector<float>& values, std::int64_t lead) { // rows of groups, or columns
      auto from = values;
      for (std::size_t g = 0; g < order.size(); ++g)
        std::copy_n(from.begin() + order[g] * lead, lead, values.begin() + std::int64_t(g) * lead);
    };
    permute(p.weights, p.group_columns * p.rows);
    for (auto* samples : {&p.fit, &p.selection, &p.report})
      for (std::int64_t c = 0; c < samples->count; ++c) {
        std::vector<float> column(samples->x.begin() + c * p.cols, samples->x.begin() + (c + 1) * p.cols);
        permute(column, p.group_columns);
        std::copy(column.begin(), column.end(), samples->x.begin() + c * p.cols);
      }
  });
  const auto a = solve(world, plain, {3, 3}), b = solve(world, moved, {3, 3});
  auto expected = b.structure.kept_groups;
  if (GetParam() != Grouping::filter)
    for (auto& group : expected) group = order[std::size_t(group)];
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(a.structure.kept_groups, expected);
  EXPECT_EQ(a.pull, b.pull);
  EXPECT_NEAR(a.error_selection, b.error_selection, 1e-4 * a.error_selection); // other roundings, as above
}

TEST_P(Invariance, DuplicateChannelsDoNoHarm) {
  const auto s = problem([](LayerProblem& p) { // channel 5 is channel 2 again
    for (auto* samples : {&p.fit, &p.selection, &p.report})
      for (std::int64_t c = 0; c < samples->count; ++c)
        std::copy_n(samples->x.begin() + c * p.cols + 2 * p.group_columns, p.group_columns,
                    samples->x.begin() + c * p.cols + 5 * p.group_columns);
    recompute(p);
  });
  const auto result = solve(world, s, {3, 4});
  EXPECT_LT(report_error(world, s, result), 0.5);
  if (GetParam() == Grouping::filter) return;
  const auto& kept = result.structure.kept_groups; // the other one would explain nothing
  EXPECT_LT(std::count(kept.begin(), kept.end(), 2) + std::count(kept.begin(), kept.end(), 5), 2);
}

TEST_P(Invariance, ConstantOutputsAreExplainedByTheBias) {
  const auto s = problem([](LayerProblem& p) { // all of them
    std::fill(p.weights.begin(), p.weights.end(), 0.0F);
    for (double& b : p.bias) b = 1 + std::abs(b);
    recompute(p);
  });
  const auto result = solve(world, s, {3, 2});
  EXPECT_LT(report_error(world, s, result), 1e-12);
  const auto some = problem([](LayerProblem& p) { // every other one
    for (std::size_t i = 0; i < p.weights.size(); i += 2) p.weights[i] = 0;
    recompute(p);
  });
  EXPECT_LT(report_error(world, some, solve(world, some, {3, 3})), 0.5);
}

TEST_P(Invariance, OutputsThatAreNeverPositiveStayZero) {
  const auto s = problem([](LayerProblem& p) {
    for (double& b : p.bias) b = -1000;
    recompute(p);
  });
  const auto result = solve(world, s, {3, 2});
  EXPECT_EQ(report_error(world, s, result), 0);
  for (const double value : result.factors.u) EXPECT_TRUE(std::isfinite(value));
}

TEST_P(Invariance, MoreColumnsThanSamplesAreSolved) {
  const Changed s(world, {.rows = 6, .groups = 40, .group_columns = 3, .samples = 100, .activation = relu()},
                  [&](LayerProblem& p) {
                    p.grouping = GetParam();
                    return true;
                  });
  const auto result = solve(world, s, {2, 2});
  EXPECT_LT(result.report.error_train, 0.5);
  EXPECT_TRUE(std::isfinite(report_error(world, s, result)));
}

INSTANTIATE_TEST_SUITE_P(EveryGrouping, Invariance, testing::Values(Grouping::channel, Grouping::filter),
                         [](const auto& p) { return to_text(p.param); });

} // namespace
} // namespace slr
