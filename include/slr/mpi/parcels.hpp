#pragma once
/// \file
/// Bytes from a rank of one group to a rank of another, in the background.
#include "slr/mpi/node_groups.hpp"

#include <memory>
#include <string>
#include <vector>

namespace slr {

/// What this rank has sent and others have not taken yet. Its memory is what bounds the messages on their way: who
/// sends calls `finish` before the next lot.
class Outbox {
public:
  explicit Outbox(const NodeGroups& groups);
  ~Outbox();
  Outbox(const Outbox&) = delete;
  Outbox& operator=(const Outbox&) = delete;

  /// Begins to send; returns at once. Local. `destination` is a rank of the world.
  void send(std::string bytes, int destination, int tag);
  /// Waits until everything is taken. Local. \throws NodeGroups::other_failed
  void finish();

private:
  struct Parcel;
  const NodeGroups& groups_;
  std::vector<std::unique_ptr<Parcel>> parcels_;
};

/// Waits for the next parcel of a rank of the world with this tag. Local. \throws NodeGroups::other_failed
[[nodiscard]] std::string receive_parcel(const NodeGroups& groups, int source, int tag);

} // namespace slr
