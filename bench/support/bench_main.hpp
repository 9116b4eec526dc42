#pragma once
/// \file
/// What the mains of the benchmarks have in common.
#include "slr/mpi/agree.hpp"
#include "slr/mpi/communicator.hpp"
#include "slr/mpi/session.hpp"

#include <boost/program_options/errors.hpp>

#include <iostream>

namespace slr_bench {

/// Starts MPI, runs work(communicator) and ends with 0, or with one sentence and the code of what it threw: an error of
/// Boost.Program_options is one of usage.
template <class Work>
int bench_main(int& argc, char**& argv, const char* name, MPI_Comm world, Work&& work) {
  const slr::MpiSession session(argc, argv);
  const slr::Communicator comm(world);
  auto error = slr::Error(slr::ExitCode::done, "");
  try {
    work(comm);
  } catch (const boost::program_options::error& problem) {
    error = slr::Error(slr::ExitCode::usage, problem.what());
  } catch (...) {
    error = slr::current_error();
  }
  if (error.code() != slr::ExitCode::done) std::cerr << name << ": " << error.what() << "\n";
  return static_cast<int>(error.code());
}

} // namespace slr_bench
