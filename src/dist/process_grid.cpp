#include "slr/dist/process_grid.hpp"

#include "slr/dist/detail/scalapack_prototypes.hpp"
#include "slr/mpi/agree.hpp"

#include <optional>

namespace slr {

Grid ProcessGrid::create(const Communicator& comm, int rows, int cols) {
  if (rows < 1 || cols < 1 || static_cast<std::int64_t>(rows) * cols > comm.size())
    throw Error(ExitCode::usage, "a process grid of " + std::to_string(rows) + " x " + std::to_string(cols) +
                                     " does not fit " + std::to_string(comm.size()) + " ranks");
  return Grid(new ProcessGrid(comm, rows, cols));
}

Grid ProcessGrid::square(const Communicator& comm) {
  int best_rows = 1;
  int best_cols = 1;
  for (int rows = 1; rows * rows <= comm.size(); ++rows) {
    const int cols = std::min(comm.size() / rows, 3 * rows);
    if (rows * cols >= best_rows * best_cols) {
      best_rows = rows;
      best_cols = cols;
    }
  }
  return create(comm, best_rows, best_cols);
}

ProcessGrid::ProcessGrid(const Communicator& comm, int rows, int cols)
    : comm_(comm.handle()), rows_(rows), cols_(cols) {
  handle_ = Csys2blacs_handle(comm_.handle());
  context_ = handle_;
  Cblacs_gridinit(&context_, "Row", rows, cols);

  const bool expected = comm_.rank() < rows * cols;
  int blacs_rows = -1;
  int blacs_cols = -1;
  if (expected && context_ >= 0) Cblacs_gridinfo(context_, &blacs_rows, &blacs_cols, &my_row_, &my_col_);
  std::optional<Error> error;
  if (expected &&
      (blacs_rows != rows || blacs_cols != cols || my_row_ != comm_.rank() / cols || my_col_ != comm_.rank() % cols))
    error = Error(ExitCode::bug, "internal error: BLACS and MPI disagree on the place of rank " +
                                     std::to_string(comm_.rank()) + " in a process grid");
  if (!expected) context_ = my_row_ = my_col_ = -1;
  try {
    agree(comm_, error);
  } catch (...) {
    release();
    throw;
  }
}

ProcessGrid::~ProcessGrid() {
  release();
}

void ProcessGrid::release() noexcept {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (finalized) return;
  if (context_ >= 0) Cblacs_gridexit(context_);
  if (handle_ >= 0) Cfree_blacs_system_handle(handle_);
  context_ = handle_ = -1;
}

} // namespace slr
