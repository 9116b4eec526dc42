#include "slr/run/sweep.hpp"

#include "layer_state.hpp"
#include "layer_sweep.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/run/layer_work.hpp"

namespace slr::run {

std::vector<LayerOutcome> restore_outcomes(Checkpoints& checkpoints, const Network& network) {
  std::vector<LayerOutcome> outcomes;
  const auto saved = checkpoints.take("sweep");
  if (!saved) return outcomes;
  const auto count = saved->get<std::int64_t>("layers").at(0);
  for (std::int64_t i = 0; i < count; ++i)
    outcomes.push_back(restore_outcome(*saved, std::to_string(i), network.layers.at(static_cast<std::size_t>(i))));
  return outcomes;
}

Checkpoints::Kept keep_outcomes(Checkpoints& checkpoints, const std::vector<LayerOutcome>& layers) {
  return checkpoints.keep("sweep", [&layers](StateWriter& to) {
    to.put_integers("layers", {std::ssize(layers)});
    for (std::size_t i = 0; i < layers.size(); ++i) save_outcome(to, std::to_string(i), layers[i]);
  });
}

SweepResult sweep(const Communicator& comm, const Grid& row_grid, const Network& network,
                  const std::vector<std::string>& dense_reasons, const Allotment& allotment,
                  const store::FeatureSet& features, const ImageFeed* feed, const Configuration& config,
                  std::optional<std::int64_t> parameter_limit, const std::filesystem::path& inputs_folder,
                  Progress& progress, Checkpoints& checkpoints, std::vector<LayerOutcome> solved) {
  const LayerJob job{comm, row_grid, network, allotment, features, config, progress, checkpoints};
  auto earlier = restore_outcomes(checkpoints, network);
  if (earlier.size() < solved.size()) earlier = std::move(solved);
  LayerSweep steps(job, dense_reasons, parameter_limit, inputs_folder);
  const auto kept = keep_outcomes(checkpoints, steps.result().layers);
  if (config.calibration.inputs == CalibrationInputs::compressed && earlier.size() < network.layers.size()) {
    require(feed != nullptr, "compressed inputs need images");
    const auto place = scratch_place(comm, config);
    steps.follow(collectively(
        comm, [&] { return Frontier(network, *feed, share_of_rank(comm, config.calibration.images), place); }));
  }
  const auto count = static_cast<std::int64_t>(network.layers.size());
  progress.stage(
      "solve", count,
      solve_weights(network, reasons_with(job, dense_reasons, parameter_limit), allotment.parameters, config));
  while (!steps.is_over()) {
    const auto i = steps.next();
    progress.layer(static_cast<std::int64_t>(i), count, network.layers[i].name);
    if (i < earlier.size()) {
      steps.take(std::move(earlier[i]));
      continue;
    }
    steps.solve();
    checkpoints.poll();
  }
  return steps.take_result();
}

} // namespace slr::run
