#pragma once
/// \file
/// Which linear algebra really runs.
#include <string>

namespace slr {

/// "3.18.5". Local.
[[nodiscard]] std::string petsc_version();
/// Of the ScaLAPACK that the program was built with, which cannot be asked at run time; "unknown" where the build did
/// not find out. Local.
[[nodiscard]] std::string scalapack_version();
/// What OpenBLAS says of itself (version and build), or "unknown (not OpenBLAS)". Local.
[[nodiscard]] std::string blas_version();

} // namespace slr
