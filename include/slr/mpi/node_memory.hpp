#pragma once
/// \file
/// Memory that the ranks of a node have in common.
#include "slr/mpi/communicator.hpp"

#include <cstddef>
#include <functional>
#include <memory>
#include <span>

namespace slr {

/// `size` bytes that all ranks of a node read and none changes: the root of `node` (Communicator::split_by_node) fills
/// them, once. They are gone with the last rank that owns a pointer to them; ranks may give theirs up at any time. The
/// size and `fill`, which must not communicate, are those of the root. Collective over `node`.
///
/// \returns null on every rank of the node where its ranks cannot see each other's memory (containers of their own, a
/// system without memfd) or there is not so much; then each keeps what it has. \throws what `fill` throws, on every
/// rank
[[nodiscard]] std::shared_ptr<const std::byte> share_on_node(const Communicator& node, std::size_t size,
                                                             const std::function<void(std::span<std::byte>)>& fill);

} // namespace slr
