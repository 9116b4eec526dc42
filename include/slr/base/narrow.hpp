#pragma once
/// \file
/// Checked conversions between integer types.
#include "slr/base/error.hpp"

#include <concepts>
#include <string>
#include <utility>

namespace slr {

/// The same number in another integer type. Local.
/// \throws Error{bad_data} if it does not fit; `what` names the quantity.
template <std::integral To, std::integral From>
[[nodiscard]] To narrow(From value, std::string_view what = "a size") {
  if (!std::in_range<To>(value))
    throw Error(ExitCode::bad_data, std::string(what) + " of " + std::to_string(value) +
                                        " is out of the range that the library below can take");
  return static_cast<To>(value);
}

/// a * b in 64 bits. Local. \throws Error{bad_data} on overflow or a negative factor.
[[nodiscard]] inline long long checked_product(long long a, long long b, std::string_view what = "a size") {
  long long result = 0;
  if (a < 0 || b < 0 || __builtin_mul_overflow(a, b, &result))
    throw Error(ExitCode::bad_data, std::string(what) + " (" + std::to_string(a) + " x " + std::to_string(b) +
                                        ") is negative or too large");
  return result;
}

} // namespace slr
