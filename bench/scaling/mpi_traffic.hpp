#pragma once
/// \file
/// Counts what this rank asks MPI to communicate, through MPI's profiling interface: linked into a program, the
/// functions here stand before those of the library, also for calls from ScaLAPACK and BLACS.
#include <cstdint>
#include <map>
#include <string>

namespace slr_bench {

/// Calls of one MPI function, and the bytes of this rank's part in them. A collective counts as what it must send in
/// all at least, divided by the ranks p that take part, whatever algorithm the library takes: an allreduce of m bytes
/// 2 (p - 1) / p m; a broadcast, a reduction, an allgather or a reduce-scatter of m bytes in all (p - 1) / p m; a
/// gather or a scatter of m bytes in all (p - 1) / p^2 m. A message counts where it is sent.
struct Traffic {
  std::int64_t calls = 0;
  double bytes = 0;
};

/// By function, in sums over all communicators of more than one rank since the program began.
[[nodiscard]] const std::map<std::string, Traffic>& mpi_traffic();

} // namespace slr_bench
