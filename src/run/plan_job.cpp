#include "slr/run/plan_job.hpp"

#include "schedule.hpp"
#include "slr/base/file.hpp"
#include "slr/mpi/node_groups.hpp"
#include "slr/run/features.hpp"
#include "slr/run/held_arrays.hpp"
#include "slr/run/json_text.hpp"
#include "slr/run/layer_work.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>

namespace slr::run {
namespace {

/// The curves of an earlier start with this configuration, if there are any.
std::optional<Curves> curves_of(const Network& network, const Configuration& config) {
  const OutputFiles files{config.output.absolute};
  if (!std::filesystem::exists(files.curves()) || !std::filesystem::exists(files.job())) return std::nullopt;
  const auto job = read_json(files.job());
  if (!job.contains("configuration") || first_difference(job["configuration"], config) ||
      job.value("model_sha256", "") != network.sha256)
    return std::nullopt;
  auto curves = curves_from_text(read_file(files.curves()));
  if (curves.layers.size() != network.layers.size()) return std::nullopt;
  return curves;
}

/// What a result's layers may cost, as far as it is known.
Allotment allotment_of(const PlanItem& item, const std::optional<Curves>& curves, const BudgetPoint& point) {
  if (curves) return allot(item.network, item.dense_reasons, *curves, point, item.config);
  // An even split of the parameters, by the largest of all factors.
  const auto whole = LayerCosts(item.network).whole();
  const auto parameters = whole[index_of(Resource::parameters)];
  auto limit = parameters;
  for (const auto& each : point.limits) {
    if (each.resource == Resource::parameters) {
      limit = std::min(limit, each.at_most);
      continue;
    }
    // Of a latency in seconds nothing is known before it is measured.
    const double share = each.resource != Resource::latency
                             ? static_cast<double>(each.at_most) / static_cast<double>(whole[index_of(each.resource)])
                         : each.factor > 1 ? 1 / each.factor
                                           : 1;
    limit = std::min(limit, static_cast<std::int64_t>(share * static_cast<double>(parameters)));
  }
  if (limit < parameters) return allot_uniformly(item.network, item.dense_reasons, limit);
  return no_limit(item.network);
}

/// Those that stay dense because they would not get smaller are among the reasons.
std::vector<std::string> reasons_of(const PlanItem& item, const Allotment& allotment) {
  const LayerCosts costs(item.network);
  auto reasons = item.dense_reasons;
  for (std::size_t i = 0; i < reasons.size(); ++i)
    if (reasons[i].empty() && allotment.parameters[i] >= costs.dense(i)[index_of(Resource::parameters)])
      reasons[i] = "does not pay";
  return reasons;
}

/// Structures, costs, time and memory, a row per layer.
std::string layer_table(const PlannedItem& planned, const Timetable& times, bool has_curves) {
  const auto& [network, reasons, allotment, config] = planned;
  const LayerCosts costs(network);
  const NetworkWork work(network, reasons, config);
  const int all = std::accumulate(times.ranks_of_group.begin(), times.ranks_of_group.end(), 0);
  std::vector<double> seconds(network.layers.size(), 0.0);
  std::vector<int> fewest_ranks(network.layers.size(), all); // of those that it is ever split among
  for (const auto& turn : times.turns) {
    seconds[turn.layer] += turn.end_seconds - turn.begin_seconds;
    if (turn.group >= 0)
      fewest_ranks[turn.layer] =
          std::min(fewest_ranks[turn.layer], times.ranks_of_group[static_cast<std::size_t>(turn.group)]);
  }
  auto text = fmt::format("{:<24} {:>13} {:>6} {:>7} {:>12} {:>12} {:>10} {:>12}\n", "layer", "n x k", "rank", "groups",
                          "before", "after", "seconds", "MB per rank");
  double bytes = 0;
  std::int64_t after = costs.whole()[index_of(Resource::parameters)];
  for (std::size_t i = 0; i < network.layers.size(); ++i) {
    const auto& layer = network.layers[i];
    const auto before = costs.dense(i)[index_of(Resource::parameters)], now = allotment.parameters[i];
    after += now - before;
    const bool is_dense = !reasons[i].empty();
    const auto split = split_of(network, allotment, i);
    const double memory = is_dense ? 0 : count_bytes(work.of(i, split), fewest_ranks[i]);
    bytes = std::max(bytes, memory);
    const auto known = [&](std::int64_t value) {
      return is_dense ? std::string("dense") : has_curves ? std::to_string(value) : std::string("-");
    };
    text += fmt::format("{:<24} {:>13} {:>6} {:>7} {:>12} {:>12} {:>10.2g} {:>12.0f}\n", printable(layer.name, 24),
                        fmt::format("{} x {}", layer.rows, layer.cols), known(split.rank), known(split.groups), before,
                        now, seconds[i], memory / 1e6);
  }
  // Where the structures are known, channels that nobody reads are, too: the sum of the layers still has them.
  if (has_curves) after = cost_as_written(network, allotment.splits)[index_of(Resource::parameters)];
  return text + fmt::format("parameters {} -> {}; at most {:.0f} MB per rank for a layer beside the network and its "
                            "activations\n",
                            costs.whole()[index_of(Resource::parameters)], after, bytes / 1e6);
}

/// Where the images wait between two layers, at the place where that takes the most.
std::string activation_text(const PlannedItem& planned, std::int64_t nodes) {
  const auto& [network, reasons, allotment, config] = planned;
  if (config.calibration.inputs != CalibrationInputs::compressed || config.model.empty()) return "";
  std::vector<bool> is_followed;
  for (const auto& reason : reasons) is_followed.push_back(reason.empty());
  const auto cut = widest_cut(network, is_followed);
  if (cut.layer.empty()) return ""; // nothing is compressed
  const auto all = cut.bytes * ((config.calibration.images + nodes - 1) / nodes);
  const auto in_memory = std::min(all, memory_of_node(config, memory_of_this_node()));
  const auto in_files = std::min(all - in_memory, room_for_files(config.output.absolute) / nodes);
  auto text =
      fmt::format("activations between layers: at most {:.0f} MB on a node, before {}; {:.0f} MB of it in memory",
                  all / 1e6, printable(cut.layer, 40), in_memory / 1e6);
  if (in_files > 0) text += fmt::format(", {:.0f} MB in files of the output folder", in_files / 1e6);
  if (all > in_memory + in_files)
    text += fmt::format(", {:.0f} MB computed again for every layer, from the layer before which there is room",
                        (all - in_memory - in_files) / 1e6);
  return text + "\n";
}

/// Who traces the curves that are not there yet.
std::string tracing_text(const PlanItem& item, const std::vector<int>& node_of_rank) {
  const auto& config = item.config;
  if (config.method.kind != MethodKind::constrained || config.budget.spread != Spread::network) return "";
  const auto on_node = std::count(node_of_rank.begin(), node_of_rank.end(), node_of_rank.front());
  const auto memory = memory_of_node(config, memory_of_this_node()) / on_node;
  const int groups =
      needs_latency(config) ? 1 : choose_curve_groups(item.network, item.dense_reasons, config, node_of_rank, memory);
  const auto bytes = curve_bytes(item.network, item.dense_reasons, config, group_sizes(node_of_rank, groups));
  return fmt::format("curves: {} group{} of ranks, at most {:.0f} MB per rank for a layer\n", groups,
                     groups == 1 ? "" : "s", bytes / 1e6);
}

/// Which group does what, when; a line per group, and one for what all ranks do together.
std::string assignment_table(const std::vector<PlannedItem>& items, const Timetable& times) {
  std::string sizes;
  for (const int ranks : times.ranks_of_group) sizes += (sizes.empty() ? "" : ", ") + std::to_string(ranks);
  auto text =
      fmt::format("{} group{} of {} rank{}: structures {:.2g} s, solve {:.2g} s, together {:.2g} s; idle {:.0f} "
                  "%\n",
                  times.ranks_of_group.size(), times.ranks_of_group.size() == 1 ? "" : "s", sizes,
                  times.ranks_of_group == std::vector<int>{1} ? "" : "s", times.seconds_of("structures"),
                  times.seconds_of("solve"), times.seconds(), 100 * times.idle);
  std::map<int, std::string> lines;
  for (const auto& turn : times.turns) {
    const auto& name = items[turn.item].network.layers[turn.layer].name;
    lines[turn.group] += fmt::format(
        " {}{} {}{:.2g}-{:.2g} s;", items.size() > 1 ? std::to_string(turn.item + 1) + ":" : "", printable(name, 40),
        turn.stage == "structures" ? "(structure) " : "", turn.begin_seconds, turn.end_seconds);
  }
  for (auto& [group, line] : lines) {
    line.back() = '\n';
    text += "  " + (group < 0 ? "all ranks" : "group " + std::to_string(group + 1)) + ":" + line;
  }
  return text;
}

} // namespace

std::string plan_text(const std::vector<PlanItem>& items, const Configuration& config,
                      const std::vector<int>& node_of_rank, const std::optional<MachineRates>& machine,
                      const MachineRates& measured) {
  std::string text;
  std::vector<Allotment> allotments;
  std::vector<std::optional<Curves>> curves;
  std::vector<PlannedItem> planned;
  std::vector<std::string> names;
  std::size_t results = 0;
  for (const auto& item : items) results += item.points.size();
  allotments.reserve(results); // the planned items refer to them
  for (const auto& item : items) {
    curves.push_back(item.config.method.kind == MethodKind::constrained ? curves_of(item.network, item.config)
                                                                        : std::nullopt);
    for (const auto& point : item.points) {
      allotments.push_back(allotment_of(item, curves.back(), point));
      planned.push_back({item.network, reasons_of(item, allotments.back()), allotments.back(), item.config});
      names.push_back(item.name + (item.name.empty() || point.name.empty() ? "" : ", ") + point.name);
    }
  }
  const auto rates = machine.value_or(measured);
  const bool is_pipelined = config.pipeline.schedule == Schedule::pipelined;
  const auto whole = [&](const std::vector<PlannedItem>& together) {
    const auto sizes = group_sizes(node_of_rank, choose_groups(together, config, node_of_rank));
    return make_timetable(together, sizes, config.pipeline.schedule, rates);
  };
  std::size_t at = 0;
  for (std::size_t i = 0; i < items.size(); ++i)
    for (std::size_t p = 0; p < items[i].points.size(); ++p, ++at) {
      if (!names[at].empty()) text += names[at] + "\n";
      const auto times = whole({planned[at]});
      text += layer_table(planned[at], times, curves[i].has_value());
      const auto nodes = 1 + std::ranges::max(node_of_rank);
      text += activation_text(
          planned[at], is_pipelined ? std::max<std::int64_t>(1, nodes / std::ssize(times.ranks_of_group)) : nodes);
      text += curves[i] ? fmt::format("predicted KL divergence {:.3g}, from the curves in {}\n",
                                      allotments[at].predicted_kl, items[i].config.output.given)
                        : "no curves of this configuration in the output folder yet: an even split, costs alone; the "
                          "job itself measures them first\n" +
                              tracing_text(items[i], node_of_rank);
      if (!is_pipelined) text += assignment_table({planned[at]}, times);
      text += "\n";
    }
  if (is_pipelined) text += "all items in stages\n" + assignment_table(planned, whole(planned)) + "\n";
  return text + fmt::format("seconds: counted work over {}, on {} ranks of this kind\n",
                            machine ? "the rates in the output folder" : "rates measured now", node_of_rank.size());
}

} // namespace slr::run
