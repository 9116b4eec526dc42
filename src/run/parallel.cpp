#include "parallel.hpp"

#include "group_checkpoints.hpp"
#include "slr/base/trace.hpp"
#include "slr/dist/redistribute.hpp"
#include "slr/layer/block_columns.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/run/layer_work.hpp"

#include <algorithm>
#include <chrono>
#include <map>

namespace slr::run {
namespace {

using Outcomes = std::vector<std::optional<LayerOutcome>>;

/// The layers that a group works on, in its own words.
class GroupWork {
public:
  GroupWork(const NodeGroups& groups, const LayerJob& job)
      : groups_(groups), job_(job), grid_(ProcessGrid::row(groups.group())), checkpoints_(groups, job.checkpoints),
        share_(share_of_rank(groups.group(), job.config.calibration.images)) {}

  [[nodiscard]] Share share() const { return share_; }
  [[nodiscard]] const Grid& grid() const { return grid_; }

  /// Does this group's turns that nobody has done yet: `solve` collectively over the group.
  template <class Solve>
  void run(const std::vector<Turn>& turns, const Allotment& allotment, bool decides_only, const OutcomeFiles& files,
           Outcomes& outcomes, Solve&& solve) {
    const LayerJob mine{groups_.group(), grid_,         job_.network, allotment,   job_.features,
                        job_.config,     job_.progress, checkpoints_, decides_only};
    for (const auto& turn : turns) {
      if (turn.group != groups_.mine() || outcomes[turn.job]) continue;
      const auto start = std::chrono::steady_clock::now();
      const auto& layer = job_.network.layers[turn.job];
      job_.progress.layer(static_cast<std::int64_t>(turn.job), std::ssize(job_.network.layers), layer.name);
      const TraceSpan span(TraceKind::layer, layer.name + ", group " + std::to_string(groups_.mine() + 1));
      auto outcome = dense_outcome(job_.network, turn.job, "");
      solve_or_keep_dense(mine, outcome, [&] { solve(mine, turn.job, outcome); });
      outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      on_root(groups_.group(), [&] { files.save(turn.job, outcome); });
      outcomes[turn.job] = std::move(outcome);
      checkpoints_.poll();
    }
  }

private:
  const NodeGroups& groups_;
  const LayerJob& job_;
  Grid grid_;
  GroupCheckpoints checkpoints_;
  Share share_;
};

/// What each layer may cost, in proportion to what it is expected to need.
std::vector<std::optional<std::int64_t>> allowances(const LayerJob& job, const std::vector<std::string>& reasons,
                                                    std::optional<std::int64_t> limit) {
  std::vector<std::optional<std::int64_t>> result(reasons.size());
  if (!limit) return result;
  const auto budget = budget_of(job, reasons, *limit);
  for (std::size_t i = 0; i < reasons.size(); ++i)
    if (reasons[i].empty()) result[i] = budget.share(job.allotment.parameters[i]);
  return result;
}

/// Structure and pull of every layer, on the original inputs.
Outcomes find_structures(const NodeGroups& groups, GroupWork& work, const LayerJob& job,
                         const std::vector<std::string>& reasons, std::optional<std::int64_t> limit,
                         const std::filesystem::path& folder) {
  const auto turns = first_turns(job.network, reasons, job.allotment, job.config, groups.sizes());
  const OutcomeFiles files(folder, "structure");
  auto outcomes = files.load(job.comm, job.network);
  const auto may_cost = allowances(job, reasons, limit);
  const auto allotment = on_groups(groups, work.grid(), job.network, job.allotment, turns);
  job.progress.stage("structures", std::ssize(job.network.layers),
                     solve_weights(job.network, reasons, job.allotment.parameters, job.config));
  groups.run([&] {
    work.run(turns, allotment, true, files, outcomes, [&](const LayerJob& mine, std::size_t i, LayerOutcome& outcome) {
      const auto prepared =
          prepare_problem(mine.comm, job.network, job.network.layers[i], job.features, work.share(), {});
      solve_layer(mine, prepared, i, may_cost[i], outcome);
    });
  });
  share_outcomes(groups, job.network, turns, outcomes);
  return outcomes;
}

/// The refit of a parallel sweep.
class Refit {
public:
  Refit(const NodeGroups& groups, GroupWork& work, const LayerJob& job, const std::vector<std::string>& reasons,
        const Outcomes& first, const ImageFeed* feed, const OutputFiles& files)
      : groups_(groups), work_(work), job_(job), reasons_(reasons), first_(first), files_(files),
        finished_(files.layers(), "layer"), share_(share_of_rank(job.comm, job.config.calibration.images)),
        sampling_(sampling_of(job.config)), model_(job.network.model),
        outcomes_(finished_.load(job.comm, job.network)) {
    const bool is_over = std::all_of(outcomes_.begin(), outcomes_.end(), [](const auto& o) { return o.has_value(); });
    if (job.config.calibration.inputs != CalibrationInputs::compressed || is_over) return;
    require(feed != nullptr, "compressed inputs need images");
    const auto place = scratch_place(job.comm, job.config);
    collectively(job.comm, [&] { frontier_.emplace(job.network, *feed, share_, place); });
  }

