// The steps of an iteration: what they compute and exchange in all.
#include "slr/plan/iteration_steps.hpp"

#include <cmath>
#include <gtest/gtest.h>

namespace slr {
namespace {

const LayerWork small{256, 1152, 16000, 48, 108, 1, 1}, large{512, 4608, 16000, 115, 90, 1, 1};

double bytes(const LayerWork& work, std::int64_t ranks, RowSpace row_space = RowSpace::moves) {
  double sum = 0;
  for (const auto& step : iteration_steps(work, ranks, row_space)) sum += bytes_per_rank(step, ranks);
  return sum;
}

// 2 (p - 1) / p (n |S| + 2 r (n + k)) doubles are what sums over the samples alone would take, were the row space to
// move in each of 30 iterations; it moves in five of them. One of those takes up to 10 of q k where the bound has 4 of
// r k.
TEST(IterationSteps, ExchangeLessThanWhatTheSumsOverTheSamplesTake) {
  for (const auto& work : {small, large})
    for (const std::int64_t ranks : {2, 16, 1024}) {
      const double n = double(work.rows), k = double(work.cols), s = double(work.kept_columns), r = double(work.rank);
      const double bound = 16.0 * double(ranks - 1) / double(ranks) * (n * s + 2 * r * (n + k));
      EXPECT_LT((5 * bytes(work, ranks) + 25 * bytes(work, ranks, RowSpace::stays)) / 30, bound);
      EXPECT_LT(bytes(work, ranks), 2.5 * basis_size(work) / r * bound);
      EXPECT_GT(bytes(work, ranks), 0.5 * bound);
    }
}

TEST(IterationSteps, DealTheSamplesInWholeBlocks) {
  const auto pass = [](std::int64_t ranks) {
    return iteration_steps(small, ranks, RowSpace::moves).front().each.single_precision;
  };
  EXPECT_DOUBLE_EQ(pass(2), 50 * pass(100)); // 100 blocks of 128 for the fit
  EXPECT_DOUBLE_EQ(pass(100), pass(1024));   // some ranks have none
  EXPECT_DOUBLE_EQ(pass(3), 34 * pass(100)); // one has 34, the others 33
}

TEST(IterationSteps, ARowSpaceThatStaysIsNotSent) {
  for (const auto& work : {small, large}) {
    const double q = basis_size(work), k = double(work.cols);
    EXPECT_LT(bytes(work, 16, RowSpace::stays), bytes(work, 16) - 16.0 * 15 / 16 * q * k);
    const auto flops = [&](RowSpace row_space) {
      double sum = 0;
      for (const auto& step : iteration_steps(work, 16, row_space)) sum += step.each.single_precision;
      return sum;
    };
    EXPECT_LT(flops(RowSpace::stays), 0.6 * flops(RowSpace::moves));
  }
}

TEST(IterationSteps, SharedFactorsLeaveTheRootLittle) {
  const auto root = [](const LayerWork& work) {
    double sum = 0;
    for (const auto& step : iteration_steps(work, 8, RowSpace::moves)) sum += step.root.double_precision;
    return sum;
  };
  const double q = basis_size(small), q_large = basis_size(large);
  EXPECT_GT(root(small), 2 * q * std::pow(double(small.cols), 2));
  EXPECT_LT(root(large), 0.1 * q_large * std::pow(double(large.cols), 2));
}

} // namespace
} // namespace slr
