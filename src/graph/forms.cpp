#include "forms.hpp"

#include "slr/base/error.hpp"

#include <algorithm>
#include <tuple>

namespace slr::graph {
namespace {

/// A form's numbers, indices, other integers that do not count as parameters, and products.
struct Amounts {
  std::int64_t numbers = 0, indices = 0, settings = 0, macs = 0;
};

/// The cheapest of what is offered, in the order of the offers.
class Cheapest {
public:
  explicit Cheapest(const Layer& layer)
      : best_(cost(Form::dense, {layer.rows * layer.cols + layer.rows, 0, 0, layer.rows * layer.cols})) {}
  void offer(Form form, const Amounts& amounts) {
    const auto next = cost(form, amounts);
    if (std::tie(next.parameters, next.macs) < std::tie(best_.parameters, best_.macs)) best_ = next;
  }
  [[nodiscard]] const FormCost& best() const { return best_; }

private:
  static FormCost cost(Form form, const Amounts& a) {
    return {form, a.numbers + a.indices, a.macs, 4 * a.numbers + 8 * (a.indices + a.settings)};
  }
  FormCost best_;
};

/// With whole channels kept.
FormCost cost_of_channels(const Layer& layer, std::int64_t target_rank, std::int64_t kept, Placement placement) {
  const auto area = layer.window_area(), channels = layer.cols / area;
  const auto rows = layer.rows, kept_cols = kept * area, rest_cols = layer.cols - kept_cols;
  Cheapest forms(layer);
  const auto products = rows * kept_cols + target_rank * (rest_cols + rows);
  if (target_rank > 0 && kept == 0) forms.offer(Form::low_rank, {products + rows, 0, 0, products});
  if (target_rank == 0 && kept > 0) forms.offer(Form::kept, {products + rows, kept, 0, products});
  if (target_rank > 0 && kept > 0 && kept < channels)
    forms.offer(Form::mixed, {products + rows, placement == Placement::scattered ? channels : 0, 2, products});
  if (target_rank == 0 && kept == 0) forms.offer(Form::bias_only, {area + rows, channels > 1 ? 1 : 0, 0, area});
  return forms.best();
}

/// Whether kept columns can be gathered and shifted, in all nodes that share the weight by the same pads.
bool can_shift(const Layer& layer) {
  const auto pads = fixed_pads(layer.window);
  return pads && std::ranges::all_of(layer.others, [&](const Layer& other) {
           return other.window.strides == layer.window.strides && other.window.dilations == layer.window.dilations &&
                  fixed_pads(other.window) == pads;
         });
}

/// With single columns kept, in forms that a choice of whole channels does not have.
Amounts columns_amounts(const Layer& layer, std::int64_t target_rank, std::int64_t kept, std::int64_t indices,
                        std::int64_t shifts) {
  constexpr std::int64_t pads = 8;
  const auto products = layer.rows * kept + (target_rank > 0 ? target_rank * (layer.cols + layer.rows) : 0);
  return {products + layer.rows, indices, pads * shifts, products};
}

FormCost cost_of_columns(const Layer& layer, std::int64_t target_rank, std::span<const std::int64_t> kept) {
  const auto channels = channels_of(kept, layer.window_area());
  const auto whole = cost_of_channels(layer, target_rank, std::ssize(channels),
                                      placement_of(channels, layer.cols / layer.window_area()));
  const auto macs_of_channels = layer.rows * std::ssize(channels) * layer.window_area() +
                                target_rank * (layer.cols - std::ssize(channels) * layer.window_area() + layer.rows);
  if (kept.empty() || !can_shift(layer)) return whole;
  std::int64_t indices = 0, shifts = 0;
  for (const auto& place : places_of(layer, kept)) {
    if (std::ssize(place.channels) < layer.cols / layer.window_area()) indices += std::ssize(place.channels);
    if (place.is_shifted()) ++shifts;
  }
  const auto amounts = columns_amounts(layer, target_rank, std::ssize(kept), indices, shifts);
  if (amounts.macs >= std::min(layer.rows * layer.cols, macs_of_channels)) return whole;
  Cheapest forms(layer);
  forms.offer(Form::columns, amounts);
  const auto by_columns = forms.best();
  return std::tie(by_columns.parameters, by_columns.macs) < std::tie(whole.parameters, whole.macs) ? by_columns : whole;
}

/// Kept columns all over the place: an upper bound. Where their channels are the cheaper way, these need no more
/// numbers, but up to one index each.
FormCost bound_of_columns(const Layer& layer, std::int64_t target_rank, std::int64_t kept) {
  Cheapest forms(layer);
  const auto amounts = columns_amounts(layer, target_rank, kept, std::max(kept, layer.cols / layer.window_area()),
                                       std::min(kept, layer.window_area()));
  if (can_shift(layer) && amounts.macs < layer.rows * layer.cols) forms.offer(Form::columns, amounts);
  return forms.best();
}

FormCost cost_of_rows(const Layer& layer, std::int64_t target_rank, std::int64_t kept, Placement placement) {
  Cheapest forms(layer);
  const auto products = kept * layer.cols + std::max<std::int64_t>(1, target_rank) * (layer.rows - kept + layer.cols);
  if (kept < layer.rows)
    forms.offer(Form::filters,
                {products + layer.rows, placement == Placement::scattered ? layer.rows : 0, 0, products});
  return forms.best();
}

void check(const Layer& layer, std::int64_t target_rank, std::int64_t kept) {
  require(layer.groups == 1, "a grouped convolution cannot be written as low rank plus kept groups");
  require(target_rank >= 0 && kept >= 0 && kept <= layer.group_count(),
          "a rank or number of kept groups does not fit its layer");
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

std::vector<std::int64_t> channels_of(std::span<const std::int64_t> columns, std::int64_t area) {
  std::vector<std::int64_t> channels;
  for (const auto column : columns)
    if (channels.empty() || channels.back() != column / area) channels.push_back(column / area);
  return channels;
}

std::optional<std::array<std::int64_t, 4>> fixed_pads(const Window& window) {
  if (window.auto_pad == "NOTSET") return window.pads;
  std::array<std::int64_t, 4> pads{0, 0, 0, 0};
  if (window.auto_pad == "VALID") return pads;
  for (std::size_t d = 0; d < 2; ++d) {
    if (window.strides[d] != 1) return std::nullopt; // they depend on the size of the input
    const auto both = (window.kernel[d] - 1) * window.dilations[d];
    pads[d] = window.auto_pad == "SAME_LOWER" ? both - both / 2 : both / 2;
    pads[d + 2] = both - pads[d];
  }
  return pads;
}

std::vector<KeptPlace> places_of(const Layer& layer, std::span<const std::int64_t> columns) {
  const auto area = layer.window_area();
  const auto pads = fixed_pads(layer.window).value();
  std::vector<KeptPlace> places;
  for (std::int64_t p = 0; p < area; ++p) {
    KeptPlace place;
    place.number = p;
    for (std::size_t i = 0; i < columns.size(); ++i)
      if (columns[i] % area == p) {
        place.channels.push_back(columns[i] / area);
        place.columns.push_back(static_cast<std::int64_t>(i));
      }
    if (place.channels.empty()) continue;
    const std::array at{p / layer.window.kernel[1], p % layer.window.kernel[1]};
    for (std::size_t d = 0; d < 2; ++d) {
      place.pads[d] = pads[d] - at[d] * layer.window.dilations[d];
      place.pads[d + 2] = pads[d + 2] - (layer.window.kernel[d] - 1 - at[d]) * layer.window.dilations[d];
    }
    places.push_back(std::move(place));
  }
  return places;
}

FormCost cheapest_form(const Layer& layer, std::int64_t rank, std::span<const std::int64_t> kept_groups) {
  const auto count = std::ssize(kept_groups);
  check(layer, rank, count);
  for (std::size_t i = 0; i < kept_groups.size(); ++i)
    require(kept_groups[i] >= 0 && kept_groups[i] < layer.group_count() &&
                (i == 0 || kept_groups[i - 1] < kept_groups[i]),
            "the kept groups are not increasing groups of their layer");
  const auto placement = placement_of(kept_groups, layer.group_count());
  if (count == 0 || layer.grouping == Grouping::channel) return cost_of_channels(layer, rank, count, placement);
  return layer.grouping == Grouping::filter ? cost_of_rows(layer, rank, count, placement)
                                            : cost_of_columns(layer, rank, kept_groups);
}

FormCost cheapest_form(const Layer& layer, std::int64_t rank, std::int64_t kept_groups) {
  check(layer, rank, kept_groups);
  if (kept_groups == 0 || layer.grouping == Grouping::channel)
    return cost_of_channels(layer, rank, kept_groups, Placement::scattered);
  return layer.grouping == Grouping::filter ? cost_of_rows(layer, rank, kept_groups, Placement::scattered)
                                            : bound_of_columns(layer, rank, kept_groups);
}

double products_of_time(const Layer& layer, Form form, std::int64_t rank, std::int64_t kept_groups,
                        std::int64_t positions) {
  constexpr double per_element = 24, per_node = 50'000;
  const auto lanes = [](std::int64_t channels) { return (channels + 15) / 16 * 16; };
  const auto area = layer.window_area(), channels = layer.cols / area, n = lanes(layer.rows), r = lanes(rank);
  std::int64_t products = n * layer.cols, more_nodes = 0;
  switch (form) {
  case Form::dense:
    break;
  case Form::low_rank:
    products = r * layer.cols + n * r;
    more_nodes = 1;
    break;
  case Form::kept:
    products = n * lanes(kept_groups) * area;
    more_nodes = 1;
    break;
  case Form::mixed:
    products = (n * lanes(kept_groups) + r * lanes(channels - kept_groups)) * area + n * r;
    more_nodes = 3;
    break;
  case Form::columns:
    products = n * lanes(kept_groups) + (rank > 0 ? r * layer.cols + n * r : 0);
    more_nodes = 2 * std::min(area, kept_groups) + (rank > 0 ? 3 : 1);
    break;
  case Form::filters:
    products = (lanes(kept_groups) + r) * layer.cols + lanes(layer.rows - kept_groups) * r;
    more_nodes = 3;
    break;
  case Form::bias_only:
    products = n + area;
    more_nodes = 1;
    break;
  }
  return static_cast<double>(positions) * static_cast<double>(products) +
         static_cast<double>(more_nodes) *
             (per_node + per_element * static_cast<double>(positions) * static_cast<double>(layer.rows));
}

} // namespace slr::graph
