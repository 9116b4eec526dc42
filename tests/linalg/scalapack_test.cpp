#include "dist/grids.hpp"
#include "slr/base/error.hpp"
#include "slr/linalg/scalapack.hpp"

#include <gtest/gtest.h>
#include <limits>

namespace {

using namespace slr;
using namespace slr_test;

template <class T>
class ScalapackTest : public testing::Test {
protected:
  static constexpr double eps = std::numeric_limits<T>::epsilon();
};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(ScalapackTest, Types);

/// Sizes around the block size, a prime, none.
const std::vector<std::int64_t> sizes{0, 1, 3, 4, 5, 19};
constexpr std::int64_t nb = 4;

template <class T>
std::vector<T> gram_of(std::int64_t n, std::int64_t k, std::uint64_t seed) {
  const auto a = random_matrix<T>(n, k, seed);
  const auto c = product(false, true, n, n, k, a, a);
  return {c.begin(), c.end()};
}

TYPED_TEST(ScalapackTest, ProductsInEveryOrientationAndOfRectangles) {
  using T = TypeParam;
  const auto comm = world();
  for (const auto& grid : all_grids(comm))
    for (const bool ta : {false, true})
      for (const bool tb : {false, true})
        for (const auto& [m, n, k] : {std::array<std::int64_t, 3>{0, 3, 2}, {1, 2, 1}, {13, 7, 19}}) {
          const auto a = random_matrix<T>(ta ? k : m, ta ? m : k, 1), b = random_matrix<T>(tb ? n : k, tb ? k : n, 2);
          const auto da = distributed(grid, ta ? k : m, ta ? m : k, nb, nb, a);
          const auto db = distributed(grid, tb ? n : k, tb ? k : n, nb, nb, b);
          DistMatrix<T> c(grid, m, n, nb, nb);
          scalapack::gemm<T>(ta ? Op::transpose : Op::none, tb ? Op::transpose : Op::none, 1, da, db, 0, c);
          EXPECT_LT(max_difference(gather_everywhere(c), product(ta, tb, m, n, k, a, b)),
                    9.0 * double(k + 1) * this->eps);
        }
}

TYPED_TEST(ScalapackTest, RankUpdates) {
  using T = TypeParam;
  const auto comm = world();
  for (const auto& grid : all_grids(comm))
    for (const std::int64_t n : sizes) {
      const std::int64_t k = 7;
      const auto a = random_matrix<T>(n, k, 3);
      DistMatrix<T> c(grid, n, n, nb, nb);
      scalapack::syrk<T>(Uplo::lower, Op::none, 1, distributed(grid, n, k, nb, nb, a), 0, c);
      const auto result = gather_everywhere(c);
      const auto expected = product(false, true, n, n, k, a, a);
      for (std::int64_t j = 0; j < n; ++j)
        for (std::int64_t i = j; i < n; ++i) {
          const auto at = static_cast<std::size_t>(i + j * n);
          ASSERT_NEAR(double(result[at]), expected[at], 9.0 * double(k) * this->eps);
        }
    }
}

TYPED_TEST(ScalapackTest, CholeskyFactorsAndSolves) {
  using T = TypeParam;
  const auto comm = world();
  for (const auto& grid : all_grids(comm))
    for (const std::int64_t n : sizes) {
      const auto c = gram_of<T>(n, 3 * n + 20, 4);
      const auto b = random_matrix<T>(n, 3, 5);
      auto factor = distributed(grid, n, n, nb, nb, c);
      ASSERT_EQ(scalapack::potrf(Uplo::lower, factor), 0);
      auto x = distributed(grid, n, 3, nb, nb, b);
      scalapack::potrs(Uplo::lower, factor, x);
      // B^T C^-1 by two triangular solves from the right must be its transpose.
      std::vector<T> bt(b.size());
      for (std::int64_t j = 0; j < 3; ++j)
        for (std::int64_t i = 0; i < n; ++i)
          bt[static_cast<std::size_t>(j + i * 3)] = b[static_cast<std::size_t>(i + j * n)];
      auto xt = distributed(grid, 3, n, nb, nb, bt);
      scalapack::trsm<T>(Side::right, Uplo::lower, Op::transpose, 1, View<const T>(factor), xt);
      scalapack::trsm<T>(Side::right, Uplo::lower, Op::none, 1, View<const T>(factor), xt);
      const auto solution = gather_everywhere(x), transposed_solution = gather_everywhere(xt);
      // The matrix is well conditioned (k > 3 n): c n eps cond, cond < 20.
      const double tolerance = 20.0 * double(n + 1) * 5 * this->eps;
      EXPECT_LT(max_difference(product(false, false, n, 3, n, c, solution), b), tolerance);
      EXPECT_LT(max_difference(product(false, false, 3, n, n, transposed_solution, c), bt), tolerance);
    }
}

TYPED_TEST(ScalapackTest, CholeskyReportsTheSameMinorOnEveryRank) {
  const auto comm = world();
  for (const auto& grid : all_grids(comm)) {
    std::vector<TypeParam> c(19 * 19, 0);
    for (std::size_t i = 0; i < 19; ++i) c[i * 20] = i == 13 ? -1 : 1;
    auto a = distributed(grid, 19, 19, nb, nb, c);
    EXPECT_EQ(scalapack::potrf(Uplo::lower, a), 14);
  }
}

/// Residual and orthogonality of eigenpairs that every rank has.
template <class T>
void expect_eigenpairs(std::int64_t n, const std::vector<T>& a, const std::vector<T>& w, const std::vector<T>& z,
                       double tolerance) {
  const auto count = std::ssize(w);
  const std::vector<T> v(z.begin(), z.begin() + n * count);
  auto av = product(false, false, n, count, n, a, v);
  for (std::int64_t j = 0; j < count; ++j)
    for (std::int64_t i = 0; i < n; ++i)
      av[static_cast<std::size_t>(i + j * n)] -=
          double(w[static_cast<std::size_t>(j)]) * double(v[static_cast<std::size_t>(i + j * n)]);
  EXPECT_LT(norm(av), tolerance * std::max(1.0, norm(a)));
  auto vtv = product(true, false, count, count, n, v, v);
  for (std::int64_t j = 0; j < count; ++j) vtv[static_cast<std::size_t>(j * (count + 1))] -= 1;
  EXPECT_LT(norm(vtv), tolerance);
}

TYPED_TEST(ScalapackTest, EigenpairsAllAboveAndLargest) {
  using T = TypeParam;
  const auto comm = world();
  for (const auto& grid : all_grids(comm))
    for (const std::int64_t n : {1, 4, 19}) {
      const auto c = gram_of<T>(n, n + 3, 6);
      const double tolerance = 40.0 * double(n + 1) * this->eps; // c n eps
      DistMatrix<T> z(grid, n, n, nb, nb);
      auto a = distributed(grid, n, n, nb, nb, c);
      const auto all = scalapack::syevd(a, z);
      expect_eigenpairs(n, c, all, gather_everywhere(z), tolerance);
      const auto middle = std::size_t(n) / 2;
      const T lower = middle == 0 ? T(-1) : (all[middle - 1] + all[middle]) / 2;
      a = distributed(grid, n, n, nb, nb, c);
      const auto above = scalapack::syevr_between<T>(a, lower, 2 * all.back() + 1, z);
      ASSERT_EQ(above.size(), std::size_t(n) - middle);
      expect_eigenpairs(n, c, above, gather_everywhere(z), tolerance);
      a = distributed(grid, n, n, nb, nb, c);
      const auto largest = scalapack::syevr_largest<T>(a, (n + 1) / 2, z);
      ASSERT_GE(largest.size(), std::size_t(n + 1) / 2);
      EXPECT_NEAR(double(largest.back()), double(all.back()), tolerance * double(all.back()));
      expect_eigenpairs(n, c, largest, gather_everywhere(z), tolerance);
    }
}

TYPED_TEST(ScalapackTest, FewEigenpairsOfManyHaveWorkspace) {
  // p?syevr by itself returns vectors that were never transformed back when they are fewer than a block.
  using T = TypeParam;
  const auto comm = world();
  constexpr std::int64_t n = 300, wide = 64;
  const auto c = gram_of<T>(n, n + 3, 6);
  for (const auto& grid : all_grids(comm)) {
    auto a = distributed(grid, n, n, wide, wide, c);
    DistMatrix<T> z(grid, n, n, wide, wide);
    const auto largest = scalapack::syevr_largest<T>(a, 3, z);
    ASSERT_GE(largest.size(), 3U);
    expect_eigenpairs(n, c, largest, gather_everywhere(z), 40.0 * double(n + 1) * this->eps);
    a = distributed(grid, n, n, wide, wide, c);
    const auto lower = (largest[largest.size() - 3] + largest[largest.size() - 2]) / 2;
    const auto above = scalapack::syevr_between<T>(a, lower, 2 * largest.back() + 1, z);
    ASSERT_EQ(above.size(), 2U);
    expect_eigenpairs(n, c, above, gather_everywhere(z), 40.0 * double(n + 1) * this->eps);
  }
}

TYPED_TEST(ScalapackTest, SingularValuesInBothOrientations) {
  using T = TypeParam;
  const auto comm = world();
  for (const auto& grid : all_grids(comm))
    for (const auto& [m, n] : {std::pair<std::int64_t, std::int64_t>{0, 3}, {3, 3}, {4, 19}, {19, 4}, {13, 11}}) {
      const std::int64_t q = std::min(m, n);
      // Processes without a part of the matrix are refused, see below.
      const bool has_idle = (m + nb - 1) / nb < grid->rows() || (n + nb - 1) / nb < grid->cols();
      if (has_idle && q > 0) continue;
      const auto whole = random_matrix<T>(m, n, 7);
      auto a = distributed(grid, m, n, nb, nb, whole);
      DistMatrix<T> u(grid, m, q, nb, nb), vt(grid, q, n, nb, nb);
      const auto s = scalapack::gesvd(a, u, vt);
      auto us = gather_everywhere(u);
      for (std::int64_t j = 0; j < q; ++j)
        for (std::int64_t i = 0; i < m; ++i) us[static_cast<std::size_t>(i + j * m)] *= s[static_cast<std::size_t>(j)];
      EXPECT_LT(max_difference(product(false, false, m, n, q, us, gather_everywhere(vt)), whole),
                20.0 * double(m + n) * this->eps * 8); // c n eps ||A||
    }
}

TYPED_TEST(ScalapackTest, SingularValuesOfTinyMatricesAreLeftToOneProcess) {
  using T = TypeParam;
  const auto comm = world();
  const auto one = ProcessGrid::create(comm, 1, 1);
  for (const auto& [m, n] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {1, 2}, {2, 1}, {2, 2}}) {
    const auto whole = random_matrix<T>(m, n, 8);
    auto a = distributed(one, m, n, nb, nb, whole);
    DistMatrix<T> u(one, m, std::min(m, n), nb, nb), vt(one, std::min(m, n), n, nb, nb);
    const auto s = scalapack::gesvd(a, u, vt);
    double square = 0;
    for (const T value : s) square += double(value) * double(value);
    EXPECT_NEAR(std::sqrt(square), norm(whole), 20 * this->eps * norm(whole));
    if (comm.size() == 1) continue;
    // On more it may hang, or find the ranks' singular values different: refused with a sentence.
    const auto row = ProcessGrid::row(comm);
    auto b = distributed(row, m, n, nb, nb, whole);
    DistMatrix<T> bu(row, m, std::min(m, n), nb, nb), bvt(row, std::min(m, n), n, nb, nb);
    EXPECT_THROW((void)scalapack::gesvd(b, bu, bvt), Error);
  }
}

