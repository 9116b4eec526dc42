#pragma once
/// \file
/// What every main does around its work: MPI, the command line, one line on standard error, the exit code.
#include "slr/base/error.hpp"
#include "slr/mpi/communicator.hpp"
#include "slr/run/command_line.hpp"

#include <functional>
#include <string>
#include <utility>

namespace slr::run {

struct ProgramSettings {
  std::string name; ///< begins the line on standard error
  MPI_Comm world;   ///< MPI_COMM_WORLD; only the mains name it
  /// How long a rank that failed waits for the others to end, too.
  double patience_seconds = 10;
  /// Whether SIGUSR1 and SIGTERM ask it to stop at a checkpoint (job_checkpoints.hpp), from its first moment.
  bool heeds_stop_signals = false;
};

/// Local part of a program, before MPI: a text to print and be done with, or empty for work to do.
using Prelude = std::function<std::string()>;
/// The work: collective over the communicator. Returns the exit code, the same on every rank, or throws.
using Body = std::function<ExitCode(const Communicator&)>;

/// Runs a program and returns its exit code, the same on every rank. Collective.
///
/// Without a launcher the prelude's text or usage error needs no MPI. Under one MPI is initialised first, so that a
/// text and an error appear once.
///
/// An error ends in exactly one line `name: sentence` on standard error:
/// - Every rank ends, all or some of them by an error (agreed or not): all meet in a last agreement on a communicator
/// of
///   its own, which no unfinished operation of the body can disturb. Rank 0 prints the error of the smallest rank that
///   failed, and its code is everybody's.
/// - A rank fails alone while others wait for it inside the body: they never come to the last agreement. So a failed
///   rank waits `patience_seconds` for them, then prints its line and ends the job with its code. When several ranks
///   are in that position, they tell each other, and only the smallest prints and ends the job; the others wait as long
///   again, in case it cannot. Ranks that did not fail wait without a limit, asleep, as others may still be at work.
///
/// Processes that were started together and are no MPI job together are refused (check_launch). Rank 0 warns once where
/// a node runs more threads than it has cores.
///
/// What it cannot bound is an unwinding that communicates: destructors must not.
[[nodiscard]] int run_program(int argc, char** argv, const ProgramSettings& settings, const Prelude& prelude,
                              const Body& body);

/// The same for a program with parsed options. \param parse  one of command_line.hpp
/// \param body  (const Communicator&, const Options&) -> ExitCode
template <class Options, class Work>
[[nodiscard]] int run_program(int argc, char** argv, const ProgramSettings& settings, Options (*parse)(Arguments),
                              Work body) {
  const std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  Options options;
  return run_program(
      argc, argv, settings,
      [&] {
        options = parse(arguments);
        return options.text;
      },
      [&](const Communicator& comm) -> ExitCode { return body(comm, std::as_const(options)); });
}

} // namespace slr::run
