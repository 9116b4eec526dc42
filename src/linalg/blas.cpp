#include "slr/linalg/blas.hpp"

#include "fortran.hpp"
#include "slr/base/narrow.hpp"

namespace slr::blas {
namespace {
int size32(std::int64_t n) {
  return narrow<int>(n, "an extent of a matrix");
}
} // namespace

template <class T>
void gemm(Op op_a, Op op_b, std::int64_t m, std::int64_t n, std::int64_t k, T alpha, const std::type_identity_t<T>* a,
          std::int64_t lda, const std::type_identity_t<T>* b, std::int64_t ldb, std::type_identity_t<T> beta,
          std::type_identity_t<T>* c, std::int64_t ldc) {
  const char ta = static_cast<char>(op_a), tb = static_cast<char>(op_b);
  const int m32 = size32(m), n32 = size32(n), k32 = size32(k), la = size32(lda), lb = size32(ldb), lc = size32(ldc);
  detail::Fortran<T>::gemm(&ta, &tb, &m32, &n32, &k32, &alpha, a, &la, b, &lb, &beta, c, &lc, 1, 1);
}

template <class T>
void syrk(Uplo uplo, Op op, std::int64_t n, std::int64_t k, T alpha, const std::type_identity_t<T>* a, std::int64_t lda,
          std::type_identity_t<T> beta, std::type_identity_t<T>* c, std::int64_t ldc) {
  const char ul = static_cast<char>(uplo), t = static_cast<char>(op);
  const int n32 = size32(n), k32 = size32(k), la = size32(lda), lc = size32(ldc);
  detail::Fortran<T>::syrk(&ul, &t, &n32, &k32, &alpha, a, &la, &beta, c, &lc, 1, 1);
}

template <class T>
void syr2k(Uplo uplo, std::int64_t n, std::int64_t k, T alpha, const std::type_identity_t<T>* a, std::int64_t lda,
           const std::type_identity_t<T>* b, std::int64_t ldb, std::type_identity_t<T> beta, std::type_identity_t<T>* c,
           std::int64_t ldc) {
  const char ul = static_cast<char>(uplo), t = 'N';
  const int n32 = size32(n), k32 = size32(k), la = size32(lda), lb = size32(ldb), lc = size32(ldc);
  detail::Fortran<T>::syr2k(&ul, &t, &n32, &k32, &alpha, a, &la, b, &lb, &beta, c, &lc, 1, 1);
}

template <class T>
void symm(Uplo uplo, std::int64_t n, std::int64_t k, T alpha, const std::type_identity_t<T>* a, std::int64_t lda,
          const std::type_identity_t<T>* b, std::int64_t ldb, std::type_identity_t<T> beta, std::type_identity_t<T>* c,
          std::int64_t ldc) {
  const char side = 'L', ul = static_cast<char>(uplo);
  const int n32 = size32(n), k32 = size32(k), la = size32(lda), lb = size32(ldb), lc = size32(ldc);
  detail::Fortran<T>::symm(&side, &ul, &n32, &k32, &alpha, a, &la, b, &lb, &beta, c, &lc, 1, 1);
}

template <class T>
void trsm(Side side, Uplo uplo, Op op, std::int64_t m, std::int64_t n, T alpha, const std::type_identity_t<T>* a,
          std::int64_t lda, std::type_identity_t<T>* b, std::int64_t ldb) {
  const char s = static_cast<char>(side), ul = static_cast<char>(uplo), t = static_cast<char>(op), diag = 'N';
  const int m32 = size32(m), n32 = size32(n), la = size32(lda), lb = size32(ldb);
  detail::Fortran<T>::trsm(&s, &ul, &t, &diag, &m32, &n32, &alpha, a, &la, b, &lb, 1, 1, 1, 1);
}

#define SLR_INSTANTIATE(T)                                                                                             \
  template void gemm(Op, Op, std::int64_t, std::int64_t, std::int64_t, T, const T*, std::int64_t, const T*,            \
                     std::int64_t, T, T*, std::int64_t);                                                               \
  template void syrk(Uplo, Op, std::int64_t, std::int64_t, T, const T*, std::int64_t, T, T*, std::int64_t);            \
  template void syr2k(Uplo, std::int64_t, std::int64_t, T, const T*, std::int64_t, const T*, std::int64_t, T, T*,      \
                      std::int64_t);                                                                                   \
  template void symm(Uplo, std::int64_t, std::int64_t, T, const T*, std::int64_t, const T*, std::int64_t, T, T*,       \
                     std::int64_t);                                                                                    \
  template void trsm(Side, Uplo, Op, std::int64_t, std::int64_t, T, const T*, std::int64_t, T*, std::int64_t);
SLR_INSTANTIATE(float)
SLR_INSTANTIATE(double)
#undef SLR_INSTANTIATE

} // namespace slr::blas
