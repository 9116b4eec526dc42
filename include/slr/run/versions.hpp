#pragma once
/// \file
/// Versions of the program and of the libraries that really run.
#include <nlohmann/json.hpp>
#include <string>

namespace slr::run {

/// The program's own version.
[[nodiscard]] std::string program_version();

/// Asked at run time where the library can be asked: MPI, HDF5, oneDNN, BLAS core type; else the version of the build.
/// Local.
[[nodiscard]] nlohmann::ordered_json library_versions();

} // namespace slr::run
