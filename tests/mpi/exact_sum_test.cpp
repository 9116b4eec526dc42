// Exactness: sums that cancel, sums in any order and over any number of ranks, products on fixed-point grids.
#include "slr/mpi/exact_sum.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <random>

namespace slr {
namespace {

std::vector<double> wild_numbers(std::size_t count, unsigned seed) {
  std::mt19937_64 engine(seed);
  std::uniform_real_distribution<double> mantissa(-1, 1);
  std::uniform_int_distribution<int> exponent(-300, 300);
  std::vector<double> values(count);
  for (auto& v : values) v = std::ldexp(mantissa(engine), exponent(engine));
  return values;
}

TEST(ExactSum, KnowsWhatCancels) {
  ExactSum sum;
  for (const double v : {1e300, 1.0, -1e300, std::ldexp(1.0, -1074), -1.0}) sum.add(v);
  EXPECT_EQ(sum.value(), std::ldexp(1.0, -1074));
  EXPECT_EQ(ExactSum().value(), 0.0);
}

TEST(ExactSum, RoundsOnceToNearest) {
  ExactSum sum;
  sum.add(1.0);
  sum.add(std::ldexp(1.0, -53)); // a tie alone: rounds to even, 1
  EXPECT_EQ(sum.value(), 1.0);
  sum.add(std::ldexp(1.0, -1000)); // no tie any more
  EXPECT_EQ(sum.value(), 1.0 + std::ldexp(1.0, -52));
  ExactSum negative;
  negative.add(-3.0);
  negative.add(std::ldexp(1.0, -60));
  EXPECT_EQ(negative.value(), -3.0);
}

TEST(ExactSum, DoesNotDependOnTheOrder) {
  auto values = wild_numbers(5000, 1);
  ExactSum forward, backward;
  for (const double v : values) forward.add(v);
  std::sort(values.begin(), values.end());
  for (const double v : values) backward.add(v);
  EXPECT_EQ(std::bit_cast<std::uint64_t>(forward.value()), std::bit_cast<std::uint64_t>(backward.value()));
}

TEST(ExactSum, DoesNotDependOnTheRanks) {
  const Communicator comm(MPI_COMM_WORLD);
  const auto values = wild_numbers(3000, 2);
  ExactSum serial, mine;
  for (std::size_t i = 0; i < values.size(); ++i) {
    serial.add(values[i]);
    if (static_cast<int>(i % std::size_t(comm.size())) == comm.rank()) mine.add(values[i]);
  }
  const auto total = allreduce_exact(comm, std::span<const ExactSum>(&mine, 1));
  EXPECT_EQ(std::bit_cast<std::uint64_t>(total[0]), std::bit_cast<std::uint64_t>(serial.value()));
}

TEST(ExactSum, RefusesWhatIsNotANumber) {
  ExactSum sum;
  EXPECT_THROW(sum.add(std::nan("")), Error);
  EXPECT_THROW(sum.add(std::numeric_limits<double>::infinity()), Error);
}

TEST(FixedPoint, RoundsToTheNearestGridPoint) {
  const auto grid = FixedPoint::covering(10.0, 20); // step 2^4 / 2^20
  EXPECT_EQ(grid.step(), std::ldexp(1.0, -16));
  for (const double v : {0.0, 1.0, -3.14159, 9.999, 1e-9}) {
    EXPECT_LE(std::abs(grid.round(v) - v), grid.step() / 2);
    EXPECT_EQ(grid.round(v) / grid.step(), std::nearbyint(v / grid.step()));
  }
  EXPECT_EQ(grid.round(1e9), 16.0);
  EXPECT_EQ(grid.round(-1e9), -16.0);
}

TEST(FixedPoint, ProductsSumExactlyInAnyOrder) {
  constexpr std::int64_t terms = 5000;
  constexpr int x_bits = 17;
  const int t_bits = exact_product_bits(terms, x_bits);
  EXPECT_EQ(t_bits, 53 - 17 - 13);
  std::mt19937_64 engine(3);
  std::normal_distribution<double> normal;
  const auto x_grid = FixedPoint::covering(6, x_bits), t_grid = FixedPoint::covering(6, t_bits);
  std::vector<double> products;
  for (std::int64_t i = 0; i < terms; ++i)
    products.push_back(x_grid.round(normal(engine)) * t_grid.round(normal(engine)));
  double forward = 0, sorted = 0;
  for (const double p : products) forward += p;
  std::sort(products.begin(), products.end());
  for (const double p : products) sorted += p;
  ExactSum exact;
  for (const double p : products) exact.add(p);
  EXPECT_EQ(forward, sorted);
  EXPECT_EQ(forward, exact.value());
}

TEST(FixedPoint, TooManyTermsAreRefused) {
  EXPECT_THROW((void)exact_product_bits(std::int64_t(1) << 40, 17), Error);
}

} // namespace
} // namespace slr
