#pragma once
/// \file
/// Integers that know what they count: mixing two kinds does not compile.
#include <compare>
#include <cstdint>

namespace slr {

/// An index or extent of the kind `Tag`. Arithmetic stays inside the kind; `value()` leaves it on purpose.
template <class Tag>
class Index {
public:
  constexpr Index() = default;
  constexpr explicit Index(std::int64_t value) : value_(value) {}
  [[nodiscard]] constexpr std::int64_t value() const { return value_; }
  constexpr auto operator<=>(const Index&) const = default;
  constexpr Index& operator++() {
    ++value_;
    return *this;
  }
  friend constexpr Index operator+(Index a, std::int64_t b) { return Index(a.value_ + b); }
  friend constexpr Index operator-(Index a, std::int64_t b) { return Index(a.value_ - b); }
  friend constexpr std::int64_t operator-(Index a, Index b) { return a.value_ - b.value_; }

private:
  std::int64_t value_ = 0;
};

} // namespace slr
