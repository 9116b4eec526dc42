// Collectives against their definitions, and a failure on one rank that reaches all.
#include "slr/mpi/agree.hpp"
#include "slr/mpi/communicator.hpp"

#include <gtest/gtest.h>

#include <numeric>

namespace slr {
namespace {

TEST(Communicator, ReducesToClosedForms) {
  const Communicator comm(MPI_COMM_WORLD);
  const int p = comm.size();
  EXPECT_EQ(comm.allreduce_value(comm.rank() + 1), p * (p + 1) / 2);
  EXPECT_EQ(comm.allreduce_value(comm.rank(), Reduction::max), p - 1);
  EXPECT_EQ(comm.broadcast_text(comm.is_root() ? "text" : "other"), "text");
  const auto all = comm.allgather_value(std::int64_t(comm.rank()) * 10);
  for (int i = 0; i < p; ++i) EXPECT_EQ(all[std::size_t(i)], i * 10);
}

TEST(Communicator, ReduceScatterGivesEachRankItsPiece) {
  const Communicator comm(MPI_COMM_WORLD);
  const int p = comm.size();
  std::vector<int> counts(static_cast<std::size_t>(p));
  std::iota(counts.begin(), counts.end(), 0); // rank 0 gets nothing
  std::vector<double> all(static_cast<std::size_t>(p * (p - 1) / 2));
  std::iota(all.begin(), all.end(), 1.0);
  std::vector<double> mine(static_cast<std::size_t>(comm.rank()));
  comm.reduce_scatter(std::span<const double>(all), std::span<double>(mine), counts);
  const int first = comm.rank() * (comm.rank() - 1) / 2;
  for (int i = 0; i < comm.rank(); ++i) EXPECT_EQ(mine[std::size_t(i)], p * (first + i + 1.0));
}

TEST(Communicator, GathersPiecesOfUnlikeLengths) {
  const Communicator comm(MPI_COMM_WORLD);
  const std::vector<std::int32_t> mine(static_cast<std::size_t>(comm.rank()), comm.rank());
  const auto all = comm.gather(std::span<const std::int32_t>(mine));
  if (comm.is_root()) {
    std::size_t at = 0;
    for (int i = 0; i < comm.size(); ++i)
      for (int j = 0; j < i; ++j) EXPECT_EQ(all[at++], i);
    EXPECT_EQ(at, all.size());
  } else {
    EXPECT_TRUE(all.empty());
  }
}

TEST(Communicator, SplitsByColour) {
  const Communicator comm(MPI_COMM_WORLD);
  const Communicator half = comm.split(comm.rank() % 2, comm.rank());
  EXPECT_EQ(half.size(), (comm.size() + (comm.rank() % 2 == 0 ? 1 : 0)) / 2);
  const Communicator alone = comm.split(-1, 0);
  EXPECT_EQ(alone.size(), 1);
  EXPECT_EQ(comm.split_by_node().size(), comm.size()); // one host runs the tests
}

TEST(Agree, TheRootWorksWhileTheOthersSleep) {
  const Communicator comm(MPI_COMM_WORLD);
  int value = 0;
  on_root_undisturbed(comm, [&] { value = 7; });
  EXPECT_EQ(value, comm.is_root() ? 7 : 0);
  try {
    on_root_undisturbed(comm, [] { throw Error(ExitCode::bad_data, "the root's"); });
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "the root's");
  }
  for (int round = 0; round < 20; ++round) comm.idle_barrier();
}

TEST(Agree, OneRanksErrorIsEverybodys) {
  const Communicator comm(MPI_COMM_WORLD);
  for (int culprit = 0; culprit < comm.size(); ++culprit) {
    try {
      collectively(comm, [&] {
        if (comm.rank() == culprit) throw Error(ExitCode::bad_data, "rank " + std::to_string(culprit) + " fails");
      });
      ADD_FAILURE() << "nothing was thrown";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::bad_data);
      EXPECT_EQ(std::string(error.what()), "rank " + std::to_string(culprit) + " fails");
    }
  }
  EXPECT_EQ(collectively(comm, [&] { return comm.rank() * 2; }), comm.rank() * 2);
}

TEST(Agree, ForeignExceptionsAreTranslated) {
  const Communicator comm(MPI_COMM_WORLD);
  const auto code = [&](auto&& thrower) {
    try {
      collectively(comm, thrower);
    } catch (const Error& error) {
      return error.code();
    }
    return ExitCode::done;
  };
  EXPECT_EQ(code([] { throw std::bad_alloc(); }), ExitCode::numerical);
  EXPECT_EQ(code([] { throw std::out_of_range("x"); }), ExitCode::bug);
}

} // namespace
} // namespace slr
