// Which engine gives the result, when it is refused, and which results have the same bits for every number of ranks.
#include "linalg/spectra.hpp"

#include <cstring>
#include <gtest/gtest.h>

namespace {

using namespace slr;
using namespace slr_test;

DistMatrix<double> block_columns(const Communicator& comm, std::int64_t m, std::int64_t n,
                                 const std::vector<double>& z) {
  return distributed<double>(ProcessGrid::row(comm), m, n, m, 9, z);
}

/// Everything that a result says, as bytes.
std::vector<double> flat(const LowRank<double>& x) {
  std::vector<double> all{double(x.numerical_rank), x.error_bound, double(static_cast<int>(x.engine))};
  const auto vt = gather_everywhere(x.vt);
  all.insert(all.end(), x.sigma.begin(), x.sigma.end());
  all.insert(all.end(), x.u.begin(), x.u.end());
  all.insert(all.end(), vt.begin(), vt.end());
  return all;
}
bool same_bits(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}

// The promise of svd.hpp for problems that run on one rank: all ranks together give the bits of one rank alone, for
// wide and tall matrices, thresholding and truncation, over a sequence with history.
TEST(SvdBits, OneRankProblemsDoNotDependOnTheNumberOfRanks) {
  const auto comm = world();
  const auto self = comm.split(comm.rank(), 0);
  for (const auto& [m, n] : {std::pair<std::int64_t, std::int64_t>{40, 130}, {90, 33}})
    for (const Engine engine : {Engine::automatic, Engine::pdgesvd, Engine::gram, Engine::subspace}) {
      SvdOptions options;
      options.engine = engine;
      Svd<double> together(comm, options), alone(self, options);
      auto z = with_singular_values(m, n, gap_spectrum(std::min(m, n), 9), 21);
      for (int step = 0; step < 3; ++step) {
        z = perturbed(z, 0.02, 60 + std::uint64_t(step));
        const auto a = flat(together.threshold(block_columns(comm, m, n, z), 0.1));
        const auto b = flat(alone.threshold(block_columns(self, m, n, z), 0.1));
        EXPECT_TRUE(same_bits(a, b)) << engine_name(engine) << " step " << step;
      }
      EXPECT_TRUE(same_bits(flat(together.truncate(block_columns(comm, m, n, z), 7)),
                            flat(alone.truncate(block_columns(self, m, n, z), 7))));
      EXPECT_EQ(together.counts().subspace, alone.counts().subspace);
    }
}

// Problems on all ranks agree with one rank to the two bounds.
TEST(SvdBits, LargeProblemsAgreeToTheirBounds) {
  const auto comm = world();
  const auto self = comm.split(comm.rank(), 0);
  const std::int64_t m = 150, n = 260; // several blocks of the eigenvalue and singular value routines
  for (const Engine engine : {Engine::pdgesvd, Engine::gram, Engine::subspace}) {
    SvdOptions options;
    options.engine = engine;
    Svd<double> alone(self, options);
    options.one_rank_rows = 0;
    options.one_rank_flops = 0;
    Svd<double> together(comm, options);
    auto z = with_singular_values(m, n, gap_spectrum(m, 15), 22);
    for (int step = 0; step < 2; ++step) {
      z = perturbed(z, 0.01, 70 + std::uint64_t(step));
      const auto a = together.threshold(block_columns(comm, m, n, z), 0.1);
      const auto b = alone.threshold(block_columns(self, m, n, z), 0.1);
      EXPECT_EQ(a.numerical_rank, 15);
      EXPECT_LE(distance(whole(a, m), whole(b, m)), a.error_bound + b.error_bound);
    }
  }
}

// A Gram matrix too large for one rank is summed and decomposed over all.
TEST(SvdEngines, DistributedGramMatrix) {
  const auto comm = world();
  const std::int64_t m = 1050, n = 1060; // beyond the 1024 rows that stay on the root
  const std::int64_t r = 6;
  std::vector<double> s{3, 2.5, 2, 1.5, 1, 0.5};
  const auto z = with_singular_values(m, n, s, 23);
  SvdOptions options;
  options.engine = Engine::gram;
  options.one_rank_rows = 0;
  options.one_rank_flops = 0;
  Svd<double> svd(comm, options);
  const auto x = svd.threshold(block_columns(comm, m, n, z), 0.75);
  ASSERT_EQ(x.numerical_rank, r - 1);
  for (std::int64_t i = 0; i + 1 < r; ++i)
    EXPECT_NEAR(x.sigma[static_cast<std::size_t>(i)], s[static_cast<std::size_t>(i)] - 0.75, x.error_bound);
  EXPECT_LE(x.error_bound, 1e-8 * norm(s));
  EXPECT_LE(orthogonality(x, m), 1e-10);
}

TEST(SvdEngines, AutoUsesTheSubspaceOnlyAfterItHasVectors) {
  const auto comm = world();
  const std::int64_t m = 200, n = 900; // large against the rank, so that the subspace pays
  Svd<double> svd(comm);
  auto z = with_singular_values(m, n, gap_spectrum(m, 8), 24);
  for (int step = 0; step < 3; ++step) {
    const auto x = svd.threshold(block_columns(comm, m, n, z), 0.1);
    EXPECT_EQ(x.engine, step == 0 ? Engine::gram : Engine::subspace);
    z = perturbed(z, 0.01, 80 + std::uint64_t(step));
  }
  EXPECT_EQ(svd.counts().gram, 1);
  EXPECT_EQ(svd.counts().subspace, 2);
  // Another shape starts anew.
  const auto other = with_singular_values(m, n + 1, gap_spectrum(m, 8), 25);
  EXPECT_EQ(svd.threshold(block_columns(comm, m, n + 1, other), 0.1).engine, Engine::gram);
}

// A matrix that has nothing to do with the last one: the vectors are of no use, the bound says so, and gram takes over.
TEST(SvdEngines, UselessVectorsAreNoticed) {
  const auto comm = world();
  const std::int64_t m = 64, n = 300;
  SvdOptions options;
  options.engine = Engine::subspace;
  for (const bool spread : {false, true}) {
    options.one_rank_rows = spread ? 0 : 256;
    options.one_rank_flops = spread ? 0 : 2e9;
    Svd<double> svd(comm, options);
    (void)svd.threshold(block_columns(comm, m, n, with_singular_values(m, n, gap_spectrum(m, 2), 26)), 0.1);
    // 40 values above the threshold, where 2 + 12 vectors are kept
    const auto z = with_singular_values(m, n, gap_spectrum(m, 40), 27);
    const auto x = svd.threshold(block_columns(comm, m, n, z), 0.1);
    EXPECT_EQ(x.engine, Engine::gram);
    EXPECT_EQ(x.numerical_rank, 40);
    EXPECT_EQ(svd.counts().fallbacks, 1);
    EXPECT_LE(distance(whole(x, m), reference(m, n, z, true, 0.1, 0).x), x.error_bound);
  }
}

// Single precision steers only: the answer is within the bound, and the bound within the tolerance of double. Where the
// gap at the threshold is below single precision's error the double Gram matrix is formed after all.
TEST(SvdEngines, ARoughGramMatrixDoesNotDecide) {
  const auto comm = world();
  const auto self = comm.split(comm.rank(), 0);
  const std::int64_t m = 48, n = 1100;
  SvdOptions options;
  options.engine = Engine::subspace;
  options.rough_gram_flops = 0;
  for (const bool spread : {false, true})
    for (const double gap : {0.3, 1e-5}) {
      // ten values above the threshold of .2, and one below by the gap
      auto s = gap_spectrum(m, 10);
      for (std::size_t i = 0; i < 10; ++i) s[i] += 0.1;
      s[10] = 0.2 * (1 - gap);
      options.one_rank_rows = spread ? 0 : 256;
      options.one_rank_flops = spread ? 0 : 2e9;
      Svd<double> svd(comm, options), alone(self, options);
      auto z = with_singular_values(m, n, s, 29);
      for (int step = 0; step < 3; ++step) {
        const auto x = svd.threshold(block_columns(comm, m, n, z), 0.2);
        EXPECT_LE(distance(whole(x, m), reference(m, n, z, true, 0.2, 0).x), x.error_bound);
        EXPECT_LE(x.error_bound, 1e-6 * norm(x.sigma));
        EXPECT_LE(orthogonality(x, m), 1e-5);
        if (!spread) {
          EXPECT_TRUE(same_bits(flat(x), flat(alone.threshold(block_columns(self, m, n, z), 0.2))));
        }
        // The same singular values in a basis turned by a little.
        const auto turned = perturbed(z, 1e-3, 95 + std::uint64_t(step));
        z = gap > 0.1 ? turned : z;
      }
      EXPECT_EQ(svd.counts().subspace, 2) << gap;
      if (comm.is_root()) {
        EXPECT_EQ(svd.memory().rough_pause > 0, gap < 0.1); // where it was tried in vain
      }
    }
}

// Values whose squares leave the range of floats.
TEST(SvdEngines, NormsBeyondFloatsAreLeftToDouble) {
  const auto comm = world();
  const std::int64_t m = 40, n = 1100;
  SvdOptions options;
  options.engine = Engine::subspace;
  options.rough_gram_flops = 0;
  for (const double scale : {1e-25, 1.0, 1e25}) {
    Svd<double> svd(comm, options);
    auto s = gap_spectrum(m, 6);
    for (double& value : s) value *= scale;
    const auto z = with_singular_values(m, n, s, 30);
    for (int step = 0; step < 2; ++step) {
      const auto x = svd.threshold(block_columns(comm, m, n, z), 0.1 * scale);
      EXPECT_EQ(x.numerical_rank, 6);
      EXPECT_LE(distance(whole(x, m), reference(m, n, z, true, 0.1 * scale, 0).x), x.error_bound);
    }
    EXPECT_EQ(svd.counts().subspace, 1);
    // A history of another scale: what matters is the matrix at hand.
    auto far = z;
    for (double& value : far) value *= 1e30 / scale;
    const auto x = svd.threshold(block_columns(comm, m, n, far), 0.1e30);
    EXPECT_EQ(x.numerical_rank, 6);
  }
}

// A direction that the warm vectors do not see and that iteration from them does not find: only the certificate can.
TEST(SvdEngines, AHiddenDirectionIsFoundByTheCertificate) {
  const auto comm = world();
  const std::int64_t m = 60, n = 120;
  // Z = diag(s): the singular vectors are unit vectors, and what is exactly orthogonal to the subspace stays so.
  const auto diagonal = [&](double hidden) {
    std::vector<double> z(static_cast<std::size_t>(m * n), 0.0);
    for (std::int64_t i = 0; i < m; ++i)
      z[static_cast<std::size_t>(i * (m + 1))] = i < 5        ? 1.0 - 0.1 * double(i)
                                                 : i == m - 1 ? hidden
                                                              : 1e-3 * double(m - i);
    return z;
  };
  for (const bool spread : {false, true}) {
    SvdOptions options;
    options.engine = Engine::subspace;
    options.one_rank_rows = spread ? 0 : 256;
    options.one_rank_flops = spread ? 0 : 2e9;
    Svd<double> svd(comm, options);
    (void)svd.threshold(block_columns(comm, m, n, diagonal(1e-4)), 0.2);
    const auto x = svd.threshold(block_columns(comm, m, n, diagonal(0.3)), 0.2);
    EXPECT_EQ(x.numerical_rank, 6);
    EXPECT_NEAR(x.sigma.back(), 0.1, x.error_bound + 1e-15);
  }
}

TEST(SvdEngines, GoesOnFromAStoredHistory) {
  const auto comm = world();
  const std::int64_t m = 50, n = 200;
  SvdOptions options;
  options.engine = Engine::subspace;
  const auto z = with_singular_values(m, n, gap_spectrum(m, 8), 28);
  const auto next = perturbed(z, 0.01, 90);
  Svd<double> first(comm, options), second(comm, options);
  (void)first.threshold(block_columns(comm, m, n, z), 0.1);
  second.restore(first.memory());
  EXPECT_TRUE(same_bits(flat(first.threshold(block_columns(comm, m, n, next), 0.1)),
                        flat(second.threshold(block_columns(comm, m, n, next), 0.1))));
  EXPECT_EQ(second.counts().subspace, 1);
  // A damaged history is ignored.
  SvdMemory damaged = first.memory();
  damaged.vectors.resize(damaged.vectors.size() / 2);
  second.restore(damaged);
  EXPECT_EQ(second.threshold(block_columns(comm, m, n, next), 0.1).engine, Engine::gram);
}

} // namespace
