#include "slr/mpi/session.hpp"

#include "optional_function.hpp"
#include "slr/base/error.hpp"

#include <array>
#include <cstdlib>
#include <malloc.h>
#include <mpi.h>
#include <sched.h>
#include <unistd.h>

namespace slr {
namespace {

void set_default(const char* name, const char* value) {
  ::setenv(name, value, 0);
}

int cores_of_this_process() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return ::sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

} // namespace

MpiSession::MpiSession(int& argc, char**& argv) {
  // Unbound ranks see every core of the node, bound ones only theirs: either way more ranks than cores means sharing.
  const char* local = std::getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
  if (local && std::atoi(local) > cores_of_this_process()) set_default("OMPI_MCA_mpi_yield_when_idle", "1");
  set_default("OMPI_MCA_fcoll", "^vulcan");
  limit_blas_threads();
  if (!std::getenv("OMP_NUM_THREADS")) // OpenMP has read it, too
    if (auto* set = optional_function<void (*)(int)>("omp_set_num_threads")) set(1);
  int provided = 0;
  if (MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS)
    throw Error(ExitCode::usage, "MPI could not be initialised");
  // Open MPI may have told malloc to keep all memory that is ever freed, for networks that register pages: the sum of
  // all large arrays of a job instead of what it needs at a time. Large ones go back to the system.
  ::mallopt(M_MMAP_MAX, 65536);
  ::mallopt(M_MMAP_THRESHOLD, 32 << 20);
  ::mallopt(M_TRIM_THRESHOLD, 256 << 20);
}

MpiSession::~MpiSession() {
  MPI_Finalize();
}

void abort_job(int exit_code) {
  constexpr unsigned patience_seconds = 20;
  ::alarm(patience_seconds); // MPI may be what is stuck: the signal's default action ends this process
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::_Exit(exit_code);
}

void limit_blas_threads() {
  if (std::getenv("OPENBLAS_NUM_THREADS")) return;
  // OpenBLAS reads its environment when it is loaded, before main: too late for a variable.
  if (auto* set = optional_function<void (*)(int)>("openblas_set_num_threads")) set(1);
}

std::string blas_core_type() {
  if (auto* name = optional_function<char* (*)()>("openblas_get_corename")) return name();
  return "unknown (not OpenBLAS)";
}

std::string mpi_library_version() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
  int length = 0;
  MPI_Get_library_version(text.data(), &length);
  std::string version(text.data(), std::size_t(length));
  return version.substr(0, version.find(','));
}

} // namespace slr
