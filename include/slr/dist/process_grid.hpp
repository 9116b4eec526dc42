#pragma once
/// \file
/// An owning BLACS process grid over any communicator.
#include "slr/mpi/communicator.hpp"

#include <memory>

namespace slr {

class ProcessGrid;
/// Grids are shared by the matrices that live on them and freed with the last one.
using Grid = std::shared_ptr<const ProcessGrid>;

/// A P x Q grid of the first P*Q ranks of a communicator, in row-major order: rank = row * Q + col. Ranks beyond belong
/// to no cell; they hold no part of any matrix and still take part in collective calls. The grid owns a duplicate of
/// the communicator, the BLACS handle and the BLACS context, released in reverse order unless MPI is already finalized.
class ProcessGrid {
public:
  /// Collective over `comm`. @pre 1 <= rows * cols <= comm.size(), the same on every rank.
  /// \throws Error{usage} if the ranks do not suffice, Error{bug} if BLACS and MPI disagree on who is where.
  [[nodiscard]] static Grid create(const Communicator& comm, int rows, int cols);
  /// 1 x P: block columns. Collective.
  [[nodiscard]] static Grid row(const Communicator& comm) { return create(comm, 1, comm.size()); }
  /// P x 1: block rows. Collective.
  [[nodiscard]] static Grid column(const Communicator& comm) { return create(comm, comm.size(), 1); }
  /// The most square grid: of all P x Q with P <= Q <= 3 P the one with the most ranks, then the squarest. Collective.
  [[nodiscard]] static Grid square(const Communicator& comm);

  ~ProcessGrid();
  ProcessGrid(const ProcessGrid&) = delete;
  ProcessGrid& operator=(const ProcessGrid&) = delete;

  [[nodiscard]] int rows() const { return rows_; }     ///< P. Local.
  [[nodiscard]] int cols() const { return cols_; }     ///< Q. Local.
  [[nodiscard]] int my_row() const { return my_row_; } ///< -1 outside the grid. Local.
  [[nodiscard]] int my_col() const { return my_col_; } ///< -1 outside the grid. Local.
  [[nodiscard]] bool contains_me() const { return my_row_ >= 0; }
  /// The BLACS context, -1 outside the grid. Local.
  [[nodiscard]] int context() const { return context_; }
  /// The rank of a cell in `comm()`. Local.
  [[nodiscard]] int rank_of(int row, int col) const { return row * cols_ + col; }
  /// All ranks, those outside the grid included. Local.
  [[nodiscard]] const Communicator& comm() const { return comm_; }

private:
  ProcessGrid(const Communicator& comm, int rows, int cols);
  void release() noexcept;

  Communicator comm_;
  int rows_;
  int cols_;
  int handle_ = -1;
  int context_ = -1;
  int my_row_ = -1;
  int my_col_ = -1;
};

} // namespace slr
