#include "slr/dist/redistribute.hpp"

#include "slr/dist/detail/scalapack_prototypes.hpp"

#include <algorithm>
#include <numeric>

namespace slr {
namespace {

bool covers(const ProcessGrid& grid, const Communicator& comm) {
  return grid.rows() * grid.cols() == comm.size();
}

template <class T>
void copy_on_one_rank(View<const T> source, View<T> destination) {
  for (std::int64_t j = 0; j < source.cols; ++j) {
    const T* from = &source.matrix->at(LocalRow(source.row.value()), LocalCol(source.col.value() + j));
    T* to = &destination.matrix->at(LocalRow(destination.row.value()), LocalCol(destination.col.value() + j));
    std::copy_n(from, source.rows, to);
  }
}

/// Copies what cell (grid_row, grid_col) holds of the columns [first, first + cols) between its packed buffer and the
/// whole array of rows() x cols; Direction tells which is written.
template <class Buffer, class Whole, class Move>
void walk_cell(const Distribution& d, int grid_row, int grid_col, GlobalCol first, std::int64_t cols, Buffer* packed,
               Whole* whole, Move&& move) {
  const std::int64_t rows = d.rows.extent();
  const std::int64_t local_rows = d.rows.count(grid_row);
  const std::int64_t begin = d.cols.local_begin(first, grid_col);
  const std::int64_t end = d.cols.local_begin(first + cols, grid_col);
  for (std::int64_t j = begin; j < end; ++j) {
    const std::int64_t global_col = d.cols.global(LocalCol(j), grid_col) - first;
    for (std::int64_t i = 0; i < local_rows;) {
      // Rows of one block are neighbours on both sides.
      const std::int64_t run = std::min(d.rows.block() - i % d.rows.block(), local_rows - i);
      const std::int64_t global_row = d.rows.global(LocalRow(i), grid_row).value();
      move(packed + (j - begin) * local_rows + i, whole + global_col * rows + global_row, run);
      i += run;
    }
  }
}

/// The number of elements that a rank holds of some columns.
std::int64_t held(const ProcessGrid& grid, const Distribution& d, int rank, GlobalCol first, std::int64_t cols) {
  if (rank >= grid.rows() * grid.cols()) return 0;
  const int col = rank % grid.cols();
  return d.rows.count(rank / grid.cols()) * (d.cols.local_begin(first + cols, col) - d.cols.local_begin(first, col));
}

template <class T>
void unpack(const ProcessGrid& grid, const Distribution& d, GlobalCol first, std::int64_t cols, const T* pieces,
            T* whole) {
  for (int rank = 0; rank < grid.rows() * grid.cols(); ++rank) {
    walk_cell(d, rank / grid.cols(), rank % grid.cols(), first, cols, pieces, whole,
              [](const T* from, T* to, std::int64_t count) { std::copy_n(from, count, to); });
    pieces += held(grid, d, rank, first, cols);
  }
}

} // namespace

template <class T>
void redistribute(const Communicator& comm, View<const T> source, View<T> destination) {
  require(source.rows == destination.rows && source.cols == destination.cols,
          "matrices of different shapes were to be redistributed");
  if (source.rows == 0 || source.cols == 0) return;
  if (comm.size() == 1) return copy_on_one_rank(source, destination);
  const Grid from = source.matrix->grid();
  const Grid to = destination.matrix->grid();
  // p?gemr2d wants one context that contains every rank of both grids.
  const Grid all = covers(*from, comm) ? from : covers(*to, comm) ? to : ProcessGrid::row(comm);
  const int m = static_cast<int>(source.rows);
  const int n = static_cast<int>(source.cols);
  const int ia = static_cast<int>(source.row.value()) + 1;
  const int ja = static_cast<int>(source.col.value()) + 1;
  const int ib = static_cast<int>(destination.row.value()) + 1;
  const int jb = static_cast<int>(destination.col.value()) + 1;
  const auto desca = source.matrix->descriptor();
  const auto descb = destination.matrix->descriptor();
  const int context = all->context();
  detail::ScaLapack<T>::gemr2d(&m, &n, source.matrix->local().data(), &ia, &ja, desca.data(),
                               destination.matrix->local().data(), &ib, &jb, descb.data(), &context);
}

template <class T>
DistMatrix<T> transposed(const DistMatrix<T>& matrix, Grid transposed_grid) {
  const ProcessGrid& grid = *matrix.grid();
  require(grid.rows() == 1 || grid.cols() == 1, "only one-dimensional grids are transposed in place");
  require(transposed_grid->rows() == grid.cols() && transposed_grid->cols() == grid.rows(),
          "the transposed grid has another shape");
  DistMatrix<T> result(std::move(transposed_grid), matrix.cols(), matrix.rows(), matrix.distribution().cols.block(),
                       matrix.distribution().rows.block());
  const std::int64_t m = matrix.local_rows();
  const std::int64_t n = matrix.local_cols();
  const T* from = matrix.local().data();
  T* to = result.local().data();
  constexpr std::int64_t tile = 32; // both sides of a tile stay in the first-level cache
  for (std::int64_t jj = 0; jj < n; jj += tile)
    for (std::int64_t ii = 0; ii < m; ii += tile)
      for (std::int64_t j = jj; j < std::min(n, jj + tile); ++j)
        for (std::int64_t i = ii; i < std::min(m, ii + tile); ++i) to[j + i * n] = from[i + j * m];
  return result;
}

template <class T>
std::vector<T> gather(const DistMatrix<T>& matrix, int root) {
  const Communicator& comm = matrix.comm();
  const std::vector<T> pieces = comm.gather(matrix.local(), root);
  std::vector<T> whole;
  if (comm.rank() != root) return whole;
  whole.resize(static_cast<std::size_t>(matrix.rows() * matrix.cols()));
  unpack(*matrix.grid(), matrix.distribution(), GlobalCol(0), matrix.cols(), pieces.data(), whole.data());
  return whole;
}

template <class T>
std::vector<T> gather_everywhere(const DistMatrix<T>& matrix) {
  return gather_columns(matrix, GlobalCol(0), matrix.cols());
}

template <class T>
std::vector<T> gather_columns(const DistMatrix<T>& matrix, GlobalCol first, std::int64_t cols) {
  require(first.value() >= 0 && cols >= 0 && first.value() + cols <= matrix.cols(),
          "columns beyond a matrix were asked for");
  const Communicator& comm = matrix.comm();
  const ProcessGrid& grid = *matrix.grid();
  const Distribution& d = matrix.distribution();
  std::vector<int> counts;
  for (int rank = 0; rank < comm.size(); ++rank)
    counts.push_back(narrow<int>(held(grid, d, rank, first, cols), "a piece of a matrix"));
  const auto mine_at = grid.contains_me() ? d.cols.local_begin(first, grid.my_col()) * matrix.local_rows() : 0;
  const auto mine = matrix.local().subspan(static_cast<std::size_t>(mine_at),
                                           static_cast<std::size_t>(counts[static_cast<std::size_t>(comm.rank())]));
  std::vector<T> pieces(static_cast<std::size_t>(std::accumulate(counts.begin(), counts.end(), std::int64_t(0))));
  comm.allgather(mine, std::span<T>(pieces), counts);
  std::vector<T> whole(pieces.size());
  unpack(grid, d, first, cols, pieces.data(), whole.data());
  return whole;
}

template <class T>
void scatter(std::span<const T> whole, DistMatrix<T>& matrix, int root) {
  const Communicator& comm = matrix.comm();
  const ProcessGrid& grid = *matrix.grid();
  const Distribution& d = matrix.distribution();
  constexpr int tag = 1;
  if (comm.rank() != root) {
    if (grid.contains_me()) comm.receive(matrix.local(), root, tag);
    return;
  }
  require(static_cast<std::int64_t>(whole.size()) == matrix.rows() * matrix.cols(),
          "an array of another size was to be scattered");
  std::vector<T> packed;
  for (int rank = 0; rank < grid.rows() * grid.cols(); ++rank) {
    if (rank == root) {
      take_local(whole, matrix);
      continue;
    }
    packed.resize(static_cast<std::size_t>(held(grid, d, rank, GlobalCol(0), matrix.cols())));
    walk_cell(d, rank / grid.cols(), rank % grid.cols(), GlobalCol(0), matrix.cols(), packed.data(), whole.data(),
              [](T* to, const T* from, std::int64_t count) { std::copy_n(from, count, to); });
    comm.send(std::span<const T>(packed), rank, tag);
  }
}

template <class T>
void take_local(std::span<const T> whole, DistMatrix<T>& matrix) {
  require(static_cast<std::int64_t>(whole.size()) == matrix.rows() * matrix.cols(),
          "an array of another size was to be distributed");
  if (!matrix.grid()->contains_me()) return;
  walk_cell(matrix.distribution(), matrix.grid()->my_row(), matrix.grid()->my_col(), GlobalCol(0), matrix.cols(),
            matrix.local().data(), whole.data(),
            [](T* to, const T* from, std::int64_t count) { std::copy_n(from, count, to); });
}

#define SLR_INSTANTIATE(T)                                                                                             \
  template void redistribute(const Communicator&, View<const T>, View<T>);                                             \
  template DistMatrix<T> transposed(const DistMatrix<T>&, Grid);                                                       \
  template std::vector<T> gather(const DistMatrix<T>&, int);                                                           \
  template std::vector<T> gather_everywhere(const DistMatrix<T>&);                                                     \
  template std::vector<T> gather_columns(const DistMatrix<T>&, GlobalCol, std::int64_t);                               \
  template void scatter(std::span<const T>, DistMatrix<T>&, int);                                                      \
  template void take_local(std::span<const T>, DistMatrix<T>&);
SLR_INSTANTIATE(float)
SLR_INSTANTIATE(double)
#undef SLR_INSTANTIATE

} // namespace slr