TYPED_TEST(ScalapackTest, OrthogonalFactorisation) {
  using T = TypeParam;
  const auto comm = world();
  for (const auto& grid : all_grids(comm))
    for (const auto& [m, n] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {19, 5}, {5, 5}, {23, 4}}) {
      const auto whole = random_matrix<T>(m, n, 9);
      auto a = distributed(grid, m, n, nb, nb, whole);
      const auto tau = scalapack::geqrf(a);
      auto r = a.clone();
      r.for_each_local([](GlobalRow i, GlobalCol j, T& value) {
        if (i.value() > j.value()) value = 0;
      });
      scalapack::ormqr(Side::left, Op::none, a, tau, r); // Q R
      EXPECT_LT(max_difference(gather_everywhere(r), whole), 20.0 * double(m) * this->eps * 8);
    }
}

TEST(Info, NamesRoutineArgumentAndLayerOnEveryRank) {
  const auto comm = world();
  const auto grid = ProcessGrid::row(comm);
  const auto c = gram_of<double>(12, 30, 10);
  auto factor = distributed(grid, 12, 12, 4, 4, c);
  ASSERT_EQ(scalapack::potrf(Uplo::lower, factor), 0);
  DistMatrix<double> b(grid, 12, 2, 3, 3); // row blocks other than the factor's
  std::string text;
  try {
    scalapack::potrs(Uplo::lower, factor, b, "layer conv2_1");
  } catch (const Error& error) {
    text = error.what();
    EXPECT_EQ(error.code(), ExitCode::bug);
  }
  EXPECT_EQ(text, comm.broadcast_text(text));
  EXPECT_NE(text.find("layer conv2_1: pdpotrs refused argument 11 (descb)"), std::string::npos) << text;
}

// p?gesvd itself lets them pass and returns nonsense.
TEST(Scalapack, SingularValuesWantSquareBlocks) {
  const auto grid = ProcessGrid::row(world());
  DistMatrix<double> a(grid, 12, 8, 3, 2), u(grid, 12, 8, 3, 2), vt(grid, 8, 8, 3, 2);
  EXPECT_THROW((void)scalapack::gesvd(a, u, vt), Error);
}

TEST(Scalapack, WorksOnASplitWorld) {
  const auto comm = world();
  const auto half = comm.split(comm.rank() % 2, comm.rank());
  const std::int64_t n = 21 + comm.rank() % 2;
  const auto c = gram_of<double>(n, 60, 11);
  auto a = distributed(ProcessGrid::square(half), n, n, nb, nb, c);
  DistMatrix<double> z(a.grid(), n, n, nb, nb);
  const auto w = scalapack::syevr_largest<double>(a, 5, z);
  expect_eigenpairs(n, c, w, gather_everywhere(z), 40.0 * double(n) * 2.3e-16);
}

} // namespace
