// A factor that ranks share, against the same on one of them.
#include "slr/layer/factored_splitting.hpp"
#include "slr/layer/structure.hpp"

#include "layer/problems.hpp"
#include "slr/layer/splitting.hpp"
#include "slr/mpi/agree.hpp"

#include <array>
#include <cmath>
#include <gtest/gtest.h>

namespace slr {
namespace {

using namespace test;

/// The weights at the start and after one iteration.
std::array<std::vector<double>, 2> two_weights(const Communicator& comm, const Recipe& recipe,
                                               const Structure& structure, double damping) {
  const Prepared s(comm, recipe);
  FixedStructure fixed(comm, s.problem, s.statistics, structure, damping * s.statistics.mean_diagonal,
                       Engine::automatic);
  const auto cross = ActivationSplitting(comm, s.problem, s.scale, s.statistics).cross();
  const auto weights = [&](const std::vector<double>& mean) {
    return assemble_weights(fixed.factors(mean), s.problem.rows, s.problem.cols, s.problem.group_columns);
  };
  fixed.start(cross.p);
  auto before = weights(cross.target_mean);
  FactoredSplitting pass(comm, s.problem, s.scale, s.statistics, 1);
  const auto now = pass.advance(fixed.map(cross.target_mean));
  fixed.improve_left(now);
  fixed.improve_right(pass.project(fixed.left_basis()));
  return {before, weights(now.target_mean)};
}

// So many columns that ranks share the factor: the iteration goes through its inverse, and does what one rank does.
TEST(SharedFactor, IteratesLikeAWholeOne) {
  const Communicator world(MPI_COMM_WORLD);
  ASSERT_GT(world.size(), 1);
  const Recipe recipe{.rows = 5, .groups = 601, .group_columns = 3, .samples = 200, .activation = relu()};
  const Structure structure{{2, 300}, 3};
  constexpr double damping = 0.1;
  const auto together = two_weights(world, recipe, structure, damping);
  std::array<std::vector<double>, 2> alone;
  on_root(world, [&] { alone = two_weights(Communicator(MPI_COMM_SELF), recipe, structure, damping); });
  // In an iteration the factors are rounded to single precision and sums have n and N terms; what differs is amplified
  // by the root of the condition, at most k / damping.
  const double single = std::ldexp(5 + 200, -24) * std::sqrt(double(recipe.cols()) / damping);
  for (std::size_t i = 0; i < 2 && world.is_root(); ++i) {
    double difference = 0, size = 0;
    for (std::size_t j = 0; j < alone[i].size(); ++j) {
      difference += std::pow(together[i][j] - alone[i][j], 2);
      size += std::pow(alone[i][j], 2);
    }
    EXPECT_LT(std::sqrt(difference / size), single);
  }
}

} // namespace
} // namespace slr
