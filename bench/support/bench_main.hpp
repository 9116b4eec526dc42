#pragma once
/// \file
/// What the mains of the benchmarks have in common.
#include "slr/mpi/agree.hpp"
#include "slr/mpi/communicator.hpp"
#include "slr/mpi/session.hpp"

#include <boost/program_options.hpp>

#include <algorithm>
#include <iostream>
#include <vector>

namespace slr_bench {

/// Puts the command line into the options' variables. False after --help, an option that it adds and that prints them.
/// \throws boost::program_options::error
inline bool parse_options(int argc, char** argv, boost::program_options::options_description& options) {
  namespace po = boost::program_options;
  options.add_options()("help", "this text");
  po::variables_map values;
  po::store(po::parse_command_line(argc, argv, options), values);
  if (values.count("help")) {
    std::cout << options;
    return false;
  }
  po::notify(values); // after the help, which needs nothing that is required
  return true;
}

/// The upper one of two in the middle. \pre not empty
inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

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
