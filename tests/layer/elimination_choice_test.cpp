// The choice of backward elimination against every subset of as many groups.
#include "slr/layer/elimination.hpp"

#include "layer/optimum.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

namespace slr {
namespace {

using namespace test;

/// ||T||^2 - the smallest error with these groups kept: what they explain.
double gain_of(const Communicator& comm, const Prepared& s, const DistMatrix<double>& cross,
               const std::vector<std::int64_t>& groups, double delta) {
  FixedStructure fixed(comm, s.problem, s.statistics, {groups, 0}, delta, Engine::automatic);
  fixed.start(cross);
  return fixed.gain();
}

TEST(Elimination, IsCloseToTheBestSubset) {
  const Communicator alone(MPI_COMM_SELF);
  int close = 0;
  constexpr int seeds = 100;
  for (unsigned seed = 1; seed <= seeds; ++seed) {
    const Prepared s(alone, {.rows = 6, .groups = 7, .group_columns = 2, .samples = 240, .seed = seed});
    const double delta = 1e-3 * s.statistics.mean_diagonal;
    auto o = optimum_of(alone, s, delta);
    const auto kept =
        kept_by_elimination(alone, o.inverse.clone(), o.weights.clone(), 2, std::array{std::int64_t(3)}).front();
    std::vector<bool> mask{true, true, true, false, false, false, false};
    const double all = gain_of(alone, s, o.cross, {0, 1, 2, 3, 4, 5, 6}, delta);
    double best = 0;
    do {
      std::vector<std::int64_t> groups;
      for (std::size_t g = 0; g < mask.size(); ++g)
        if (mask[g]) groups.push_back(std::int64_t(g));
      best = std::max(best, gain_of(alone, s, o.cross, groups, delta));
    } while (std::prev_permutation(mask.begin(), mask.end()));
    // Errors: what all columns explain and the subset does not.
    if (all - gain_of(alone, s, o.cross, kept, delta) <= 1.1 * (all - best)) ++close;
  }
  EXPECT_GE(close, seeds * 95 / 100);
}

} // namespace
} // namespace slr
