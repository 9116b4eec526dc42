#pragma once
/// \file
/// Prototypes of the Fortran BLAS and LAPACK routines in use, declared once. Character arguments of length one are
/// passed with the hidden lengths that gfortran's callees may read.
#include <cstddef>

namespace slr::detail {
template <class T>
struct Fortran;
} // namespace slr::detail

// NOLINTBEGIN: a macro declares the float and the double routines of one signature at once.
#define SLR_DECLARE_FORTRAN(T, P)                                                                                      \
  extern "C" {                                                                                                         \
  void P##gemm_(const char*, const char*, const int*, const int*, const int*, const T*, const T*, const int*,          \
                const T*, const int*, const T*, T*, const int*, std::size_t, std::size_t);                             \
  void P##syrk_(const char*, const char*, const int*, const int*, const T*, const T*, const int*, const T*, T*,        \
                const int*, std::size_t, std::size_t);                                                                 \
  void P##syr2k_(const char*, const char*, const int*, const int*, const T*, const T*, const int*, const T*,           \
                 const int*, const T*, T*, const int*, std::size_t, std::size_t);                                      \
  void P##symm_(const char*, const char*, const int*, const int*, const T*, const T*, const int*, const T*,            \
                const int*, const T*, T*, const int*, std::size_t, std::size_t);                                       \
  void P##trsm_(const char*, const char*, const char*, const char*, const int*, const int*, const T*, const T*,        \
                const int*, T*, const int*, std::size_t, std::size_t, std::size_t, std::size_t);                       \
  void P##potrf_(const char*, const int*, T*, const int*, int*, std::size_t);                                          \
  void P##potri_(const char*, const int*, T*, const int*, int*, std::size_t);                                          \
  void P##potrs_(const char*, const int*, const int*, const T*, const int*, T*, const int*, int*, std::size_t);        \
  void P##pstrf_(const char*, const int*, T*, const int*, int*, int*, const T*, T*, int*, std::size_t);                \
  void P##syevr_(const char*, const char*, const char*, const int*, T*, const int*, const T*, const T*, const int*,    \
                 const int*, const T*, int*, T*, T*, const int*, int*, T*, const int*, int*, const int*, int*,         \
                 std::size_t, std::size_t, std::size_t);                                                               \
  void P##sytrd_(const char*, const int*, T*, const int*, T*, T*, T*, T*, const int*, int*, std::size_t);              \
  void P##sterf_(const int*, T*, T*, int*);                                                                            \
  void P##stein_(const int*, const T*, const T*, const int*, const T*, const int*, const int*, T*, const int*, T*,     \
                 int*, int*, int*);                                                                                    \
  void P##stemr_(const char*, const char*, const int*, T*, T*, const T*, const T*, const int*, const int*, int*, T*,   \
                 T*, const int*, const int*, int*, int*, T*, const int*, int*, const int*, int*, std::size_t,          \
                 std::size_t);                                                                                         \
  void P##ormtr_(const char*, const char*, const char*, const int*, const int*, const T*, const int*, const T*, T*,    \
                 const int*, T*, const int*, int*, std::size_t, std::size_t, std::size_t);                             \
  void P##gesdd_(const char*, const int*, const int*, T*, const int*, T*, T*, const int*, T*, const int*, T*,          \
                 const int*, int*, int*, std::size_t);                                                                 \
  void P##geqrf_(const int*, const int*, T*, const int*, T*, T*, const int*, int*);                                    \
  void P##ormqr_(const char*, const char*, const int*, const int*, const int*, const T*, const int*, const T*, T*,     \
                 const int*, T*, const int*, int*, std::size_t, std::size_t);                                          \
  void P##orgqr_(const int*, const int*, const int*, T*, const int*, const T*, T*, const int*, int*);                  \
  }                                                                                                                    \
  namespace slr::detail {                                                                                              \
  template <>                                                                                                          \
  struct Fortran<T> {                                                                                                  \
    static constexpr auto gemm = P##gemm_;                                                                             \
    static constexpr auto syrk = P##syrk_;                                                                             \
    static constexpr auto syr2k = P##syr2k_;                                                                           \
    static constexpr auto symm = P##symm_;                                                                             \
    static constexpr auto trsm = P##trsm_;                                                                             \
    static constexpr auto potrf = P##potrf_;                                                                           \
    static constexpr auto potri = P##potri_;                                                                           \
    static constexpr auto potrs = P##potrs_;                                                                           \
    static constexpr auto pstrf = P##pstrf_;                                                                           \
    static constexpr auto syevr = P##syevr_;                                                                           \
    static constexpr auto sytrd = P##sytrd_;                                                                           \
    static constexpr auto sterf = P##sterf_;                                                                           \
    static constexpr auto stein = P##stein_;                                                                           \
    static constexpr auto stemr = P##stemr_;                                                                           \
    static constexpr auto ormtr = P##ormtr_;                                                                           \
    static constexpr auto gesdd = P##gesdd_;                                                                           \
    static constexpr auto geqrf = P##geqrf_;                                                                           \
    static constexpr auto ormqr = P##ormqr_;                                                                           \
    static constexpr auto orgqr = P##orgqr_;                                                                           \
  };                                                                                                                   \
  }
SLR_DECLARE_FORTRAN(float, s)
SLR_DECLARE_FORTRAN(double, d)
#undef SLR_DECLARE_FORTRAN
// NOLINTEND
