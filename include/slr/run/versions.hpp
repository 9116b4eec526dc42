#pragma once
/// \file
/// Versions of the program and of the libraries that really run, and where they run.
#include <nlohmann/json.hpp>
#include <string>

namespace slr::run {

/// The program's own version.
[[nodiscard]] std::string program_version();

/// Asked at run time where the library can be asked: MPI, HDF5, oneDNN, PETSc, BLAS and its core type; else the version
/// of the build. Local.
[[nodiscard]] nlohmann::ordered_json library_versions();

/// Ranks, threads of each, and per node its ranks and the cores that each of them may use, as the program found them at
/// its start. Local, on the root.
[[nodiscard]] nlohmann::ordered_json launch_json();

} // namespace slr::run
