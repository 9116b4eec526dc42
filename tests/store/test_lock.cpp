// The lock of an output folder: one owner, dropped when the owner goes, however it goes.
#include "slr/store/lock.hpp"

#include "store_test.hpp"

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <csignal>
#include <optional>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace {

using namespace slr;
using namespace slr::store;
using namespace slr::test;

TEST(Lock, ASecondOwnerIsRefusedWithTheFirstOnesName) {
  const TemporaryFolder folder;
  const auto output = folder / "run/vgg"; // made on the way
  OutputLock first(output, 0);
  EXPECT_TRUE(first.is_held());
  expect_error([&] { const OutputLock second(output, 0.1); }, ExitCode::configuration,
               {output.string(), "process " + std::to_string(::getpid())});
  OutputLock moved = std::move(first);
  expect_error([&] { const OutputLock second(output, 0); }, ExitCode::configuration, {"in use"});
  { const OutputLock gone = std::move(moved); }
  EXPECT_TRUE(OutputLock(output, 0).is_held());
}

TEST(Lock, AWaitingOwnerGetsItWhenTheFirstGoes) {
  const TemporaryFolder folder;
  std::optional<OutputLock> first(std::in_place, folder.path(), 0);
  std::thread other([&] { EXPECT_TRUE(OutputLock(folder.path(), 60).is_held()); });
  std::this_thread::sleep_for(std::chrono::milliseconds(120));
  first.reset();
  other.join();
}

TEST(Lock, AKilledOwnerLosesIt) {
  const TemporaryFolder folder;
  std::array<int, 2> pipe_ends{};
  ASSERT_EQ(::pipe(pipe_ends.data()), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const OutputLock lock(folder.path(), 0);
    [[maybe_unused]] const auto told = ::write(pipe_ends[1], "x", 1);
    ::pause();
    ::_exit(1);
  }
  char byte = 0;
  ASSERT_EQ(::read(pipe_ends[0], &byte, 1), 1); // the child has the lock
  expect_error([&] { const OutputLock second(folder.path(), 0); }, ExitCode::configuration,
               {"process " + std::to_string(child)});
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_TRUE(OutputLock(folder.path(), 5).is_held());
  ::close(pipe_ends[0]);
  ::close(pipe_ends[1]);
}

TEST(Lock, AFolderThatCannotBeMadeIsNamed) {
  const TemporaryFolder folder;
  write_bytes(folder / "file", "x");
  expect_error([&] { const OutputLock lock(folder / "file/run", 0); }, ExitCode::io, {"file/run"});
}

} // namespace
