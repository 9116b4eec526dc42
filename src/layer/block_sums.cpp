#include "slr/layer/block_sums.hpp"

#include "wide_vectors.hpp"

#include "slr/base/error.hpp"

#include <bit>
#include <cmath>

namespace slr {
namespace {

constexpr int sum_bits = 50; // of 53: the sign, and room so that adding the shift never leaves its binade

/// to += from, rounded to the grid of shift * scale. Local.
SLR_WIDE_VECTORS
void add_column(const float* __restrict from, const double* __restrict shift, double scale, double* __restrict to,
                std::size_t rows) {
  for (std::size_t i = 0; i < rows; ++i) {
    const double here = shift[i] * scale;
    to[i] += (static_cast<double>(from[i]) + here) - here;
  }
}
void add_column(const double* __restrict from, const double* __restrict shift, double scale, double* __restrict to,
                std::size_t rows) {
  for (std::size_t i = 0; i < rows; ++i) {
    const double here = shift[i] * scale;
    to[i] += (from[i] + here) - here;
  }
}

} // namespace

BlockSums::BlockSums(std::span<const int> row_exponent, std::span<const int> col_exponent, std::int64_t terms)
    : values_(row_exponent.size() * col_exponent.size(), 0.0) {
  const int term_bits = std::bit_width(static_cast<std::uint64_t>(terms > 0 ? terms : 1));
  for (const int e : row_exponent) row_shift_.push_back(std::ldexp(1.5, e + term_bits - sum_bits + 52));
  for (const int e : col_exponent) col_scale_.push_back(std::ldexp(1.0, e));
}

template <class T>
void BlockSums::add_rounded(std::span<const T> product, std::size_t first_col) {
  const auto rows = row_shift_.size();
  const auto cols = rows > 0 ? product.size() / rows : 0;
  require(product.size() == rows * cols && first_col + cols <= col_scale_.size(),
          "a block's product has another shape than its sum");
  for (std::size_t j = 0; j < cols; ++j)
    add_column(product.data() + j * rows, row_shift_.data(), col_scale_[first_col + j],
               values_.data() + (first_col + j) * rows, rows);
}

void BlockSums::add(std::span<const float> product, std::size_t first_col) {
  add_rounded(product, first_col);
}
void BlockSums::add(std::span<const double> product, std::size_t first_col) {
  add_rounded(product, first_col);
}

} // namespace slr
