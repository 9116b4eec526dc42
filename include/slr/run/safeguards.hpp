#pragma once
/// \file
/// What keeps a job from computing nonsense, or from waiting for ever.
#include "slr/mpi/watchdog.hpp"
#include "slr/run/network.hpp"
#include "slr/run/output_folder.hpp"
#include "slr/run/progress.hpp"

#include <memory>

namespace slr::run {

/// A layer whose weights are not finite ends the job, or is told and stays dense (on_failure: keep_dense): its reason
/// is filled in. Local, the same on every rank. \throws Error{numerical} naming the layer
void check_weights(const Network& network, const Configuration& config, std::vector<std::string>& dense_reasons,
                   Progress& progress);

/// Ends the job with one sentence and code 74 when ranks wait in vain for watchdog.seconds; null where that is off or
/// there is one rank. Collective; to be destroyed before MPI ends.
[[nodiscard]] std::unique_ptr<Watchdog> watch_over(const Communicator& comm, const Configuration& config,
                                                   const OutputFiles& files);

} // namespace slr::run
