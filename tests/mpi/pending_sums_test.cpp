// Sums that go on while the ranks do something else.
#include "slr/mpi/pending_sums.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace slr {
namespace {

/// Rank r's part of message m: numbers whose sums are exact.
std::vector<double> part(int message, int rank, std::size_t size) {
  std::vector<double> values(size);
  for (std::size_t i = 0; i < size; ++i)
    values[i] = static_cast<double>(message * 1000 + rank) + 0.25 * static_cast<double>(i);
  return values;
}

TEST(PendingSums, AreThoseOfAllReduce) {
  const Communicator comm(MPI_COMM_WORLD);
  std::vector<std::vector<double>> begun, expected;
  for (const std::size_t size : {std::size_t(0), std::size_t(1), std::size_t(7), std::size_t(20'011)}) {
    begun.push_back(part(static_cast<int>(begun.size()), comm.rank(), size));
    expected.push_back(begun.back());
    comm.allreduce(std::span<double>(expected.back()));
  }
  PendingSums pending(comm);
  pending.progress(); // of nothing
  for (auto& values : begun) {
    std::this_thread::sleep_for(std::chrono::milliseconds(comm.rank())); // nobody comes at the same time
    pending.begin(values);
    pending.progress();
  }
  pending.finish();
  EXPECT_EQ(begun, expected);
  pending.finish(); // of nothing
}

TEST(PendingSums, AreFinishedBeforeTheirMemoryGoes) {
  const Communicator comm(MPI_COMM_WORLD);
  auto values = part(1, comm.rank(), 100);
  {
    PendingSums pending(comm);
    pending.begin(values);
  }
  double expected = 0;
  for (int rank = 0; rank < comm.size(); ++rank) expected += part(1, rank, 1)[0];
  EXPECT_EQ(values[0], expected);
}

} // namespace
} // namespace slr
