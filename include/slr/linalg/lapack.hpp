#pragma once
/// \file
/// Local LAPACK: one function per routine, for float and double. Local. Column-major as in blas.hpp. `context` says
/// whose matrix it is ("layer conv2_1") and appears in the sentence of an error.
/// \throws Error{bug} if the routine refuses an argument, Error{numerical} if it fails, Error{bad_data} on a size
/// beyond 32 bits. None of them returns from NaN or infinity in the input with certainty: check first (require_finite).
#include "slr/linalg/blas.hpp"

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace slr::lapack {

/// A = L L^T or U^T U in the given triangle of the n x n matrix. Returns 0, or the 1-based order of the first leading
/// minor that is not positive (the factorisation stopped there). n^3/3 flops.
template <class T>
[[nodiscard]] std::int64_t potrf(Uplo uplo, std::int64_t n, T* a, std::int64_t lda, std::string_view context = {});

/// The `uplo` triangle of A^-1 in the place of potrf's factor. 2 n^3 / 3 flops.
template <class T>
void potri(Uplo uplo, std::int64_t n, T* a, std::int64_t lda, std::string_view context = {});

/// B := A^-1 B from the factor of potrf, B n x columns. 2 n^2 columns flops.
template <class T>
void potrs(Uplo uplo, std::int64_t n, std::int64_t columns, const T* a, std::int64_t lda, T* b, std::int64_t ldb,
           std::string_view context = {});

/// The outcome of a pivoted Cholesky factorisation.
struct PivotedCholesky {
  std::int64_t numerical_rank = 0;  ///< steps until the largest remaining diagonal was <= tolerance
  std::vector<std::int64_t> pivots; ///< 0-based: step i took column pivots[i]
};

/// P^T A P = L L^T with the largest remaining diagonal taken at each step (lower triangle); A is semi-definite.
template <class T>
[[nodiscard]] PivotedCholesky pstrf(std::int64_t n, T* a, std::int64_t lda, T tolerance, std::string_view context = {});

/// All eigenvalues (ascending) of the symmetric n x n matrix in the lower triangle, and its eigenvectors in the columns
/// of z (n x n); a is overwritten.
template <class T>
[[nodiscard]] std::vector<T> syevr(std::int64_t n, T* a, std::int64_t lda, T* z, std::int64_t ldz,
                                   std::string_view context = {});

/// The upper end of a spectrum.
template <class T>
struct TopEigen {
  std::vector<T> values;  ///< descending
  std::vector<T> vectors; ///< n x values.size(), column-major
  std::int64_t above = 0; ///< how many of them are > lower (threshold form), else values.size()
};

/// The eigenvalues > lower of the symmetric matrix in the lower triangle, and up to guard(number of them) more below
/// it, with eigenvectors: reduction to a tridiagonal matrix (?sytrd), all of its eigenvalues (?sterf), vectors of those
/// wanted by inverse iteration (?stein; by ?stemr if they are many, or if that fails), back by ?ormtr. a is
/// overwritten. 4/3 n^3 + 2 n^2 values flops.
template <class T>
[[nodiscard]] TopEigen<T> syevr_above(std::int64_t n, T* a, std::int64_t lda, T lower, std::int64_t guard_divisor,
                                      std::int64_t guard_least, std::string_view context = {});

/// The `count` largest eigenvalues and their vectors, likewise.
template <class T>
[[nodiscard]] TopEigen<T> syevr_largest(std::int64_t n, T* a, std::int64_t lda, std::int64_t count,
                                        std::string_view context = {});

/// A = U diag(s) V^T, A m x n (overwritten), s descending of length q = min(m, n), U m x q, V^T q x n.
template <class T>
void gesdd(std::int64_t m, std::int64_t n, T* a, std::int64_t lda, T* s, T* u, std::int64_t ldu, T* vt,
           std::int64_t ldvt, std::string_view context = {});

/// A = Q R: R in the upper triangle, Q as reflectors below it and in the returned tau.
template <class T>
[[nodiscard]] std::vector<T> geqrf(std::int64_t m, std::int64_t n, T* a, std::int64_t lda,
                                   std::string_view context = {});

/// C := op(Q) C (left) or C op(Q) (right), Q from geqrf with tau.size() reflectors, C m x n.
template <class T>
void ormqr(Side side, Op op, std::int64_t m, std::int64_t n, const T* a, std::int64_t lda, std::span<const T> tau, T* c,
           std::int64_t ldc, std::string_view context = {});

/// The first n columns of Q in place of the reflectors, a m x n. @pre tau.size() <= n <= m
template <class T>
void orgqr(std::int64_t m, std::int64_t n, T* a, std::int64_t lda, std::span<const T> tau,
           std::string_view context = {});

} // namespace slr::lapack
