#pragma once
/// \file
/// What the layers of a job are expected to take, counted from their sizes. For forecasts and progress alone.
#include "slr/plan/assignment.hpp"
#include "slr/plan/forecast.hpp"
#include "slr/run/curves.hpp"

namespace slr::run {

/// Solving a layer with this structure. Local.
[[nodiscard]] LayerWork work_of(const graph::Layer& layer, Split split, const Configuration& config);

/// Operations per layer of the final solve: 0 for dense layers. `allotted`: their parameters afterwards. Local.
[[nodiscard]] std::vector<double> solve_weights(const Network& network, const std::vector<std::string>& dense_reasons,
                                                const std::vector<std::int64_t>& allotted, const Configuration& config);

/// Products of the network's layers from each one on, for one image. Local; infers the network's shapes.
[[nodiscard]] std::vector<double> products_behind(const Network& network);

/// How many calibration images have the selection images of a curve's probes among them: one of ten is one. Local.
[[nodiscard]] std::int64_t probed_images(const Network& network, const Configuration& config);
/// Seconds of every layer's curve on groups of so many ranks of a nominal machine: its path, and for every point that
/// is measured in the network what is behind it (products_behind). None for dense layers. Local.
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
