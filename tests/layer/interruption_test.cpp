// A solve that is stopped at any of its agreed places and gone on with ends with the same bits, also on other ranks.
#include "slr/layer/constrained.hpp"
#include "slr/layer/relaxed.hpp"

#include "layer/problems.hpp"
#include "store/manual_checkpoints.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace slr {
namespace {

using namespace test;

const Recipe recipe{.rows = 10, .groups = 9, .group_columns = 4, .samples = 240, .activation = relu()};

/// All numbers that a solve yields, one after the other.
using Numbers = std::vector<double>;

void append(Numbers& to, const LayerFactors& f) {
  for (const auto group : f.kept_groups) to.push_back(static_cast<double>(group));
  for (const auto* part : {&f.u, &f.v, &f.b, &f.bias}) to.insert(to.end(), part->begin(), part->end());
}
void append(Numbers& to, const SolveReport& report) {
  to.insert(to.end(), {static_cast<double>(report.iterations), static_cast<double>(report.stop_reason),
                       report.primal_residual, report.dual_residual, report.error_train});
  to.insert(to.end(), report.objective.begin(), report.objective.end());
}
void append(Numbers& to, const EngineCounts& counts) {
  for (const auto count : {counts.pdgesvd, counts.gram, counts.subspace, counts.fallbacks})
    to.push_back(static_cast<double>(count));
}
Numbers numbers_of(const ConstrainedResult& result) {
  Numbers numbers{result.pull, result.error_selection};
  append(numbers, result.factors);
  append(numbers, result.report);
  append(numbers, result.engine_counts);
  return numbers;
}

using Solve = std::function<Numbers(const Communicator&, const Prepared&, Checkpoints*)>;

Numbers solve_some_splits(const Communicator& comm, const Prepared& s, Checkpoints* checkpoints) {
  const std::vector<Split> splits{{0, 5}, {2, 3}, {4, 1}, {6, 0}};
  return numbers_of(
      solve_splits(comm, s.problem, s.scale, s.statistics, splits,
                   {.iterations = 6, .pulls = {1e-3, 1e-1}, .trial_iterations = 2, .checkpoints = checkpoints}));
}

Numbers trace_a_path(const Communicator& comm, const Prepared& s, Checkpoints* checkpoints) {
  // Costs that favour the first row: the second one ends early.
  const std::vector<PathRow> rows{
      {0, {6, 3, 1}, {}, {60, 30, 10}}, {2, {4, 2, 1, 0}, {4}, {60, 45, 40, 30}}, {5, {1, 0}}};
  const auto path = trace_path(comm, s.problem, s.scale, s.statistics, rows,
                               {.pulls = {1e-3, 1e-1}, .trial_iterations = 2, .checkpoints = checkpoints});
  Numbers numbers{path.pull};
  EXPECT_LT(path.rows[1].size(), 4U);
  for (const auto& row : path.rows)
    for (const auto& point : row) {
      numbers.push_back(point.error_selection);
      append(numbers, point.factors);
    }
  return numbers;
}

Numbers solve_relaxed(const Communicator& comm, const Prepared& s, Checkpoints* checkpoints) {
  RelaxedSolver solver(comm, s.problem, s.scale, s.statistics,
                       {.nuclear = 0.1, .group = 0.1, .checkpoints = checkpoints});
  Numbers numbers;
  const auto report = solver.is_restored() && !solver.is_solving() ? solver.report() : solver.solve(1.2, 9, 1e-4);
  append(numbers, report);
  poll(checkpoints); // as what comes behind the solve does
  const auto certificate = solver.certificate();
  numbers.insert(numbers.end(), {certificate.low_rank_distance, certificate.group_distance, certificate.bias_distance,
                                 certificate.loss_distance, static_cast<double>(solver.structure().target_rank)});
  append(numbers, solver.engine_counts());
  const auto point = solver.point();
  for (const auto* matrix : {&point.a, &point.b}) {
    const auto whole = gather_everywhere(*matrix);
    numbers.insert(numbers.end(), whole.begin(), whole.end());
  }
  return numbers;
}

/// Where two lists differ first, -1: nowhere. Whole lists would fill screens.
std::ptrdiff_t first_difference(const Numbers& a, const Numbers& b) {
  const auto [at, other] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return at == a.end() && other == b.end() ? -1 : at - a.begin();
}

class Interruption : public testing::TestWithParam<std::pair<const char*, Solve>> {};

TEST_P(Interruption, AnywhereLeavesTheResultAsItIs) {
  const Communicator world(MPI_COMM_WORLD), alone(MPI_COMM_SELF);
  const Prepared shared(world, recipe), serial(alone, recipe);
  const auto& solve = GetParam().second;
  const auto expected = solve(world, shared, nullptr);
  int stops = 0;
  for (int at = 0;; at += 3) { // every third place; the relaxed solve's last one is behind its end
    const SharedFolder folder(world);
    bool is_stopped = false;
    {
      ManualCheckpoints checkpoints(world, folder);
      checkpoints.stop_at = at;
      try {
        EXPECT_EQ(first_difference(solve(world, shared, &checkpoints), expected), -1);
      } catch (const Error& error) {
        ASSERT_EQ(error.code(), ExitCode::stopped) << error.what();
        is_stopped = true;
      }
    }
    if (!is_stopped) break;
    ++stops;
    ManualCheckpoints again(world, folder);
    EXPECT_EQ(first_difference(solve(world, shared, &again), expected), -1) << "stopped at " << at;
    if (world.is_root()) { // one rank goes on with what several began
      const SharedFolder copy(alone);
      std::filesystem::copy(folder / "checkpoint.h5", copy / "checkpoint.h5");
      ManualCheckpoints elsewhere(alone, copy);
      EXPECT_EQ(first_difference(solve(alone, serial, &elsewhere), expected), -1) << "stopped at " << at;
    }
    world.barrier();
  }
  EXPECT_GE(stops, 3);
}

INSTANTIATE_TEST_SUITE_P(Layer, Interruption,
                         testing::Values(std::pair{"splits", Solve(solve_some_splits)},
                                         std::pair{"path", Solve(trace_a_path)},
                                         std::pair{"relaxed", Solve(solve_relaxed)}),
                         [](const auto& each) { return std::string(each.param.first); });

} // namespace
} // namespace slr
