#pragma once
// schedule: parallel. Structures of all layers at once on the original inputs, then one refit in topological order.
#include "layer_solver.hpp"
#include "slr/mpi/node_groups.hpp"
#include "slr/run/machine.hpp"
#include "slr/run/output_folder.hpp"

namespace slr::run {

/// For every layer, how many layers of `is_counted` lead to it: those of one level do not need each other. Local.
[[nodiscard]] std::vector<int> layer_levels(const Network& network, const std::vector<bool>& is_counted);

/// The layers of one level, and who refits them.
struct Wave {
  std::vector<std::size_t> layers; ///< in the order of the network
  std::vector<Turn> turns;         ///< by groups at the same time; none: all ranks on each layer
};
/// Every layer that does not stay dense, level by level. A level's layers are dealt to groups where that takes less
/// time, by counted work on a nominal machine. Local.
[[nodiscard]] std::vector<Wave> refit_waves(const Network& network, const std::vector<std::string>& dense_reasons,
                                            const Allotment& allotment, const Configuration& config,
                                            const std::vector<int>& ranks_of_group);
/// Who finds the structure of which layer, likewise. Local.
[[nodiscard]] std::vector<Turn> first_turns(const Network& network, const std::vector<std::string>& dense_reasons,
                                            const Allotment& allotment, const Configuration& config,
                                            const std::vector<int>& ranks_of_group);

/// The allotment with the starts of relaxed iterations on the grid of the group whose turn the layer is, `grid` of this
/// rank's group. Collective over all ranks.
[[nodiscard]] Allotment on_groups(const NodeGroups& groups, const Grid& grid, const Network& network,
                                  const Allotment& from, const std::vector<Turn>& turns);

/// The sweep of slr/run/sweep.hpp by groups. `job` has all ranks. Finished layers are kept in files below `files`.
/// Collective over all ranks; the same result on every rank.
[[nodiscard]] SweepResult parallel_sweep(const NodeGroups& groups, const LayerJob& job,
                                         const std::vector<std::string>& dense_reasons, const ImageFeed* feed,
                                         std::optional<std::int64_t> parameter_limit, const OutputFiles& files);

} // namespace slr::run
