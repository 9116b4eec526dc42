#pragma once
// A sweep over the layers of a network, step by step: one schedule does all steps, another some of them.
#include "layer_solver.hpp"

#include <filesystem>
#include <functional>

namespace slr::run {

/// A compressed network that grows layer by layer, in topological order. Collective over the job's ranks; the same on
/// every rank but for the frontier.
class LayerSweep {
public:
  /// `job` outlives the object.
  LayerSweep(const LayerJob& job, std::vector<std::string> dense_reasons, std::optional<std::int64_t> parameter_limit,
             std::filesystem::path inputs_folder);

  [[nodiscard]] std::size_t next() const { return result_.layers.size(); } ///< the layer that comes next
  [[nodiscard]] bool is_over() const { return next() == job_.network.layers.size(); }
  /// Whether the next layer stays dense without being looked at.
  [[nodiscard]] bool is_next_dense() const { return !reasons_[next()].empty(); }
  [[nodiscard]] const SweepResult& result() const { return result_; }
  [[nodiscard]] SweepResult take_result() { return std::move(result_); }

  /// From now on the images are followed from here on.
  void follow(Frontier frontier) { frontier_.emplace(std::move(frontier)); }
  /// Goes on to the next layer that does not stay dense, as solving it would, and ends following there: for others to
  /// follow. Nothing if there is no such layer, or no images are followed.
  [[nodiscard]] std::vector<Frontier::Batch> leave();

  /// Puts a layer that was solved before into the network; where images are followed, they go on to it.
  void take(LayerOutcome earlier);
  /// Solves the next layer.
  void solve();

private:
  void put(LayerOutcome outcome);
  [[nodiscard]] std::vector<float> inputs_of_next(bool is_wanted);
  [[nodiscard]] std::optional<std::int64_t> allowance() const;

  const LayerJob& job_;
  std::vector<std::string> reasons_;
  std::optional<std::int64_t> limit_;
  std::filesystem::path inputs_folder_;
  Share share_;
  infer::Sampling sampling_;
  LayerBudget budget_; ///< of the layers to come, if there is a limit
  SweepResult result_;
  std::optional<Frontier> frontier_;
};

} // namespace slr::run
