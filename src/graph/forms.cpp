#include "forms.hpp"

#include "slr/base/error.hpp"

#include <algorithm>
#include <tuple>

namespace slr::graph {
namespace {

FormCost cost_of(const Layer& layer, std::int64_t target_rank, std::int64_t kept, Placement placement) {
  require(layer.groups == 1, "a grouped convolution cannot be written as low rank plus kept channels");
  const auto area = layer.window_area(), channels = layer.cols / area;
  require(target_rank >= 0 && kept >= 0 && kept <= channels,
          "a rank or number of kept channels does not fit its layer");
  const auto rows = layer.rows, kept_cols = kept * area, rest_cols = layer.cols - kept_cols;
  const auto stored = [](std::int64_t numbers, std::int64_t integers) { return 4 * numbers + 8 * integers; };
  FormCost best{Form::dense, rows * layer.cols + rows, rows * layer.cols, stored(rows * layer.cols + rows, 0)};
  const auto offer = [&](Form form, std::int64_t numbers, std::int64_t indices, std::int64_t macs) {
    const std::int64_t split_sizes = form == Form::mixed ? 2 : 0;
    const FormCost cost{form, numbers + indices, macs, stored(numbers, indices + split_sizes)};
    if (std::tie(cost.parameters, cost.macs) < std::tie(best.parameters, best.macs)) best = cost;
  };
  const auto products = rows * kept_cols + target_rank * (rest_cols + rows);
  if (target_rank > 0 && kept == 0) offer(Form::low_rank, products + rows, 0, products);
  if (target_rank == 0 && kept > 0) offer(Form::kept, products + rows, kept, products);
  if (target_rank > 0 && kept > 0 && kept < channels)
    offer(Form::mixed, products + rows, placement == Placement::scattered ? channels : 0, products);
  if (target_rank == 0 && kept == 0) offer(Form::bias_only, area + rows, channels > 1 ? 1 : 0, area);
  return best;
}

} // namespace

Placement placement_of(std::span<const std::int64_t> kept, std::int64_t channels) {
  const auto n = static_cast<std::int64_t>(kept.size());
  if (n == 0 || kept.back() == n - 1) return Placement::first;
  return kept.front() == channels - n ? Placement::last : Placement::scattered;
}

std::vector<std::int64_t> rest_of(std::span<const std::int64_t> kept, std::int64_t channels) {
  std::vector<std::int64_t> rest;
  for (std::int64_t channel = 0; channel < channels; ++channel)
    if (!std::ranges::binary_search(kept, channel)) rest.push_back(channel);
  return rest;
}

FormCost cheapest_form(const Layer& layer, std::int64_t rank, std::span<const std::int64_t> kept_groups) {
  const auto channels = layer.cols / layer.window_area();
  for (std::size_t i = 0; i < kept_groups.size(); ++i)
    require(kept_groups[i] >= 0 && kept_groups[i] < channels && (i == 0 || kept_groups[i - 1] < kept_groups[i]),
            "the kept channels of a layer are not increasing channels of it");
  return cost_of(layer, rank, static_cast<std::int64_t>(kept_groups.size()), placement_of(kept_groups, channels));
}

FormCost cheapest_form(const Layer& layer, std::int64_t rank, std::int64_t kept_groups) {
  return cost_of(layer, rank, kept_groups, Placement::scattered);
}

} // namespace slr::graph
