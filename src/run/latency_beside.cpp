#include "latency_beside.hpp"

#include "slr/infer/latency.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/run/budget.hpp"
#include "slr/run/sweep.hpp"

#include <algorithm>

namespace slr::run {
namespace {

constexpr int most_rounds = 8;
constexpr double aim = 0.98, near_enough = 0.95; // of the limit: two timings of one network differ by so much

/// Seconds of the layers alone, as the curves predict them.
double seconds_of_layers(const Curves& curves, const Allotment& allotment) {
  double seconds = 0;
  for (std::size_t i = 0; i < curves.layers.size(); ++i) {
    const auto& split = allotment.splits[i];
    if (!split) {
      seconds += curves.layers[i].dense_latency;
      continue;
    }
    const auto points = predict(curves.layers[i]);
    const auto found = std::find_if(points.begin(), points.end(), [&](const auto& p) { return p.split == *split; });
    seconds += found == points.end() ? curves.layers[i].dense_latency : found->latency; // fixed ones are not measured
  }
  return seconds;
}

} // namespace

void measure_latency_beside(const Communicator& comm, const Network& network,
                            const std::vector<std::string>& dense_reasons, const Configuration& config,
                            Curves& curves) {
  double layers = 0;
  for (const auto& curve : curves.layers) layers += curve.dense_latency;
  for (const auto& point : budget_points(network, dense_reasons, config)) {
    double limit = 0;
    for (const auto& each : point.limits)
      if (each.resource == Resource::latency)
        limit = each.factor > 0 ? curves.network_latency / each.factor : 1e-9 * static_cast<double>(each.at_most);
    auto& beside = curves.latency_beside[point.name];
    // At first all parts of the network are taken to shrink alike.
    beside = limit - layers * limit / curves.network_latency;
    double best = 0, best_beside = 0; // the slowest network within the limit
    std::vector<std::optional<Split>> before;
    for (int round = 0; round < most_rounds; ++round) {
      const auto allotment = collectively(comm, [&] { return allot(network, dense_reasons, curves, point, config); });
      if (allotment.splits == before) break; // another limit decides, or there is nothing between
      before = allotment.splits;
      double seconds = 0;
      on_root_undisturbed(comm, [&] {
        const auto [original, now] =
            infer::measure_latencies(network.model, as_written(network, allotment.splits), {.repeats = 40});
        seconds = curves.network_latency * now.median_seconds / original.median_seconds;
      });
      seconds = comm.broadcast_value(seconds);
      if (seconds <= aim * limit && seconds > best) {
        best = seconds;
        best_beside = beside;
      }
      if (best >= near_enough * limit) break;
      // Towards the middle of what is near enough.
      const double target = (aim + near_enough) / 2 * limit;
      beside = seconds - seconds_of_layers(curves, allotment) + limit - target;
    }
    if (best > 0) beside = best_beside;
  }
}

} // namespace slr::run
