#pragma once
// Which group does which layer, and when: for the choice of the groups, for --plan, and to be held against what it
// took.
#include "slr/run/machine.hpp"

#include <nlohmann/json.hpp>

namespace slr::run {

/// A layer's solution in the timetable of a job.
struct PlannedTurn {
  std::string stage; ///< "structures", "solve"
  std::size_t item = 0, layer = 0;
  int group = -1; ///< -1: all ranks
  double begin_seconds = 0, end_seconds = 0;
};

struct Timetable {
  std::vector<int> ranks_of_group;
  std::vector<PlannedTurn> turns;
  double idle = 0; ///< share of the ranks' time that they do nothing
  [[nodiscard]] double seconds() const;
  [[nodiscard]] double seconds_of(const std::string& stage) const; ///< from its first turn to the end of its last
};

/// One compression as a schedule sees it.
struct PlannedItem {
  const Network& network;
  std::vector<std::string> dense_reasons;
  const Allotment& allotment;
  const Configuration& config;
};

/// The items one after the other, each by its own schedule, or pipelined. Who does what is decided for a nominal
/// machine; the times are those of `machine`. Local.
[[nodiscard]] Timetable make_timetable(const std::vector<PlannedItem>& items, const std::vector<int>& ranks_of_group,
                                       Schedule schedule, const MachineRates& machine);

/// The layers at which the stages of an item begin, one per group, and their number. Local.
[[nodiscard]] std::vector<std::size_t> stages_of(const PlannedItem& item, const std::vector<int>& ranks_of_group);

/// The number of groups that the configuration asks for; `auto` is the one whose timetable on a nominal machine is the
/// shortest. Local.
/// \throws Error{configuration} if it asks for more groups than there are ranks.
[[nodiscard]] int choose_groups(const std::vector<PlannedItem>& items, const Configuration& config,
                                const std::vector<int>& node_of_rank);

/// The turns of a finished job with the seconds predicted and measured: `schedule` of report.json. Local.
[[nodiscard]] nlohmann::ordered_json schedule_json(const Timetable& predicted, const SweepResult& result,
                                                   const Network& network);

} // namespace slr::run
