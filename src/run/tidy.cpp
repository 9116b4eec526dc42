#include "slr/graph/channels.hpp"
#include "slr/graph/count.hpp"
#include "slr/graph/groups.hpp"
#include "slr/run/sweep.hpp"

namespace slr::run {

void tidy(SweepResult& result) {
  graph::join_groups(result.model);
  graph::remove_unread_channels(result.model);
  graph::order_channels(result.model);
  for (auto& layer : result.layers) // groups that were joined again are not found, and are what they were
    if (const auto parameters = graph::layer_parameters(result.model, layer.name); parameters > 0)
      layer.parameters_after = parameters;
}

} // namespace slr::run
