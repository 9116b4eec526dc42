#pragma once
/// \file
/// The C prototypes of the BLACS and ScaLAPACK routines in use; no package ships them. Private to dist and linalg.
#include <mpi.h>

extern "C" {
int Csys2blacs_handle(MPI_Comm comm);
void Cfree_blacs_system_handle(int handle);
void Cblacs_gridinit(int* context, const char* order, int rows, int cols);
void Cblacs_gridinfo(int context, int* rows, int* cols, int* my_row, int* my_col);
void Cblacs_gridexit(int context);
}

namespace slr::detail {
/// The routines of one precision: ScaLapack<T>::gemm and so on.
template <class T>
struct ScaLapack;
} // namespace slr::detail

// NOLINTBEGIN: a macro declares the float and the double routines of one signature at once. A matrix argument is
// (pointer, row, column, descriptor); character arguments come without their hidden lengths, as in ScaLAPACK's C parts.
#define SLR_DECLARE_SCALAPACK(T, P)                                                                                    \
  extern "C" {                                                                                                         \
  void P##gemr2d_(const int* m, const int* n, const T* a, const int* ia, const int* ja, const int* desca, T* b,        \
                  const int* ib, const int* jb, const int* descb, const int* context);                                 \
  void P##gemm_(const char* transa, const char* transb, const int* m, const int* n, const int* k, const T* alpha,      \
                const T* a, const int* ia, const int* ja, const int* desca, const T* b, const int* ib, const int* jb,  \
                const int* descb, const T* beta, T* c, const int* ic, const int* jc, const int* descc);                \
  void P##syrk_(const char* uplo, const char* trans, const int* n, const int* k, const T* alpha, const T* a,           \
                const int* ia, const int* ja, const int* desca, const T* beta, T* c, const int* ic, const int* jc,     \
                const int* descc);                                                                                     \
  void P##trsm_(const char* side, const char* uplo, const char* transa, const char* diag, const int* m, const int* n,  \
                const T* alpha, const T* a, const int* ia, const int* ja, const int* desca, T* b, const int* ib,       \
                const int* jb, const int* descb);                                                                      \
  void P##potrf_(const char* uplo, const int* n, T* a, const int* ia, const int* ja, const int* desca, int* info);     \
  void P##potri_(const char* uplo, const int* n, T* a, const int* ia, const int* ja, const int* desca, int* info);     \
  void P##potrs_(const char* uplo, const int* n, const int* nrhs, const T* a, const int* ia, const int* ja,            \
                 const int* desca, T* b, const int* ib, const int* jb, const int* descb, int* info);                   \
  void P##syevr_(const char* jobz, const char* range, const char* uplo, const int* n, T* a, const int* ia,             \
                 const int* ja, const int* desca, const T* vl, const T* vu, const int* il, const int* iu, int* m,      \
                 int* nz, T* w, T* z, const int* iz, const int* jz, const int* descz, T* work, const int* lwork,       \
                 int* iwork, const int* liwork, int* info);                                                            \
  void P##syevd_(const char* jobz, const char* uplo, const int* n, T* a, const int* ia, const int* ja,                 \
                 const int* desca, T* w, T* z, const int* iz, const int* jz, const int* descz, T* work,                \
                 const int* lwork, int* iwork, const int* liwork, int* info);                                          \
  void P##gesvd_(const char* jobu, const char* jobvt, const int* m, const int* n, T* a, const int* ia, const int* ja,  \
                 const int* desca, T* s, T* u, const int* iu, const int* ju, const int* descu, T* vt, const int* ivt,  \
                 const int* jvt, const int* descvt, T* work, const int* lwork, int* info);                             \
  void P##geqrf_(const int* m, const int* n, T* a, const int* ia, const int* ja, const int* desca, T* tau, T* work,    \
                 const int* lwork, int* info);                                                                         \
  void P##ormqr_(const char* side, const char* trans, const int* m, const int* n, const int* k, const T* a,            \
                 const int* ia, const int* ja, const int* desca, const T* tau, T* c, const int* ic, const int* jc,     \
                 const int* descc, T* work, const int* lwork, int* info);                                              \
  }                                                                                                                    \
  namespace slr::detail {                                                                                              \
  template <>                                                                                                          \
  struct ScaLapack<T> {                                                                                                \
    static constexpr auto gemr2d = P##gemr2d_;                                                                         \
    static constexpr auto gemm = P##gemm_;                                                                             \
    static constexpr auto syrk = P##syrk_;                                                                             \
    static constexpr auto trsm = P##trsm_;                                                                             \
    static constexpr auto potrf = P##potrf_;                                                                           \
    static constexpr auto potri = P##potri_;                                                                           \
    static constexpr auto potrs = P##potrs_;                                                                           \
    static constexpr auto syevr = P##syevr_;                                                                           \
    static constexpr auto syevd = P##syevd_;                                                                           \
    static constexpr auto gesvd = P##gesvd_;                                                                           \
    static constexpr auto geqrf = P##geqrf_;                                                                           \
    static constexpr auto ormqr = P##ormqr_;                                                                           \
  };                                                                                                                   \
  }
SLR_DECLARE_SCALAPACK(float, ps)
SLR_DECLARE_SCALAPACK(double, pd)
#undef SLR_DECLARE_SCALAPACK
// NOLINTEND
