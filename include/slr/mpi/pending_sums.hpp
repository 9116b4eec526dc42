#pragma once
/// \file
/// Sums over ranks that go on while the ranks compute.
#include "slr/mpi/communicator.hpp"

#include <span>
#include <vector>

namespace slr {

/// Sums that were begun and are not finished yet. All ranks begin the same ones in the same order. Sums of floating
/// numbers depend on the number of ranks unless every partial sum is exact: see slr/mpi/exact_sum.hpp.
class PendingSums {
public:
  /// Local. `comm` outlives this.
  explicit PendingSums(const Communicator& comm) : comm_(comm) {}
  /// Waits for what was begun.
  ~PendingSums();
  PendingSums(const PendingSums&) = delete;
  PendingSums& operator=(const PendingSums&) = delete;

  /// Begins to sum in place, element by element, and returns at once. Collective. \pre `values` is neither read nor
  /// written before `finish` \throws Error{io}
  void begin(std::span<double> values);
  /// Lets MPI work on what was begun: it does so only while it is called. Local, some microseconds.
  void progress();
  /// Waits until everything that was begun is summed. Collective. \throws Error{io}
  void finish();

private:
  const Communicator& comm_;
  std::vector<MPI_Request> requests_;
  std::uint64_t bytes_ = 0;
};

} // namespace slr
