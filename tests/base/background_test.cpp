// Work beside the caller's: order, failures, and that nothing goes on behind `wait`.
#include "slr/base/background.hpp"

#include <atomic>
#include <gtest/gtest.h>
#include <numeric>
#include <stdexcept>
#include <vector>

namespace slr {
namespace {

TEST(Background, DoesEverythingInOrder) {
  Background beside(3);
  std::vector<int> done, expected(1000);
  std::iota(expected.begin(), expected.end(), 0);
  for (const int i : expected) beside.add([&done, i] { done.push_back(i); });
  beside.wait();
  EXPECT_EQ(done, expected);
  EXPECT_GT(beside.seconds(), 0);
}

TEST(Background, AFailureIsToldOnceAndNothingIsDoneBehindIt) {
  Background beside(2);
  std::atomic<int> done = 0;
  beside.add([&] { ++done; });
  beside.add([] { throw std::runtime_error("full"); });
  for (int i = 0; i < 20; ++i) beside.add([&] { done += 100; }); // must not wait for ever either
  EXPECT_THROW(beside.wait(), std::runtime_error);
  EXPECT_EQ(done % 100, 1);
  done = 0;
  beside.add([&] { ++done; });
  EXPECT_NO_THROW(beside.wait());
  EXPECT_EQ(done, 1);
}

TEST(Background, NothingGoesOnBehindAbandonAndBehindItsEnd) {
  std::atomic<bool> may_end = false;
  std::atomic<int> done = 0;
  {
    Background beside(10);
    beside.add([&] {
      while (!may_end) std::this_thread::yield();
      ++done;
    });
    for (int i = 0; i < 5; ++i) beside.add([&] { ++done; });
    std::thread opener([&] { may_end = true; });
    beside.abandon();
    const int then = done;
    EXPECT_GE(then, 0);
    EXPECT_LE(then, 6);
    opener.join();
    EXPECT_EQ(done, then);
  }
}

} // namespace
} // namespace slr
