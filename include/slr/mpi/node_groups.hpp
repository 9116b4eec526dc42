#pragma once
/// \file
/// The ranks of a job in groups that work on different things, and how a failure of one ends all.
#include "slr/mpi/agree.hpp"
#include "slr/mpi/communicator.hpp"

#include <span>
#include <vector>

namespace slr {

/// The group of every rank, of `groups`, from the node of every rank: nodes stay whole where there are at most as many
/// groups as nodes, else groups stay within one node; so far as that allows, the groups have equal sizes. Groups are
/// numbered in the order of the nodes' first ranks. Local, pure.
/// \pre 1 <= groups <= node_of_rank.size()
[[nodiscard]] std::vector<int> deal_ranks(std::span<const int> node_of_rank, int groups);

/// The node of every rank, called by its first rank. Collective.
[[nodiscard]] std::vector<int> nodes_of(const Communicator& world);
/// How many ranks each group has. Local, pure. \pre as deal_ranks
[[nodiscard]] std::vector<int> group_sizes(std::span<const int> node_of_rank, int groups);

/// The ranks of the job, split along the boundaries of nodes (`deal_ranks`).
class NodeGroups {
public:
  /// Collective. \pre 1 <= groups <= world.size(); `world` outlives the object
  NodeGroups(const Communicator& world, int groups);

  [[nodiscard]] int count() const { return static_cast<int>(members_.size()); }
  [[nodiscard]] int mine() const { return mine_; }                        ///< number of this rank's group
  [[nodiscard]] const Communicator& group() const { return group_; }      ///< of this rank
  [[nodiscard]] const Communicator& world() const { return world_; }      ///< all groups
  [[nodiscard]] const Communicator& messages() const { return parcels_; } ///< all ranks again, for messages in between
  /// Ranks in the world, by their rank in the group.
  [[nodiscard]] const std::vector<int>& members(int group) const { return members_[static_cast<std::size_t>(group)]; }
  [[nodiscard]] int size(int group) const { return static_cast<int>(members(group).size()); }
  [[nodiscard]] std::vector<int> sizes() const;

  /// Whether another group has failed. Local, cheap: to be asked now and then while a group works.
  [[nodiscard]] bool has_other_failed() const;
  /// What then ends the work of this group; `run` knows it again.
  [[nodiscard]] static Error other_failed();

  /// Every group does its part: `work` is collective over the group alone. Collective over the world. A group whose
  /// work fails tells all others, which end at the next place where they ask; then every rank throws the error of the
  /// smallest rank that failed by itself. Where a rank fails without its group, it waits `patience_seconds` for the
  /// others and throws its error alone: the program ends then without them (slr/run/program.hpp).
  template <class Work>
  void run(Work&& work) const {
    std::optional<Error> mine;
    try {
      std::forward<Work>(work)();
    } catch (...) {
      mine = current_error();
    }
    meet(mine);
  }

private:
  static constexpr double patience_seconds = 10;
  void meet(std::optional<Error> mine) const;

  const Communicator& world_;
  int mine_ = 0;
  std::vector<std::vector<int>> members_;
  Communicator group_, alerts_, parcels_;
  mutable bool has_heard_ = false;
};

} // namespace slr
