#pragma once
/// \file
/// A block-cyclic matrix that owns its local part, and rectangular views of it.
#include "slr/base/narrow.hpp"
#include "slr/dist/distribution.hpp"
#include "slr/dist/process_grid.hpp"

#include <array>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace slr {

template <class T>
class DistMatrix;

/// A rectangle of a DistMatrix; does not own it. `T` is const-qualified for reading only.
template <class T>
struct View {
  using Matrix = std::conditional_t<std::is_const_v<T>, const DistMatrix<std::remove_const_t<T>>,
                                    DistMatrix<std::remove_const_t<T>>>;
  Matrix* matrix = nullptr;
  GlobalRow row;
  GlobalCol col;
  std::int64_t rows = 0;
  std::int64_t cols = 0;

  View(Matrix& whole) : matrix(&whole), rows(whole.rows()), cols(whole.cols()) {} // NOLINT: a matrix is a view
  View(Matrix& whole, GlobalRow i, GlobalCol j, std::int64_t m, std::int64_t n)
      : matrix(&whole), row(i), col(j), rows(m), cols(n) {
    require(i.value() >= 0 && j.value() >= 0 && m >= 0 && n >= 0 && i.value() + m <= whole.rows() &&
                j.value() + n <= whole.cols(),
            "a view reaches beyond its matrix");
  }
  template <class U>
  requires(std::is_const_v<T>&& std::is_same_v<U, std::remove_const_t<T>>) View(const View<U>& other)
      : matrix(other.matrix), row(other.row), col(other.col), rows(other.rows), cols(other.cols) {}
};

/// Element types are float and double. Move-only in spirit: copies are explicit (`clone`).
template <class T>
class DistMatrix {
public:
  /// An empty 0 x 0 matrix on no grid.
  DistMatrix() = default;

  /// A zero matrix. Local (every rank of the grid's communicator must create it before collective use).
  /// @pre row_block, col_block >= 1. \throws Error{bad_data} if an extent does not fit 32 bits, which ScaLAPACK counts
  /// with, or the local part has 2^31 elements or more.
  DistMatrix(Grid grid, std::int64_t rows, std::int64_t cols, std::int64_t row_block, std::int64_t col_block)
      : DistMatrix(std::move(grid), rows, cols, row_block, col_block, {}) {
    local_.resize(static_cast<std::size_t>(local_rows_ * local_cols_));
  }
  /// Takes over `local`, this rank's part, column-major. Local. @pre it has local_rows() x local_cols() elements.
  static DistMatrix from_local(Grid grid, std::int64_t rows, std::int64_t cols, std::int64_t row_block,
                               std::int64_t col_block, std::vector<T> local) {
    DistMatrix matrix(std::move(grid), rows, cols, row_block, col_block, std::move(local));
    require(static_cast<std::int64_t>(matrix.local_.size()) == matrix.local_rows_ * matrix.local_cols_,
            "the local part of a matrix has another size");
    return matrix;
  }

  DistMatrix(DistMatrix&&) noexcept = default;
  DistMatrix& operator=(DistMatrix&&) noexcept = default;
  DistMatrix(const DistMatrix&) = delete;
  DistMatrix& operator=(const DistMatrix&) = delete;
  [[nodiscard]] DistMatrix clone() const {
    DistMatrix copy;
    copy.grid_ = grid_;
    copy.distribution_ = distribution_;
    copy.local_rows_ = local_rows_;
    copy.local_cols_ = local_cols_;
    copy.local_ = local_;
    return copy;
  }

  [[nodiscard]] const Grid& grid() const { return grid_; }
  [[nodiscard]] const Communicator& comm() const { return grid_->comm(); }
  [[nodiscard]] const Distribution& distribution() const { return distribution_; }
  [[nodiscard]] std::int64_t rows() const { return distribution_.rows.extent(); }
  [[nodiscard]] std::int64_t cols() const { return distribution_.cols.extent(); }
  [[nodiscard]] std::int64_t local_rows() const { return local_rows_; }
  [[nodiscard]] std::int64_t local_cols() const { return local_cols_; }
  /// Leading dimension of the local part: max(1, local_rows()).
  [[nodiscard]] std::int64_t lld() const { return std::max<std::int64_t>(1, local_rows_); }

