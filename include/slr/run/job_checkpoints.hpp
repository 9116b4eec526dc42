#pragma once
/// \file
/// When a job is saved and stopped, and the files in its output folder that it goes on from.
#include "slr/run/configuration.hpp"
#include "slr/run/output_folder.hpp"
#include "slr/run/progress.hpp"
#include "slr/store/checkpoint_file.hpp"

#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>

namespace slr::run {

/// From now on SIGUSR1 and SIGTERM ask this process to stop at the next place that all ranks agree on. Local.
void heed_stop_signals();

/// The checkpoints of a job: made every `checkpoint.every` seconds, further apart where writing takes more than a
/// sixtieth of the time, on a signal to any rank, and before `max_hours` since the start of the program are over.
class JobCheckpoints : public Checkpoints {
public:
  /// Looks for a checkpoint if `may_resume`; a damaged one is told and removed, and the one before it taken.
  /// Collective. \throws Error{configuration} naming the difference if it is of another configuration, model or program
  /// version.
  JobCheckpoints(const Communicator& comm, const Configuration& config, const std::string& model_sha256,
                 const OutputFiles& files, std::optional<double> max_hours, bool may_resume, Progress& progress);

  /// The job's results are complete: removes the files. Collective.
  void finish();
  /// What `run` of report.json says of them. Local.
  [[nodiscard]] nlohmann::ordered_json json() const;

  [[nodiscard]] Wish wish() const override;
  [[nodiscard]] std::string stop_sentence(Wish reason) const override;

protected:
  void write(const std::map<std::string, Save>& parts) override;
  void tell_failure(const Error& error) override;
  [[nodiscard]] std::unique_ptr<StateReader> open(const std::string& name) override;

private:
  using Clock = std::chrono::steady_clock;
  /// Opens the newest usable file, if there is one. Collective.
  void open_newest();
  void check_header(const Configuration& config) const;
  [[nodiscard]] bool is_time_to_stop(Clock::time_point now) const;

  store::CheckpointPaths paths_;
  store::CheckpointHeader header_;
  std::string folder_;
  double every_seconds_;
  std::optional<double> max_hours_;
  Progress& progress_;
  std::optional<store::CheckpointFile> file_; ///< of an earlier start
  std::int64_t starts_ = 1, count_ = 0;
  double earlier_seconds_ = 0, write_seconds_ = 0, last_write_seconds_ = 0;
  Clock::time_point next_;
  /// Between two looks at the clock: so long it may take until the next one.
  mutable Clock::time_point last_look_;
  mutable double longest_gap_seconds_ = 0;
};

} // namespace slr::run
