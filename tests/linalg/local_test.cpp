#include "slr/base/error.hpp"
#include "slr/linalg/lapack.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace slr;

template <class T>
std::vector<T> random_matrix(std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> normal;
  std::vector<T> values(static_cast<std::size_t>(rows * cols));
  for (T& value : values) value = static_cast<T>(normal(generator));
  return values;
}

/// Element (i, j) of op of a column-major array.
template <class T>
double element(const std::vector<T>& a, std::int64_t ld, bool t, std::int64_t i, std::int64_t j) {
  return double(a[static_cast<std::size_t>(t ? j + i * ld : i + j * ld)]);
}

/// op(A) op(B) by definition.
template <class T>
std::vector<double> product(bool ta, bool tb, std::int64_t m, std::int64_t n, std::int64_t k, const std::vector<T>& a,
                            const std::vector<T>& b) {
  std::vector<double> c;
  for (std::int64_t j = 0; j < n; ++j)
    for (std::int64_t i = 0; i < m; ++i) {
      double sum = 0;
      for (std::int64_t l = 0; l < k; ++l) sum += element(a, ta ? k : m, ta, i, l) * element(b, tb ? n : k, tb, l, j);
      c.push_back(sum);
    }
  return c;
}

template <class A, class B>
double distance(const std::vector<A>& a, const std::vector<B>& b) {
  double largest = a.size() == b.size() ? 0 : INFINITY;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    largest = std::max(largest, std::abs(double(a[i]) - double(b[i])));
  return largest;
}

template <class T>
std::vector<T> gram(std::int64_t n, std::int64_t k, std::uint64_t seed) {
  const auto a = random_matrix<T>(n, k, seed);
  std::vector<T> c(static_cast<std::size_t>(n * n));
  blas::gemm<T>(Op::none, Op::transpose, n, n, k, 1, a.data(), n, a.data(), n, 0, c.data(), n);
  return c;
}

template <class T>
class LocalTest : public testing::Test {
protected:
  static constexpr double eps = std::numeric_limits<T>::epsilon();
};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(LocalTest, Types);

TYPED_TEST(LocalTest, ProductsInEveryOrientation) {
  using T = TypeParam;
  for (const auto& [m, n, k] : {std::array<std::int64_t, 3>{1, 2, 3}, {7, 5, 11}, {16, 1, 33}})
    for (const bool ta : {false, true})
      for (const bool tb : {false, true}) {
        const auto a = random_matrix<T>(m, k, 1), b = random_matrix<T>(k, n, 2);
        std::vector<T> c(static_cast<std::size_t>(m * n), T(7)); // beta = 0 must not read it
        blas::gemm<T>(ta ? Op::transpose : Op::none, tb ? Op::transpose : Op::none, m, n, k, 1, a.data(), ta ? k : m,
                      b.data(), tb ? n : k, 0, c.data(), m);
        // k terms of size about 9 at most
        EXPECT_LT(distance(c, product(ta, tb, m, n, k, a, b)), 9.0 * double(k) * this->eps);
      }
  std::vector<T> nothing(1);
  EXPECT_NO_THROW(
      blas::gemm<T>(Op::none, Op::none, 0, 0, 0, 1, nothing.data(), 1, nothing.data(), 1, 0, nothing.data(), 1));
}

TYPED_TEST(LocalTest, SizesBeyond32BitsAreAnError) {
  std::vector<TypeParam> a(1);
  const std::int64_t big = std::int64_t(1) << 31;
  EXPECT_THROW(blas::gemm<TypeParam>(Op::none, Op::none, big, 1, 1, 1, a.data(), big, a.data(), 1, 0, a.data(), big),
               Error);
  EXPECT_THROW((void)lapack::potrf<TypeParam>(Uplo::lower, big, a.data(), big), Error);
}

TYPED_TEST(LocalTest, CholeskySolves) {
  using T = TypeParam;
  const std::int64_t n = 23, columns = 4;
  const auto c = gram<T>(n, 60, 3);
  const auto b = random_matrix<T>(n, columns, 4);
  auto factor = c, x = b;
  ASSERT_EQ(lapack::potrf<T>(Uplo::lower, n, factor.data(), n), 0);
  lapack::potrs<T>(Uplo::lower, n, columns, factor.data(), n, x.data(), n);
  // Condition number of a 23 x 60 Gaussian Gram matrix: about ((sqrt 60 + sqrt 23) / (sqrt 60 - sqrt 23))^2 = 18
  EXPECT_LT(distance(product(false, false, n, columns, n, c, x), b), 18.0 * double(n) * 5 * this->eps);
}

TYPED_TEST(LocalTest, CholeskyNamesTheMinorAndPivotingFindsTheRank) {
  using T = TypeParam;
  const std::int64_t n = 30, rank = 11;
  auto c = gram<T>(n, rank, 5);
  auto indefinite = c;
  indefinite[static_cast<std::size_t>(4 * (n + 1))] = -1;
  EXPECT_EQ(lapack::potrf<T>(Uplo::lower, n, indefinite.data(), n), 5);
  const auto pivoted = lapack::pstrf<T>(n, c.data(), n, T(100 * double(n) * this->eps));
  EXPECT_EQ(pivoted.numerical_rank, rank);
  auto sorted = pivoted.pivots;
  std::sort(sorted.begin(), sorted.end());
  for (std::int64_t i = 0; i < n; ++i) EXPECT_EQ(sorted[static_cast<std::size_t>(i)], i);
}

