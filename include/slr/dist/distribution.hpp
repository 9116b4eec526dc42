#pragma once
/// \file
/// The block-cyclic distribution of a matrix over a process grid, as a value: no MPI, no memory.
#include "slr/base/index.hpp"

#include <algorithm>
#include <cstdint>

namespace slr {

using GlobalRow = Index<struct GlobalRowTag>;
using GlobalCol = Index<struct GlobalColTag>;
using LocalRow = Index<struct LocalRowTag>;
using LocalCol = Index<struct LocalColTag>;

/// One dimension: `extent` elements in blocks of `block`, dealt in turn to `parts` processes, the first to process 0.
///
/// | from | to | by |
/// | --- | --- | --- |
/// | global | process | owner(g) |
/// | global | local index on the owner | local(g) |
/// | local on process p | global | global(l, p) |
/// | process p | number of elements | count(p) |
/// | global g, process p | how many of p's elements lie before g | local_begin(g, p) |
template <class Global, class Local>
class BlockCyclic {
public:
  constexpr BlockCyclic() = default;
  /// @pre extent >= 0, block >= 1, parts >= 1
  constexpr BlockCyclic(std::int64_t extent, std::int64_t block, int parts)
      : extent_(extent), block_(block), parts_(parts) {}

  [[nodiscard]] constexpr std::int64_t extent() const { return extent_; }
  [[nodiscard]] constexpr std::int64_t block() const { return block_; }
  [[nodiscard]] constexpr int parts() const { return parts_; }

  [[nodiscard]] constexpr int owner(Global g) const { return static_cast<int>((g.value() / block_) % parts_); }
  [[nodiscard]] constexpr Local local(Global g) const {
    return Local(g.value() / block_ / parts_ * block_ + g.value() % block_);
  }
  [[nodiscard]] constexpr Global global(Local l, int part) const {
    return Global((l.value() / block_ * parts_ + part) * block_ + l.value() % block_);
  }
  [[nodiscard]] constexpr std::int64_t local_begin(Global g, int part) const {
    const std::int64_t cycle = block_ * parts_;
    const std::int64_t rest = g.value() % cycle - part * block_;
    return g.value() / cycle * block_ + std::clamp<std::int64_t>(rest, 0, block_);
  }
  [[nodiscard]] constexpr std::int64_t count(int part) const { return local_begin(Global(extent_), part); }

  constexpr bool operator==(const BlockCyclic&) const = default;

private:
  std::int64_t extent_ = 0;
  std::int64_t block_ = 1;
  int parts_ = 1;
};

using RowDistribution = BlockCyclic<GlobalRow, LocalRow>;
using ColDistribution = BlockCyclic<GlobalCol, LocalCol>;

/// Both dimensions. Two equal distributions place every element on the same cell at the same local index.
struct Distribution {
  RowDistribution rows;
  ColDistribution cols;

  /// Local elements of a cell are stored column-major with this leading dimension (ScaLAPACK wants at least 1).
  [[nodiscard]] constexpr std::int64_t lld(int grid_row) const {
    return std::max<std::int64_t>(1, grid_row < 0 ? 0 : rows.count(grid_row));
  }
  constexpr bool operator==(const Distribution&) const = default;
};

} // namespace slr
