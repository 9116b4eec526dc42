#pragma once
/// \file
/// Distributed linear algebra: one function per PBLAS/ScaLAPACK routine, for float and double. All are collective over
/// the communicator of the first operand's grid; every operand lives on that grid with square blocks where the routine
/// wants them (said below). On a grid of one process the local routine is called instead of the distributed one, which
/// would cut the product into narrow panels. `context` says whose matrix it is ("layer conv2_1").
///
/// INFO is reduced over the ranks: every rank throws the same sentence, which names routine, argument and context.
/// \throws Error{bug} on a refused argument, Error{numerical} on a failure.
#include "slr/dist/dist_matrix.hpp"
#include "slr/linalg/blas.hpp"

#include <string_view>
#include <vector>

namespace slr::scalapack {

template <class T>
using In = View<const std::type_identity_t<T>>;
template <class T>
using Out = View<std::type_identity_t<T>>;

/// C := alpha op(A) op(B) + beta C.
template <class T>
void gemm(Op op_a, Op op_b, T alpha, In<T> a, In<T> b, std::type_identity_t<T> beta, Out<T> c);

/// The `uplo` triangle of C := alpha A A^T + beta C (op none) or alpha A^T A + beta C.
template <class T>
void syrk(Uplo uplo, Op op, T alpha, In<T> a, std::type_identity_t<T> beta, Out<T> c);

/// B := alpha op(A)^-1 B (left) or alpha B op(A)^-1 (right), A triangular.
template <class T>
void trsm(Side side, Uplo uplo, Op op, T alpha, In<T> a, Out<T> b);

/// The whole matrix. Square blocks. Returns 0 or the order of the first leading minor that is not positive.
template <class T>
[[nodiscard]] std::int64_t potrf(Uplo uplo, DistMatrix<T>& a, std::string_view context = {});

/// The `uplo` triangle of A^-1 in the place of potrf's factor. Square blocks.
template <class T>
void potri(Uplo uplo, DistMatrix<T>& a, std::string_view context = {});

/// B := A^-1 B from potrf's factor. Square blocks; B's row blocks are A's.
template <class T>
void potrs(Uplo uplo, const DistMatrix<T>& a, DistMatrix<T>& b, std::string_view context = {});

/// Eigenvalues in (lower, upper] of the symmetric matrix (lower triangle, overwritten), ascending, on every rank; their
/// vectors in the leading columns of z. Square blocks. A and z have the same shape and blocks.
template <class T>
[[nodiscard]] std::vector<T> syevr_between(DistMatrix<T>& a, std::type_identity_t<T> lower,
                                           std::type_identity_t<T> upper, DistMatrix<T>& z,
                                           std::string_view context = {});
/// The `count` largest eigenvalues, or up to two blocks per process column where that is more, ascending, likewise.
template <class T>
[[nodiscard]] std::vector<T> syevr_largest(DistMatrix<T>& a, std::int64_t count, DistMatrix<T>& z,
                                           std::string_view context = {});
/// All eigenvalues and vectors by divide and conquer.
template <class T>
[[nodiscard]] std::vector<T> syevd(DistMatrix<T>& a, DistMatrix<T>& z, std::string_view context = {});

/// A = U diag(s) V^T; A (m x n) is overwritten, u is m x q, vt q x n, q = min(m, n); s descending on every rank.
/// Square blocks. Refused on more than one process: a side below 3, where p?gesvd may hang (1 x 2), and grids of which
/// a row or column holds no part of A, where it finds the processes' singular values different.
template <class T>
[[nodiscard]] std::vector<T> gesvd(DistMatrix<T>& a, DistMatrix<T>& u, DistMatrix<T>& vt,
                                   std::string_view context = {});

/// A = Q R in place; returns the local tau, as ormqr wants it.
template <class T>
[[nodiscard]] std::vector<T> geqrf(DistMatrix<T>& a, std::string_view context = {});

/// C := op(Q) C (left) or C op(Q) (right). Side left: A's and C's row blocks agree.
template <class T>
void ormqr(Side side, Op op, const DistMatrix<T>& a, const std::vector<T>& tau, DistMatrix<T>& c,
           std::string_view context = {});

} // namespace slr::scalapack
