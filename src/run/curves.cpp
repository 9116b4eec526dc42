#include "slr/run/curves.hpp"

#include "group_checkpoints.hpp"
#include "output_probe.hpp"
#include "slr/base/trace.hpp"
#include "slr/graph/count.hpp"
#include "slr/graph/rewrite.hpp"
#include "slr/infer/latency.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/run/budget.hpp"
#include "slr/run/compressed_layer.hpp"
#include "slr/run/held_arrays.hpp"
#include "slr/run/layer_work.hpp"

#include <algorithm>

namespace slr::run {
namespace {

constexpr std::array group_shares{0.0, 1.0 / 16, 1.0 / 8, 1.0 / 4, 1.0 / 2}; // of a layer's groups
constexpr double largest_cost = 0.9; // of the dense layer: what costs more is written dense anyway
constexpr double largest_implicit_cost = 0.25;
constexpr double rank_step = 0.5; // from one rank of a row to the next
constexpr std::int64_t trial_iterations = 1;
constexpr double samples_per_column = 3; // are enough to compare structures
constexpr std::int64_t largest_thinning = 8;
constexpr double largest_layer_macs = 5e11; // of all probes of a layer; one is made in any case
constexpr double smallest_kl = 1e-12;
constexpr double far_apart = 30; // KL divergences of which two points do not tell what lies between them

/// How often the network is measured with a layer replaced.
enum class Probing {
  twice,     ///< at a quarter and at three quarters of every row, where budgets usually fall
  once,      ///< the same in the first row, and in the middle of the others
  in_a_point ///< in the middle of the first row only
};

/// The most that a layer's part of the network, so many products for the images of one probe, allows.
Probing affordable_probing(double macs, std::size_t rows) {
  const auto n = static_cast<double>(rows);
  return 2 * n * macs <= largest_layer_macs     ? Probing::twice
         : (n + 1) * macs <= largest_layer_macs ? Probing::once
                                                : Probing::in_a_point;
}

/// Whether the network is measured with this point of a row.
bool is_probed(std::size_t row, std::size_t point, std::size_t points, Probing probing) {
  const auto quarter = points / 4;
  if (probing == Probing::twice || (probing == Probing::once && row == 0))
    return point == quarter || point == points - 1 - quarter;
  return point == points / 2 && (row == 0 || probing == Probing::once);
}

/// Whether a point between those measured is worth a run of the network, too.
bool needs_middle(const CurveRow& row) {
  std::vector<double> measured;
  for (const auto& point : row)
    if (point.kl) measured.push_back(std::max(*point.kl, smallest_kl));
  return measured.size() == 2 && measured.back() > far_apart * measured.front();
}

/// The rows of a layer's path; without groups, and only to a quarter of its cost, where there are few samples for many
/// columns. `by_cost`: parameters alone tell which structure is the better one.
std::vector<PathRow> rows_of(const graph::Layer& layer, std::int64_t dense, bool is_implicit, bool by_cost) {
  const double largest = is_implicit ? largest_implicit_cost : largest_cost;
  std::vector<PathRow> rows;
  for (const double share : group_shares) {
    PathRow row{static_cast<std::int64_t>(std::llround(share * static_cast<double>(layer.group_count()))), {}};
    if (is_implicit && row.groups > 0) break;
    if (std::any_of(rows.begin(), rows.end(), [&](const PathRow& r) { return r.groups == row.groups; })) continue;
    const auto cost = [&](std::int64_t rank) {
      return static_cast<double>(graph::cheapest_form(layer, rank, row.groups).parameters);
    };
    auto rank = layer.largest_rank(row.groups);
    while (rank > 0 && cost(rank) > largest * static_cast<double>(dense)) --rank;
    const std::int64_t least = row.groups > 0 && layer.grouping != Grouping::filter ? 0 : 1;
    if (cost(rank) > largest * static_cast<double>(dense) || rank < least) continue;
    for (; rank > least; rank = std::min(rank - 1, static_cast<std::int64_t>(rank_step * static_cast<double>(rank))))
      row.ranks.push_back(rank);
    row.ranks.push_back(least);
    for (std::size_t r = 0; r < row.ranks.size(); ++r)
      if (r != row.ranks.size() / 2 && !is_probed(rows.size(), r, row.ranks.size(), Probing::twice))
        row.estimated.push_back(row.ranks[r]);
    if (by_cost)
      for (const auto each : row.ranks) row.costs.push_back(cost(each));
    rows.push_back(std::move(row));
  }
  return rows;
}

/// Every which block of images is enough for this layer's path.
std::int64_t thinning_of(const graph::Layer& layer, const store::FeatureSet& features, const Configuration& config) {
  const auto samples = static_cast<double>(config.calibration.images * features.layer(layer.name).positions);
  std::int64_t thinning = 1;
  while (2 * thinning <= largest_thinning &&
         samples / static_cast<double>(2 * thinning) >= samples_per_column * static_cast<double>(layer.cols))
    thinning *= 2;
  return thinning;
}

/// Times the network and its layers on rank 0, or nothing if nobody asks.
class Stopwatch {
public:
  Stopwatch(const Communicator& comm, const Network& network, bool is_wanted)
      : comm_(comm), network_(network), is_wanted_(is_wanted) {
    if (is_wanted) shapes_ = graph::infer_shapes(network.model);
  }
  [[nodiscard]] double network() const {
    return timed([&] { return infer::measure_latency(network_.model).median_seconds; });
  }
  /// Of the layer with its replacement, or as it is.
  [[nodiscard]] double layer(const graph::Layer& layer, const graph::CompressedLayer* replacement) const {
    return timed([&] {
      auto model = network_.model;
      if (replacement) (void)graph::replace_layer(model, layer, *replacement);
      double seconds = 0;
      for (const auto* use : layer.uses()) {
        const auto shape = shapes_.find(use->input);
        if (shape == shapes_.end())
          throw Error(ExitCode::bad_data, "layer " + layer.name +
                                              ": the dimensions of its input are unknown, so it "
                                              "cannot be timed; use another budget than latency");
        seconds += infer::measure_latency(model, use->input, shape->second, use->output).median_seconds;
      }
      return seconds;
    });
  }

private:
  template <class Measure>
  [[nodiscard]] double timed(Measure&& measure) const {
    double seconds = 0;
    if (!is_wanted_) return seconds;
    on_root_undisturbed(comm_, [&] { seconds = measure(); });
    return comm_.broadcast_value(seconds);
  }

