#pragma once
/// \file
/// Local BLAS: one function per routine, for float and double. Local. Matrices are column-major with a leading
/// dimension
/// (>= the number of stored rows, >= 1); sizes are 64 bits here and checked before they are handed on as 32.
/// Empty operands are allowed everywhere. \throws Error{bad_data} if a size does not fit 32 bits.
#include <cstdint>
#include <type_traits>

namespace slr {

enum class Op : char { none = 'N', transpose = 'T' };
enum class Side : char { left = 'L', right = 'R' };
enum class Uplo : char { lower = 'L', upper = 'U' };

namespace blas {

/// C := alpha op(A) op(B) + beta C, C m x n, inner extent k. beta = 0 does not read C. 2 m n k flops.
template <class T>
void gemm(Op op_a, Op op_b, std::int64_t m, std::int64_t n, std::int64_t k, T alpha, const std::type_identity_t<T>* a,
          std::int64_t lda, const std::type_identity_t<T>* b, std::int64_t ldb, std::type_identity_t<T> beta,
          std::type_identity_t<T>* c, std::int64_t ldc);

/// The `uplo` triangle of C := alpha A A^T + beta C (op none, A n x k) or alpha A^T A + beta C (op transpose, A k x n).
/// n^2 k flops.
template <class T>
void syrk(Uplo uplo, Op op, std::int64_t n, std::int64_t k, T alpha, const std::type_identity_t<T>* a, std::int64_t lda,
          std::type_identity_t<T> beta, std::type_identity_t<T>* c, std::int64_t ldc);

/// The `uplo` triangle of C := alpha (A B^T + B A^T) + beta C, A and B n x k. 2 n^2 k flops.
template <class T>
void syr2k(Uplo uplo, std::int64_t n, std::int64_t k, T alpha, const std::type_identity_t<T>* a, std::int64_t lda,
           const std::type_identity_t<T>* b, std::int64_t ldb, std::type_identity_t<T> beta, std::type_identity_t<T>* c,
           std::int64_t ldc);

/// C := alpha A B + beta C with A symmetric n x n, of which the `uplo` triangle is read, C n x k. 2 n^2 k flops.
template <class T>
void symm(Uplo uplo, std::int64_t n, std::int64_t k, T alpha, const std::type_identity_t<T>* a, std::int64_t lda,
          const std::type_identity_t<T>* b, std::int64_t ldb, std::type_identity_t<T> beta, std::type_identity_t<T>* c,
          std::int64_t ldc);

/// B := alpha op(A)^-1 B (side left) or alpha B op(A)^-1 (right), A triangular with a non-unit diagonal, B m x n.
template <class T>
void trsm(Side side, Uplo uplo, Op op, std::int64_t m, std::int64_t n, T alpha, const std::type_identity_t<T>* a,
          std::int64_t lda, std::type_identity_t<T>* b, std::int64_t ldb);

} // namespace blas
} // namespace slr
