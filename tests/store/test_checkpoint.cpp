// checkpoint.h5: what is put is read on any number of ranks, damage is found, the one before is kept; and the order of
// events between computations and their checkpoints.
#include "slr/store/checkpoint_file.hpp"

#include "slr/base/hash.hpp"
#include "slr/mpi/agree.hpp"

#include "manual_checkpoints.hpp"

#include <gtest/gtest.h>
#include <mpi.h>

#include <cmath>
#include <limits>
#include <numeric>

namespace {

using namespace slr;
using namespace slr::store;
using namespace slr::test;
namespace fs = std::filesystem;

/// The values of a list that goes through all ranks: rank r has r + 2 of them (of one rank: all of three).
std::vector<float> part_of(int rank) {
  std::vector<float> values(static_cast<std::size_t>(rank + 2));
  std::iota(values.begin(), values.end(), static_cast<float>(100 * rank));
  return values;
}

void write_sample(const Communicator& comm, const CheckpointPaths& paths, double number) {
  CheckpointWriter writer(comm, paths, some_header());
  writer.begin_part("layer-3/candidate-1");
  writer.put_doubles("numbers", {number, std::numeric_limits<double>::infinity(), -0.0, 5e-324});
  writer.put_integers("counts", {1, -2, std::int64_t(1) << 60});
  writer.put_integers("nothing", {});
  writer.put_text("words", "two words");
  writer.put_part("rows", std::span<const float>(part_of(comm.rank())));
  writer.begin_part("empty");
  writer.commit();
}

TEST(Checkpoint, WhatIsPutIsReadBitForBit) {
  const Communicator comm(MPI_COMM_WORLD);
  const SharedFolder folder(comm);
  write_sample(comm, paths_in(folder), 0.1);
  const CheckpointFile file(comm, folder / "checkpoint.h5");
  EXPECT_EQ(file.header().configuration, some_header().configuration);
  EXPECT_EQ(file.header().model_sha256, sha256("model"));
  EXPECT_EQ(file.header().mpi_ranks, 3);
  EXPECT_EQ(file.parts(), (std::vector<std::string>{"layer-3/candidate-1", "empty"}));
  const auto part = file.part("layer-3/candidate-1");
  const auto numbers = part->get<double>("numbers");
  ASSERT_EQ(numbers.size(), 4U);
  EXPECT_EQ(numbers[0], 0.1);
  EXPECT_TRUE(std::isinf(numbers[1]));
  EXPECT_TRUE(std::signbit(numbers[2]));
  EXPECT_EQ(numbers[3], 5e-324);
  EXPECT_EQ(part->get<std::int64_t>("counts"), (std::vector<std::int64_t>{1, -2, std::int64_t(1) << 60}));
  EXPECT_TRUE(part->get<std::int64_t>("nothing").empty());
  EXPECT_EQ(part->text("words"), "two words");
  EXPECT_TRUE(part->has("words"));
  EXPECT_FALSE(part->has("sentences"));
  EXPECT_EQ(part->part<float>("rows", part_of(comm.rank()).size()), part_of(comm.rank()));
  expect_error([&] { (void)part->get<double>("absent"); }, ExitCode::bad_data, {"absent"});
  expect_error([&] { (void)part->part<float>("rows", 1); }, ExitCode::bad_data, {"rows", "length"});
}

TEST(Checkpoint, ListsThroughAllRanksServeOtherRanks) {
  const Communicator comm(MPI_COMM_WORLD);
  const SharedFolder folder(comm);
  write_sample(comm, paths_in(folder), 1);
  const CheckpointFile file(comm, folder / "checkpoint.h5");
  // The last rank takes all of it: the list is one list, whoever wrote which piece.
  std::vector<float> all;
  for (int rank = 0; rank < comm.size(); ++rank) {
    const auto piece = part_of(rank);
    all.insert(all.end(), piece.begin(), piece.end());
  }
  const bool is_last = comm.rank() == comm.size() - 1;
  EXPECT_EQ(file.part("layer-3/candidate-1")->part<float>("rows", is_last ? all.size() : 0),
            is_last ? all : std::vector<float>());
}

TEST(Checkpoint, TheOneBeforeIsKept) {
  const Communicator comm(MPI_COMM_WORLD);
  const SharedFolder folder(comm);
  for (const double number : {1.0, 2.0, 3.0}) write_sample(comm, paths_in(folder), number);
  const auto number_in = [&](const char* name) {
    return CheckpointFile(comm, folder / name).part("layer-3/candidate-1")->get<double>("numbers")[0];
  };
  EXPECT_EQ(number_in("checkpoint.h5"), 3);
  EXPECT_EQ(number_in("checkpoint.previous.h5"), 2);
  on_root(comm, [&] {
    std::size_t files = 0;
    for ([[maybe_unused]] const auto& entry : fs::directory_iterator(folder.path())) ++files;
    EXPECT_EQ(files, 2U);
  });
}

TEST(Checkpoint, EveryFlippedBitAndEveryCutIsNoticedOrHarmless) {
  const Communicator comm(MPI_COMM_SELF); // every rank by itself, in a folder of its own
  const SharedFolder folder(comm);
  write_sample(comm, paths_in(folder), 0.1);
  const auto bytes = read_file(folder / "checkpoint.h5");
  std::size_t noticed = 0;
  const auto is_noticed = [&](const std::string& damaged) {
    write_bytes(folder / "damaged.h5", damaged);
    try {
      const CheckpointFile file(comm, folder / "damaged.h5");
      EXPECT_EQ(file.header().configuration, some_header().configuration);
      const auto part = file.part("layer-3/candidate-1");
      EXPECT_EQ(part->get<double>("numbers")[0], 0.1);
      EXPECT_EQ(part->part<float>("rows", 2), part_of(0));
      return false;
    } catch (const Error& error) {
      EXPECT_TRUE(error.code() == ExitCode::bad_data || error.code() == ExitCode::io) << error.what();
      return true;
    }
  };
  constexpr std::size_t step = 29; // a prime: all places within a structure are met
  for (std::size_t at = 0; at < bytes.size(); at += step) {
    auto damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << (at % 8)));
    noticed += is_noticed(damaged) ? 1 : 0;
  }
  EXPECT_GT(noticed, 10U);
  for (std::size_t length = 0; length < bytes.size(); length += 401)
    EXPECT_TRUE(is_noticed(bytes.substr(0, length))) << length;
}

