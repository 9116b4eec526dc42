#pragma once
/// \file
/// Sums over sample blocks whose bits do not depend on how the blocks are dealt to the ranks.
#include <cstdint>
#include <span>
#include <vector>

namespace slr {

/// sum over blocks of  A_b B_b^T  (rows x cols), where every block's product was formed by itself, in single precision,
/// by one call of a fixed shape. Each entry is rounded to a grid of 50 bits below a bound of the whole sum,
/// terms * 2^(row exponent + column exponent); numbers of one grid are summed exactly in any order, so neither the
/// order of the blocks nor their ranks leave a trace.
class BlockSums {
public:
  /// |A_b(i, s)| <= 2^row_exponent[i], |B_b(j, s)| <= 2^col_exponent[j] for every sample s; `terms` samples over all
  /// blocks of all ranks. Local.
  BlockSums(std::span<const int> row_exponent, std::span<const int> col_exponent, std::int64_t terms);

  /// Adds one block's product, column-major without gaps: whole columns from this one on. Local, linear.
  void add(std::span<const float> product, std::size_t first_col = 0);
  void add(std::span<const double> product, std::size_t first_col = 0);

  /// The sums so far, rows x cols column-major: to be added over the ranks element by element. Local.
  [[nodiscard]] std::vector<double>& values() { return values_; }

private:
  template <class T>
  void add_rounded(std::span<const T> product, std::size_t first_col);

  std::vector<double> row_shift_, col_scale_; ///< 1.5 * 2^52 steps of an entry's grid = row_shift_[i] * col_scale_[j]
  std::vector<double> values_;
};

} // namespace slr
