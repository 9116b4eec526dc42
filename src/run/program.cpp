#include "slr/run/program.hpp"

#include "slr/mpi/agree.hpp"
#include "slr/mpi/last_meeting.hpp"
#include "slr/mpi/launch.hpp"
#include "slr/mpi/session.hpp"
#include "slr/run/job_checkpoints.hpp"
#include "slr/run/json_text.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>

namespace slr::run {
namespace {

using Clock = std::chrono::steady_clock;

/// One write, so that lines of several processes do not mix.
void print_line(const std::string& text) {
  const auto line = printable(text) + "\n";
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
}
void print_error(const std::string& name, const Error& error) {
  print_line(name + ": " + error.what());
}

ExitCode print_text(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  if (std::fflush(stdout) != 0) throw Error(ExitCode::io, "writing to standard output failed");
  return ExitCode::done;
}

/// The launchers of Open MPI, PMIx and Slurm leave these in the environment of every rank.
bool has_launcher() {
  for (const auto* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"})
    if (std::getenv(name)) return true;
  return false;
}

/// False for all but one of several processes that were started together and are jobs of their own: a launch error.
bool speaks(const Communicator& world) {
  return world.size() > 1 || launched_rank() == 0;
}

/// Brings all ranks together or ends the job; see run_program.
void meet(const Communicator& last, const ProgramSettings& settings, const std::optional<Error>& mine) {
  LastMeeting meeting(last);
  if (!mine) {
    (void)meeting.wait_until(Clock::time_point::max());
    return;
  }
  const auto patience =
      std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(settings.patience_seconds));
  const auto begin = Clock::now();
  if (meeting.wait_until(begin + patience / 2)) return;
  meeting.tell_larger_ranks(); // early enough to arrive before those decide
  if (meeting.wait_until(begin + patience)) return;
  if (meeting.has_heard_of_smaller_rank()) {
    if (meeting.wait_until(begin + 2 * patience)) return;
  } else {
    print_error(settings.name, *mine);
  }
  abort_job(static_cast<int>(mine->code()));
}

template <class Action>
std::optional<Error> error_of(Action&& action) {
  try {
    std::forward<Action>(action)();
  } catch (...) {
    return current_error();
  }
  return std::nullopt;
}

int run_under_mpi(const ProgramSettings& settings, const Prelude& prelude, const Body& body) {
  const Communicator comm(settings.world);
  const Communicator last(settings.world);
  auto code = ExitCode::done;
  const auto mine = error_of([&] {
    check_launch(comm.size());
    if (const auto words = words_on_threads(survey_places(comm)); !words.empty())
      print_line(settings.name + ": warning: " + words);
    // Ranks may have been started with different arguments: either all have work to do, or the root prints.
    const auto text = collectively(comm, prelude);
    if (comm.broadcast_text(text).empty())
      code = body(comm);
    else if (comm.is_root())
      code = print_text(text);
  });
  meet(last, settings, mine);
  const auto agreed = error_of([&] { agree(last, mine); });
  if (agreed && last.is_root() && speaks(last)) print_error(settings.name, *agreed);
  return agreed ? static_cast<int>(agreed->code()) : last.allreduce_value(static_cast<int>(code), Reduction::max);
}

} // namespace

int run_program(int argc, char** argv, const ProgramSettings& settings, const Prelude& prelude, const Body& body) {
  std::optional<MpiSession> session;
  if (settings.heeds_stop_signals) heed_stop_signals();
  try {
    if (!has_launcher())
      if (const auto text = prelude(); !text.empty()) return static_cast<int>(print_text(text));
    check_launcher();
    session.emplace(argc, argv);
    return run_under_mpi(settings, prelude, body);
  } catch (...) {
    // Before MPI this is an error of a process on its own; after it, MPI itself has failed on this rank.
    const auto error = current_error();
    if (session || launched_rank() == 0) print_error(settings.name, error);
    if (session) abort_job(static_cast<int>(error.code()));
    return static_cast<int>(error.code());
  }
}

} // namespace slr::run
