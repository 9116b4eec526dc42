#pragma once
/// \file
/// What a running job tells people: a bar on a terminal, plain lines elsewhere and in `run.log`.
#include "slr/mpi/communicator.hpp"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace slr::run {

/// Where the solve of a layer stands.
struct SolveProgress {
  std::int64_t iteration = 0, limit = 0;
  double error = std::numeric_limits<double>::quiet_NaN(); ///< NaN: not known yet
  std::optional<std::int64_t> target_rank, groups;
};

/// The listener of a job. Every call is Local, cheap, and does nothing on ranks that do not show anything, so callers
/// need not ask which rank they are.
class Progress {
public:
  virtual ~Progress() = default;

  /// A stage begins; it has `total` units (images, layers; 0: unknown). With `weights`, one predicted cost per layer,
  /// the time left is estimated from the cost that is done, otherwise from the units.
  virtual void stage(std::string_view name, std::int64_t total, std::vector<double> weights = {}) = 0;
  /// So many units of the stage are done.
  virtual void advance(std::int64_t done) = 0;
  /// Layer `index` (from 0) of `count` begins; those before it are done.
  virtual void layer(std::int64_t index, std::int64_t count, std::string_view name) = 0;
  /// The current layer went on.
  virtual void step(const SolveProgress& now) = 0;
  /// A line for people, shown at once and logged.
  virtual void note(std::string_view text) = 0;
  virtual void warning(std::string_view text) = 0;
  /// From now on every plain line is appended to this file, too. \throws Error{io} if it cannot be opened.
  virtual void open_log(const std::filesystem::path& file) = 0;
};

/// Where the progress of a rank goes and what time it is there; the defaults are this process's.
struct ProgressSettings {
  std::function<void(std::string_view)> write; ///< default: standard error, unbuffered
  std::optional<bool> is_terminal;             ///< default: whether standard error is one that can redraw a line
  std::function<int()> columns;                ///< default: the terminal's, 80 if it does not say
  std::function<double()> seconds;             ///< default: a steady clock
  double plain_interval_seconds = 5;           ///< between plain lines that are no change of stage
  double bar_interval_seconds = 0.1;
};

/// The progress of this rank: rank 0 shows and logs, the others are silent. Local.
[[nodiscard]] std::unique_ptr<Progress> make_progress(const Communicator& comm, ProgressSettings settings = {});
/// One that shows, whatever the rank. Local.
[[nodiscard]] std::unique_ptr<Progress> make_visible_progress(ProgressSettings settings = {});

} // namespace slr::run
