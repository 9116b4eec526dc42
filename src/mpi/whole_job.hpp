#pragma once
/// \file
/// Which collectives count as meetings of all ranks of the job.
#include "slr/mpi/communicator.hpp"

namespace slr {

/// Whether all ranks of the job take part in the communicator's operations. Local.
[[nodiscard]] bool is_whole_job(const Communicator& comm);

} // namespace slr
