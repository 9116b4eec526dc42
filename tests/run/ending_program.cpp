// Ends in the way that its argument names; program_test.sh looks at the exit code and at standard error.
#include "slr/mpi/agree.hpp"
#include "slr/run/program.hpp"

#include <chrono>
#include <thread>

namespace {

using slr::Communicator;
using slr::Error;
using slr::ExitCode;

struct Options : slr::run::CommonOptions {
  std::string way;
};

Options parse(slr::run::Arguments arguments) {
  Options options;
  if (arguments.size() != 1) throw Error(ExitCode::usage, "one argument is missing");
  if (arguments[0] == "--help") options.text = "help\n";
  options.way = arguments[0];
  return options;
}

ExitCode work(const Communicator& comm, const Options& options) {
  const Communicator inner = comm.split(0, comm.rank()); // freed while other ranks may be anywhere
  const bool is_last = comm.rank() == comm.size() - 1;
  const auto sleep = [](int milliseconds) { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); };
  if (options.way == "missed") return ExitCode::target_missed;
  if (options.way == "skewed" && comm.is_root()) sleep(1500); // longer than the patience of a failed rank
  if (options.way == "agreed")
    slr::collectively(comm, [&] {
      if (is_last) throw Error(ExitCode::bad_data, "the last rank's\nfile is damaged");
    });
  if (options.way == "everybody") throw Error(ExitCode::configuration, "rank " + std::to_string(comm.rank()));
  if (options.way == "alone-at-the-end" && is_last) throw Error(ExitCode::io, "the disk is full");
  if (options.way == "alone") {
    if (is_last) throw std::runtime_error("a surprise");
    comm.barrier(); // waits for the failed rank
    inner.barrier();
  }
  if (options.way == "two-alone") {
    if (!comm.is_root()) throw Error(ExitCode::numerical, "diverged on " + std::to_string(comm.rank()));
    inner.barrier();
  }
  if (options.way == "slow-agreement") {
    // The others are still unwinding when one rank has been waiting for a while: no reason to lose patience.
    if (!comm.is_root()) sleep(500);
    throw Error(ExitCode::stopped, "stopped at a checkpoint");
  }
  return ExitCode::done;
}

} // namespace

int main(int argc, char** argv) {
  return slr::run::run_program<Options>(argc, argv, {"ending", MPI_COMM_WORLD, 1.2}, parse, work);
}
