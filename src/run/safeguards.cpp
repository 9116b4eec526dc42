#include "slr/run/safeguards.hpp"

#include "slr/graph/layers.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/mpi/session.hpp"
#include "slr/run/json_text.hpp"
#include "slr/run/sweep.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace slr::run {

void check_weights(const Network& network, const Configuration& config, std::vector<std::string>& dense,
                   Progress& progress) {
  const auto is_finite = [](float value) { return std::isfinite(value); };
  for (std::size_t i = 0; i < network.layers.size(); ++i) {
    const auto& layer = network.layers[i];
    if (!dense[i].empty()) continue;
    const auto weights = graph::weight_matrix(network.model, layer);
    if (std::ranges::all_of(weights, is_finite) && std::ranges::all_of(layer.bias, is_finite)) continue;
    const Error error(ExitCode::numerical, "layer " + layer.name +
                                               ": its weights hold a value that is not finite; train or export the "
                                               "network again");
    if (config.on_failure != OnFailure::keep_dense) throw error;
    dense[i] = failed_layer + error.what();
    progress.warning(std::string(error.what()) + "; the layer stays dense (on_failure: keep_dense)");
  }
}

std::unique_ptr<Watchdog> watch_over(const Communicator& comm, const Configuration& config, const OutputFiles& files) {
  if (config.watchdog.seconds <= 0 || comm.size() == 1) return nullptr;
  const auto end = [](const Alarm& alarm) {
    const auto line = "slr_compress: " + printable(alarm.sentence()) + "\n";
    std::fputs(line.c_str(), stderr);
    std::fflush(stderr);
    abort_job(static_cast<int>(ExitCode::io));
  };
  return collectively(comm, [&] {
    return std::make_unique<Watchdog>(comm.rank(), comm.size(), files.heartbeat(), config.watchdog.seconds, end);
  });
}

} // namespace slr::run
