#pragma once
/// \file
/// How the job was started: whether all ranks found each other, where they run, and with how many threads.
#include "slr/mpi/communicator.hpp"

#include <string>
#include <vector>

namespace slr {

/// The number that the launcher (mpirun, srun, a PMI) gave this process; 0 without one. Local.
[[nodiscard]] int launched_rank();

/// Refuses N processes that were meant to be one job of N ranks and came up as N jobs of one, as under `srun` without
/// PMIx: each would do the whole work, all into one folder. Local. \param world_size  ranks that MPI says there are.
/// \throws Error{usage}
void check_launch(int world_size);

/// The same before MPI is initialised: where a launcher started several processes and left them nothing by which an MPI
/// library could find the others (srun --mpi=none), Open MPI would end each with a page of words. Local.
/// \throws Error{usage}
void check_launcher();

/// Where one rank runs.
struct RankPlace {
  std::string host;
  std::vector<int> cores; ///< that it may use, by the kernel's numbers
  int blas_threads = 1;
  int openmp_threads = 1;
};

/// "0-3,8". Local.
[[nodiscard]] std::string core_list(const std::vector<int>& cores);

/// Every rank's place, in rank order, on the root (empty elsewhere), and remembered for `surveyed_places`. Collective;
/// called once, when the program starts.
const std::vector<RankPlace>& survey_places(const Communicator& comm);
/// What the survey found; empty before it and on other ranks than the root. Local.
[[nodiscard]] const std::vector<RankPlace>& surveyed_places();

/// A sentence on the first node whose ranks run more threads than they have cores, "" if there is none. More ranks than
/// cores with one thread each are no matter: they yield to each other. Local.
[[nodiscard]] std::string words_on_threads(const std::vector<RankPlace>& places);

} // namespace slr
