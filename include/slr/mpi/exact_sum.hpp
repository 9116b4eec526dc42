#pragma once
/// \file
/// Sums whose bits do not depend on the order of the terms, on the blocking, or on the number of ranks.
///
/// Two tools, for two sizes of problem:
///
/// 1. `ExactSum`: any finite doubles, a few sums at a time (errors, norms, objective values). A fixed-point number that
///    covers the whole range of double (Kulisch, Miranker: Computer Arithmetic in Theory and Practice, 1981): adding is
///    exact, so it is associative and commutative; the only rounding is the one at the end.
/// 2. `FixedPoint`: matrices whose *products* are to be summed exactly over millions of samples. Operands are rounded
/// to
///    integers times a power of two with so few bits that every product and every partial sum of a matrix product is an
///    integer below 2^53 times one common power of two. Then dgemm, its blocking, its number of threads and MPI_SUM all
///    give the exact sum, at the speed of a plain dgemm and of a plain reduction.
#include "slr/base/error.hpp"
#include "slr/mpi/communicator.hpp"

#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

namespace slr {

/// An exactly accumulated sum of finite doubles. Up to 2^20 ranks may be summed after up to 2^31 additions each.
class ExactSum {
public:
  /// Digits of 32 bits, kept in doubles so that they can travel inside any reduction of doubles: 2^-1074 to 2^1023 and
  /// room for carries.
  static constexpr int digits = 72;

  /// Adds one finite number, exactly. Local, about ten operations. \throws Error{numerical} if it is not finite.
  void add(double value);
  void add(const ExactSum& other);

  /// The sum, rounded once to double (to nearest, up to a last-place tie). Local.
  [[nodiscard]] double value() const;

  /// Writes the state as `digits` doubles, each an integer below 2^33 in magnitude: elementwise sums of such arrays are
  /// exact for 2^20 ranks. Local.
  void pack(std::span<double> out) const;
  /// The sum of all packed states, from their elementwise sum. Local.
  [[nodiscard]] static ExactSum unpack(std::span<const double> in);

private:
  void normalize() const;
  mutable std::array<std::int64_t, digits> digit_{}; ///< value = sum digit_[i] 2^(32 i - 1152), carries postponed
  mutable std::int64_t pending_ = 0;                 ///< additions since the last normalisation
};

/// The exact sums of all ranks, as doubles, on every rank. Collective, one allreduce of 72 doubles per sum.
[[nodiscard]] std::vector<double> allreduce_exact(const Communicator& comm, std::span<const ExactSum> sums);

/// A grid of numbers i * 2^exponent with integers |i| <= 2^bits. What rounding needs is computed once.
class FixedPoint {
public:
  FixedPoint() : FixedPoint(0, 0) {}
  FixedPoint(int exponent, int bits)
      : exponent_(exponent), bits_(bits), largest_(std::ldexp(1.0, exponent + bits)),
        shift_(std::ldexp(1.5, exponent + 52)) {}
  /// The finest grid of so many bits that reaches `largest` (>= 0, finite). A grid for zeros only has exponent 0.
  [[nodiscard]] static FixedPoint covering(double largest, int bits) {
    if (!(largest > 0)) return {0, bits};
    int exponent = 0;
    std::frexp(largest, &exponent); // largest <= 2^exponent
    return {exponent - bits, bits};
  }
  [[nodiscard]] int exponent() const { return exponent_; }
  [[nodiscard]] int bits() const { return bits_; }
  [[nodiscard]] double step() const { return std::ldexp(1.0, exponent_); }
  [[nodiscard]] double largest() const { return largest_; }
  /// The nearest grid point (ties to even); what is out of reach goes to the end of the grid. Local.
  [[nodiscard]] double round(double value) const {
    if (value > largest_) return largest_;
    if (value < -largest_) return -largest_;
    return (value + shift_) - shift_; // adding 1.5 * 2^52 steps leaves exactly the bits at and above the step
  }

private:
  int exponent_, bits_;
  double largest_, shift_;
};

/// How the 53 bits of a double are shared among the first operand, the second and the number of terms, so that
/// sum over `terms` of a_i b_i is exact: bits(a) + bits(b) + ceil(log2 terms) <= 53.
/// Returns the bits left for `a` once `b` has `b_bits`. \throws Error{bad_data} if fewer than 12 bits are left.
[[nodiscard]] int exact_product_bits(std::int64_t terms, int b_bits);

} // namespace slr
