#include "slr/mpi/trace_file.hpp"

#include "slr/base/file.hpp"
#include "slr/base/trace.hpp"
#include "slr/mpi/agree.hpp"

namespace slr {

void write_trace(const Communicator& comm, const std::string& file) {
  const auto mine = Trace::take_events(comm.rank()) + (comm.rank() + 1 < comm.size() ? ",\n" : "\n");
  const auto all = comm.gather(std::span<const char>(mine));
  on_root(comm, [&] {
    write_file_atomically(file, "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n" +
                                    std::string(all.begin(), all.end()) + "]}\n");
  });
}

} // namespace slr
