#pragma once
/// \file
/// What the layers of a job are expected to take, counted from their sizes. For forecasts and progress alone.
#include "slr/plan/assignment.hpp"
#include "slr/plan/forecast.hpp"
#include "slr/run/curves.hpp"

namespace slr::run {

/// Which solution of a layer is meant: of a sequential sweep, or the two of a parallel one.
enum class Solution { whole, first, refit };

/// Counts the work of a network's layers. Refers to network and configuration. Local.
class NetworkWork {
public:
  /// Infers the network's shapes. `dense_reasons`: not empty for layers that stay as they are.
  NetworkWork(const Network& network, const std::vector<std::string>& dense_reasons, const Configuration& config);
  /// Products of the network's layers from i on, for one image.
  [[nodiscard]] double products_behind(std::size_t i) const { return behind_[i]; }
  /// One solution of layer i with this structure.
  [[nodiscard]] LayerWork of(std::size_t i, Split split, Solution solution = Solution::whole) const;
  /// Tracing its path.
  [[nodiscard]] LayerWork path(std::size_t i) const;

private:
  [[nodiscard]] LayerWork base(std::size_t i, Split split) const;

  const Network& network_;
  const Configuration& config_;
  std::vector<std::int64_t> positions_; ///< output positions of each layer in one image
  std::vector<double> behind_;          ///< products of the layers from each one on
  std::vector<double> since_last_;      ///< of those from the compressed layer before it
};

/// Operations per layer of the final solve: 0 for dense layers. `allotted`: their parameters afterwards. Local.
[[nodiscard]] std::vector<double> solve_weights(const Network& network, const std::vector<std::string>& dense_reasons,
                                                const std::vector<std::int64_t>& allotted, const Configuration& config);

/// How many calibration images have the selection images of a curve's probes among them: one of ten is one. Local.
[[nodiscard]] std::int64_t probed_images(const Network& network, const Configuration& config);
/// Seconds of every layer's curve on groups of so many ranks of a nominal machine: its path, and for every point that
/// is measured in the network what is behind it. None for dense layers. Local.
[[nodiscard]] JobTimes curve_times(const Network& network, const std::vector<std::string>& dense_reasons,
                                   const Configuration& config, const std::vector<int>& ranks_of_group);
/// Bytes per rank for the largest of these layers on the smallest of these groups. Local. \pre there are groups
[[nodiscard]] double curve_bytes(const Network& network, const std::vector<std::string>& dense_reasons,
                                 const Configuration& config, const std::vector<int>& ranks_of_group);
/// The number of groups that have traced all curves first, if every rank may hold `memory` bytes of a layer (or what it
/// needs of it where all ranks share it). Local.
[[nodiscard]] int choose_curve_groups(const Network& network, const std::vector<std::string>& dense_reasons,
                                      const Configuration& config, const std::vector<int>& node_of_rank,
                                      std::int64_t memory);

} // namespace slr::run
