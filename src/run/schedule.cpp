#include "schedule.hpp"

#include "parallel.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

namespace slr::run {
namespace {

constexpr const char* structures = "structures";
constexpr const char* solve = "solve";

int all_ranks(const std::vector<int>& ranks_of_group) {
  return std::accumulate(ranks_of_group.begin(), ranks_of_group.end(), 0);
}

/// Appends turns one after the other.
class Writer {
public:
  explicit Writer(Timetable& table) : table_(table) {}
  void together(const char* stage, std::size_t item, std::size_t layer, double seconds) {
    table_.turns.push_back({stage, item, layer, -1, now_, now_ + seconds});
    now_ += seconds;
    busy_ += seconds * all_ranks(table_.ranks_of_group);
  }
  /// What groups do at the same time; `seconds` of the machine that is meant, in the order of the turns.
  void apart(const char* stage, std::size_t item, const std::vector<Turn>& turns, const JobTimes& seconds) {
    std::vector<double> free_at(table_.ranks_of_group.size(), now_);
    for (const auto& turn : turns) {
      const auto g = static_cast<std::size_t>(turn.group);
      const double length = seconds[turn.job][g];
      table_.turns.push_back({stage, item, turn.job, turn.group, free_at[g], free_at[g] + length});
      free_at[g] += length;
      busy_ += length * table_.ranks_of_group[g];
    }
    now_ = *std::max_element(free_at.begin(), free_at.end());
  }
  void finish() {
    const double all = now_ * all_ranks(table_.ranks_of_group);
    table_.idle = all > 0 ? 1 - busy_ / all : 0;
  }
  /// Items through stages that each group owns.
  void pipelined(const std::vector<PlannedItem>& items, const MachineRates& machine) {
    std::vector<double> free_at(table_.ranks_of_group.size(), 0.0);
    for (std::size_t i = 0; i < items.size(); ++i) {
      const auto first = stages_of(items[i], table_.ranks_of_group);
      const auto& [network, reasons, allotment, config] = items[i];
      const auto times =
          layer_times(network, reasons, allotment, config, Solution::whole, table_.ranks_of_group, machine);
      double arrived = 0;
      for (std::size_t g = 0; g < free_at.size(); ++g) {
        arrived = std::max(arrived, free_at[g]);
        for (auto l = first[g]; l < first[g + 1]; ++l) {
          if (times[l][g] == 0) continue;
          table_.turns.push_back({solve, i, l, static_cast<int>(g), arrived, arrived + times[l][g]});
          arrived += times[l][g];
          busy_ += times[l][g] * table_.ranks_of_group[g];
        }
        free_at[g] = arrived;
        now_ = std::max(now_, arrived);
      }
    }
  }

private:
  Timetable& table_;
  double now_ = 0, busy_ = 0; ///< seconds; seconds times ranks
};

} // namespace

double Timetable::seconds() const {
  double end = 0;
  for (const auto& turn : turns) end = std::max(end, turn.end_seconds);
  return end;
}

double Timetable::seconds_of(const std::string& stage) const {
  double begin = std::numeric_limits<double>::infinity(), end = 0;
  for (const auto& turn : turns) {
    if (turn.stage != stage) continue;
    begin = std::min(begin, turn.begin_seconds);
    end = std::max(end, turn.end_seconds);
  }
  return std::max(0.0, end - begin);
}

std::vector<std::size_t> stages_of(const PlannedItem& item, const std::vector<int>& ranks_of_group) {
  const auto times = layer_times(item.network, item.dense_reasons, item.allotment, item.config, Solution::whole,
                                 ranks_of_group, nominal_machine);
  return cut_into_stages(times, ranks_of_group.size());
}

Timetable make_timetable(const std::vector<PlannedItem>& items, const std::vector<int>& ranks_of_group,
                         Schedule schedule, const MachineRates& machine) {
  Timetable table;
  table.ranks_of_group = ranks_of_group;
  Writer writer(table);
  if (schedule == Schedule::pipelined) writer.pipelined(items, machine);
  for (std::size_t i = 0; i < items.size() && schedule != Schedule::pipelined; ++i) {
    const auto& [network, reasons, allotment, config] = items[i];
    const auto times = [&](Solution solution, const std::vector<int>& ranks) {
      return layer_times(network, reasons, allotment, config, solution, ranks, machine);
    };
    if (schedule == Schedule::sequential) {
      const auto whole = times(Solution::whole, {all_ranks(ranks_of_group)});
      for (std::size_t l = 0; l < whole.size(); ++l)
        if (whole[l][0] > 0) writer.together(solve, i, l, whole[l][0]);
      continue;
    }
    writer.apart(structures, i, first_turns(network, reasons, allotment, config, ranks_of_group),
                 times(Solution::first, ranks_of_group));
    const auto refit = times(Solution::refit, ranks_of_group),
               together = times(Solution::refit, {all_ranks(ranks_of_group)});
    for (const auto& wave : refit_waves(network, reasons, allotment, config, ranks_of_group))
      if (wave.turns.empty())
        for (const auto l : wave.layers) writer.together(solve, i, l, together[l][0]);
      else
        writer.apart(solve, i, wave.turns, refit);
  }
  writer.finish();
  return table;
}

int choose_groups(const std::vector<PlannedItem>& items, const Configuration& config,
                  const std::vector<int>& node_of_rank) {
  const auto ranks = static_cast<std::int64_t>(node_of_rank.size());
  if (config.pipeline.schedule == Schedule::sequential) return 1;
  if (const auto asked = config.pipeline.groups) {
    if (*asked > ranks)
      throw Error(ExitCode::configuration, config.where("pipeline.groups") + ": pipeline.groups is " +
                                               std::to_string(*asked) + ", but there are only " +
                                               std::to_string(ranks) + " ranks; use at most as many groups, or auto");
    return static_cast<int>(*asked);
  }
  std::size_t most = 1; // a group without a layer is idle
  for (const auto& item : items) most = std::max(most, item.network.layers.size());
  int best = 1;
  double least = std::numeric_limits<double>::infinity();
  for (std::int64_t groups = 1; groups <= std::min<std::int64_t>(ranks, static_cast<std::int64_t>(most)); ++groups) {
    const auto sizes = group_sizes(node_of_rank, static_cast<int>(groups));
    const double seconds = make_timetable(items, sizes, config.pipeline.schedule, nominal_machine).seconds();
    if (seconds < least) {
      least = seconds;
      best = static_cast<int>(groups);
    }
  }
  return best;
}

nlohmann::ordered_json schedule_json(const Timetable& predicted, const SweepResult& result, const Network& network) {
  nlohmann::ordered_json json{{"groups", predicted.ranks_of_group},
                              {"predicted_seconds", predicted.seconds()},
                              {"predicted_idle_share", predicted.idle},
                              {"turns", nlohmann::ordered_json::array()}};
  for (const auto& turn : predicted.turns) {
    const auto& outcome = result.layers[turn.layer];
    nlohmann::ordered_json row{{"stage", turn.stage}, {"layer", network.layers[turn.layer].name}, {"group", nullptr}};
    if (turn.group >= 0) row["group"] = turn.group + 1;
    row["predicted_begin_seconds"] = turn.begin_seconds;
    row["predicted_seconds"] = turn.end_seconds - turn.begin_seconds;
    row["seconds"] = turn.stage == structures ? outcome.structure_seconds : outcome.seconds;
    json["turns"].push_back(std::move(row));
  }
  return json;
}

} // namespace slr::run