  /// The local part, column-major, lld() x local_cols(). Local.
  [[nodiscard]] std::span<T> local() { return local_; }
  [[nodiscard]] std::span<const T> local() const { return local_; }
  [[nodiscard]] T& at(LocalRow i, LocalCol j) { return local_[offset(i, j)]; }
  [[nodiscard]] const T& at(LocalRow i, LocalCol j) const { return local_[offset(i, j)]; }
  /// The global index of a local row or column of this rank. Local.
  [[nodiscard]] GlobalRow global_row(LocalRow i) const { return distribution_.rows.global(i, grid_->my_row()); }
  [[nodiscard]] GlobalCol global_col(LocalCol j) const { return distribution_.cols.global(j, grid_->my_col()); }

  [[nodiscard]] View<T> view(GlobalRow i, GlobalCol j, std::int64_t m, std::int64_t n) { return {*this, i, j, m, n}; }
  [[nodiscard]] View<const T> view(GlobalRow i, GlobalCol j, std::int64_t m, std::int64_t n) const {
    return {*this, i, j, m, n};
  }

  /// The ScaLAPACK array descriptor; its context is -1 outside the grid. Local.
  [[nodiscard]] std::array<int, 9> descriptor() const {
    return {1,
            grid_->context(),
            static_cast<int>(rows()),
            static_cast<int>(cols()),
            static_cast<int>(distribution_.rows.block()),
            static_cast<int>(distribution_.cols.block()),
            0,
            0,
            static_cast<int>(lld())};
  }

  /// Calls f(GlobalRow, GlobalCol, T&) for every local element, column by column. Local.
  template <class F>
  void for_each_local(F&& f) {
    std::vector<GlobalRow> rows_here;
    for (LocalRow i(0); i.value() < local_rows_; ++i) rows_here.push_back(global_row(i));
    T* value = local_.data();
    for (LocalCol j(0); j.value() < local_cols_; ++j)
      for (const GlobalRow i : rows_here) f(i, global_col(j), *value++);
  }
  /// Calls f(index, T&) for every local element of the diagonal. Local.
  template <class F>
  void for_each_diagonal(F&& f) {
    for (LocalCol j(0); j.value() < local_cols_; ++j) {
      const GlobalRow i(global_col(j).value());
      if (i.value() < rows() && distribution_.rows.owner(i) == grid_->my_row())
        f(i.value(), at(distribution_.rows.local(i), j));
    }
  }

private:
  DistMatrix(Grid grid, std::int64_t rows, std::int64_t cols, std::int64_t row_block, std::int64_t col_block,
             std::vector<T> local)
      : grid_(std::move(grid)), local_(std::move(local)) {
    require(grid_ != nullptr && row_block >= 1 && col_block >= 1, "a distributed matrix needs a grid and blocks");
    (void)checked_product(rows, cols, "a matrix");
    (void)narrow<int>(rows, "the number of rows");
    (void)narrow<int>(cols, "the number of columns");
    (void)narrow<int>(row_block, "a row block");
    (void)narrow<int>(col_block, "a column block");
    distribution_ = {{rows, row_block, grid_->rows()}, {cols, col_block, grid_->cols()}};
    if (grid_->contains_me()) {
      local_rows_ = distribution_.rows.count(grid_->my_row());
      local_cols_ = distribution_.cols.count(grid_->my_col());
    }
    (void)narrow<int>(checked_product(local_rows_, local_cols_), "the local part of a matrix");
  }
  [[nodiscard]] std::size_t offset(LocalRow i, LocalCol j) const {
    return static_cast<std::size_t>(i.value() + j.value() * lld());
  }

  Grid grid_;
  Distribution distribution_;
  std::int64_t local_rows_ = 0;
  std::int64_t local_cols_ = 0;
  std::vector<T> local_;
};

} // namespace slr
