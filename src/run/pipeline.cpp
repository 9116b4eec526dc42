#include "pipeline.hpp"

#include "group_checkpoints.hpp"
#include "layer_sweep.hpp"
#include "parallel.hpp"
#include "slr/base/trace.hpp"
#include "slr/mpi/packed_state.hpp"
#include "slr/mpi/parcels.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>

namespace slr::run {
namespace {

/// Tests set SLR_TEST_DELAYS to a seed: groups then wait for random times at the boundaries of stages.
class Delays {
public:
  explicit Delays(int rank) {
    if (const char* seed = std::getenv("SLR_TEST_DELAYS"))
      engine_.emplace(static_cast<unsigned>(std::strtoul(seed, nullptr, 10) * 1000 + static_cast<unsigned>(rank)));
  }
  void wait() {
    constexpr unsigned longest_milliseconds = 60;
    if (engine_) std::this_thread::sleep_for(std::chrono::milliseconds((*engine_)() % longest_milliseconds));
  }

private:
  std::optional<std::mt19937> engine_;
};

/// The part [first, first + count) of a batch's images, packed.
void pack_part(const Frontier::Batch& batch, std::int64_t first, std::int64_t count, std::int64_t number,
               PackedState& to) {
  const auto name = std::to_string(number);
  to.put_integers(name, {first, count, std::ssize(batch.values)});
  std::int64_t v = 0;
  for (const auto& [value, array] : batch.values) {
    const auto part = name + "." + std::to_string(v++);
    const auto per_image = std::ssize(array.data) / std::max<std::int64_t>(1, batch.count);
    auto dims = array.dims;
    dims.front() = count;
    to.put_text(part + ".name", value);
    to.put_integers(part + ".dims", {dims.begin(), dims.end()});
    to.put(part + ".data", std::span<const float>(array.data)
                               .subspan(static_cast<std::size_t>((first - batch.first) * per_image),
                                        static_cast<std::size_t>(count * per_image)));
  }
}

std::vector<Frontier::Batch> unpack_parts(const std::string& bytes) {
  UnpackedState from(bytes);
  std::vector<Frontier::Batch> batches;
  for (std::int64_t b = 0; from.has(std::to_string(b)); ++b) {
    const auto name = std::to_string(b);
    const auto numbers = from.get<std::int64_t>(name);
    auto& batch = batches.emplace_back();
    batch.first = numbers.at(0);
    batch.count = numbers.at(1);
    for (std::int64_t v = 0; v < numbers.at(2); ++v) {
      const auto part = name + "." + std::to_string(v);
      auto& array = batch.values[from.text(part + ".name")];
      const auto dims = from.get<std::int64_t>(part + ".dims");
      array.dims.assign(dims.begin(), dims.end());
      array.data = from.get<float>(part + ".data");
    }
  }
  return batches;
}

/// The images that two shares have in common.
Share common(Share a, Share b) {
  const auto first = std::max(a.first, b.first), end = std::min(a.first + a.count, b.first + b.count);
  return {first, std::max<std::int64_t>(0, end - first)};
}

/// This rank's part in the pipeline.
class Stages {
public:
  Stages(const NodeGroups& groups, const std::vector<PipelineItem>& items, Progress& progress,
         const Checkpoints& checkpoints)
      : groups_(groups), items_(items), progress_(progress), grid_(ProcessGrid::row(groups.group())),
        checkpoints_(groups, checkpoints), outbox_(groups), delays_(groups.world().rank()), solved_(items.size()) {
    for (const auto& item : items) {
      std::vector<Turn> turns;
      for (int g = 0; g < groups.count(); ++g)
        for (auto l = item.stages[std::size_t(g)]; l < item.stages[std::size_t(g) + 1]; ++l) turns.push_back({l, g});
      allotments_.push_back(on_groups(groups, grid_, item.network, item.allotment, turns));
      saved_.push_back(OutcomeFiles(item.files.layers(), "layer").load(groups.world(), item.network));
      places_.push_back(scratch_place(groups.world(), item.config));
    }
  }

  void run() {
    for (std::size_t i = 0; i < items_.size(); ++i)
      if (has_layers(i, groups_.mine())) run(i);
    outbox_.finish();
  }

  /// What the last group of every item has, on all ranks.
  std::vector<std::vector<LayerOutcome>> share() {
    std::vector<std::vector<LayerOutcome>> result(items_.size());
    for (std::size_t i = 0; i < items_.size(); ++i) {
      const auto& network = items_[i].network;
      const int root = groups_.members(last_group(i)).front();
      for (std::size_t l = 0; l < network.layers.size(); ++l) {
        std::string bytes;
        if (groups_.world().rank() == root) bytes = packed_outcome(solved_[i].at(l));
        result[i].push_back(unpacked_outcome(groups_.world().broadcast_text(bytes, root), network, l));
      }
    }
    return result;
  }

private:
  [[nodiscard]] bool has_layers(std::size_t item, int group) const {
    const auto& first = items_[item].stages;
    return first[std::size_t(group)] < first[std::size_t(group) + 1];
  }
  /// The next group with layers, from `group` in steps of +1 or -1; none: -1.
  [[nodiscard]] int neighbour(std::size_t item, int group, int step) const {
    for (int g = group + step; g >= 0 && g < groups_.count(); g += step)
      if (has_layers(item, g)) return g;
    return -1;
  }
  [[nodiscard]] int last_group(std::size_t item) const { return std::max(0, neighbour(item, groups_.count(), -1)); }
  [[nodiscard]] Share share_in(std::size_t item, int group, int member) const {
    return share_of(member, groups_.size(group), items_[item].config.calibration.images);
  }