  const Communicator& comm_;
  const Network& network_;
  bool is_wanted_;
  std::map<std::string, graph::Dims> shapes_;
};

/// Traces the layers of one group of ranks.
class LayerTracer {
public:
  LayerTracer(const Communicator& comm, const Network& network, const std::vector<std::string>& dense_reasons,
              const store::FeatureSet& features, const ImageFeed& feed, const Configuration& config, Progress& progress,
              Checkpoints& checkpoints)
      : comm_(comm), grid_(ProcessGrid::row(comm)), network_(network), features_(features), config_(config),
        progress_(progress), share_(share_of_rank(comm, config.calibration.images)),
        images_(probed_images(network, config)), work_(network, dense_reasons, config),
        probe_(collectively(comm, [&] { return OutputProbe(comm, network, feed, images_); })),
        stopwatch_(comm, network, needs_latency(config)) {
    options_ = constrained_options(config);
    options_.trial_iterations = trial_iterations;
    options_.pulls = {3e-3, 3e-2}; // the solves try a third and three times the chosen one, too
    options_.checkpoints = &checkpoints;
  }
  /// Seconds of the original network, or nothing if nobody asks.
  [[nodiscard]] double network_latency() const { return stopwatch_.network(); }

  /// The curve of layer i, no rows where there is nothing to choose. `not_mine`: of the layers behind it, not empty
  /// where they are not traced here. Collective. \pre the layers come in the order of the network
  [[nodiscard]] LayerCurve trace(std::size_t i, const std::vector<std::string>& not_mine) {
    const auto& layer = network_.layers[i];
    LayerCurve curve;
    std::vector<PathRow> rows;
    Path path;
    try {
      const auto [problem, scale] =
          prepare_problem(comm_, network_, layer, features_, share_, {}, thinning_of(layer, features_, config_));
      const auto way = least_squares(comm_, problem, config_);
      rows = rows_of(layer, dense_parameters(network_, layer), way != LeastSquares::gram, !needs_latency(config_));
      if (rows.empty()) return curve;
      const auto statistics = measure(comm_, grid_, problem, way);
      announce_behind(comm_, network_, not_mine, i, features_, share_);
      path = trace_path(comm_, problem, scale, statistics, rows, options_, step_listener(progress_));
    } catch (const Error& error) {
      if (error.code() != ExitCode::numerical || config_.on_failure != OnFailure::keep_dense) throw;
      curve.failure = error.what();
      return curve;
    }
    curve.pull = path.pull;
    curve.dense_latency = stopwatch_.layer(layer, nullptr);
    collectively(comm_, [&] { probe_.advance(layer); });
    const std::int64_t judged = images_ / 10;
    const auto probing = affordable_probing(work_.products_behind(i) * static_cast<double>(judged), rows.size());
    for (std::size_t j = 0; j < rows.size(); ++j)
      if (!path.rows[j].empty()) curve.rows.push_back(measured(layer, rows[j], path.rows[j], j, probing));
    return curve;
  }

private:
  /// A row of the path, with what the network makes of some of its points.
  CurveRow measured(const graph::Layer& layer, const PathRow& row, const std::vector<PathPoint>& path,
                    std::size_t number, Probing probing) {
    const auto count = row.ranks.size();
    // Nothing of a row that was left is worth its products: what it does to the network follows the row before.
    const bool was_left = path.size() < count;
    CurveRow points;
    for (std::size_t r = 0; r < path.size(); ++r) {
      points.push_back({{row.groups, row.ranks[r]}, path[r].error_selection, std::nullopt, std::nullopt});
      const bool is_judged = !was_left && is_probed(number, r, count, probing);
      const bool is_timed = needs_latency(config_) && is_probed(0, r, count, Probing::twice);
      if (path[r].is_estimated() || (!is_judged && !is_timed)) continue;
      const auto compressed = compressed_layer(path[r].factors, layer);
      if (is_judged) points.back().kl = probe_.kl_with(layer, compressed);
      if (is_timed) points.back().latency = stopwatch_.layer(layer, &compressed);
    }
    const auto middle = count / 2; // lies before the second point measured
    if (probing == Probing::twice && needs_middle(points) && !points[middle].kl)
      points[middle].kl = probe_.kl_with(layer, compressed_layer(path[middle].factors, layer));
    return points;
  }

