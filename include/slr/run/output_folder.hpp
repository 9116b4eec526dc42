#pragma once
/// \file
/// The folder of one job: whose it is, how far it got, what is in it.
#include "slr/mpi/communicator.hpp"
#include "slr/run/configuration.hpp"
#include "slr/store/lock.hpp"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace slr::run {

/// Names of everything that a job writes.
struct OutputFiles {
  /// Of files with activations between layers.
  static constexpr const char* scratch_prefix = ".scratch-";

  std::filesystem::path folder;
  [[nodiscard]] std::filesystem::path job() const { return folder / ".job.json"; } ///< whose folder this is
  [[nodiscard]] std::filesystem::path calibration() const { return folder / "calibration.h5"; }
  [[nodiscard]] std::filesystem::path calibration_parts() const { return folder / ".calibration"; } ///< of it
  [[nodiscard]] std::filesystem::path features() const { return folder / "features"; }
  [[nodiscard]] std::filesystem::path corrected_inputs() const { return folder / ".corrected"; } ///< not yet accepted
  [[nodiscard]] std::filesystem::path features_view() const { return folder / "features.h5"; }
  [[nodiscard]] std::filesystem::path curves() const { return folder / "curves.json"; }
  [[nodiscard]] std::filesystem::path checkpoint() const { return folder / "checkpoint.h5"; }
  [[nodiscard]] std::filesystem::path previous_checkpoint() const { return folder / "checkpoint.previous.h5"; }
  [[nodiscard]] std::filesystem::path layers() const { return folder / ".layers"; } ///< finished by groups of ranks
  [[nodiscard]] std::filesystem::path machine() const { return folder / "machine.json"; } ///< its rates, for forecasts
  [[nodiscard]] std::filesystem::path heartbeat() const { return folder / ".heartbeat"; } ///< of the watchdogs
  /// What is written before it is verified, by its later names.
  [[nodiscard]] OutputFiles unverified() const { return {folder / ".unverified"}; }
  [[nodiscard]] std::filesystem::path compressed() const { return folder / "compressed.onnx"; }
  [[nodiscard]] std::filesystem::path factors() const { return folder / "factors.h5"; }
  [[nodiscard]] std::filesystem::path report() const { return folder / "report.json"; }
  [[nodiscard]] std::filesystem::path manifest() const { return folder / "manifest.json"; }
  [[nodiscard]] std::filesystem::path log() const { return folder / "run.log"; }
  /// The files of one of several results; of the only one, whose name is empty, these files.
  [[nodiscard]] OutputFiles point(const std::string& name) const { return {name.empty() ? folder : folder / name}; }
};

enum class FolderState {
  fresh,      ///< nothing there yet
  unfinished, ///< a run of the same configuration began here
  finished,   ///< one of the same configuration ended here
};

/// An output folder that this job owns: locked against a second job until the object dies.
class OutputFolder {
public:
  /// Creates the folder if it is missing, takes the lock (waiting 10 s), finds out what is there; with `is_fresh`
  /// removes first what this program writes. Collective; only the root touches the disk. \throws Error{configuration}
  /// if another configuration's run is there (naming the first key that differs), if there are files that are not this
  /// program's, or if a second job holds the lock; Error{io}.
  /// `points` are the names of the results below the folder.
  OutputFolder(const Communicator& comm, const Configuration& config, const std::string& model_sha256, bool is_fresh,
               const std::vector<std::string>& points = {});

  [[nodiscard]] const OutputFiles& files() const { return files_; }
  [[nodiscard]] FolderState state() const { return state_; }

private:
  OutputFiles files_;
  FolderState state_ = FolderState::fresh;
  std::optional<store::OutputLock> lock_; ///< on the root
};

} // namespace slr::run
