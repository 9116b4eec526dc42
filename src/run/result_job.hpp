#pragma once
// One compression of one network, from its first stages to its report.
#include "group_checkpoints.hpp"
#include "schedule.hpp"
#include "slr/run/curves.hpp"
#include "slr/run/job_checkpoints.hpp"
#include "slr/run/report.hpp"

namespace slr::run {

/// Text for the user on standard output, once. Local.
void print(const Communicator& comm, const std::string& text);

/// What the results of a job share.
struct Prepared {
  std::vector<std::string> dense;
  ImageFeed feed;
  store::FeatureSet features;
  Grid row_grid;
  Curves curves; ///< constrained only
  std::vector<int> node_of_rank;
  MachineRates machine; ///< for forecasts
};

/// Packs, captures and measures, as far as an earlier start has not. Collective.
[[nodiscard]] Prepared prepare(const Communicator& comm, const Configuration& config, const Network& network,
                               const OutputFiles& files, StageClock& clock, Progress& progress,
                               JobCheckpoints& checkpoints);

/// What every layer may cost at a point of the budget. Collective.
[[nodiscard]] Allotment make_allotment(const Communicator& comm, const Configuration& config, const Network& network,
                                       const Prepared& shared, const BudgetPoint& point, Progress& progress,
                                       Checkpoints& checkpoints);

/// The points of the budget. Local. \throws Error{configuration} if there is none, or one that cannot be met
[[nodiscard]] std::vector<BudgetPoint> checked_points(const Network& network, const Configuration& config);

/// What is known before a job's layers are solved in the usual way: all of them.
struct Solved {
  const Allotment& allotment;
  const std::vector<LayerOutcome>& layers;
};

/// Solves, writes and judges all results of a job. `solved`: of its only result, or null. Collective.
ExitCode compress_points(const Communicator& comm, const Configuration& config, const Network& network,
                         const Prepared& shared, const std::vector<BudgetPoint>& points, const OutputFiles& files,
                         const StageClock& clock, const Solved* solved, Progress& progress,
                         JobCheckpoints& checkpoints);

/// Shows the shared shards of a folder in another one, by links. Local, on one rank.
void link_features(const OutputFiles& from, const OutputFiles& to);

} // namespace slr::run