TEST(Checkpoint, AFailureLeavesTheOldOneAndIsAgreedOn) {
  const Communicator comm(MPI_COMM_WORLD);
  const SharedFolder folder(comm);
  write_sample(comm, paths_in(folder), 7);
  on_root(comm, [&] { fs::create_directory(folder / ".checkpoint.new.h5"); }); // in the way
  on_root(comm, [&] { write_bytes(folder / ".checkpoint.new.h5/file", "x"); });
  expect_error([&] { write_sample(comm, paths_in(folder), 8); }, ExitCode::io, {".checkpoint.new.h5"});
  EXPECT_EQ(CheckpointFile(comm, folder / "checkpoint.h5").part("layer-3/candidate-1")->get<double>("numbers")[0], 7);
}

/// A computation of 9 units of 10 steps each that remembers finished units and where it is.
std::vector<std::int64_t> count_up(Checkpoints& checkpoints, const std::function<void(std::int64_t)>& at_step) {
  std::vector<std::int64_t> finished;
  if (const auto saved = checkpoints.take("finished")) finished = saved->get<std::int64_t>("sums");
  const auto kept = checkpoints.keep("finished", [&](StateWriter& to) { to.put_integers("sums", finished); });
  for (std::int64_t unit = std::ssize(finished); unit < 9; ++unit) {
    const Checkpoints::Unit scope(checkpoints, "unit-" + std::to_string(unit));
    std::int64_t step = 0, sum = 0;
    if (const auto saved = checkpoints.take("inside")) {
      const auto values = saved->get<std::int64_t>("values");
      step = values.at(0);
      sum = values.at(1);
    }
    const auto inside = checkpoints.keep("inside", [&](StateWriter& to) { to.put_integers("values", {step, sum}); });
    while (step < 10) {
      at_step(10 * unit + step);
      sum += unit * ++step;
      checkpoints.poll();
    }
    finished.push_back(sum);
  }
  return finished;
}

TEST(Checkpoints, AStoppedComputationGoesOnWhereItWas) {
  const Communicator comm(MPI_COMM_WORLD);
  const SharedFolder folder(comm);
  std::vector<std::int64_t> expected;
  for (std::int64_t unit = 0; unit < 9; ++unit) expected.push_back(55 * unit);
  std::vector<std::int64_t> steps;
  for (const std::int64_t stop_at : {37, 38, 60}) {
    ManualCheckpoints checkpoints(comm, folder);
    const auto at_step = [&](std::int64_t step) {
      steps.push_back(step);
      if (step == stop_at) checkpoints.next = Checkpoints::Wish::stop_by_signal;
    };
    expect_error([&] { (void)count_up(checkpoints, at_step); }, ExitCode::stopped, {"stopped"});
  }
  ManualCheckpoints checkpoints(comm, folder);
  EXPECT_EQ(count_up(checkpoints, [&](std::int64_t step) { steps.push_back(step); }), expected);
  std::vector<std::int64_t> every(90);
  std::iota(every.begin(), every.end(), 0);
  EXPECT_EQ(steps, every); // nothing twice, nothing left out
}

TEST(Checkpoints, AFailureToSaveIsToldAndOnlyAStopFails) {
  const Communicator comm(MPI_COMM_WORLD);
  const SharedFolder folder(comm);
  ManualCheckpoints checkpoints(comm, folder);
  checkpoints.is_disk_full = true;
  checkpoints.next = Checkpoints::Wish::save;
  checkpoints.poll();
  EXPECT_EQ(checkpoints.failures, 1);
  checkpoints.next = Checkpoints::Wish::stop_by_time;
  expect_error([&] { checkpoints.poll(); }, ExitCode::io, {"no space"});
}

TEST(Checkpoints, NothingIsWrittenBeforeEverythingIsTaken) {
  const Communicator comm(MPI_COMM_WORLD);
  const SharedFolder folder(comm);
  write_sample(comm, paths_in(folder), 1);
  ManualCheckpoints checkpoints(comm, folder);
  checkpoints.next = Checkpoints::Wish::save;
  checkpoints.poll();
  EXPECT_EQ(checkpoints.writes, 0);
  EXPECT_TRUE(checkpoints.take("empty"));
  EXPECT_FALSE(checkpoints.take("empty"));
  { const Checkpoints::Unit unit(checkpoints, "layer-3"); } // ends without its part having been asked for
  checkpoints.poll();
  EXPECT_EQ(checkpoints.writes, 1);
}

TEST(Checkpoints, LocalWorkIsStoppedAndSaved) {
  const Communicator comm(MPI_COMM_WORLD);
  const SharedFolder folder(comm);
  ManualCheckpoints checkpoints(comm, folder);
  checkpoints.next = Checkpoints::Wish::stop_by_signal;
  const auto work = [&] { collectively(comm, [&] { checkpoints.stop_if_asked(); }); };
  expect_error([&] { checkpoints.guard(work); }, ExitCode::stopped, {"stopped"});
  EXPECT_EQ(checkpoints.writes, 1);
}

} // namespace
