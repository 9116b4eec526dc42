#include "slr/mpi/exact_sum.hpp"

#include <algorithm>
#include <bit>

namespace slr {
namespace {
constexpr int lowest_exponent = -1152; // of digit 0; below the last bit of the smallest subnormal's mantissa
constexpr std::int64_t radix = std::int64_t(1) << 32;
} // namespace

void ExactSum::add(double value) {
  if (value == 0) return;
  if (!std::isfinite(value)) throw Error(ExitCode::numerical, "a value that is not finite entered a sum");
  int exponent = 0;
  const double fraction = std::frexp(value, &exponent); // value = fraction 2^exponent, |fraction| in [.5, 1)
  const auto mantissa = static_cast<std::int64_t>(std::ldexp(fraction, 53)); // 53 bits and a sign
  const int shift = exponent - 53 - lowest_exponent;
  const auto first = static_cast<std::size_t>(shift / 32);
  const int offset = shift % 32;
  const bool negative = mantissa < 0;
  // 53 bits moved by at most 31 fill three digits.
  const auto wide = static_cast<unsigned __int128>(negative ? -mantissa : mantissa) << offset;
  for (std::size_t i = 0; i < 3; ++i) {
    const auto part = static_cast<std::int64_t>(static_cast<std::uint64_t>(wide >> (32 * i)) & 0xffffffffU);
    digit_[first + i] += negative ? -part : part;
  }
  if (++pending_ == (std::int64_t(1) << 30)) normalize();
}

void ExactSum::add(const ExactSum& other) {
  normalize();
  other.normalize();
  for (std::size_t i = 0; i < digit_.size(); ++i) digit_[i] += other.digit_[i];
  pending_ = 1;
}

void ExactSum::normalize() const {
  // Every digit but the last goes to [0, 2^32); the last one carries the sign. The representation is then unique.
  std::int64_t carry = 0;
  for (std::size_t i = 0; i + 1 < digit_.size(); ++i) {
    const std::int64_t total = digit_[i] + carry;
    carry = total >> 32; // rounds towards minus infinity
    digit_[i] = total - carry * radix;
  }
  digit_.back() += carry;
  pending_ = 0;
}

double ExactSum::value() const {
  normalize();
  // A negative number is converted through its magnitude, so that leading digits of ones do not cancel.
  auto magnitude = digit_;
  const bool negative = magnitude.back() < 0;
  if (negative) {
    std::int64_t carry = 0;
    for (std::size_t i = 0; i + 1 < magnitude.size(); ++i) {
      const std::int64_t total = -magnitude[i] + carry;
      carry = total >> 32;
      magnitude[i] = total - carry * radix;
    }
    magnitude.back() = -magnitude.back() + carry;
  }
  int top = digits - 1;
  while (top >= 0 && magnitude[std::size_t(top)] == 0) --top;
  if (top < 0) return 0;
  // The leading 64 bits as an integer, a sticky bit for what lies below, one conversion to double.
  unsigned __int128 window = 0;
  for (int i = 0; i < 4; ++i)
    window = (window << 32) | (top - i >= 0 ? static_cast<std::uint64_t>(magnitude[std::size_t(top - i)]) : 0U);
  const int leading = std::countl_zero(static_cast<std::uint64_t>(window >> 64));
  window <<= leading;
  auto head = static_cast<std::uint64_t>(window >> 64);
  bool sticky = static_cast<std::uint64_t>(window) != 0;
  for (int i = top - 4; i >= 0 && !sticky; --i) sticky = magnitude[std::size_t(i)] != 0;
  if (sticky) head |= 1;
  const int exponent = 32 * (top - 3) + lowest_exponent + 64 - leading;
  const double result = std::ldexp(static_cast<double>(head), exponent);
  return negative ? -result : result;
}

void ExactSum::pack(std::span<double> out) const {
  normalize();
  for (std::size_t i = 0; i < digit_.size(); ++i) out[i] = static_cast<double>(digit_[i]);
}

ExactSum ExactSum::unpack(std::span<const double> in) {
  ExactSum sum;
  for (std::size_t i = 0; i < sum.digit_.size(); ++i) sum.digit_[i] = static_cast<std::int64_t>(in[i]);
  sum.normalize();
  return sum;
}

std::vector<double> allreduce_exact(const Communicator& comm, std::span<const ExactSum> sums) {
  std::vector<double> packed(sums.size() * ExactSum::digits);
  const auto slot = [&](std::size_t i) {
    return std::span<double>(packed).subspan(i * ExactSum::digits, ExactSum::digits);
  };
  for (std::size_t i = 0; i < sums.size(); ++i) sums[i].pack(slot(i));
  comm.allreduce(std::span<double>(packed));
  std::vector<double> values(sums.size());
  for (std::size_t i = 0; i < sums.size(); ++i) values[i] = ExactSum::unpack(slot(i)).value();
  return values;
}

int exact_product_bits(std::int64_t terms, int b_bits) {
  const int bits =
      53 - b_bits - static_cast<int>(std::bit_width(static_cast<std::uint64_t>(std::max<std::int64_t>(terms - 1, 0))));
  if (bits < 12)
    throw Error(ExitCode::bad_data, std::to_string(terms) + " samples are too many for exact sums: use fewer "
                                                            "calibration images or positions");
  return bits;
}

} // namespace slr
