#include "dist/grids.hpp"
#include "slr/dist/norms.hpp"

#include <cstring>
#include <gtest/gtest.h>
#include <limits>

namespace {

using namespace slr;
using namespace slr_test;

struct Shape {
  std::int64_t rows, cols, row_block, col_block;
};
const std::vector<Shape> shapes{{0, 0, 3, 3}, {0, 5, 3, 3},  {1, 1, 4, 4},   {1, 2, 2, 2},   {7, 8, 8, 8},
                                {8, 7, 8, 2}, {9, 13, 8, 3}, {17, 31, 5, 7}, {31, 17, 1, 4}, {5, 97, 5, 72}};

template <class T>
class DistMatrixTest : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(DistMatrixTest, Types);

TYPED_TEST(DistMatrixTest, ScatterAndGatherAreInverse) {
  const auto comm = world();
  for (const auto& grid : all_grids(comm))
    for (const Shape& s : shapes) {
      const auto whole = random_matrix<TypeParam>(s.rows, s.cols, 1);
      DistMatrix<TypeParam> a(grid, s.rows, s.cols, s.row_block, s.col_block);
      const int root = comm.size() - 1;
      scatter(std::span<const TypeParam>(comm.rank() == root ? whole : std::vector<TypeParam>()), a, root);
      a.for_each_local([&](GlobalRow i, GlobalCol j, TypeParam& value) {
        ASSERT_EQ(value, whole[static_cast<std::size_t>(i.value() + j.value() * s.rows)]);
      });
      const auto back = gather(a);
      EXPECT_EQ(back, comm.is_root() ? whole : std::vector<TypeParam>());
      EXPECT_EQ(gather_everywhere(a), whole);
      const std::int64_t first = s.cols / 3, count = (s.cols + 1) / 2;
      EXPECT_EQ(gather_columns(a, GlobalCol(first), count),
                std::vector<TypeParam>(whole.begin() + first * s.rows, whole.begin() + (first + count) * s.rows));
    }
}

TYPED_TEST(DistMatrixTest, RedistributesBetweenAnyGridsAndBlocks) {
  const auto comm = world();
  const auto grids = all_grids(comm);
  for (const auto& from : grids)
    for (const auto& to : grids)
      for (const Shape& s : {shapes[1], shapes[3], shapes[5], shapes[7]}) {
        const auto whole = random_matrix<TypeParam>(s.rows, s.cols, 2);
        const auto a = distributed(from, s.rows, s.cols, s.row_block, s.col_block, whole);
        DistMatrix<TypeParam> b(to, s.rows, s.cols, s.col_block, s.row_block + 1);
        redistribute(comm, a, b);
        ASSERT_EQ(gather_everywhere(b), whole);
      }
}

TYPED_TEST(DistMatrixTest, RedistributesRectangles) {
  const auto comm = world();
  const std::int64_t m = 19, n = 23;
  const auto whole = random_matrix<TypeParam>(m, n, 3);
  for (const auto& from : all_grids(comm)) {
    const auto a = distributed(from, m, n, 4, 3, whole);
    DistMatrix<TypeParam> b(ProcessGrid::row(comm), m, n, 5, 5);
    redistribute<TypeParam>(comm, a.view(GlobalRow(2), GlobalCol(5), 11, 17),
                            b.view(GlobalRow(7), GlobalCol(1), 11, 17));
    const auto result = gather_everywhere(b);
    for (std::int64_t j = 0; j < n; ++j)
      for (std::int64_t i = 0; i < m; ++i) {
        const bool inside = i >= 7 && i < 18 && j >= 1 && j < 18;
        const TypeParam expected = inside ? whole[static_cast<std::size_t>(i - 5 + (j + 4) * m)] : TypeParam(0);
        ASSERT_EQ(result[static_cast<std::size_t>(i + j * m)], expected);
      }
  }
}

TYPED_TEST(DistMatrixTest, TransposesOneDimensionalGridsInPlace) {
  const auto comm = world();
  for (const Shape& s : shapes) {
    const auto whole = random_matrix<TypeParam>(s.rows, s.cols, 4);
    const auto a = distributed(ProcessGrid::row(comm), s.rows, s.cols, s.row_block, s.col_block, whole);
    const auto t = gather_everywhere(transposed(a, ProcessGrid::column(comm)));
    for (std::int64_t j = 0; j < s.cols; ++j)
      for (std::int64_t i = 0; i < s.rows; ++i)
        ASSERT_EQ(t[static_cast<std::size_t>(j + i * s.cols)], whole[static_cast<std::size_t>(i + j * s.rows)]);
  }
}

TYPED_TEST(DistMatrixTest, NormsAreThoseOfThePlainMatrix) {
  const auto comm = world();
  const auto whole = random_matrix<TypeParam>(37, 41, 5);
  double largest = 0;
  for (const TypeParam value : whole) largest = std::max<double>(largest, std::abs(value));
  for (const auto& grid : all_grids(comm)) {
    const auto a = distributed(grid, 37, 41, 6, 5, whole);
    EXPECT_EQ(max_abs(a), largest);
    // n eps for sums of n terms
    EXPECT_NEAR(frobenius_norm(a), norm(whole), 37 * 41 * 2.3e-16 * norm(whole));
  }
}

// Bitwise: on 1 x Q grids the Frobenius norm does not depend on the number of ranks or on the blocks.
TEST(Norms, FrobeniusNormOfBlockColumnsHasTheBitsOfOneRank) {
  const auto comm = world();
  const auto self = comm.split(comm.rank(), 0);
  const auto whole = random_matrix<double>(53, 101, 6);
  const double serial = frobenius_norm(distributed(ProcessGrid::row(self), 53, 101, 53, 101, whole));
  for (const std::int64_t block : {1, 7, 72}) {
    const double parallel = frobenius_norm(distributed(ProcessGrid::row(comm), 53, 101, 53, block, whole));
    EXPECT_EQ(std::memcmp(&serial, &parallel, sizeof(double)), 0);
  }
}

TEST(Norms, ANanOnOneRankIsTheSameErrorOnAll) {
  const auto comm = world();
  for (const double poison : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    auto whole = random_matrix<double>(20, 33, 7);
    whole.back() = poison; // one element, on one rank
    const auto a = distributed(ProcessGrid::row(comm), 20, 33, 20, 4, whole);
    std::string sentence;
    try {
      require_finite(a, "the gradient", "layer conv2_1");
    } catch (const Error& error) {
      sentence = error.what();
      EXPECT_EQ(error.code(), ExitCode::numerical);
    }
    EXPECT_NE(sentence.find("the gradient of layer conv2_1"), std::string::npos) << sentence;
    EXPECT_EQ(sentence, comm.broadcast_text(sentence));
    whole.back() = 1;
    EXPECT_NO_THROW(require_finite(distributed(ProcessGrid::row(comm), 20, 33, 20, 4, whole), "it", ""));
  }
}

TEST(ProcessGrid, WorksOnASplitWorldWithBothHalvesAtOnce) {
  const auto comm = world();
  const auto half = comm.split(comm.rank() % 2, -comm.rank()); // reversed order inside
  for (const auto& grid : all_grids(half)) {
    const auto whole = random_matrix<double>(13, 11, 8 + std::uint64_t(comm.rank() % 2));
    const auto a = distributed(grid, 13, 11, 3, 2, whole);
    DistMatrix<double> b(ProcessGrid::column(half), 13, 11, 2, 5);
    redistribute(half, a, b);
    EXPECT_EQ(gather_everywhere(b), whole);
  }
}

TEST(ProcessGrid, PlacesRanksRowMajorAndLeavesTheRestOut) {
  const auto comm = world();
  for (const auto& grid : all_grids(comm)) {
    const bool inside = comm.rank() < grid->rows() * grid->cols();
    EXPECT_EQ(grid->contains_me(), inside);
    EXPECT_EQ(grid->context() >= 0, inside);
    EXPECT_EQ(inside ? grid->rank_of(grid->my_row(), grid->my_col()) : comm.rank(), comm.rank());
  }
  const auto square = ProcessGrid::square(comm);
  EXPECT_LE(square->rows(), square->cols());
  EXPECT_LE(square->cols(), 3 * square->rows());
  EXPECT_LE(square->rows() * square->cols(), comm.size());
}

TEST(ProcessGrid, RefusesMoreCellsThanRanks) {
  const auto comm = world();
  EXPECT_THROW((void)ProcessGrid::create(comm, 1, comm.size() + 1), Error);
  EXPECT_THROW((void)ProcessGrid::create(comm, 0, 1), Error);
}

TEST(DistMatrix, RefusesWhatScaLapackCannotCount) {
  const auto comm = world();
  const auto grid = ProcessGrid::row(comm);
  const std::int64_t big = std::int64_t(1) << 32;
  for (const auto& [rows, cols] : {std::pair{big, std::int64_t(1)}, std::pair{std::int64_t(1), big},
                                   std::pair{std::int64_t(-1), std::int64_t(1)}, std::pair{big, big}})
    EXPECT_THROW((DistMatrix<double>(grid, rows, cols, 1, 1)), Error);
  // Extents that fit, but 2^31 local elements or more.
  EXPECT_THROW((DistMatrix<double>(grid, 65536, 65536 * std::int64_t(comm.size()), 64, 64)), Error);
}

} // namespace
