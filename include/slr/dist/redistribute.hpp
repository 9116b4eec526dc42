#pragma once
/// \file
/// Matrices between grids, and between a grid and plain arrays.
#include "slr/dist/dist_matrix.hpp"

#include <span>
#include <vector>

namespace slr {

/// destination := source, element by element, between any two grids and block sizes (p?gemr2d). Collective over `comm`,
/// which contains every rank of both grids; a rank outside either grid calls it too. T is float or double. Views may be
/// rectangles of equal shape. Cost: one exchange of the whole matrix. \throws Error{bug} on different shapes.
template <class T>
void redistribute(const Communicator& comm, View<const T> source, View<T> destination);
template <class T>
void redistribute(const Communicator& comm, const DistMatrix<T>& source, DistMatrix<T>& destination) {
  redistribute<T>(comm, View<const T>(source), View<T>(destination));
}

/// The transpose on the transposed grid, without communication: 1 x P becomes P x 1 and the reverse; row and column
/// blocks change places. Local. `transposed_grid` is that grid, with the same ranks. @pre one side of the grid is 1.
template <class T>
[[nodiscard]] DistMatrix<T> transposed(const DistMatrix<T>& matrix, Grid transposed_grid);

/// The whole matrix on the root as a column-major array (empty elsewhere). Collective over the matrix's communicator.
template <class T>
[[nodiscard]] std::vector<T> gather(const DistMatrix<T>& matrix, int root = 0);
/// The whole matrix on every rank. Collective.
template <class T>
[[nodiscard]] std::vector<T> gather_everywhere(const DistMatrix<T>& matrix);
/// Fills the matrix from the root's column-major array of rows() x cols(). Collective.
/// \throws Error{bug} if the array has another size.
template <class T>
void scatter(std::span<const T> whole, DistMatrix<T>& matrix, int root = 0);
/// Fills the local part from an array that every rank has. Local.
template <class T>
void take_local(std::span<const T> whole, DistMatrix<T>& matrix);

/// `cols` whole columns from `first` on every rank, column-major rows() x cols. Collective.
template <class T>
[[nodiscard]] std::vector<T> gather_columns(const DistMatrix<T>& matrix, GlobalCol first, std::int64_t cols);

} // namespace slr
