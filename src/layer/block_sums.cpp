#include "slr/layer/block_sums.hpp"

#include "slr/base/error.hpp"

#include <bit>
#include <cmath>

namespace slr {
namespace {

constexpr int sum_bits = 50; // of 53: the sign, and room so that adding the shift never leaves its binade

} // namespace

BlockSums::BlockSums(std::span<const int> row_exponent, std::span<const int> col_exponent, std::int64_t terms)
    : values_(row_exponent.size() * col_exponent.size(), 0.0) {
  const int term_bits = std::bit_width(static_cast<std::uint64_t>(terms > 0 ? terms : 1));
  for (const int e : row_exponent) row_shift_.push_back(std::ldexp(1.5, e + term_bits - sum_bits + 52));
  for (const int e : col_exponent) col_scale_.push_back(std::ldexp(1.0, e));
}

template <class T>
void BlockSums::add_rounded(std::span<const T> product) {
  const auto rows = row_shift_.size();
  require(product.size() == values_.size(), "a block's product has another shape than its sum");
  for (std::size_t j = 0; j < col_scale_.size(); ++j) {
    const double scale = col_scale_[j];
    const T* from = product.data() + j * rows;
    double* to = values_.data() + j * rows;
    for (std::size_t i = 0; i < rows; ++i) {
      const double shift = row_shift_[i] * scale;
      to[i] += (static_cast<double>(from[i]) + shift) - shift;
    }
  }
}

void BlockSums::add(std::span<const float> product) {
  add_rounded(product);
}
void BlockSums::add(std::span<const double> product) {
  add_rounded(product);
}

} // namespace slr