  void run(const Wave& wave) {
    const auto inputs = follow(wave);
    if (wave.turns.empty())
      for (std::size_t l = 0; l < wave.layers.size(); ++l) together(wave.layers[l], inputs[l]);
    else
      apart(wave);
    for (const auto i : wave.layers)
      if (outcomes_[i]->is_compressed) replace(job_.network.layers[i], model_, *outcomes_[i]);
    job_.checkpoints.poll();
  }

  SweepResult finish() {
    SweepResult result{std::move(model_), {}, false};
    for (std::size_t i = 0; i < reasons_.size(); ++i) {
      auto blank = dense_outcome(job_.network, i, reasons_[i]);
      if (!outcomes_[i]) {
        result.layers.push_back(std::move(blank));
        continue;
      }
      auto outcome = std::move(*outcomes_[i]);
      if (!outcome.is_compressed) outcome.parameters_after = blank.parameters_before;
      outcome.name = blank.name;
      outcome.rows = blank.rows;
      outcome.cols = blank.cols;
      outcome.parameters_before = blank.parameters_before;
      outcome.structure_seconds = first_[i]->seconds;
      result.is_failure_tolerated = result.is_failure_tolerated || outcome.dense_reason.starts_with(failed_layer);
      result.layers.push_back(std::move(outcome));
    }
    return result;
  }

private:
  /// The inputs of a wave's layers in the network so far, in memory and in shards.
  std::vector<std::vector<float>> follow(const Wave& wave) {
    std::vector<std::vector<float>> inputs(wave.layers.size());
    for (std::size_t l = 0; frontier_ && l < wave.layers.size(); ++l) {
      const auto& layer = job_.network.layers[wave.layers[l]];
      const bool is_wanted = !outcomes_[wave.layers[l]];
      inputs[l] = collectively(job_.comm, [&] {
        // Everything before the first of them is final; the others are looked at from there.
        if (l == 0) return frontier_->inputs_of(model_, layer.name, sampling_, is_wanted);
        return is_wanted ? frontier_->inputs_ahead(model_, layer.name, sampling_) : std::vector<float>();
      });
      if (is_wanted) rewrite_inputs(job_, layer, share_, inputs[l], files_.features());
    }
    return inputs;
  }

  /// One layer on all ranks.
  void together(std::size_t i, const std::vector<float>& inputs) {
    const auto& layer = job_.network.layers[i];
    const Checkpoints::Unit unit(job_.checkpoints, "layer-" + std::to_string(i));
    if (outcomes_[i]) return;
    const auto start = std::chrono::steady_clock::now();
    job_.progress.layer(static_cast<std::int64_t>(i), std::ssize(job_.network.layers), layer.name);
    const TraceSpan span(TraceKind::layer, layer.name);
    auto outcome = dense_outcome(job_.network, i, first_[i]->dense_reason);
    if (first_[i]->is_compressed)
      solve_or_keep_dense(job_, outcome, [&] {
        refit_layer(job_, prepare_problem(job_.comm, job_.network, layer, job_.features, share_, inputs), *first_[i],
                    outcome);
      });
    outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    on_root(job_.comm, [&] { finished_.save(i, outcome); });
    outcomes_[i] = unpacked_outcome(packed_outcome(outcome), job_.network, i);
  }

  /// Several layers at the same time, each on a group, from the shards that all ranks have written.
  void apart(const Wave& wave) {
    groups_.run([&] {
      work_.run(
          wave.turns, job_.allotment, false, finished_, outcomes_,
          [&](const LayerJob& mine, std::size_t i, LayerOutcome& outcome) {
            outcome.dense_reason = first_[i]->dense_reason;
            if (!first_[i]->is_compressed) return;
            const auto& layer = job_.network.layers[i];
            std::vector<float> inputs;
            if (frontier_) {
              const auto shards =
                  store::FeatureSet::open(mine.comm, store::inputs_folder(files_.features(), layer.name).string());
              inputs = collectively(mine.comm, [&] { return inputs_in(shards, layer.name, work_.share()); });
            }
            refit_layer(mine, prepare_problem(mine.comm, job_.network, layer, job_.features, work_.share(), inputs),
                        *first_[i], outcome);
          });
    });
    share_outcomes(groups_, job_.network, wave.turns, outcomes_);
  }

