// Counts of work and memory: against the leading terms by hand, and how they scale.
#include "slr/plan/forecast.hpp"

#include <gtest/gtest.h>

namespace slr {
namespace {

TEST(Forecast, CountsTheTermsOfItsFormula) {
  // n = 2, k = 3, N = 50 (40 are fitted, 5 judge), r = 1 (q = 5 with its guards), |S| = 1, two iterations, one factor.
  LayerWork work{2, 3, 50, 1, 1, 2, 1};
  work.block_samples = 8;
  work.network_products = 7;
  const auto flops = count_flops(work);
  const double products = 5 * (2 + 3) + 2 * 1;
  EXPECT_DOUBLE_EQ(flops.single_precision,
                   2 * 50 * 2 * 3 + 4 * 7 + 2 * (2 * 40 * (5 * (3 * 2 + 2 * 3) + 2 * 2 * 1) + 2 * 5 * products));
  EXPECT_DOUBLE_EQ(flops.double_precision, 2 * 40 * 9 + 2 * 40 * 6 + 2 * 50 * (1 * (2 + 3) + 2 * 1) + (27 / 3 + 2 * 9) +
                                               9 * (5 + 2 * 2) + 2 * 4 * 5 * 9);
  EXPECT_DOUBLE_EQ(flops.elements, 20 * 50 * (2 + 3) + 2 * (40 * (7 * 2 + 1.5) + 4 * 5 * 2 + 40 / 8 * products));
  EXPECT_DOUBLE_EQ(count_bytes(work, 1), 50 * 4 * (2 * 3 + 4 * 2 + 0.9 * 5) + 3 * 8 * 9 + 3 * 8 * 6);
}

TEST(Forecast, TheRowSpaceMovesEverMoreRarely) {
  LayerWork work{2, 3, 50, 1, 1, 2, 1};
  EXPECT_EQ(basis_iterations(work), 2);
  const auto before = count_flops(work);
  work.iterations = 30; // it moves in 0, 1, 3, 7, 15
  EXPECT_EQ(basis_iterations(work), 5);
  const auto after = count_flops(work);
  EXPECT_DOUBLE_EQ(after.double_precision - before.double_precision, 3 * 4 * 5 * 9);
  EXPECT_DOUBLE_EQ(after.single_precision - before.single_precision,
                   28 * (2 * 40 * 2 * 2 * (5 + 1) + 2 * 5 * 2 * (5 + 1)) +
                       3 * (2 * 40 * 5 * (2 + 2 * 3) + 2 * 5 * 5 * 3));
}

TEST(Forecast, TheImplicitFormHasNoSquareOfTheColumns) {
  // VGG-16's fc6 on 256 images: a Gram matrix of the columns alone would be 5 GB.
  LayerWork work{4096, 25088, 256, 500, 0, 60, 1};
  work.is_implicit = true;
  const double whole = count_bytes(work, 1), shared = count_bytes(work, 4);
  EXPECT_LT(whole, 8.0 * 25088 * 25088);
  EXPECT_LT(shared, whole);
  EXPECT_GT(4 * shared, whole); // what every rank holds does not shrink
  LayerWork with_moments = work;
  with_moments.is_implicit = false;
  EXPECT_LT(count_flops(work).double_precision, count_flops(with_moments).double_precision);
}

TEST(Forecast, MoreRanksHoldLessEach) {
  const LayerWork work{512, 4608, 30000, 80, 576, 60, 3};
  double before = count_bytes(work, 1);
  for (const std::int64_t ranks : {2, 4, 16, 64}) {
    const double now = count_bytes(work, ranks);
    EXPECT_LT(now, before);
    before = now;
  }
}

} // namespace
} // namespace slr
