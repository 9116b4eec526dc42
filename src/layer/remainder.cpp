#include "remainder.hpp"

#include "slr/linalg/blas.hpp"
#include "slr/linalg/lapack.hpp"

#include <algorithm>
#include <numeric>

namespace slr {
namespace {

double trace_of(std::int64_t n, const std::vector<double>& m) {
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += m[static_cast<std::size_t>(i * n + i)];
  return sum;
}

} // namespace

Remainder remainder_of(std::int64_t n, const std::vector<double>& m, std::int64_t r) {
  Remainder result{trace_of(n, m), {}};
  if (r <= 0 || n == 0) return result;
  auto copy = m;
  auto top = lapack::syevr_largest<double>(n, copy.data(), n, std::min(r, n), "kept groups");
  for (const double value : top.values) result.value -= value;
  result.leading = std::move(top.vectors);
  return result;
}

double remainder_bound(std::int64_t n, const std::vector<double>& m, const std::vector<double>& leading) {
  double result = trace_of(n, m);
  if (leading.empty()) return result;
  const std::int64_t r = std::ssize(leading) / n;
  auto z = leading;
  std::vector<double> product(z.size());
  const auto multiply = [&] {
    blas::gemm(Op::none, Op::none, n, r, n, 1.0, m.data(), n, z.data(), n, 0.0, product.data(), n);
  };
  for (int step = 0; step < 2; ++step) {
    multiply();
    z = product;
    const auto tau = lapack::geqrf<double>(n, r, z.data(), n);
    lapack::orgqr<double>(n, r, z.data(), n, std::span<const double>(tau));
  }
  multiply();
  for (std::size_t i = 0; i < z.size(); ++i) result -= z[i] * product[i];
  return result;
}

std::vector<std::int64_t> smallest(const std::vector<double>& values, std::int64_t count) {
  std::vector<std::int64_t> places(values.size());
  std::iota(places.begin(), places.end(), std::int64_t(0));
  std::stable_sort(places.begin(), places.end(), [&](auto a, auto b) {
    return values[static_cast<std::size_t>(a)] < values[static_cast<std::size_t>(b)];
  });
  places.resize(std::min(places.size(), static_cast<std::size_t>(count)));
  return places;
}

} // namespace slr
