#pragma once
/// \file
/// The jobs of the programs, from configuration to exit code.
#include "slr/base/error.hpp"
#include "slr/run/command_line.hpp"
#include "slr/run/configuration.hpp"
#include "slr/run/progress.hpp"

namespace slr::run {

/// `slr_compress`: pack, calibrate, solve, export, evaluate, report. Collective. \throws Error
[[nodiscard]] ExitCode run_compress(const Communicator& comm, const CompressOptions& options);

/// `slr_calibrate`: packs the calibration images and writes the feature shards. Collective. \throws Error
[[nodiscard]] ExitCode run_calibrate(const Communicator& comm, const CalibrateOptions& options);

/// `slr_evaluate`: accuracy of a network on data.validation, and its distance from a reference. Collective.
/// \throws Error
[[nodiscard]] ExitCode run_evaluate(const Communicator& comm, const EvaluateOptions& options);

} // namespace slr::run
