#pragma once
/// \file
/// What a compressed layer keeps whole beside its low-rank part.
#include <cstdint>
#include <optional>
#include <string>

namespace slr {

/// A group is kept dense and free, or not at all.
enum class Grouping {
  channel, ///< the columns of an input channel: neighbours, as many as the kernel has places
  column,  ///< one column: an input channel at one place of the kernel
  filter   ///< one row: an output channel
};
/// "channel", "column", "filter": as in the configuration and in files. Local.
[[nodiscard]] std::string to_text(Grouping grouping);
/// Nothing for another word. Local.
[[nodiscard]] std::optional<Grouping> grouping_from_text(const std::string& word);

/// Dimensions of what takes the place of an n x k matrix: with groups of columns S kept and the rest R, U (n x r), V (r
/// x |R|) and B (n x |S|); with rows F kept, U (n - |F| x r), V (r x k) and B (|F| x k).
struct FactorSizes {
  std::int64_t u_rows = 0, v_cols = 0, b_rows = 0, b_cols = 0;
};
/// Local, pure.
[[nodiscard]] constexpr FactorSizes factor_sizes(Grouping grouping, std::int64_t rows, std::int64_t cols,
                                                 std::int64_t group_columns, std::int64_t kept_groups) {
  if (grouping == Grouping::filter) return {rows - kept_groups, cols, kept_groups, cols};
  return {rows, cols - kept_groups * group_columns, rows, kept_groups * group_columns};
}

} // namespace slr
