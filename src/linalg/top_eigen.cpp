#include "fortran.hpp"
#include "info.hpp"
#include "slr/base/narrow.hpp"
#include "slr/linalg/lapack.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

namespace slr::lapack {
namespace {

using detail::check_info;
using detail::Fortran;

template <class T>
std::string name(std::string_view routine) {
  return (std::is_same_v<T, float> ? "s" : "d") + std::string(routine);
}

/// A = Q T Q^T: T in d and e, Q as reflectors in a and tau.
template <class T>
struct Tridiagonal {
  int n = 0;
  T* a = nullptr;
  int lda = 1;
  std::vector<T> d, e, tau, work;
};

template <class T>
Tridiagonal<T> sytrd(std::int64_t n, T* a, std::int64_t lda, std::string_view context) {
  Tridiagonal<T> t{.n = narrow<int>(n), .a = a, .lda = narrow<int>(lda), .d = {}, .e = {}, .tau = {}, .work = {}};
  const auto count = static_cast<std::size_t>(n);
  t.d.resize(count);
  t.e.resize(count);
  t.tau.resize(count);
  // 64 columns per block for sytrd and ormtr; stemr wants 18 n.
  t.work.resize(64 * count + 64);
  const char ul = 'L';
  const int lwork = narrow<int>(t.work.size());
  int info = 0;
  Fortran<T>::sytrd(&ul, &t.n, a, &t.lda, t.d.data(), t.e.data(), t.tau.data(), t.work.data(), &lwork, &info, 1);
  check_info(name<T>("sytrd"), "uplo n a lda d e tau work lwork", info, "", context);
  return t;
}

/// How many eigenvalues of the tridiagonal matrix are > lower (a Sturm count).
template <class T>
std::int64_t count_above(const Tridiagonal<T>& t, T lower) {
  T radius = 0;
  for (int i = 0; i < t.n; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const T left = i > 0 ? std::abs(t.e[at - 1]) : T(0);
    const T right = i + 1 < t.n ? std::abs(t.e[at]) : T(0);
    radius = std::max(radius, std::abs(t.d[at]) + left + right);
  }
  const T upper = 2 * std::max(radius, std::abs(lower)) + std::numeric_limits<T>::min();
  const T smallest_pivot = std::numeric_limits<T>::min() * std::max(T(1), radius * radius);
  const char job = 'T';
  int between = 0, left_count = 0, right_count = 0, info = 0;
  Fortran<T>::larrc(&job, &t.n, &lower, &upper, t.d.data(), t.e.data(), &smallest_pivot, &between, &left_count,
                    &right_count, &info, 1);
  return between;
}

/// Eigenpairs n-count+1 .. n, descending.
template <class T>
TopEigen<T> largest(Tridiagonal<T>& t, std::int64_t count, std::string_view context) {
  TopEigen<T> top;
  if (count == 0) return top;
  const auto n = static_cast<std::size_t>(t.n);
  const auto wanted = static_cast<std::size_t>(count);
  const char jobz = 'V', range = count == t.n ? 'A' : 'I';
  const int il = t.n - static_cast<int>(count) + 1, iu = t.n, columns = static_cast<int>(count);
  const T zero = 0;
  int found = 0, info = 0, try_relative = 1;
  std::vector<T> w(n), z(n * wanted);
  std::vector<int> support(2 * wanted), iwork(10 * n);
  const int lwork = narrow<int>(t.work.size()), liwork = narrow<int>(iwork.size());
  Fortran<T>::stemr(&jobz, &range, &t.n, t.d.data(), t.e.data(), &zero, &zero, &il, &iu, &found, w.data(), z.data(),
                    &t.n, &columns, support.data(), &try_relative, t.work.data(), &lwork, iwork.data(), &liwork, &info,
                    1, 1);
  check_info(name<T>("stemr"), "jobz range n d e vl vu il iu m w z ldz nzc isuppz tryrac work lwork iwork liwork", info,
             "eigenvalues did not converge", context);
  if (found != columns)
    throw Error(ExitCode::numerical, std::string(context) + ": " + name<T>("stemr") + " found " +
                                         std::to_string(found) + " of " + std::to_string(columns) + " eigenvalues");
  // Descending, and the vectors back from the tridiagonal basis.
  top.values.resize(wanted);
  top.vectors.resize(n * wanted);
  for (std::size_t i = 0; i < wanted; ++i) {
    top.values[i] = w[wanted - 1 - i];
    std::copy_n(z.data() + (wanted - 1 - i) * n, n, top.vectors.data() + i * n);
  }
  const char side = 'L', ul = 'L', op = 'N';
  Fortran<T>::ormtr(&side, &ul, &op, &t.n, &columns, t.a, &t.lda, t.tau.data(), top.vectors.data(), &t.n, t.work.data(),
                    &lwork, &info, 1, 1, 1);
  check_info(name<T>("ormtr"), "side uplo trans m n a lda tau c ldc work lwork", info, "", context);
  return top;
}

} // namespace

template <class T>
TopEigen<T> syevr_above(std::int64_t n, T* a, std::int64_t lda, T lower, std::int64_t guard_divisor,
                        std::int64_t guard_least, std::string_view context) {
  if (n == 0) return {};
  auto t = sytrd(n, a, lda, context);
  const std::int64_t above = count_above(t, lower);
  const std::int64_t guards = above == 0 ? 0 : std::max(guard_least, above / guard_divisor);
  auto top = largest(t, std::min(n, above + guards), context);
  // The count comes from another formula than the values; the values decide.
  top.above = std::count_if(top.values.begin(), top.values.end(), [&](T value) { return value > lower; });
  return top;
}

template <class T>
TopEigen<T> syevr_largest(std::int64_t n, T* a, std::int64_t lda, std::int64_t count, std::string_view context) {
  if (n == 0 || count == 0) return {};
  auto t = sytrd(n, a, lda, context);
  auto top = largest(t, std::min(n, count), context);
  top.above = static_cast<std::int64_t>(top.values.size());
  return top;
}

#define SLR_INSTANTIATE(T)                                                                                             \
  template TopEigen<T> syevr_above(std::int64_t, T*, std::int64_t, T, std::int64_t, std::int64_t, std::string_view);   \
  template TopEigen<T> syevr_largest(std::int64_t, T*, std::int64_t, std::int64_t, std::string_view);
SLR_INSTANTIATE(float)
SLR_INSTANTIATE(double)
#undef SLR_INSTANTIATE

} // namespace slr::lapack
