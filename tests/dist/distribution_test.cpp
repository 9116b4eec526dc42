#include "slr/dist/distribution.hpp"

#include <gtest/gtest.h>
#include <set>
#include <type_traits>
#include <vector>

namespace {

using slr::GlobalCol;
using slr::GlobalRow;
using slr::LocalRow;
using slr::RowDistribution;

// Rows and columns, global and local, do not mix.
static_assert(!std::is_convertible_v<GlobalRow, GlobalCol>);
static_assert(!std::is_convertible_v<LocalRow, GlobalRow>);
static_assert(!std::is_convertible_v<int, GlobalRow>);

TEST(Distribution, EveryElementHasOnePlaceAndComesBack) {
  for (const std::int64_t block : {1, 2, 5, 8})
    for (const std::int64_t extent : {std::int64_t(0), std::int64_t(1), block - 1, block, block + 1, std::int64_t(53)})
      for (const int parts : {1, 2, 3, 6}) {
        const RowDistribution d(extent, block, parts);
        std::vector<std::set<std::int64_t>> seen(static_cast<std::size_t>(parts));
        for (GlobalRow g(0); g.value() < extent; ++g) {
          const int part = d.owner(g);
          const LocalRow l = d.local(g);
          ASSERT_EQ(d.global(l, part), g);
          ASSERT_TRUE(seen[static_cast<std::size_t>(part)].insert(l.value()).second);
        }
        std::int64_t total = 0;
        for (int part = 0; part < parts; ++part) {
          // Local indices are 0 .. count - 1 without gaps.
          const auto& mine = seen[static_cast<std::size_t>(part)];
          ASSERT_EQ(static_cast<std::int64_t>(mine.size()), d.count(part));
          ASSERT_TRUE(mine.empty() || (*mine.begin() == 0 && *mine.rbegin() == d.count(part) - 1));
          total += d.count(part);
        }
        ASSERT_EQ(total, extent);
      }
}

TEST(Distribution, LocalBeginCountsOwnElementsBefore) {
  const RowDistribution d(53, 4, 3);
  for (int part = 0; part < 3; ++part) {
    std::int64_t before = 0;
    for (GlobalRow g(0); g.value() <= 53; ++g) {
      ASSERT_EQ(d.local_begin(g, part), before);
      if (g.value() < 53 && d.owner(g) == part) ++before;
    }
  }
}

TEST(Distribution, IsAValueWithALeadingDimensionOfAtLeastOne) {
  const slr::Distribution a{{3, 2, 2}, {4, 2, 2}};
  EXPECT_EQ(a, (slr::Distribution{{3, 2, 2}, {4, 2, 2}}));
  EXPECT_NE(a, (slr::Distribution{{3, 2, 2}, {4, 1, 2}}));
  EXPECT_EQ(a.lld(0), 2);
  EXPECT_EQ(a.lld(-1), 1); // outside the grid
  EXPECT_EQ((slr::Distribution{{0, 2, 2}, {4, 2, 2}}).lld(0), 1);
}

} // namespace
