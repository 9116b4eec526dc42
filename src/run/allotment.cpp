#include "slr/graph/count.hpp"
#include "slr/run/solver_options.hpp"
#include "slr/run/sweep.hpp"

#include <algorithm>
#include <cmath>

namespace slr::run {
namespace {

constexpr double fully_connected_advantage = 7; // their features are far more redundant than a convolution's
constexpr double worth_while = 0.01;            // of the network's parameters: smaller layers stay dense

} // namespace

Allotment no_limit(const Network& network) {
  Allotment result;
  for (const auto& layer : network.layers) result.parameters.push_back(dense_parameters(network, layer));
  result.points.resize(network.layers.size());
  return result;
}

Allotment allot_by_kind(const Network& network, const std::vector<std::string>& dense_reasons, std::int64_t limit) {
  const auto whole = graph::count(network.model).parameters;
  const auto at = [&](double factor) {
    auto result = no_limit(network);
    for (std::size_t i = 0; i < network.layers.size(); ++i) {
      if (!dense_reasons[i].empty()) continue;
      const auto& layer = network.layers[i];
      const auto dense = result.parameters[i];
      if (static_cast<double>(dense) < worth_while * static_cast<double>(whole)) continue;
      const bool is_convolution = layer.kind == graph::LayerKind::convolution;
      const double divisor = std::max(1.0, is_convolution ? factor : fully_connected_advantage * factor);
      const auto least = std::min(dense, graph::cheapest_form(layer, 1, 0).parameters);
      result.parameters[i] =
          std::clamp(static_cast<std::int64_t>(static_cast<double>(dense) / divisor), least, dense);
    }
    return result;
  };
  const auto total = [&](const Allotment& allotment) {
    std::int64_t sum = whole;
    for (std::size_t i = 0; i < network.layers.size(); ++i)
      sum += allotment.parameters[i] - dense_parameters(network, network.layers[i]);
    return sum;
  };
  double low = 1 / fully_connected_advantage, high = 1e6; // factors: too many parameters, few enough
  for (int step = 0; step < 100 && total(at(low)) > limit; ++step) {
    const double middle = std::sqrt(low * high);
    (total(at(middle)) > limit ? low : high) = middle;
    if (high / low < 1 + 1e-9) break;
  }
  return at(high);
}

} // namespace slr::run
