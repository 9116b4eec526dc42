#include "slr/graph/count.hpp"
#include "slr/plan/allocation.hpp"
#include "slr/run/solver_options.hpp"
#include "slr/run/sweep.hpp"

#include <algorithm>

namespace slr::run {

Allotment no_limit(const Network& network) {
  Allotment result;
  for (const auto& layer : network.layers) result.parameters.push_back(dense_parameters(network, layer));
  result.points.resize(network.layers.size());
  result.splits.resize(network.layers.size());
  result.pulls.resize(network.layers.size(), 0.0);
  return result;
}

Allotment allot(const Network& network, const std::vector<LayerCurve>& curves, std::int64_t limit) {
  auto result = no_limit(network);
  std::int64_t left = limit - graph::count(network.model).parameters; // for the layers, all that is fixed taken off
  std::vector<ChoiceCurve> choices;
  std::vector<std::vector<PredictedPoint>> points;
  for (std::size_t i = 0; i < network.layers.size(); ++i) {
    const auto dense = result.parameters[i];
    left += dense;
    choices.push_back({{{dense}, 0.0}});
    points.push_back({{{}, 0, 0}});
    for (const auto& row : curves[i].rows)
      for (const auto& point : predict(row)) {
        const auto cost = graph::cheapest_form(network.layers[i], point.split.rank, point.split.groups).parameters;
        if (cost >= dense) continue;
        choices.back().push_back({{cost}, point.kl});
        points.back().push_back(point);
      }
  }
  const auto allocation = allocate(choices, std::span<const std::int64_t>(&left, 1));
  if (!allocation)
    throw Error(ExitCode::configuration,
                "the budget is smaller than the smallest structures of the layers; allow more parameters");
  for (std::size_t i = 0; i < network.layers.size(); ++i) {
    const auto chosen = allocation->chosen[i];
    if (chosen == 0) continue; // dense
    result.parameters[i] = choices[i][chosen].costs[0];
    result.splits[i] = points[i][chosen].split;
    result.pulls[i] = curves[i].pull;
  }
  result.predicted_kl = allocation->harm;
  return result;
}

} // namespace slr::run
