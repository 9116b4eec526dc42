#include "slr/mpi/agree.hpp"

#include <new>

namespace slr {

void agree(const Communicator& comm, const std::optional<Error>& mine) {
  const int first = comm.allreduce_value(mine ? comm.rank() : comm.size(), Reduction::min);
  if (first == comm.size()) return;
  const int code = comm.broadcast_value(mine ? static_cast<int>(mine->code()) : 0, first);
  const auto sentence = comm.broadcast_text(mine ? mine->what() : "", first);
  throw Error(static_cast<ExitCode>(code), sentence);
}

Error current_error() {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return {ExitCode::numerical, "out of memory: use more ranks or nodes, or fewer calibration images"};
  } catch (const std::exception& exception) {
    return {ExitCode::bug, std::string("internal error: ") + exception.what()};
  } catch (...) {
    return {ExitCode::bug, "internal error: an exception of an unknown type"};
  }
}

} // namespace slr
