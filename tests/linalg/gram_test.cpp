// The Gram matrix of sharded samples: exact, with the same bits for every number of ranks and every dealing, when the
// entries lie on a grid; to rounding otherwise.
#include "dist/grids.hpp"
#include "slr/linalg/gram.hpp"
#include "slr/mpi/exact_sum.hpp"

#include <algorithm>
#include <cstring>
#include <gtest/gtest.h>
#include <limits>

namespace {

using namespace slr;
using namespace slr_test;

/// k x n samples; with `bits`, every row on a grid of its own scale.
std::vector<float> samples_of(std::int64_t k, std::int64_t n, int bits) {
  auto x = random_matrix<float>(k, n, 31);
  for (std::int64_t i = 0; i < k; ++i) {
    const double scale = std::ldexp(1.0, int(i % 7) - 3);
    const auto grid = FixedPoint::covering(4 * scale, bits);
    for (std::int64_t s = 0; s < n; ++s) {
      float& value = x[static_cast<std::size_t>(i + s * k)];
      value = static_cast<float>(bits > 0 ? grid.round(std::abs(value) * scale) : value * scale);
    }
  }
  return x;
}

/// This rank's share: an uneven dealing of whole samples, none for some ranks.
std::vector<float> share(const std::vector<float>& x, std::int64_t k, int rank, int size) {
  std::vector<float> mine;
  const auto n = k > 0 ? std::ssize(x) / k : 0;
  for (std::int64_t s = 0; s < n; ++s) {
    const int owner = size > 2 ? int(s * s % (size - 1)) : int(s % 3 == 0) % size; // the last of many gets none
    if (owner == rank) mine.insert(mine.end(), x.begin() + s * k, x.begin() + (s + 1) * k);
  }
  return mine;
}

/// (S - s s^T / N) / N with S and s summed exactly.
std::vector<double> plain_gram(const std::vector<float>& x, std::int64_t k, bool is_centred) {
  const auto n = std::ssize(x) / k;
  std::vector<double> sums(static_cast<std::size_t>(k));
  std::vector<double> c(static_cast<std::size_t>(k * k));
  const auto at = [&](std::int64_t i, std::int64_t s) { return double(x[static_cast<std::size_t>(i + s * k)]); };
  for (std::int64_t i = 0; i < k; ++i) {
    ExactSum sum;
    for (std::int64_t s = 0; s < n; ++s) sum.add(at(i, s));
    sums[static_cast<std::size_t>(i)] = sum.value();
  }
  for (std::int64_t j = 0; j < k; ++j)
    for (std::int64_t i = 0; i < k; ++i) {
      ExactSum sum;
      for (std::int64_t s = 0; s < n; ++s) sum.add(at(i, s) * at(j, s)); // 48 bits: the product is exact
      const double product = sums[static_cast<std::size_t>(i)] * sums[static_cast<std::size_t>(j)];
      double value = (is_centred ? sum.value() - product / double(n) : sum.value()) / double(n);
      if (i == j) value = std::max(value, 0.0);
      c[static_cast<std::size_t>(i + j * k)] = value;
    }
  return c;
}

TEST(Gram, IsExactForSamplesOnAGridWhateverTheRanksAndPanels) {
  const auto comm = world();
  for (const std::int64_t k : {1, 5, 23, 64})
    for (const bool is_centred : {false, true}) {
      const std::int64_t n = 120;
      const int bits = 23; // both operands have them: 2 * 23 + ceil(log2 120) = 53
      const auto x = samples_of(k, n, bits);
      const auto mine = share(x, k, comm.rank(), comm.size());
      const auto expected = plain_gram(x, k, is_centred);
      for (const auto& grid : all_grids(comm))
        for (const std::int64_t panel_bytes : {std::int64_t(64), std::int64_t(4096), std::int64_t(1) << 20}) {
          DistMatrix<double> c(grid, k, k, 7, 7);
          const auto summary = gram(std::span<const float>(mine), is_centred, c, panel_bytes, "layer conv1");
          const auto whole = gather_everywhere(c);
          ASSERT_EQ(std::memcmp(whole.data(), expected.data(), expected.size() * sizeof(double)), 0)
              << "k " << k << " grid " << grid->rows() << " x " << grid->cols() << " panel " << panel_bytes;
          EXPECT_EQ(summary.samples, n);
          double trace = 0;
          for (std::int64_t i = 0; i < k; ++i) trace += expected[static_cast<std::size_t>(i * (k + 1))];
          EXPECT_NEAR(summary.mean_diagonal, trace / double(k), double(k) * 2.3e-16 * trace);
        }
    }
}

TEST(Gram, AgreesToRoundingForArbitrarySamples) {
  const auto comm = world();
  const std::int64_t k = 19, n = 77;
  const auto x = samples_of(k, n, 0);
  const auto expected = plain_gram(x, k, true);
  DistMatrix<double> c(ProcessGrid::row(comm), k, k, 4, 4);
  const auto summary = gram(std::span<const float>(share(x, k, comm.rank(), comm.size())), true, c);
  const auto whole = gather_everywhere(c);
  // N eps max |x|^2 with |x| < 4 * 2^3
  EXPECT_LT(max_difference(whole, expected), double(n) * 2.3e-16 * 1024);
  for (std::int64_t i = 0; i < k; ++i) {
    double sum = 0;
    for (std::int64_t s = 0; s < n; ++s) sum += double(x[static_cast<std::size_t>(i + s * k)]);
    EXPECT_NEAR(summary.means[static_cast<std::size_t>(i)], sum / double(n), 1e-13);
  }
  // Doubles as samples, and symmetry to the bit.
  const auto part = share(x, k, comm.rank(), comm.size());
  const std::vector<double> wide(part.begin(), part.end());
  DistMatrix<double> d(ProcessGrid::row(comm), k, k, 4, 4);
  (void)gram(std::span<const double>(wide), true, d);
  EXPECT_EQ(gather_everywhere(d), whole);
  for (std::int64_t j = 0; j < k; ++j)
    for (std::int64_t i = 0; i < j; ++i)
      EXPECT_EQ(whole[static_cast<std::size_t>(i + j * k)], whole[static_cast<std::size_t>(j + i * k)]);
}

TEST(Gram, BadSamplesAreTheSameErrorOnEveryRank) {
  const auto comm = world();
  const auto sentence_of = [&](std::vector<float> mine, std::int64_t k) {
    DistMatrix<double> c(ProcessGrid::row(comm), k, k, 4, 4);
    std::string sentence;
    try {
      (void)gram(std::span<const float>(mine), true, c, 1024, "layer fc6");
    } catch (const Error& error) {
      sentence = error.what();
    }
    EXPECT_NE(sentence.find("layer fc6"), std::string::npos) << sentence;
    EXPECT_EQ(sentence, comm.broadcast_text(sentence));
  };
  const bool is_last = comm.rank() == comm.size() - 1;
  sentence_of({}, 5);                                        // no samples at all
  sentence_of(std::vector<float>(is_last ? 7 : 10, 1.F), 5); // not whole
  std::vector<float> poisoned(10, 1.F);
  if (is_last) poisoned[3] = std::numeric_limits<float>::quiet_NaN();
  sentence_of(poisoned, 5);
  DistMatrix<double> none(ProcessGrid::row(comm), 0, 0, 4, 4);
  EXPECT_EQ(gram(std::span<const float>(), true, none).samples, 0);
}

} // namespace