  const Communicator& comm_;
  Grid grid_;
  const Network& network_;
  const store::FeatureSet& features_;
  const Configuration& config_;
  Progress& progress_;
  Share share_;
  std::int64_t images_; ///< calibration images that have those of a probe among them
  NetworkWork work_;
  OutputProbe probe_;
  Stopwatch stopwatch_;
  ConstrainedOptions options_;
};

LayerFiles curve_files(const std::filesystem::path& folder) {
  return {folder, "curve"};
}

/// Nothing where it is not finished, or damaged. Collective, the same on every rank.
std::optional<Curves> finished_curve(const Communicator& comm, const LayerFiles& files, std::size_t i) {
  const auto text = files.load(comm, i);
  try {
    if (auto found = curves_from_text(text); found.layers.size() == 1) return found;
  } catch (const Error&) { // it is traced again
  }
  return {};
}

} // namespace

Curves measure_curves(const Communicator& comm, const Network& network, const std::vector<std::string>& dense_reasons,
                      const store::FeatureSet& features, const ImageFeed& feed, const Configuration& config,
                      const std::filesystem::path& folder, Progress& progress, Checkpoints& checkpoints) {
  const auto count = network.layers.size();
  const auto files = curve_files(folder);
  Curves result;
  result.layers.resize(count);
  std::vector<std::string> done = dense_reasons; // not empty: nothing to do
  for (std::size_t i = 0; i < count; ++i) {
    if (!done[i].empty()) continue;
    auto found = finished_curve(comm, files, i);
    if (!found) continue;
    result.network_latency = found->network_latency;
    result.layers[i] = std::move(found->layers.front());
    done[i] = "traced by an earlier start";
  }
  const auto memory = scratch_place(comm, config).memory_bytes;
  const NodeGroups groups(
      comm, needs_latency(config) ? 1 : choose_curve_groups(network, done, config, nodes_of(comm), memory));
  const auto turns = deal_largest_first(curve_times(network, done, config, groups.sizes()));
  GroupCheckpoints apart(groups, checkpoints);
  auto& mine = groups.count() == 1 ? checkpoints : static_cast<Checkpoints&>(apart);
  const auto unit_of = [](std::size_t i) { return "curve-" + std::to_string(i); };
  if (groups.count() > 1) // what an earlier start on other ranks has saved of a layer under way is dropped
    for (std::size_t i = 0; i < count; ++i) const Checkpoints::Unit unit(checkpoints, unit_of(i));
  std::vector<std::string> not_mine(count, "traced by another group");
  for (const auto& turn : turns)
    if (turn.group == groups.mine()) not_mine[turn.job].clear();

  std::vector<double> weights(count, 0.0);
  for (const auto& turn : turns)
    if (turn.group == groups.mine()) weights[turn.job] = turn.end_seconds - turn.begin_seconds;
  progress.stage("curves", static_cast<std::int64_t>(count), weights);
  groups.run([&] {
    LayerTracer tracer(groups.group(), network, dense_reasons, features, feed, config, progress, mine);
    if (needs_latency(config) && result.network_latency == 0) result.network_latency = tracer.network_latency();
    for (std::size_t i = 0; i < count; ++i) {
      const Checkpoints::Unit unit(mine, unit_of(i)); // of a finished layer, too: what was saved of it is dropped
      if (!not_mine[i].empty()) continue;
      const auto& layer = network.layers[i];
      progress.layer(static_cast<std::int64_t>(i), static_cast<std::int64_t>(count), layer.name);
      const TraceSpan span(TraceKind::layer, layer.name + ", curve");
      result.layers[i] = tracer.trace(i, not_mine);
      on_root(groups.group(), [&] { files.save(i, curves_text({result.network_latency, {result.layers[i]}})); });
      mine.poll();
    }
  });
  for (const auto& turn : turns) {
    auto& curve = result.layers[turn.job];
    const auto text = comm.broadcast_text(curves_text({0, {curve}}), groups.members(turn.group).front());
    curve = curves_from_text(text).layers.front();
    if (!curve.failure.empty()) progress.warning(curve.failure + "; the layer stays dense (on_failure: keep_dense)");
  }
  return result;
}

void forget_curves(const std::filesystem::path& folder, std::size_t layers) {
  const auto files = curve_files(folder);
  for (std::size_t i = 0; i < layers; ++i) files.remove(i);
}

} // namespace slr::run