TYPED_TEST(LocalTest, TopOfASpectrum) {
  using T = TypeParam;
  const std::int64_t n = 40;
  // Q diag(1, 2, ..., 40) Q^T
  auto q = random_matrix<T>(n, n, 6);
  const auto tau = lapack::geqrf<T>(n, n, q.data(), n);
  lapack::orgqr<T>(n, n, q.data(), n, std::span<const T>(tau));
  auto scaled = q;
  for (std::int64_t j = 0; j < n; ++j)
    for (std::int64_t i = 0; i < n; ++i) scaled[static_cast<std::size_t>(i + j * n)] *= T(j + 1);
  std::vector<T> a(q.size());
  blas::gemm<T>(Op::none, Op::transpose, n, n, n, 1, scaled.data(), n, q.data(), n, 0, a.data(), n);

  const double tolerance = 10.0 * 40 * double(n) * this->eps; // c n eps ||A||
  auto work = a;
  const auto top = lapack::syevr_above<T>(n, work.data(), n, T(30.5), 4, 3);
  ASSERT_EQ(top.above, 10);
  ASSERT_EQ(top.values.size(), 13U); // and max(3, 10 / 4) guards
  for (std::size_t i = 0; i < top.values.size(); ++i) EXPECT_NEAR(double(top.values[i]), 40.0 - double(i), tolerance);
  const auto av = product(false, false, n, 13, n, a, top.vectors);
  for (std::size_t i = 0; i < av.size(); ++i)
    EXPECT_NEAR(av[i], double(top.values[i / std::size_t(n)]) * double(top.vectors[i]), tolerance);

  work = a;
  EXPECT_EQ(lapack::syevr_above<T>(n, work.data(), n, T(100), 8, 3).values.size(), 0U);
  work = a;
  EXPECT_EQ(lapack::syevr_above<T>(n, work.data(), n, T(-1), 8, 3).values.size(), std::size_t(n));
  work = a;
  EXPECT_EQ(lapack::syevr_largest<T>(n, work.data(), n, 5).values.size(), 5U);
  std::vector<T> one{T(4)};
  EXPECT_EQ(lapack::syevr_above<T>(1, one.data(), 1, T(1), 8, 12).above, 1);
}

TYPED_TEST(LocalTest, FactorisationsReconstruct) {
  using T = TypeParam;
  for (const auto& [m, n] : {std::pair<std::int64_t, std::int64_t>{1, 2}, {17, 9}, {9, 17}}) {
    const auto a = random_matrix<T>(m, n, 7);
    const std::int64_t q = std::min(m, n);
    auto work = a;
    std::vector<T> s(static_cast<std::size_t>(q)), u(static_cast<std::size_t>(m * q)),
        vt(static_cast<std::size_t>(q * n));
    lapack::gesdd<T>(m, n, work.data(), m, s.data(), u.data(), m, vt.data(), q);
    for (std::int64_t j = 0; j < q; ++j)
      for (std::int64_t i = 0; i < m; ++i) u[static_cast<std::size_t>(i + j * m)] *= s[static_cast<std::size_t>(j)];
    const double tolerance = 10 * double(m + n) * 8 * this->eps; // c n eps ||A||, ||A|| < 8
    EXPECT_LT(distance(product(false, false, m, n, q, u, vt), a), tolerance);

    work = a;
    const auto tau = lapack::geqrf<T>(m, n, work.data(), m);
    auto r = work; // Q (R) = A
    for (std::int64_t j = 0; j < n; ++j)
      for (std::int64_t i = j + 1; i < m; ++i) r[static_cast<std::size_t>(i + j * m)] = 0;
    lapack::ormqr<T>(Side::left, Op::none, m, n, work.data(), m, std::span<const T>(tau), r.data(), m);
    EXPECT_LT(distance(r, a), tolerance);
  }
  std::vector<T> z(4);
  std::vector<T> a{2, 1, 1, 2};
  const auto w = lapack::syevr<T>(2, a.data(), 2, z.data(), 2);
  EXPECT_NEAR(double(w[0]), 1, 8 * this->eps);
  EXPECT_NEAR(double(w[1]), 3, 8 * this->eps);
}

TEST(Info, IsASentenceThatNamesRoutineArgumentAndContext) {
  std::vector<double> a(4), s(2), u(4), vt(4);
  try {
    lapack::gesdd<double>(2, 2, a.data(), 1, s.data(), u.data(), 2, vt.data(), 2, "layer conv2_1"); // lda < m
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::bug);
    const std::string text = error.what();
    EXPECT_NE(text.find("layer conv2_1: dgesdd refused argument 5 (lda)"), std::string::npos) << text;
  }
}

} // namespace
