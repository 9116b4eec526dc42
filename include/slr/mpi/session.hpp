#pragma once
/// \file
/// The life of MPI in a process.
#include <string>

namespace slr {

/// Initialises MPI (funnelled threads) and finalizes it at the end of its scope; at most one per process. Before that
/// it gives the process the defaults that make a plain `mpirun -n 64` behave, each only where the user has not set it:
/// yielding waits when there are more ranks on the node than cores (without it every collective spins away the time
/// slice of the rank it waits for), a collective-file component other than the one that is reported to corrupt files,
/// and one BLAS and OpenMP thread per rank.
class MpiSession {
public:
  MpiSession(int& argc, char**& argv);
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;
};

/// Ends every rank of the job with the exit code, without waiting for them. The only place of the program that does so:
/// for a rank that can no longer take part in an agreement.
[[noreturn]] void abort_job(int exit_code);

/// One BLAS thread per process, unless the user asked for another number. Local.
void limit_blas_threads();
/// The kernel family that OpenBLAS chose for this processor, or the name of the BLAS where it cannot be asked. Local.
[[nodiscard]] std::string blas_core_type();
/// The version of the MPI library that really runs. Local.
[[nodiscard]] std::string mpi_library_version();

} // namespace slr
