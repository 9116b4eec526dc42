#include "dist/grids.hpp"
#include "slr/linalg/damped_inverse.hpp"
#include "slr/linalg/factor_by_rows.hpp"
#include "slr/linalg/gram.hpp"
#include "slr/linalg/lapack.hpp"

#include <algorithm>
#include <cstring>
#include <gtest/gtest.h>

namespace {

using namespace slr;
using namespace slr_test;

/// X X^T / N of a Gaussian k x n matrix whose columns 3 and 7 are dead and 5 = 1 + 2, if so wanted.
std::vector<double> gram_matrix(std::int64_t k, std::int64_t n, bool has_defects, std::uint64_t seed) {
  auto x = random_matrix<double>(k, n, seed);
  if (has_defects)
    for (std::int64_t s = 0; s < n; ++s) {
      double* column = x.data() + s * k;
      column[3] = column[7] = 0;
      column[5] = column[1] + column[2];
    }
  auto c = product(false, true, k, k, n, x, x);
  for (double& value : c) value /= double(n);
  return c;
}

CholeskyOptions options_for(bool on_one_rank) {
  CholeskyOptions options;
  if (!on_one_rank) options.one_rank_columns = 0;
  return options;
}

/// B times the inverse is what the solve gives, and the inverse has the same bits on both sides of its diagonal.
void expect_inverse(const CholeskyFactor& factor, std::int64_t k, std::int64_t m, const std::vector<double>& b,
                    const std::vector<double>& solution) {
  DistMatrix<double> columns(ProcessGrid::row(world()), k, k, k, 3);
  factor.inverse(columns);
  const auto inverse = gather_everywhere(columns);
  EXPECT_LT(max_difference(product(false, false, m, k, k, b, inverse), solution), 1e-12 * norm(solution));
  for (std::int64_t j = 0; j < k; ++j)
    for (std::int64_t i = 0; i < j; ++i)
      EXPECT_EQ(inverse[static_cast<std::size_t>(i + j * k)], inverse[static_cast<std::size_t>(j + i * k)]);
}

TEST(CholeskyFactor, SolvesOnOneRankAndOnAll) {
  const auto comm = world();
  for (const bool on_one_rank : {true, false})
    for (const std::int64_t k : {1, 12, 90}) {
      const std::int64_t m = 7;
      const double delta = 0.3;
      const auto c = gram_matrix(k, 2 * k + 10, false, 41);
      const auto b = random_matrix<double>(m, k, 42);
      const auto grid = ProcessGrid::row(comm);
      const CholeskyFactor factor(distributed(grid, k, k, 5, 5, c), delta, "layer", options_for(on_one_rank));
      EXPECT_FALSE(factor.report().used_fallback);
      EXPECT_EQ(factor.report().numerical_rank, k);
      auto damped = c;
      for (std::int64_t i = 0; i < k; ++i) damped[static_cast<std::size_t>(i * (k + 1))] += delta;
      auto x = distributed(grid, m, k, m, 5, b);
      factor.solve(x);
      const auto solution = gather_everywhere(x);
      // c k eps ||C|| ||X||, ||C + delta|| < 4, ||X|| < ||B|| / delta
      EXPECT_LT(max_difference(product(false, false, m, k, k, solution, damped), b),
                5 * double(k) * 2.3e-16 * 4 * norm(b) / delta);
      // The two halves make the whole, and the first is an isometry: ||B L^-T||^2 = <B, B C^-1>. Where the root alone
      // has the factor, its values count.
      const auto elsewhere_lost = [&](std::vector<double> matrix) {
        if (!factor.is_shared() && !comm.is_root()) std::fill(matrix.begin(), matrix.end(), 1e3);
        return matrix;
      };
      auto few = elsewhere_lost(b);
      factor.solve_upper(few, m);
      const auto coordinates = few;
      double inner = 0;
      for (std::size_t i = 0; i < b.size(); ++i) inner += b[i] * solution[i];
      EXPECT_NEAR(norm(coordinates) * norm(coordinates), inner, 1e-12 * std::abs(inner));
      few = elsewhere_lost(few);
      factor.solve_lower(few, m);
      EXPECT_LT(max_difference(few, solution), 1e-12 * norm(solution));
      few = elsewhere_lost(b);
      factor.solve(few, m);
      EXPECT_LT(max_difference(few, solution), 1e-12 * norm(solution));
      expect_inverse(factor, k, m, b, solution);
      EXPECT_EQ(factor.is_shared(), !on_one_rank && comm.size() > 1);
      if (!factor.is_shared() && comm.is_root()) {
        few = b;
        factor.solve_upper_here(few, m);
        EXPECT_LT(max_difference(few, coordinates), 1e-12 * norm(coordinates));
      }
    }
}

// Several steps, the last one narrower, more ranks than a step has columns, and no rows at all.
TEST(FactorByRows, SolvesInSteps) {
  const auto comm = world();
  const std::int64_t k = 29, m = 3;
  auto lower = random_matrix<double>(k, k, 45); // with garbage above its diagonal
  auto clean = lower;
  for (std::int64_t j = 0; j < k; ++j) std::fill_n(clean.begin() + j * k, j, 0.0);
  std::vector<double> sums(static_cast<std::size_t>(2 * k), 0.0); // below the diagonal, of rows and of columns
  for (std::int64_t j = 0; j < k; ++j)
    for (std::int64_t i = j + 1; i < k; ++i)
      for (const auto at : {i, k + j})
        sums[static_cast<std::size_t>(at)] += std::abs(clean[static_cast<std::size_t>(i + j * k)]);
  const double diagonal = 2 * *std::max_element(sums.begin(), sums.end());
  for (auto* matrix : {&lower, &clean})
    for (std::int64_t i = 0; i < k; ++i) (*matrix)[static_cast<std::size_t>(i * (k + 1))] = diagonal;
  // L = d (I + N) with |N| <= 1/2 in the norms of row and column sums, so |L_JJ^-1| |L_JJ| <= 2 * 3/2 in both: either
  // product of a step leaves up to so many times k eps |X| |L|.
  const double bound = 2 * 3 * double(k) * 2.3e-16 * norm(clean);
  const auto b = random_matrix<double>(m, k, 46);
  for (const std::int64_t step : {1, 4, 7, 29, 512}) {
    const FactorByRows factor(distributed(ProcessGrid::square(comm), k, k, 4, 4, lower), step);
    auto x = b;
    factor.solve_upper(x, m);
    EXPECT_LT(max_difference(product(false, true, m, k, k, x, clean), b), bound * norm(x)) << step;
    x = b;
    factor.solve_lower(x, m);
    EXPECT_LT(max_difference(product(false, false, m, k, k, x, clean), b), bound * norm(x)) << step;
    std::vector<double> none;
    factor.solve_upper(none, 0);
    factor.solve_lower(none, 0);
  }
}

// Dead and dependent columns without damping: reported, left out, and the rest is the least squares solution.
TEST(CholeskyFactor, RevealsDeadAndDependentColumns) {
  const auto comm = world();
  const std::int64_t k = 20, m = 4;
  const auto c = gram_matrix(k, 60, true, 43);
  const auto b = random_matrix<double>(m, k, 44);
  for (const bool on_one_rank : {true, false}) {
    const auto grid = ProcessGrid::row(comm);
    const CholeskyFactor factor(distributed(grid, k, k, 3, 3, c), 0, "layer", options_for(on_one_rank));
    const auto& report = factor.report();
    EXPECT_TRUE(report.used_fallback);
    EXPECT_EQ(report.dead, (std::vector<std::int64_t>{3, 7}));
    ASSERT_EQ(report.dependent.size(), 1U);
    const auto left_out = report.dependent[0];
    EXPECT_TRUE(left_out == 1 || left_out == 2 || left_out == 5) << left_out;
    EXPECT_EQ(report.numerical_rank, k - 3);
    auto x = distributed(grid, m, k, m, 3, b);
    factor.solve(x);
    const auto solution = gather_everywhere(x);
    const auto back = product(false, false, m, k, k, solution, c);
    expect_inverse(factor, k, m, b, solution);
    auto few = b;
    factor.solve_upper(few, m);
    factor.solve_lower(few, m);
    EXPECT_LT(max_difference(few, solution), 1e-12 * norm(solution));
    for (std::int64_t j = 0; j < k; ++j)
      for (std::int64_t i = 0; i < m; ++i) {
        const auto at = static_cast<std::size_t>(i + j * m);
        const bool is_out = j == 3 || j == 7 || j == left_out;
        EXPECT_NEAR(is_out ? solution[at] : back[at], is_out ? 0 : b[at], 1e-11); // k eps cond, cond < 30
      }
    // With damping they are columns like any other.
    const CholeskyFactor damped(distributed(grid, k, k, 3, 3, c), 0.1, "layer", options_for(on_one_rank));
    EXPECT_FALSE(damped.report().used_fallback);
    EXPECT_EQ(damped.report().dead.size(), 2U);
    EXPECT_EQ(damped.report().numerical_rank, k);
  }
}

TEST(CholeskyFactor, DampsMatricesTooLargeForOneRank) {
  const auto comm = world();
  const std::int64_t k = 20;
  CholeskyOptions options = options_for(false);
  options.fallback_columns = 10;
  const CholeskyFactor factor(distributed(ProcessGrid::row(comm), k, k, 3, 3, gram_matrix(k, 60, true, 43)), 0, "layer",
                              options);
  EXPECT_TRUE(factor.report().used_fallback);
  EXPECT_GT(factor.report().delta, 0);
  EXPECT_LT(factor.report().delta, 1e-6);
  EXPECT_EQ(factor.report().numerical_rank, k);
}

TEST(CholeskyFactor, NothingToFitIsAnErrorOnEveryRank) {
  const auto comm = world();
  std::string sentence;
  try {
    const CholeskyFactor factor(DistMatrix<double>(ProcessGrid::row(comm), 6, 6, 2, 2), 0, "layer fc6");
  } catch (const Error& error) {
    sentence = error.what();
    EXPECT_EQ(error.code(), ExitCode::numerical);
  }
  EXPECT_NE(sentence.find("layer fc6"), std::string::npos);
  EXPECT_EQ(sentence, comm.broadcast_text(sentence));
}

// The promise for small k: the bits of one rank.
TEST(CholeskyFactor, SmallProblemsHaveTheSameBitsForEveryNumberOfRanks) {
  const auto comm = world();
  const auto self = comm.split(comm.rank(), 0);
  for (const bool has_defects : {false, true}) {
    const std::int64_t k = 33, m = 9;
    const auto c = gram_matrix(k, 80, has_defects, 45);
    const auto b = random_matrix<double>(m, k, 46);
    const auto solve = [&](const Communicator& ranks) {
      const auto grid = ProcessGrid::row(ranks);
      const CholeskyFactor factor(distributed(grid, k, k, 4, 4, c), 0, "layer");
      auto x = distributed(grid, m, k, m, 4, b);
      factor.solve(x);
      return gather_everywhere(x);
    };
    const auto together = solve(comm), alone = solve(self);
    EXPECT_EQ(std::memcmp(together.data(), alone.data(), alone.size() * sizeof(double)), 0);
  }
}

} // namespace
