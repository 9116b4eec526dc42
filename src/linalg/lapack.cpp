#include "slr/linalg/lapack.hpp"

#include "fortran.hpp"
#include "info.hpp"
#include "slr/base/narrow.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

namespace slr::lapack {
namespace {

using detail::check_info;
using detail::Fortran;

template <class T>
constexpr std::string_view letter = std::is_same_v<T, float> ? "s" : "d";

template <class T>
std::string name(std::string_view routine) {
  return std::string(letter<T>) + std::string(routine);
}

int size32(std::int64_t n) {
  return narrow<int>(n, "an extent of a matrix");
}

/// A workspace size from a query, rounded up: a float cannot hold every integer that it should report.
template <class T>
int work_size(T queried) {
  const double generous = std::ceil(static_cast<double>(queried) * (1 + 1e-6)) + 8;
  return narrow<int>(static_cast<std::int64_t>(generous), "a workspace");
}

} // namespace

template <class T>
std::int64_t potrf(Uplo uplo, std::int64_t n, T* a, std::int64_t lda, std::string_view context) {
  const char ul = static_cast<char>(uplo);
  const int n32 = size32(n), la = size32(lda);
  int info = 0;
  Fortran<T>::potrf(&ul, &n32, a, &la, &info, 1);
  if (info > 0) return info;
  check_info(name<T>("potrf"), "uplo n a lda", info, "", context);
  return 0;
}

template <class T>
void potri(Uplo uplo, std::int64_t n, T* a, std::int64_t lda, std::string_view context) {
  const char ul = static_cast<char>(uplo);
  const int n32 = size32(n), la = size32(lda);
  int info = 0;
  Fortran<T>::potri(&ul, &n32, a, &la, &info, 1);
  check_info(name<T>("potri"), "uplo n a lda", info, "the factor has a zero on its diagonal", context);
}

template <class T>
void potrs(Uplo uplo, std::int64_t n, std::int64_t columns, const T* a, std::int64_t lda, T* b, std::int64_t ldb,
           std::string_view context) {
  const char ul = static_cast<char>(uplo);
  const int n32 = size32(n), c32 = size32(columns), la = size32(lda), lb = size32(ldb);
  int info = 0;
  Fortran<T>::potrs(&ul, &n32, &c32, a, &la, b, &lb, &info, 1);
  check_info(name<T>("potrs"), "uplo n nrhs a lda b ldb", info, "", context);
}

template <class T>
PivotedCholesky pstrf(std::int64_t n, T* a, std::int64_t lda, T tolerance, std::string_view context) {
  const char ul = 'L';
  const int n32 = size32(n), la = size32(lda);
  int rank = 0, info = 0;
  std::vector<int> pivots(static_cast<std::size_t>(std::max<std::int64_t>(n, 1)));
  std::vector<T> work(2 * pivots.size());
  Fortran<T>::pstrf(&ul, &n32, a, &la, pivots.data(), &rank, &tolerance, work.data(), &info, 1);
  // INFO = 1 says that the matrix is rank deficient: the answer, not a failure.
  check_info(name<T>("pstrf"), "uplo n a lda piv rank tol work", std::min(info, 0), "", context);
  PivotedCholesky result{.numerical_rank = rank, .pivots = {}};
  for (std::int64_t i = 0; i < n; ++i) result.pivots.push_back(pivots[static_cast<std::size_t>(i)] - 1);
  return result;
}

template <class T>
std::vector<T> syevr(std::int64_t n, T* a, std::int64_t lda, T* z, std::int64_t ldz, std::string_view context) {
  std::vector<T> w(static_cast<std::size_t>(n));
  if (n == 0) return w;
  const char jobz = 'V', range = 'A', ul = 'L';
  const int n32 = size32(n), la = size32(lda), lz = size32(ldz), none = 0;
  const T zero = 0;
  int found = 0, info = 0, lwork = -1, liwork = -1, iwork_size = 0;
  T work_query = 0;
  std::vector<int> support(2 * static_cast<std::size_t>(n));
  const auto call = [&](T* work, int* iwork) {
    Fortran<T>::syevr(&jobz, &range, &ul, &n32, a, &la, &zero, &zero, &none, &none, &zero, &found, w.data(), z, &lz,
                      support.data(), work, &lwork, iwork, &liwork, &info, 1, 1, 1);
    check_info(name<T>("syevr"), "jobz range uplo n a lda vl vu il iu abstol m w z ldz isuppz work lwork iwork liwork",
               info, "eigenvalues did not converge", context);
  };
  call(&work_query, &iwork_size);
  lwork = work_size(work_query);
  liwork = iwork_size;
  std::vector<T> work(static_cast<std::size_t>(lwork));
  std::vector<int> iwork(static_cast<std::size_t>(liwork));
  call(work.data(), iwork.data());
  return w;
}

template <class T>
void gesdd(std::int64_t m, std::int64_t n, T* a, std::int64_t lda, T* s, T* u, std::int64_t ldu, T* vt,
           std::int64_t ldvt, std::string_view context) {
  if (m == 0 || n == 0) return;
  const char job = 'S';
  const int m32 = size32(m), n32 = size32(n), la = size32(lda), lu = size32(ldu), lv = size32(ldvt);
  int info = 0, lwork = -1;
  T query = 0;
  std::vector<int> iwork(8 * static_cast<std::size_t>(std::min(m, n)));
  const auto call = [&](T* work) {
    Fortran<T>::gesdd(&job, &m32, &n32, a, &la, s, u, &lu, vt, &lv, work, &lwork, iwork.data(), &info, 1);
    check_info(name<T>("gesdd"), "jobz m n a lda s u ldu vt ldvt work lwork iwork", info,
               "singular values did not converge", context);
  };
  call(&query);
  lwork = work_size(query);
  std::vector<T> work(static_cast<std::size_t>(lwork));
  call(work.data());
}

template <class T>
std::vector<T> geqrf(std::int64_t m, std::int64_t n, T* a, std::int64_t lda, std::string_view context) {
  std::vector<T> tau(static_cast<std::size_t>(std::min(m, n)));
  if (tau.empty()) return tau;
  const int m32 = size32(m), n32 = size32(n), la = size32(lda);
  int info = 0, lwork = -1;
  T query = 0;
  const auto call = [&](T* work) {
    Fortran<T>::geqrf(&m32, &n32, a, &la, tau.data(), work, &lwork, &info);
    check_info(name<T>("geqrf"), "m n a lda tau work lwork", info, "", context);
  };
  call(&query);
  lwork = work_size(query);
  std::vector<T> work(static_cast<std::size_t>(lwork));
  call(work.data());
  return tau;
}

template <class T>
void ormqr(Side side, Op op, std::int64_t m, std::int64_t n, const T* a, std::int64_t lda, std::span<const T> tau, T* c,
           std::int64_t ldc, std::string_view context) {
  if (m == 0 || n == 0 || tau.empty()) return;
  const char s = static_cast<char>(side), t = static_cast<char>(op);
  const int m32 = size32(m), n32 = size32(n), k32 = size32(static_cast<std::int64_t>(tau.size()));
  const int la = size32(lda), lc = size32(ldc);
  int info = 0, lwork = -1;
  T query = 0;
  const auto call = [&](T* work) {
    Fortran<T>::ormqr(&s, &t, &m32, &n32, &k32, a, &la, tau.data(), c, &lc, work, &lwork, &info, 1, 1);
    check_info(name<T>("ormqr"), "side trans m n k a lda tau c ldc work lwork", info, "", context);
  };
  call(&query);
  lwork = work_size(query);
  std::vector<T> work(static_cast<std::size_t>(lwork));
  call(work.data());
}

template <class T>
void orgqr(std::int64_t m, std::int64_t n, T* a, std::int64_t lda, std::span<const T> tau, std::string_view context) {
  if (m == 0 || n == 0) return;
  const int m32 = size32(m), n32 = size32(n), k32 = size32(static_cast<std::int64_t>(tau.size())), la = size32(lda);
  int info = 0, lwork = -1;
  T query = 0;
  const auto call = [&](T* work) {
    Fortran<T>::orgqr(&m32, &n32, &k32, a, &la, tau.data(), work, &lwork, &info);
    check_info(name<T>("orgqr"), "m n k a lda tau work lwork", info, "", context);
  };
  call(&query);
  lwork = work_size(query);
  std::vector<T> work(static_cast<std::size_t>(lwork));
  call(work.data());
}

#define SLR_INSTANTIATE(T)                                                                                             \
  template std::int64_t potrf(Uplo, std::int64_t, T*, std::int64_t, std::string_view);                                 \
  template void potri(Uplo, std::int64_t, T*, std::int64_t, std::string_view);                                         \
  template void potrs(Uplo, std::int64_t, std::int64_t, const T*, std::int64_t, T*, std::int64_t, std::string_view);   \
  template PivotedCholesky pstrf(std::int64_t, T*, std::int64_t, T, std::string_view);                                 \
  template std::vector<T> syevr(std::int64_t, T*, std::int64_t, T*, std::int64_t, std::string_view);                   \
  template void gesdd(std::int64_t, std::int64_t, T*, std::int64_t, T*, T*, std::int64_t, T*, std::int64_t,            \
                      std::string_view);                                                                               \
  template std::vector<T> geqrf(std::int64_t, std::int64_t, T*, std::int64_t, std::string_view);                       \
  template void ormqr(Side, Op, std::int64_t, std::int64_t, const T*, std::int64_t, std::span<const T>, T*,            \
                      std::int64_t, std::string_view);                                                                 \
  template void orgqr(std::int64_t, std::int64_t, T*, std::int64_t, std::span<const T>, std::string_view);
SLR_INSTANTIATE(float)
SLR_INSTANTIATE(double)
#undef SLR_INSTANTIATE

} // namespace slr::lapack
