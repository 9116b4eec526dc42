#pragma once
/// \file
/// The last agreement of a program, which some ranks may never reach.
#include "slr/mpi/communicator.hpp"

#include <chrono>

namespace slr {

/// The last meeting of all ranks, which some may never reach: they arrive without blocking and wait with a bound.
class LastMeeting {
public:
  using Clock = std::chrono::steady_clock;

  /// Says that this rank is here. Local; all ranks of `comm` are to do it once. \pre no operation is pending on `comm`,
  /// which outlives the object
  explicit LastMeeting(const Communicator& comm);

  /// Waits, asleep most of the time, until all are here or the time is over; says which. Local.
  [[nodiscard]] bool wait_until(Clock::time_point end);

  /// Tells every larger rank that this one has failed and waits in vain. Empty messages are sent eagerly: nobody has to
  /// receive them. Local.
  void tell_larger_ranks() const;
  [[nodiscard]] bool has_heard_of_smaller_rank() const; ///< Local.

private:
  const Communicator& comm_;
  MPI_Request request_ = MPI_REQUEST_NULL;
};

} // namespace slr
