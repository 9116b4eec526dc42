// Parcels between groups: a chain of stages under random delays, and one that breaks.
#include "slr/mpi/packed_state.hpp"
#include "slr/mpi/parcels.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <thread>

namespace slr {
namespace {

/// Items through a chain of groups, each group's root to the next one's; every stage appends its number. `culprit`
/// fails at item 2.
std::string run_chain(const NodeGroups& groups, int items, unsigned seed, int culprit = -1) {
  std::mt19937 engine(seed * 100 + static_cast<unsigned>(groups.world().rank()));
  std::string last;
  Outbox outbox(groups);
  groups.run([&] {
    const auto wait = [&] { std::this_thread::sleep_for(std::chrono::milliseconds(engine() % 8)); };
    const bool is_first = groups.mine() == 0, is_last = groups.mine() + 1 == groups.count();
    for (int item = 0; item < items; ++item) {
      auto text = collectively(groups.group(), [&] {
        wait();
        return groups.group().is_root() && !is_first
                   ? receive_parcel(groups, groups.members(groups.mine() - 1).front(), item)
                   : std::to_string(item) + ":";
      });
      collectively(groups.group(), [&] {
        if (item == 2 && groups.mine() == culprit) throw Error(ExitCode::numerical, "no solution");
      });
      text = groups.group().broadcast_text(text) + static_cast<char>('a' + groups.mine());
      collectively(groups.group(), [&] {
        wait();
        outbox.finish();
        if (groups.group().is_root() && !is_last) outbox.send(text, groups.members(groups.mine() + 1).front(), item);
      });
      last = text;
    }
    outbox.finish();
  });
  return last;
}

TEST(Parcels, GoThroughAllGroupsUnderRandomDelays) {
  const Communicator world(MPI_COMM_WORLD);
  for (int count = 1; count <= world.size(); ++count)
    for (unsigned seed = 1; seed <= 3; ++seed) {
      const NodeGroups groups(world, count);
      std::string expected = "4:";
      for (int g = 0; g <= groups.mine(); ++g) expected += static_cast<char>('a' + g);
      EXPECT_EQ(run_chain(groups, 5, seed), expected);
    }
}

TEST(Parcels, AGroupThatFailsEndsTheChain) {
  const Communicator world(MPI_COMM_WORLD);
  for (int count = 1; count <= world.size(); ++count)
    for (int culprit = 0; culprit < count; ++culprit) {
      const NodeGroups groups(world, count);
      try {
        (void)run_chain(groups, 5, 1, culprit);
        ADD_FAILURE() << "no error";
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::numerical);
        EXPECT_STREQ(error.what(), "no solution");
      }
    }
}

TEST(PackedState, GivesBackWhatItTook) {
  PackedState packed;
  packed.put_integers("counts", {1, -2});
  packed.put_doubles("numbers", {0.1});
  const std::string words("a\0b", 3);
  packed.put_text("words", words);
  packed.put("nothing", std::span<const float>());
  UnpackedState from(packed.bytes());
  EXPECT_EQ(from.get<std::int64_t>("counts"), (std::vector<std::int64_t>{1, -2}));
  EXPECT_EQ(from.get<double>("numbers"), std::vector<double>{0.1});
  EXPECT_EQ(from.text("words"), words);
  EXPECT_TRUE(from.get<float>("nothing").empty());
  EXPECT_FALSE(from.has("more"));
  EXPECT_THROW((void)from.get<double>("counts"), Error); // another type
  EXPECT_THROW((void)from.get<double>("more"), Error);
}

TEST(PackedState, NoticesEveryFlippedByte) {
  PackedState packed;
  packed.put_integers("counts", {1, 2, 3});
  const auto bytes = packed.bytes();
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    auto damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    EXPECT_THROW(UnpackedState{damaged}, Error) << i;
  }
  for (std::size_t length = 0; length < bytes.size(); ++length)
    EXPECT_THROW(UnpackedState{bytes.substr(0, length)}, Error) << length;
}

} // namespace
} // namespace slr