  /// This group's layers of one item.
  void run(std::size_t i) {
    const auto& item = items_[i];
    const auto& group = groups_.group();
    const LayerJob job{group, grid_, item.network, allotments_[i], item.features, item.config, progress_, checkpoints_};
    LayerSweep steps(job, item.dense_reasons, item.limit, item.files.features());
    const auto span_name = "item " + std::to_string(i + 1) + ", group " + std::to_string(groups_.mine() + 1);
    const TraceSpan span(TraceKind::stage, span_name);
    const int before = neighbour(i, groups_.mine(), -1), behind = neighbour(i, groups_.mine(), 1);
    const bool is_followed = item.config.calibration.inputs == CalibrationInputs::compressed;
    if (before >= 0)
      receive(i, before, steps, is_followed);
    else if (is_followed)
      steps.follow(collectively(group, [&] {
        return Frontier(item.network, item.feed, share_of_rank(group, item.config.calibration.images), places_[i]);
      }));
    const OutcomeFiles files(item.files.layers(), "layer");
    const auto end = item.stages[std::size_t(groups_.mine()) + 1], count = item.network.layers.size();
    while (steps.next() < end) {
      const auto l = steps.next();
      progress_.layer(static_cast<std::int64_t>(l), static_cast<std::int64_t>(count),
                      item.network.layers[l].name + " of item " + std::to_string(i + 1));
      if (saved_[i][l]) {
        steps.take(std::move(*saved_[i][l]));
        continue;
      }
      const bool is_dense = steps.is_next_dense();
      steps.solve();
      if (!is_dense) on_root(group, [&] { files.save(l, steps.result().layers.back()); });
      checkpoints_.poll();
    }
    if (behind >= 0)
      send(i, behind, steps.leave(), steps.result().layers);
    else
      solved_[i] = steps.result().layers;
  }

  /// Layers and images go on to the next group; the item before must have been taken.
  void send(std::size_t i, int to, std::vector<Frontier::Batch> batches, const std::vector<LayerOutcome>& layers) {
    collectively(groups_.group(), [&] {
      delays_.wait();
      outbox_.finish();
      const int tag = static_cast<int>(i);
      if (groups_.group().is_root()) {
        PackedState state;
        state.put_integers("layers", {std::ssize(layers)});
        for (std::size_t l = 0; l < layers.size(); ++l) state.put_text(std::to_string(l), packed_outcome(layers[l]));
        outbox_.send(state.bytes(), groups_.members(to).front(), tag);
      }
      const auto mine = share_in(i, groups_.mine(), groups_.group().rank());
      for (int member = 0; member < groups_.size(to); ++member) {
        const auto wanted = common(mine, share_in(i, to, member));
        if (wanted.count == 0) continue;
        PackedState state;
        std::int64_t number = 0;
        for (const auto& batch : batches) {
          const auto part = common(wanted, {batch.first, batch.count});
          if (part.count > 0) pack_part(batch, part.first, part.count, number++, state);
        }
        outbox_.send(state.bytes(), groups_.members(to)[std::size_t(member)], tag);
      }
    });
  }

  void receive(std::size_t i, int from, LayerSweep& steps, bool is_followed) {
    const auto& group = groups_.group();
    const int tag = static_cast<int>(i);
    std::string layers;
    auto batches = collectively(group, [&] {
      delays_.wait();
      if (group.is_root()) layers = receive_parcel(groups_, groups_.members(from).front(), tag);
      std::vector<Frontier::Batch> result;
      const auto mine = share_in(i, groups_.mine(), group.rank());
      for (int member = 0; member < groups_.size(from); ++member) {
        if (common(mine, share_in(i, from, member)).count == 0) continue;
        for (auto& batch : unpack_parts(receive_parcel(groups_, groups_.members(from)[std::size_t(member)], tag)))
          result.push_back(std::move(batch));
      }
      return result;
    });
    layers = group.broadcast_text(layers);
    UnpackedState state(layers);
    const auto count = state.get<std::int64_t>("layers").at(0);
    for (std::int64_t l = 0; l < count; ++l)
      steps.take(unpacked_outcome(state.text(std::to_string(l)), items_[i].network, static_cast<std::size_t>(l)));
    if (is_followed) steps.follow(Frontier(std::move(batches), places_[i]));
  }

  const NodeGroups& groups_;
  const std::vector<PipelineItem>& items_;
  std::vector<ScratchPlace> places_; ///< of each item
  Progress& progress_;
  Grid grid_;
  GroupCheckpoints checkpoints_;
  Outbox outbox_;
  Delays delays_;
  std::vector<Allotment> allotments_;                           ///< on this group's grid
  std::vector<std::vector<std::optional<LayerOutcome>>> saved_; ///< of an earlier start
  std::vector<std::vector<LayerOutcome>> solved_;               ///< items that end in this group
};

} // namespace

std::vector<std::vector<LayerOutcome>> run_pipeline(const NodeGroups& groups, const std::vector<PipelineItem>& items,
                                                    Progress& progress, const Checkpoints& checkpoints) {
  Stages stages(groups, items, progress, checkpoints);
  progress.stage("solve", 0);
  groups.run([&] { stages.run(); });
  return stages.share();
}

} // namespace slr::run
