#pragma once
/// \file
/// Exit codes and the one exception type of the program.
#include <stdexcept>
#include <string>
#include <string_view>

namespace slr {

/// What the process tells the shell; the README documents the same table.
enum class ExitCode : int {
  done = 0,
  target_missed = 2,  ///< finished, outputs written, but a target was missed
  numerical = 3,      ///< numerical failure
  usage = 64,         ///< wrong command line or launch
  bad_data = 65,      ///< an input file is damaged or holds what cannot be used
  bug = 70,           ///< an internal contradiction
  io = 74,            ///< reading or writing failed
  stopped = 75,       ///< stopped at a checkpoint: run again
  configuration = 78, ///< the configuration is invalid or cannot be met
};

/// One sentence for the user (what happened, where, what to do) and the exit code that goes with it.
class Error : public std::runtime_error {
public:
  Error(ExitCode code, const std::string& sentence) : std::runtime_error(sentence), code_(code) {}
  [[nodiscard]] ExitCode code() const noexcept { return code_; }

private:
  ExitCode code_;
};

/// Throws Error{bug} with the sentence if the condition does not hold. For contradictions that only a defect of this
/// program can cause; never for input.
inline void require(bool condition, std::string_view sentence) {
  if (!condition) throw Error(ExitCode::bug, "internal error: " + std::string(sentence));
}

} // namespace slr