  const NodeGroups& groups_;
  GroupWork& work_;
  const LayerJob& job_;
  const std::vector<std::string>& reasons_;
  const Outcomes& first_;
  const OutputFiles& files_;
  OutcomeFiles finished_;
  Share share_;
  infer::Sampling sampling_;
  graph::Model model_;
  Outcomes outcomes_;
  std::optional<Frontier> frontier_;
};

} // namespace

Allotment on_groups(const NodeGroups& groups, const Grid& grid, const Network& network, const Allotment& from,
                    const std::vector<Turn>& turns) {
  auto result = no_limit(network);
  result.parameters = from.parameters;
  result.splits = from.splits;
  result.pulls = from.pulls;
  result.lambda_factor = from.lambda_factor;
  for (const auto& turn : turns) {
    const auto& point = from.points[turn.job];
    if (!point) continue;
    const auto& layer = network.layers[turn.job];
    const auto a = gather_everywhere(point->a), b = gather_everywhere(point->b);
    if (turn.group != groups.mine()) continue;
    const auto placed = [&](const std::vector<double>& whole) {
      auto matrix = make_block_columns(grid, layer.rows, layer.cols, layer.group_columns());
      take_local(std::span<const double>(whole), matrix);
      return matrix;
    };
    result.points[turn.job] = RelaxedPoint{placed(a), placed(b), point->bias};
  }
  return result;
}

std::vector<int> layer_levels(const Network& network, const std::vector<bool>& is_counted) {
  std::map<std::size_t, std::size_t> layer_at; // by node
  for (std::size_t i = 0; i < network.layers.size(); ++i)
    for (const auto* use : network.layers[i].uses()) layer_at[use->node] = i;
  std::map<std::string, int> level_of; // of values
  std::vector<int> levels(network.layers.size(), 0);
  for (std::size_t n = 0; n < network.model.nodes.size(); ++n) {
    const auto& node = network.model.nodes[n];
    int level = 0;
    for (const auto& input : node.inputs)
      if (const auto found = level_of.find(input); found != level_of.end()) level = std::max(level, found->second);
    if (const auto layer = layer_at.find(n); layer != layer_at.end()) {
      // With several nodes it is solved at the first one.
      auto& own = levels[layer->second];
      if (n == network.layers[layer->second].node) own = level;
      level = std::max(level, is_counted[layer->second] ? own + 1 : own);
    }
    for (const auto& output : node.outputs) level_of[output] = level;
  }
  return levels;
}

std::vector<Turn> first_turns(const Network& network, const std::vector<std::string>& dense_reasons,
                              const Allotment& allotment, const Configuration& config,
                              const std::vector<int>& ranks_of_group) {
  return deal_largest_first(
      layer_times(network, dense_reasons, allotment, config, Solution::first, ranks_of_group, nominal_machine));
}

std::vector<Wave> refit_waves(const Network& network, const std::vector<std::string>& dense_reasons,
                              const Allotment& allotment, const Configuration& config,
                              const std::vector<int>& ranks_of_group) {
  std::vector<bool> is_counted;
  for (const auto& reason : dense_reasons) is_counted.push_back(reason.empty());
  const auto levels = layer_levels(network, is_counted);
  std::map<int, Wave> waves;
  for (std::size_t i = 0; i < levels.size(); ++i)
    if (is_counted[i]) waves[levels[i]].layers.push_back(i);
  const auto times =
      layer_times(network, dense_reasons, allotment, config, Solution::refit, ranks_of_group, nominal_machine);
  int ranks = 0;
  for (const int each : ranks_of_group) ranks += each;
  const auto alone = layer_times(network, dense_reasons, allotment, config, Solution::refit, {ranks}, nominal_machine);
  std::vector<Wave> result;
  for (auto& [level, wave] : waves) {
    JobTimes here(times.size(), std::vector<double>(ranks_of_group.size(), 0.0));
    double in_turns = 0;
    for (const auto i : wave.layers) {
      here[i] = times[i];
      in_turns += alone[i][0];
    }
    auto turns = deal_largest_first(here);
    if (wave.layers.size() > 1 && end_of(turns) < in_turns) wave.turns = std::move(turns);
    result.push_back(std::move(wave));
  }
  return result;
}

SweepResult parallel_sweep(const NodeGroups& groups, const LayerJob& job, const std::vector<std::string>& dense_reasons,
                           const ImageFeed* feed, std::optional<std::int64_t> parameter_limit,
                           const OutputFiles& files) {
  (void)job.checkpoints.take("sweep"); // what it holds lies in files, too
  const auto reasons = reasons_with(job, dense_reasons, parameter_limit);
  GroupWork work(groups, job);
  const auto first = find_structures(groups, work, job, reasons, parameter_limit, files.layers());
  job.checkpoints.poll();
  Refit refit(groups, work, job, reasons, first, feed, files);
  job.progress.stage("solve", std::ssize(job.network.layers),
                     solve_weights(job.network, reasons, job.allotment.parameters, job.config));
  for (const auto& wave : refit_waves(job.network, reasons, job.allotment, job.config, groups.sizes())) refit.run(wave);
  return refit.finish();
}

} // namespace slr::run
