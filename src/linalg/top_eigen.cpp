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
  // 64 columns per block for sytrd and ormtr; stemr wants 18 n, stein 5 n.
  t.work.resize(64 * count + 64);
  const char ul = 'L';
  const int lwork = narrow<int>(t.work.size());
  int info = 0;
  Fortran<T>::sytrd(&ul, &t.n, a, &t.lda, t.d.data(), t.e.data(), t.tau.data(), t.work.data(), &lwork, &info, 1);
  check_info(name<T>("sytrd"), "uplo n a lda d e tau work lwork", info, "", context);
  return t;
}

/// All eigenvalues of the tridiagonal matrix, ascending: a fraction of what bisection takes for some of them.
template <class T>
std::vector<T> eigenvalues(const Tridiagonal<T>& t, std::string_view context) {
  auto values = t.d, e = t.e;
  int info = 0;
  Fortran<T>::sterf(&t.n, values.data(), e.data(), &info);
  check_info(name<T>("sterf"), "n d e", info, "eigenvalues did not converge", context);
  return values;
}

/// Whether the tridiagonal matrix falls into blocks, or nearly.
template <class T>
bool is_split(const Tridiagonal<T>& t, const std::vector<T>& values) {
  const T norm = std::max(std::abs(values.front()), std::abs(values.back()));
  return std::any_of(t.e.begin(), t.e.end() - 1,
                     [&](T e) { return std::abs(e) <= 10 * std::numeric_limits<T>::epsilon() * norm; });
}

/// Vectors of its largest eigenvalues (`values`, ascending) by inverse iteration, n x values.size(); clusters are made
/// orthogonal. False if a vector did not converge.
template <class T>
bool by_inverse_iteration(Tridiagonal<T>& t, const std::vector<T>& values, std::vector<T>& z) {
  const auto n = static_cast<std::size_t>(t.n);
  const int columns = narrow<int>(std::ssize(values));
  const std::vector<int> block(n, 1), block_end(n, t.n);
  std::vector<int> iwork(n), failed(values.size());
  int info = 0;
  Fortran<T>::stein(&t.n, t.d.data(), t.e.data(), &columns, values.data(), block.data(), block_end.data(), z.data(),
                    &t.n, t.work.data(), iwork.data(), failed.data(), &info);
  return info == 0;
}

/// The same by relatively robust representations, with the values anew.
template <class T>
void by_representations(Tridiagonal<T>& t, std::vector<T>& values, std::vector<T>& z, std::string_view context) {
  const auto n = static_cast<std::size_t>(t.n);
  const int columns = narrow<int>(std::ssize(values)), il = t.n - columns + 1, iu = t.n;
  const char jobz = 'V', range = columns == t.n ? 'A' : 'I';
  const T zero = 0;
  int found = 0, info = 0, try_relative = 1;
  std::vector<T> w(n);
  std::vector<int> support(2 * values.size()), iwork(10 * n);
  const int lwork = narrow<int>(t.work.size()), liwork = narrow<int>(iwork.size());
  Fortran<T>::stemr(&jobz, &range, &t.n, t.d.data(), t.e.data(), &zero, &zero, &il, &iu, &found, w.data(), z.data(),
                    &t.n, &columns, support.data(), &try_relative, t.work.data(), &lwork, iwork.data(), &liwork, &info,
                    1, 1);
  check_info(name<T>("stemr"), "jobz range n d e vl vu il iu m w z ldz nzc isuppz tryrac work lwork iwork liwork", info,
             "eigenvalues did not converge", context);
  if (found != columns)
    throw Error(ExitCode::numerical, std::string(context) + ": " + name<T>("stemr") + " found " +
                                         std::to_string(found) + " of " + std::to_string(columns) + " eigenvalues");
  values.assign(w.begin(), w.begin() + columns);
}

/// The `count` largest of all eigenvalues (`all`, ascending) with vectors, descending. Inverse iteration is the faster
/// way to a few vectors, but wants a matrix in one piece.
template <class T>
TopEigen<T> largest(Tridiagonal<T>& t, const std::vector<T>& all, std::int64_t count, std::string_view context) {
  TopEigen<T> top;
  if (count == 0) return top;
  const auto n = static_cast<std::size_t>(t.n);
  const auto wanted = static_cast<std::size_t>(count);
  std::vector<T> values(all.end() - count, all.end()), z(n * wanted);
  if (2 * wanted > n || is_split(t, all) || !by_inverse_iteration(t, values, z))
    by_representations(t, values, z, context);
  // Descending, and the vectors back from the tridiagonal basis.
  top.values.assign(values.rbegin(), values.rend());
  top.vectors.resize(n * wanted);
  for (std::size_t i = 0; i < wanted; ++i) std::copy_n(z.data() + (wanted - 1 - i) * n, n, top.vectors.data() + i * n);
  const char side = 'L', ul = 'L', op = 'N';
  const int columns = static_cast<int>(count), lwork = narrow<int>(t.work.size());
  int info = 0;
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
  const auto all = eigenvalues(t, context);
  const std::int64_t above = all.end() - std::upper_bound(all.begin(), all.end(), lower);
  const std::int64_t guards = above == 0 ? 0 : std::max(guard_least, above / guard_divisor);
  auto top = largest(t, all, std::min(n, above + guards), context);
  // The values that belong to the vectors decide.
  top.above = std::count_if(top.values.begin(), top.values.end(), [&](T value) { return value > lower; });
  return top;
}

template <class T>
TopEigen<T> syevr_largest(std::int64_t n, T* a, std::int64_t lda, std::int64_t count, std::string_view context) {
  if (n == 0 || count == 0) return {};
  auto t = sytrd(n, a, lda, context);
  auto top = largest(t, eigenvalues(t, context), std::min(n, count), context);
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
