// Thresholding and truncation through every engine, on one rank and on all, against a full decomposition and against
// the optimality conditions.
#include "linalg/spectra.hpp"

#include <gtest/gtest.h>

namespace {

using namespace slr;
using namespace slr_test;

/// Engine, and whether the problem is small enough for one rank.
struct Way {
  Engine engine;
  bool is_on_all_ranks;
};
std::vector<Way> ways() {
  std::vector<Way> all;
  for (const Engine engine : {Engine::automatic, Engine::pdgesvd, Engine::gram, Engine::subspace})
    for (const bool spread : {false, true}) all.push_back({engine, spread});
  return all;
}
SvdOptions options_of(const Way& way) {
  SvdOptions options;
  options.engine = way.engine;
  if (way.is_on_all_ranks) {
    options.one_rank_rows = 0;
    options.one_rank_flops = 0;
  }
  return options;
}

template <class T>
DistMatrix<T> block_columns(const Communicator& comm, std::int64_t m, std::int64_t n, std::int64_t block,
                            const std::vector<double>& z) {
  return distributed<T>(ProcessGrid::row(comm), m, n, std::max<std::int64_t>(1, m), block,
                        std::vector<T>(z.begin(), z.end()));
}

template <class T>
class SvdTest : public testing::Test {
protected:
  static constexpr double eps = std::numeric_limits<T>::epsilon();
  /// What input of this precision means to a double reference.
  static std::vector<double> rounded(const std::vector<double>& z) {
    std::vector<double> result;
    for (const double value : z) result.push_back(double(static_cast<T>(value)));
    return result;
  }
};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(SvdTest, Types);

/// One call, checked: error within the bound, bound small, factors orthonormal, optimality.
template <class T>
void expect_threshold(Svd<T>& svd, const DistMatrix<T>& z, const std::vector<double>& plain, double tau, double eps,
                      const Way& way) {
  const std::int64_t m = z.rows(), n = z.cols();
  const auto ref = reference(m, n, plain, true, tau, 0);
  const auto x = svd.threshold(z, tau, "a test");
  const double norm_z = norm(plain);
  // Factors of T carry their own rounding: c n eps ||Z||.
  const double rounding = 20 * double(m + n) * eps * norm_z;
  const auto context = testing::Message()
                       << m << " x " << n << " tau " << tau << " asked " << engine_name(way.engine) << " got "
                       << engine_name(x.engine) << (way.is_on_all_ranks ? " all ranks" : " one rank");
  EXPECT_LE(distance(whole(x, m), ref.x), x.error_bound + 1e-14 * norm_z) << context;
  EXPECT_LE(x.error_bound, 2e-6 * norm_z + rounding) << context;
  EXPECT_LE(orthogonality(x, m), 2e-6 + 40 * double(m + n) * eps) << context;
  if (m > 0 && n > 0) {
    EXPECT_LE(distance_to_optimality(x, m, n, plain, tau), 2 * x.error_bound + rounding) << context;
  }
  EXPECT_EQ(x.vt.rows(), x.numerical_rank);
  EXPECT_EQ(std::ssize(x.sigma), x.numerical_rank);
  EXPECT_TRUE(std::is_sorted(x.sigma.rbegin(), x.sigma.rend()));
}

TYPED_TEST(SvdTest, ThresholdIsOptimalForEveryShapeEngineAndPlace) {
  const auto comm = world();
  for (const auto& [m, n] : {std::pair<std::int64_t, std::int64_t>{0, 4},
                             {4, 0},
                             {1, 1},
                             {1, 2},
                             {2, 1},
                             {2, 9},
                             {7, 29},
                             {31, 8},
                             {24, 40}}) {
    const auto z = this->rounded(random_matrix<double>(m, n, std::uint64_t(m * 100 + n)));
    const double largest = m > 0 && n > 0 ? reference(m, n, z, true, 0, 0).s.front() : 1;
    for (const Way& way : ways()) {
      Svd<TypeParam> svd(comm, options_of(way));
      const auto dz = block_columns<TypeParam>(comm, m, n, 8, z);
      for (const double fraction : {0.5, 0.45}) expect_threshold(svd, dz, z, fraction * largest, this->eps, way);
    }
  }
}

TYPED_TEST(SvdTest, WarmStartsFollowASlowlyChangingMatrix) {
  const auto comm = world();
  const std::int64_t m = 60, n = 150;
  for (const Way& way : {Way{Engine::subspace, false}, {Engine::subspace, true}, {Engine::automatic, false}}) {
    Svd<TypeParam> svd(comm, options_of(way));
    auto z = with_singular_values(m, n, gap_spectrum(m, 12), 3);
    for (int step = 0; step < 4; ++step) {
      z = this->rounded(perturbed(z, 0.01, 50 + std::uint64_t(step)));
      expect_threshold(svd, block_columns<TypeParam>(comm, m, n, 16, z), z, 0.12, this->eps, way);
    }
    const auto counts = svd.counts();
    EXPECT_EQ(counts.fallbacks, 0);
    EXPECT_EQ(counts.pdgesvd + counts.gram + counts.subspace, 4);
    if (way.engine == Engine::subspace) {
      EXPECT_EQ(counts.subspace, 3); // the first has nothing to start from
    }
  }
}

TYPED_TEST(SvdTest, TruncationIsWithinTwiceItsBoundOfTheBest) {
  const auto comm = world();
  for (const auto& [m, n] : {std::pair<std::int64_t, std::int64_t>{20, 45}, {33, 26}}) {
    const auto z = this->rounded(random_matrix<double>(m, n, 77));
    for (const Way& way : ways()) {
      Svd<TypeParam> svd(comm, options_of(way));
      const auto dz = block_columns<TypeParam>(comm, m, n, 7, z);
      for (const std::int64_t rank : {std::int64_t(0), std::int64_t(1), std::int64_t(5), std::int64_t(5), m + n}) {
        const std::int64_t possible = std::min({rank, m, n});
        const auto ref = reference(m, n, z, false, 0, possible);
        const auto x = svd.truncate(dz, rank, "a test");
        EXPECT_EQ(x.numerical_rank, possible);
        const double rounding = 20 * double(m + n) * this->eps * norm(z);
        EXPECT_LE(distance(whole(x, m), z), distance(ref.x, z) + 2 * x.error_bound + rounding);
        EXPECT_LE(x.error_bound, 2e-6 * norm(z) + rounding);
        // ||Z||^2 = ||X||^2 + ||Z - X||^2 belongs to a projection
        for (std::int64_t i = 0; i < possible; ++i)
          EXPECT_NEAR(x.sigma[static_cast<std::size_t>(i)], ref.s[static_cast<std::size_t>(i)],
                      x.error_bound + rounding);
      }
    }
  }
}

TYPED_TEST(SvdTest, ZeroAndRankOneMatrices) {
  const auto comm = world();
  const std::int64_t m = 18, n = 40;
  for (const Way& way : ways()) {
    Svd<TypeParam> svd(comm, options_of(way));
    const std::vector<double> zero(static_cast<std::size_t>(m * n), 0.0);
    const auto dz = block_columns<TypeParam>(comm, m, n, 5, zero);
    for (const double tau : {0.0, 0.3}) {
      const auto x = svd.threshold(dz, tau);
      EXPECT_EQ(x.numerical_rank, 0);
      EXPECT_LE(x.error_bound, 1e-9 * tau); // the slack of a certificate
    }
    EXPECT_EQ(svd.truncate(dz, 3).numerical_rank, 0);
    const auto one = this->rounded(with_singular_values(m, n, {2}, 5));
    const auto d_one = block_columns<TypeParam>(comm, m, n, 5, one);
    for (int repeat = 0; repeat < 3; ++repeat) {
      const auto x = svd.threshold(d_one, 0.5);
      ASSERT_EQ(x.numerical_rank, 1);
      EXPECT_NEAR(x.sigma[0], 1.5, 1e-6 + 40 * this->eps);
    }
    EXPECT_LE(distance(whole(svd.truncate(d_one, 1), m), one), 1e-6 + 100 * this->eps * 2);
  }
}

TYPED_TEST(SvdTest, EqualSingularValuesAreKeptOrDroppedTogether) {
  const auto comm = world();
  const std::int64_t m = 24, n = 50;
  std::vector<double> s(8, 1.0); // eight ones, eight halves
  s.resize(16, 0.5);
  const auto z = this->rounded(with_singular_values(m, n, s, 6));
  const auto dz = block_columns<TypeParam>(comm, m, n, 6, z);
  for (const Way& way : ways()) {
    Svd<TypeParam> svd(comm, options_of(way));
    for (int repeat = 0; repeat < 2; ++repeat) {
      EXPECT_EQ(svd.threshold(dz, 0.7).numerical_rank, 8);
      expect_threshold(svd, dz, z, 0.7, this->eps, way);
      EXPECT_EQ(svd.threshold(dz, 0.3).numerical_rank, 16);
      // At a value itself either side is right: the answer is what the bound says.
      expect_threshold(svd, dz, z, 0.5, this->eps, way);
      // A cluster cut in the middle: any choice is a nearest matrix.
      const auto x = svd.truncate(dz, 12);
      EXPECT_EQ(x.numerical_rank, 12);
      EXPECT_NEAR(distance(whole(x, m), z), std::sqrt(4 * 0.25), 2 * x.error_bound + 1e-5);
    }
  }
}

TEST(Svd, GradedSpectraDownTo1em12StayWithinTheirBounds) {
  const auto comm = world();
  const std::int64_t m = 25, n = 60;
  std::vector<double> s;
  for (std::int64_t i = 0; i < m; ++i) s.push_back(std::pow(10.0, -0.5 * double(i)));
  const auto z = with_singular_values(m, n, s, 7);
  const auto dz = block_columns<double>(comm, m, n, 9, z);
  for (const Way& way : ways())
    for (const double tau : {1e-2, 1e-5, 1e-9}) {
      Svd<double> svd(comm, options_of(way));
      for (int repeat = 0; repeat < 2; ++repeat) {
        const auto x = svd.threshold(dz, tau, "graded");
        std::vector<double> kept;
        for (const double value : s)
          if (value > tau) kept.push_back(value - tau);
        EXPECT_LE(distance(whole(x, m), reference(m, n, z, true, tau, 0).x), x.error_bound + 1e-15)
            << engine_name(way.engine) << " " << tau;
        // What was accepted is good to the tolerance of the engine that gave it.
        const double tolerance = x.engine == Engine::subspace ? 1e-6 : 1e-8;
        EXPECT_LE(x.error_bound, tolerance * norm(kept) + 1e-12) << engine_name(x.engine) << " " << tau;
      }
      // Below the noise of a Gram matrix only the full decomposition is accepted.
      if (tau <= 1e-9) {
        EXPECT_EQ(svd.counts().pdgesvd, 2) << engine_name(way.engine) << " " << tau;
      }
    }
}

TEST(Svd, ANanOnOneRankIsTheSameErrorOnAll) {
  const auto comm = world();
  auto z = random_matrix<double>(12, 40, 8);
  z.back() = std::numeric_limits<double>::quiet_NaN();
  const auto dz = block_columns<double>(comm, 12, 40, 4, z);
  for (const Way& way : ways()) {
    Svd<double> svd(comm, options_of(way));
    std::string sentence;
    try {
      (void)svd.threshold(dz, 0.1, "layer conv2_1");
    } catch (const Error& error) {
      sentence = error.what();
    }
    EXPECT_NE(sentence.find("layer conv2_1"), std::string::npos);
    EXPECT_EQ(sentence, comm.broadcast_text(sentence));
  }
}

TEST(Svd, TakesMatricesOfAnyGrid) {
  const auto comm = world();
  const std::int64_t m = 22, n = 35;
  const auto z = random_matrix<double>(m, n, 9);
  const auto ref = reference(m, n, z, true, 3, 0);
  for (const auto& grid : all_grids(comm)) {
    Svd<double> svd(comm);
    const auto x = svd.threshold(distributed(grid, m, n, 3, 4, z), 3);
    EXPECT_LE(distance(whole(x, m), ref.x), x.error_bound);
    EXPECT_EQ(x.vt.grid()->cols(), comm.size());
  }
}

TEST(Svd, EngineNames) {
  for (const Engine engine : {Engine::automatic, Engine::pdgesvd, Engine::gram, Engine::subspace})
    EXPECT_EQ(parse_engine(engine_name(engine)), engine);
  EXPECT_EQ(engine_name(Engine::automatic), "auto");
  EXPECT_THROW((void)parse_engine("fastest"), Error);
}

} // namespace
