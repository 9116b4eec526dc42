#include "slr/run/versions.hpp"

#include "slr/linalg/versions.hpp"
#include "slr/mpi/launch.hpp"
#include "slr/mpi/session.hpp"

#include <algorithm>
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
          {"blas", blas_version()},
          {"blas_core", blas_core_type()},
          {"scalapack", scalapack_version()},
          {"petsc", petsc_version()},
          {"compiler", "GCC " __VERSION__},
          {"boost", BOOST_LIB_VERSION},
          {"spdlog", dotted(SPDLOG_VER_MAJOR, SPDLOG_VER_MINOR, SPDLOG_VER_PATCH)}};
}

nlohmann::ordered_json launch_json() {
  auto nodes = nlohmann::ordered_json::array();
  for (const auto& place : surveyed_places()) {
    if (nodes.empty() || nodes.back()["host"] != place.host)
      nodes.push_back({{"host", place.host}, {"ranks", 0}, {"cores", nlohmann::ordered_json::array()}});
    auto& node = nodes.back();
    node["ranks"] = node["ranks"].get<int>() + 1;
    node["cores"].push_back(core_list(place.cores));
  }
  const auto most = [](int RankPlace::*threads) {
    int largest = 0;
    for (const auto& place : surveyed_places()) largest = std::max(largest, place.*threads);
    return largest;
  };
  return {{"ranks", surveyed_places().size()},
          {"blas_threads", most(&RankPlace::blas_threads)},
          {"openmp_threads", most(&RankPlace::openmp_threads)},
          {"nodes", std::move(nodes)}};
}

} // namespace slr::run
