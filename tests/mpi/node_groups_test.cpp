// Ranks dealt to groups along the boundaries of nodes; groups that work apart, and one that fails.
#include "slr/mpi/node_groups.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <thread>

namespace slr {
namespace {

TEST(DealRanks, KeepsNodesWholeWhereThereAreAsManyNodes) {
  EXPECT_EQ(deal_ranks(std::vector{0, 0, 1, 1, 2, 2, 3, 3}, 2), (std::vector{0, 0, 0, 0, 1, 1, 1, 1}));
  EXPECT_EQ(deal_ranks(std::vector{0, 0, 1, 1, 2, 2}, 2), (std::vector{0, 0, 1, 1, 1, 1}));
  EXPECT_EQ(deal_ranks(std::vector{5, 7, 5, 7}, 2), (std::vector{0, 1, 0, 1})); // dealt in turns by the launcher
  EXPECT_EQ(deal_ranks(std::vector{0, 0, 0, 0, 1, 2}, 3), (std::vector{0, 0, 0, 0, 1, 2}));
  EXPECT_EQ(deal_ranks(std::vector{0, 1, 2, 2, 2, 2}, 3), (std::vector{0, 1, 2, 2, 2, 2}));
}

TEST(DealRanks, DividesNodesWhereThereAreMoreGroups) {
  EXPECT_EQ(deal_ranks(std::vector{0, 0, 0, 0}, 2), (std::vector{0, 0, 1, 1}));
  EXPECT_EQ(deal_ranks(std::vector{0, 0, 0, 0, 0}, 3), (std::vector{0, 1, 1, 2, 2}));
  EXPECT_EQ(deal_ranks(std::vector{0, 0, 0, 0, 1, 1}, 3), (std::vector{0, 0, 1, 1, 2, 2}));
}

TEST(DealRanks, EveryGroupHasARankAndNodesAreDividedOnlyIfTheyMustBe) {
  for (int nodes = 1; nodes <= 5; ++nodes)
    for (int ranks = nodes; ranks <= 13; ++ranks)
      for (int groups = 1; groups <= ranks; ++groups) {
        std::vector<int> node_of(static_cast<std::size_t>(ranks));
        for (int r = 0; r < ranks; ++r) node_of[std::size_t(r)] = r * nodes / ranks;
        const auto group = deal_ranks(node_of, groups);
        EXPECT_EQ(std::set<int>(group.begin(), group.end()).size(), std::size_t(groups));
        for (std::size_t a = 0; a < group.size(); ++a)
          for (std::size_t b = 0; b < a; ++b) {
            const bool is_one_node = node_of[a] == node_of[b], is_one_group = group[a] == group[b];
            EXPECT_FALSE(groups <= nodes && is_one_node && !is_one_group);
            EXPECT_FALSE(groups > nodes && is_one_group && !is_one_node);
          }
      }
}

class Groups : public testing::Test {
protected:
  const Communicator world{MPI_COMM_WORLD};
};

TEST_F(Groups, WorkApart) {
  for (int count = 1; count <= world.size(); ++count) {
    const NodeGroups groups(world, count);
    EXPECT_EQ(groups.count(), count);
    EXPECT_EQ(groups.size(groups.mine()), groups.group().size());
    EXPECT_EQ(groups.members(groups.mine())[std::size_t(groups.group().rank())], world.rank());
    int sum = 0;
    groups.run([&] {
      for (int i = 0; i <= groups.mine(); ++i)
        sum += groups.group().allreduce_value(1); // unlike numbers of collectives
    });
    EXPECT_EQ(sum, (groups.mine() + 1) * groups.group().size());
    EXPECT_FALSE(groups.has_other_failed());
  }
}

TEST_F(Groups, OneThatFailsEndsAllWithItsError) {
  for (int count = 1; count <= world.size(); ++count)
    for (int culprit = 0; culprit < count; ++culprit) {
      const NodeGroups groups(world, count);
      const auto work = [&] {
        if (groups.mine() == culprit)
          collectively(groups.group(), [&] {
            if (groups.group().rank() + 1 == groups.group().size()) throw Error(ExitCode::numerical, "no solution");
          });
        while (true) { // the others work until they are told
          const bool is_over = groups.group().allreduce_value(groups.has_other_failed() ? 1 : 0, Reduction::max) > 0;
          if (is_over) throw NodeGroups::other_failed();
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
      };
      try {
        groups.run(work);
        ADD_FAILURE() << "no error";
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::numerical);
        EXPECT_STREQ(error.what(), "no solution");
      }
    }
}

} // namespace
} // namespace slr
