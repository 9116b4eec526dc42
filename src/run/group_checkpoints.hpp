#pragma once
// What one group of ranks does while the others do something else: when it ends early, and what it has finished.
#include "slr/mpi/node_groups.hpp"
#include "slr/plan/assignment.hpp"
#include "slr/run/sweep.hpp"

#include <filesystem>
#include <optional>
#include <vector>

namespace slr::run {

/// The places of a group's work at which it stops, because the job is to stop or another group has failed. Nothing is
/// saved there: what is finished lies in OutcomeFiles.
class GroupCheckpoints : public Checkpoints {
public:
  GroupCheckpoints(const NodeGroups& groups, const Checkpoints& job)
      : Checkpoints(groups.group()), groups_(groups), job_(job) {}
  [[nodiscard]] Wish wish() const override { return groups_.has_other_failed() ? Wish::stop_by_others : job_.wish(); }
  [[nodiscard]] std::string stop_sentence(Wish reason) const override {
    return reason == Wish::stop_by_others ? NodeGroups::other_failed().what() : job_.stop_sentence(reason);
  }

private:
  const NodeGroups& groups_;
  const Checkpoints& job_;
};

/// A layer's outcome as bytes, and back (factors in single precision, as they are written). Local. \throws
/// Error{bad_data}
[[nodiscard]] std::string packed_outcome(const LayerOutcome& outcome);
[[nodiscard]] LayerOutcome unpacked_outcome(const std::string& bytes, const Network& network, std::size_t index);

/// Layers that are finished, each as bytes in a file of its own in a folder of the job, so that a job that was ended in
/// whatever way goes on behind them.
class LayerFiles {
public:
  /// `kind` tells one list of layers in the folder from another.
  LayerFiles(std::filesystem::path folder, std::string kind) : folder_(std::move(folder)), kind_(std::move(kind)) {}
  /// Local, on one rank. \throws Error{io}
  void save(std::size_t index, const std::string& bytes) const;
  void remove(std::size_t index) const;
  /// Empty where there is none. Collective; the same on every rank.
  [[nodiscard]] std::string load(const Communicator& comm, std::size_t index) const;

private:
  [[nodiscard]] std::filesystem::path file(std::size_t index) const;
  std::filesystem::path folder_;
  std::string kind_;
};

/// Outcomes in such files. Damaged ones do not count.
class OutcomeFiles {
public:
  OutcomeFiles(std::filesystem::path folder, std::string kind) : files_(std::move(folder), std::move(kind)) {}
  /// Local, on one rank. \throws Error{io}
  void save(std::size_t index, const LayerOutcome& outcome) const;
  /// What is there of every layer. Collective; the same on every rank.
  [[nodiscard]] std::vector<std::optional<LayerOutcome>> load(const Communicator& comm, const Network& network) const;

private:
  LayerFiles files_;
};

/// Every turn's outcome from the group that has it to all ranks. Collective over all groups.
void share_outcomes(const NodeGroups& groups, const Network& network, const std::vector<Turn>& turns,
                    std::vector<std::optional<LayerOutcome>>& outcomes);

} // namespace slr::run
