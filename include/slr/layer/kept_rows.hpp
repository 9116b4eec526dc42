#pragma once
/// \file
/// Rows of a matrix that are kept whole beside a low-rank part of the others.
#include <cstdint>
#include <span>
#include <vector>

namespace slr {

/// The rows F of Q (n x cols, column-major) as lengths and unit rows (f x cols; zero where the length is), and zeros in
/// their place. Local.
struct UnitRows {
  std::vector<double> length, unit;
};
[[nodiscard]] UnitRows take_rows(const std::vector<std::int64_t>& rows, std::int64_t n, std::span<double> q);

/// [top; bottom], both of so many columns, column-major. Local.
[[nodiscard]] std::vector<double> stacked(std::int64_t cols, const std::vector<double>& top,
                                          const std::vector<double>& bottom);

/// The columns e_F, then those given with zeros in the rows F. Local.
[[nodiscard]] std::vector<double> beside_unit_columns(const std::vector<std::int64_t>& rows, std::int64_t n,
                                                      const std::vector<double>& columns);

/// Which `count` rows to keep beside a low-rank part of the others, from Q Q^T (n x n, column-major): with T the
/// leading `target_rank` right singular vectors of the rows that are not kept, row i loses ||q_i||^2 - ||q_i T^T||^2
/// there. The rows that lose most are kept, then T follows, then the rows again, as long as the sum of the losses
/// falls; once from the T of all rows, once from the largest rows, and the better of both counts. Then (up to 1,024
/// rows) the six rows that are missed least and the six that lose most are tried in pairs, T following, and the best
/// pair is exchanged as long as the error falls by a thousandth, twenty times at most. Ties go to the smaller row.
/// Increasing. Local; an n x n eigenvalue problem per step, and for an exchange 36 bounds of 6 n^2 r flops more.
[[nodiscard]] std::vector<std::int64_t> choose_rows(std::int64_t n, const std::vector<double>& products,
                                                    std::int64_t target_rank, std::int64_t count);

} // namespace slr
