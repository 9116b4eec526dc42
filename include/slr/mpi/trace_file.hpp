#pragma once
/// \file
/// The timelines of all ranks in one file.
#include "slr/mpi/communicator.hpp"

#include <string>

namespace slr {

/// Stops the tracing (slr/base/trace.hpp) and writes the ranks' timelines to `file`, in the Chrome trace format, a
/// process per rank; the file is there as a whole or not at all. Throws Error (ExitCode::input) if it cannot be
/// written. Collective.
void write_trace(const Communicator& comm, const std::string& file);

} // namespace slr
