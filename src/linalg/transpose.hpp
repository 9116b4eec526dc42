#pragma once
/// \file
/// Transposition of column-major arrays.
#include <algorithm>
#include <cstdint>

namespace slr::detail {

/// to (cols x rows) := from^T (rows x cols), both dense. Tiles keep both sides in the first-level cache. Local.
template <class From, class To>
void transpose(std::int64_t rows, std::int64_t cols, const From* from, To* to) {
  constexpr std::int64_t tile = 32;
  for (std::int64_t jj = 0; jj < cols; jj += tile)
    for (std::int64_t ii = 0; ii < rows; ii += tile)
      for (std::int64_t i = ii; i < std::min(rows, ii + tile); ++i)
        for (std::int64_t j = jj; j < std::min(cols, jj + tile); ++j)
          to[j + i * cols] = static_cast<To>(from[i + j * rows]);
}

} // namespace slr::detail
