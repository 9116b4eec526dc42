#pragma once
/// \file
/// What the user allows, and what structures cost.
#include "slr/layer/constrained.hpp"
#include "slr/run/network.hpp"

#include <array>
#include <optional>

namespace slr::run {

/// What a budget may limit, in the order of `Cost`; latency in nanoseconds for one image on one thread.
enum class Resource { parameters, macs, bytes, latency };
inline constexpr std::array resources{Resource::parameters, Resource::macs, Resource::bytes, Resource::latency};
/// Its place in a `Cost`. Local.
[[nodiscard]] constexpr std::size_t index_of(Resource resource) {
  return static_cast<std::size_t>(resource);
}
/// "parameters", "macs", "bytes", "latency": as in the configuration and the report. Local.
[[nodiscard]] std::string to_text(Resource resource);

/// An amount of every resource; what was not measured is 0.
using Cost = std::array<std::int64_t, resources.size()>;

/// The whole nanoseconds of a time, as `Cost` counts them. Local.
[[nodiscard]] constexpr std::int64_t nanoseconds(double seconds) {
  return static_cast<std::int64_t>(1e9 * seconds);
}

/// Costs of a network's layers in their possible forms.
class LayerCosts {
public:
  /// Local; infers the shapes of the network.
  explicit LayerCosts(const Network& network);
  /// Of the whole network as it is.
  [[nodiscard]] const Cost& whole() const { return whole_; }
  /// Of layer i as it is, and in the cheapest form of a structure: an upper bound, as kept channels that happen to be
  /// neighbours need no indices. Local.
  [[nodiscard]] const Cost& dense(std::size_t i) const { return dense_[i]; }
  [[nodiscard]] Cost of(std::size_t i, Split split) const;
  /// Whether that form can be expected to take less time than the layer as it is (products_of_time), or more by no more
  /// than this share of the network's. Local.
  [[nodiscard]] bool is_faster(std::size_t i, Split split, double allowed = 0) const;

private:
  const Network& network_;
  Cost whole_{};
  std::vector<Cost> dense_;
  std::vector<std::int64_t> positions_; ///< output positions of each layer in one image
};

/// Of a resource: the network's as it is, what a budget allows, and the least that can be had.
struct Shortage {
  std::int64_t whole = 0, limit = 0, smallest = 0;
};
/// The sentence about a limit that no structures meet: by how much, and what could be asked for. Local.
[[nodiscard]] Error cannot_be_met(const Configuration& config, Resource resource, const Shortage& shortage);

/// The network with these structures (none: the layer as it is) and zeros for factors. Kept channels are taken in
/// general position: scattered, and different in layers that read the same value. Local; memory of a second network.
[[nodiscard]] graph::Model as_written(const Network& network, const std::vector<std::optional<Split>>& splits);
/// What that costs: channels that nobody reads are gone then, and many indices, which the layers' own costs cannot
/// know. Local.
[[nodiscard]] Cost cost_as_written(const Network& network, const std::vector<std::optional<Split>>& splits);

/// An upper limit on one resource of the whole network.
struct Limit {
  Resource resource = Resource::parameters;
  std::int64_t at_most = 0; ///< of a latency given as a factor: 0 until the original network's is measured
  double factor = 0;        ///< as given; 0: absolute
};
/// What one result must meet: all of `limits`.
struct BudgetPoint {
  std::string name; ///< of its folder below the output folder, "parameters-4.9"; empty for the only one
  std::vector<Limit> limits;
  [[nodiscard]] std::optional<std::int64_t> limit_of(Resource resource) const;
};
/// Whether the configuration limits the latency, so that it has to be measured. Local.
[[nodiscard]] inline bool needs_latency(const Configuration& config) {
  return !config.budget.latency.empty();
}

/// The points of the configuration, at least one (without limits if there is no budget). Lists of several resources
/// have equal lengths and are taken together. Local.
/// \throws Error{configuration} if a limit cannot be met: the layers that stay dense, and the others in their smallest
/// form, already exceed it; names the nearest that can.
[[nodiscard]] std::vector<BudgetPoint>
budget_points(const Network& network, const std::vector<std::string>& dense_reasons, const Configuration& config);

} // namespace slr::run
