// Every rank reads what the root of its node wrote, as long as it wants to.
#include "slr/mpi/agree.hpp"
#include "slr/mpi/node_memory.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace slr {
namespace {

TEST(NodeMemory, HasWhatTheRootWrote) {
  const Communicator comm(MPI_COMM_WORLD);
  const auto node = comm.split_by_node();
  const std::size_t sizes[] = {1, 4096, 4097, 3 << 20};
  std::vector<std::shared_ptr<const std::byte>> all;
  for (const auto size : sizes) {
    int fills = 0;
    all.push_back(share_on_node(node, node.is_root() ? size : 0, [&](std::span<std::byte> bytes) {
      ++fills;
      ASSERT_EQ(bytes.size(), size);
      for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 7 + size);
    }));
    ASSERT_NE(all.back(), nullptr);
    EXPECT_EQ(fills, node.is_root() ? 1 : 0);
  }
  if (comm.rank() % 2 == 1) all.clear(); // the others' stays
  comm.barrier();
  for (std::size_t s = 0; s < all.size(); ++s)
    for (std::size_t i = 0; i < sizes[s]; ++i)
      ASSERT_EQ(all[s].get()[i], static_cast<std::byte>(i * 7 + sizes[s])) << sizes[s];
}

TEST(NodeMemory, NothingIsSharedWhereThereIsNothing) {
  const Communicator comm(MPI_COMM_WORLD);
  const auto node = comm.split_by_node();
  EXPECT_EQ(share_on_node(node, 0, [](std::span<std::byte>) {}), nullptr);
  EXPECT_EQ(share_on_node(node, std::size_t{1} << 60, [](std::span<std::byte>) { FAIL(); }), nullptr);
}

TEST(NodeMemory, AFailureToFillIsEverybodys) {
  const Communicator comm(MPI_COMM_WORLD);
  const auto node = comm.split_by_node();
  EXPECT_THROW((void)share_on_node(node, 10, [](std::span<std::byte>) { throw Error(ExitCode::bad_data, "no bytes"); }),
               Error);
}

} // namespace
} // namespace slr
