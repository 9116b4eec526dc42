#include "dist/grids.hpp"
#include "slr/linalg/gram.hpp"
#include "slr/linalg/sample_kernel.hpp"

#include <algorithm>
#include <gtest/gtest.h>
#include <limits>

namespace {

using namespace slr;
using namespace slr_test;

/// This rank's columns of m (rows x n): six to each, what is left to the last but one; the last of several has none.
std::vector<std::int64_t> my_samples(const Communicator& comm, std::int64_t n) {
  std::vector<std::int64_t> mine;
  for (std::int64_t s = 0; s < n; ++s)
    if (std::min<std::int64_t>(s / 6, std::max(0, comm.size() - 2)) == comm.rank()) mine.push_back(s);
  return mine;
}
template <class T>
std::vector<T> columns_of(const std::vector<T>& m, std::int64_t rows, const std::vector<std::int64_t>& which) {
  std::vector<T> result;
  for (const auto s : which) result.insert(result.end(), m.begin() + s * rows, m.begin() + (s + 1) * rows);
  return result;
}

/// Gaussian samples, k x n, and this rank's share of them.
struct Dealt {
  std::vector<float> all;
  std::vector<std::int64_t> samples;
  std::vector<float> mine;
};
Dealt deal(const Communicator& comm, std::int64_t k, std::int64_t n, std::uint64_t seed) {
  const auto all = random_matrix<float>(k, n, seed);
  const auto samples = my_samples(comm, n);
  return {all, samples, columns_of(all, k, samples)};
}

// B (C + delta I)^-1 = (B - B Xc (K + N delta I)^-1 Xc^T) / delta, panels of every size, samples dealt unevenly.
TEST(SampleKernel, GivesTheInverseOfTheDampedGramMatrix) {
  const auto comm = world();
  const std::int64_t k = 70, n = 25, m = 11;
  const double delta = 0.05;
  const auto [x, samples, mine] = deal(comm, k, n, 47);
  DistMatrix<double> c(ProcessGrid::row(comm), k, k, 6, 6);
  const auto summary = gram(std::span<const float>(mine), true, c);
  auto damped = gather_everywhere(c);
  for (std::int64_t i = 0; i < k; ++i) damped[static_cast<std::size_t>(i * (k + 1))] += delta;
  const auto b = random_matrix<double>(m, k, 48);
  const SampleKernel kernel(comm, mine, summary.means, "layer fc6");
  EXPECT_EQ(kernel.samples(), n);
  std::vector<double> centred(mine.begin(), mine.end());
  for (std::size_t i = 0; i < centred.size(); ++i) centred[i] -= summary.means[i % summary.means.size()];
  const auto here = std::ssize(samples);
  for (const std::int64_t panel_bytes : {std::int64_t(1), std::int64_t(1200), std::int64_t(1) << 24}) {
    auto r = product(false, false, m, here, k, b, centred);
    kernel.damped(delta, panel_bytes).solve(r, m);
    auto solution = product(false, true, m, k, here, r, centred);
    comm.allreduce(std::span<double>(solution));
    for (std::size_t i = 0; i < solution.size(); ++i) solution[i] = (b[i] - solution[i]) / delta;
    // c k eps cond: ||C|| < (1 + sqrt(k / n))^2 < 8, cond < 160
    EXPECT_LT(max_difference(product(false, false, m, k, k, solution, damped), b), double(k) * 2.3e-16 * 160 * norm(b));
  }
}

// The same by conjugate gradients: to 1e-10 of the preconditioned right sides, times the condition below 160 of the
// damped kernel, twice (of the system, and of what is made of it).
TEST(SampleKernel, GivesTheSameWithoutBeingFormed) {
  const auto comm = world();
  const std::int64_t k = 70, n = 25, m = 11;
  const auto [x, samples, mine] = deal(comm, k, n, 47);
  const auto means = std::vector<double>(std::size_t(k), 0.1);
  const auto b = columns_of(random_matrix<double>(m, n, 48), m, samples);
  const SampleKernel formed(comm, mine, means), unformed(comm, mine, means, "layer fc6", KernelForm::matrix_free);
  EXPECT_EQ(unformed.samples(), n);
  for (const double delta : {0.05, 5.0})
    for (const std::int64_t panel_bytes : {std::int64_t(1), std::int64_t(8 * 70 * 4), std::int64_t(1) << 24}) {
      auto expected = b, found = b;
      formed.damped(delta).solve(expected, m);
      unformed.damped(delta, panel_bytes).solve(found, m);
      const double size = std::sqrt(comm.allreduce_value(std::pow(norm(expected), 2)));
      EXPECT_LT(max_difference(found, expected), 1e-10 * 160 * 160 * size);
    }
  auto nothing = std::vector<double>(b.size(), 0.0);
  unformed.damped(0.05).solve(nothing, m);
  EXPECT_EQ(nothing, std::vector<double>(b.size(), 0.0));
}

// One kernel, several dampings: the factors do not touch it.
TEST(SampleKernel, IsFactoredForEveryDampingAnew) {
  const auto comm = world();
  const std::int64_t k = 40, n = 13, m = 3;
  const auto [x, samples, mine] = deal(comm, k, n, 5);
  const SampleKernel kernel(comm, mine, std::vector<double>(std::size_t(k), 0.0));
  const std::vector<double> wide(x.begin(), x.end());
  const auto gram_of_samples = product(true, false, n, n, k, wide, wide);
  const auto b = random_matrix<double>(m, n, 6);
  for (const double delta : {1.0, 0.01, 1.0}) {
    auto r = columns_of(b, m, samples);
    kernel.damped(delta).solve(r, m);
    std::vector<double> whole(b.size(), 0.0);
    for (std::size_t s = 0; s < samples.size(); ++s)
      std::copy_n(r.begin() + std::ptrdiff_t(s) * m, m, whole.begin() + samples[s] * m);
    comm.allreduce(std::span<double>(whole));
    auto damped = gram_of_samples;
    for (std::int64_t i = 0; i < n; ++i) damped[static_cast<std::size_t>(i * (n + 1))] += double(n) * delta;
    // c N eps cond: the eigenvalues of K are below (sqrt(k) + sqrt(n))^2 < 100, cond < 100 / 0.13 + 1
    EXPECT_LT(max_difference(product(false, false, m, n, n, whole, damped), b), double(n) * 2.3e-16 * 800 * norm(b));
  }
}

TEST(SampleKernel, RefusesWhatIsNotFiniteOnEveryRank) {
  const auto comm = world();
  std::vector<float> x(12, 1.0F);
  if (comm.rank() == comm.size() - 1) x[5] = std::numeric_limits<float>::quiet_NaN();
  try {
    const SampleKernel kernel(comm, x, std::vector<double>(4, 0.0), "layer fc6");
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::numerical);
    EXPECT_NE(std::string(error.what()).find("fc6"), std::string::npos);
  }
}

} // namespace
