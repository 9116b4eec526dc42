#include "slr/linalg/versions.hpp"

#include <dlfcn.h>
#include <petscsys.h>

namespace slr {

std::string petsc_version() {
  PetscInt major = 0, minor = 0, subminor = 0;
  if (PetscGetVersionNumber(&major, &minor, &subminor, nullptr) != 0) return "unknown";
  return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(subminor);
}

std::string scalapack_version() {
  return SLR_SCALAPACK_VERSION;
}

std::string blas_version() {
  // Another BLAS does not have it. POSIX promises the conversion.
  auto* config = reinterpret_cast<char* (*)()>(::dlsym(RTLD_DEFAULT, "openblas_get_config"));
  return config ? config() : "unknown (not OpenBLAS)";
}

} // namespace slr
