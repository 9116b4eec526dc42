#include "slr/run/versions.hpp"

#include "slr/mpi/session.hpp"

#include <boost/version.hpp>
#include <dnnl.h>
#include <hdf5.h>
#include <spdlog/version.h>

namespace slr::run {

namespace {

std::string dotted(unsigned a, unsigned b, unsigned c) {
  return std::to_string(a) + "." + std::to_string(b) + "." + std::to_string(c);
}

std::string hdf5_version() {
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  return dotted(major, minor, release);
}

std::string onednn_version() {
  const auto& version = *dnnl_version();
  return dotted(static_cast<unsigned>(version.major), static_cast<unsigned>(version.minor),
                static_cast<unsigned>(version.patch));
}

} // namespace

std::string program_version() {
  return SLR_VERSION;
}

nlohmann::ordered_json library_versions() {
  return {{"slr_compress", program_version()},
          {"mpi", mpi_library_version()},
          {"hdf5", hdf5_version()},
          {"onednn", onednn_version()},
          {"blas_core", blas_core_type()},
          {"compiler", "GCC " __VERSION__},
          {"boost", BOOST_LIB_VERSION},
          {"spdlog", dotted(SPDLOG_VER_MAJOR, SPDLOG_VER_MINOR, SPDLOG_VER_PATCH)}};
}

} // namespace slr::run
