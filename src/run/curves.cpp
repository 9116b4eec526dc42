#include "slr/run/curves.hpp"

#include "output_probe.hpp"
#include "slr/graph/count.hpp"
#include "slr/graph/rewrite.hpp"
#include "slr/infer/latency.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/run/budget.hpp"
#include "slr/run/compressed_layer.hpp"
#include "slr/run/layer_work.hpp"

#include <algorithm>
#include <cmath>

namespace slr::run {
namespace {

constexpr std::array group_shares{0.0, 1.0 / 16, 1.0 / 8, 1.0 / 4, 1.0 / 2}; // of a layer's groups
constexpr double largest_cost = 0.9; // of the dense layer: what costs more is written dense anyway
constexpr double largest_implicit_cost = 0.25;
constexpr double rank_step = 0.5; // from one rank of a row to the next
constexpr std::int64_t trial_iterations = 1;
constexpr double samples_per_column = 3; // are enough to compare structures
constexpr std::int64_t largest_thinning = 8;
constexpr std::int64_t groups_between_rows = 3; // interpolated
// The first selection images are enough for a mean KL divergence: so many, but as few as a probe of this many products
// allows, and not below the least.
constexpr std::int64_t most_probe_images = 256, least_probe_images = 16;
constexpr double largest_probe_macs = 1e12;
constexpr double largest_layer_macs = 6e11;                   // of all probes of a layer; one is made in any case
constexpr double smallest_kl = 1e-12, smallest_error = 1e-12; ///< of which a logarithm is taken
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

/// Whether the point in the middle of a row is worth a run of the network, too.
bool needs_middle(const CurveRow& row) {
  std::vector<double> measured;
  for (const auto& point : row)
    if (point.kl) measured.push_back(std::max(*point.kl, smallest_kl));
  return measured.size() == 2 && !row[row.size() / 2].kl && measured.back() > far_apart * measured.front();
}

/// The rows of a layer's path; without groups, and only to a quarter of its cost, where there are few samples for many
/// columns.
std::vector<PathRow> rows_of(const graph::Layer& layer, std::int64_t dense, bool is_implicit) {
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

/// How many calibration images have the selection images of a probe among them.
std::int64_t probed_images(const Network& network, const Configuration& config) {
  const auto macs = static_cast<double>(std::max<std::int64_t>(1, graph::count(network.model).macs));
  const auto affordable = static_cast<std::int64_t>(std::min(largest_probe_macs / macs, double(most_probe_images)));
  return std::min(config.calibration.images, 10 * std::max(affordable, least_probe_images));
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

} // namespace

Curves measure_curves(const Communicator& comm, const Grid& row_grid, const Network& network,
                      const std::vector<std::string>& dense_reasons, const store::FeatureSet& features,
                      const ImageFeed& feed, const Configuration& config, Progress& progress,
                      Checkpoints& checkpoints) {
  const auto share = share_of_rank(comm, config.calibration.images);
  const auto count = static_cast<std::int64_t>(network.layers.size());
  const auto images = probed_images(network, config);
  auto probe = collectively(comm, [&] { return OutputProbe(comm, network, feed, images); });
  auto options = constrained_options(config);
  options.trial_iterations = trial_iterations;
  options.pulls = {3e-3, 3e-2}; // the solves try a third and three times the chosen one, too
  options.checkpoints = &checkpoints;
  const auto behind = products_behind(network);
  progress.stage("curves", count, curve_weights(network, dense_reasons, behind, images / 10, config));
  Curves result;
  auto& curves = result.layers;
  curves.resize(network.layers.size());
  Stopwatch stopwatch(comm, network, needs_latency(config));
  std::int64_t finished = 0; // layers of an earlier start
  if (const auto saved = checkpoints.take("curves")) {
    finished = saved->get<std::int64_t>("finished").at(0);
    result = curves_from_text(saved->text("curves"));
  } else {
    result.network_latency = stopwatch.network();
  }
  const auto kept = checkpoints.keep("curves", [&](StateWriter& to) {
    to.put_integers("finished", {finished});
    to.put_text("curves", curves_text(result));
  });
  for (std::size_t i = 0; i < network.layers.size(); ++i) {
    const auto& layer = network.layers[i];
    progress.layer(static_cast<std::int64_t>(i), count, layer.name);
    if (!dense_reasons[i].empty()) continue;
    if (static_cast<std::int64_t>(i) < finished) {
      const bool was_traced = !curves[i].rows.empty() || !curves[i].failure.empty();
      if (was_traced) collectively(comm, [&] { probe.advance(layer); });
      continue;
    }
    const Checkpoints::Unit unit(checkpoints, "curve-" + std::to_string(i));
    std::vector<PathRow> rows;
    Path path;
    try {
      const auto [problem, scale] =
          prepare_problem(comm, network, layer, features, share, {}, thinning_of(layer, features, config));
      const auto way = least_squares(comm, problem, config);
      rows = rows_of(layer, dense_parameters(network, layer), way != LeastSquares::gram);
      if (rows.empty()) continue;
      const auto statistics = measure(comm, row_grid, problem, way);
      announce_behind(comm, network, dense_reasons, i, features, share);
      path = trace_path(comm, problem, scale, statistics, rows, options, step_listener(progress));
    } catch (const Error& error) {
      if (error.code() != ExitCode::numerical || config.on_failure != OnFailure::keep_dense) throw;
      curves[i].failure = error.what();
      progress.warning(std::string(error.what()) + "; the layer stays dense (on_failure: keep_dense)");
      collectively(comm, [&] { probe.advance(layer); });
      finished = static_cast<std::int64_t>(i) + 1;
      continue;
    }
    curves[i].pull = path.pull;
    curves[i].dense_latency = stopwatch.layer(layer, nullptr);
    collectively(comm, [&] { probe.advance(layer); });
    std::size_t at = 0;
    const auto judged = images / 10; // images of a probe
    const auto probing = affordable_probing(behind[i] * static_cast<double>(judged), rows.size());
    for (const auto& row : rows) {
      CurveRow points;
      const auto first = at;
      for (std::size_t r = 0; r < row.ranks.size(); ++r, ++at) {
        const auto& point = path.points[at];
        points.push_back({{row.groups, row.ranks[r]}, point.error_selection, std::nullopt, std::nullopt});
        const bool is_judged = is_probed(curves[i].rows.size(), r, row.ranks.size(), probing);
        const bool is_timed = needs_latency(config) && is_probed(0, r, row.ranks.size(), Probing::twice);
        if (!is_judged && !is_timed) continue;
        const auto compressed = compressed_layer(point.factors, layer);
        if (is_judged) points.back().kl = probe.kl_with(layer, compressed);
        if (is_timed) points.back().latency = stopwatch.layer(layer, &compressed);
      }
      if (const auto middle = points.size() / 2; probing == Probing::twice && needs_middle(points)) {
        points[middle].kl = probe.kl_with(layer, compressed_layer(path.points[first + middle].factors, layer));
      }
      curves[i].rows.push_back(std::move(points));
    }
    finished = static_cast<std::int64_t>(i) + 1;
    checkpoints.poll();
  }
  return result;
}

namespace {

/// The logarithm of the KL divergence as a function of the error's.
class HarmLaw {
public:
  /// Through a row's measured points: log KL = a + b log error for one or two of them, with the slope before where they
  /// tell none; for more, lines from each to the next, and on beyond the outer ones.
  HarmLaw(const CurveRow& row, double slope_before) : slope_(slope_before) {
    for (const auto& point : row)
      if (point.kl)
        knots_.emplace_back(std::log(std::max(point.error_selection, smallest_error)),
                            std::log(std::max(*point.kl, smallest_kl)));
    std::sort(knots_.begin(), knots_.end());
    if (!knots_.empty()) slope_ = slope(knots_.front(), knots_.back());
  }
  [[nodiscard]] bool is_measured() const { return !knots_.empty(); }
  [[nodiscard]] double slope() const { return slope_; }
  [[nodiscard]] double at(double log_error) const {
    if (knots_.empty()) return log_error;
    if (knots_.size() < 3) { // through their middle
      const auto [x0, y0] = knots_.front();
      const auto [x1, y1] = knots_.back();
      return (y0 + y1) / 2 + slope_ * (log_error - (x0 + x1) / 2);
    }
    if (log_error <= knots_.front().first) return beyond(knots_[0], knots_[1], knots_.front(), log_error);
    const auto right =
        std::find_if(knots_.begin() + 1, knots_.end() - 1, [&](const Knot& knot) { return knot.first >= log_error; });
    const auto left = right - 1;
    if (log_error >= knots_.back().first) return beyond(*left, *right, knots_.back(), log_error);
    return std::lerp(left->second, right->second, (log_error - left->first) / (right->first - left->first));
  }

private:
  using Knot = std::pair<double, double>;
  [[nodiscard]] double slope(const Knot& a, const Knot& b) const {
    return b.first - a.first > 0.1 ? std::clamp((b.second - a.second) / (b.first - a.first), 0.5, 2.0) : slope_;
  }
  [[nodiscard]] double beyond(const Knot& a, const Knot& b, const Knot& end, double log_error) const {
    return end.second + slope(a, b) * (log_error - end.first);
  }
  std::vector<Knot> knots_; ///< by error
  double slope_;
};

/// A row at every rank, descending.
std::vector<PredictedPoint> predict_row(const CurveRow& row, const HarmLaw& law) {
  // A row's latency is a line in the rank through its measured points.
  std::vector<std::pair<double, double>> timed;
  for (const auto& point : row)
    if (point.latency) timed.emplace_back(static_cast<double>(point.split.rank), *point.latency);
  const auto latency_at = [&](std::int64_t rank) {
    if (timed.empty()) return 0.0;
    const auto [r0, t0] = timed.front();
    const auto [r1, t1] = timed.back();
    const double slope = r0 > r1 ? std::max(0.0, (t0 - t1) / (r0 - r1)) : 0.0; // ranks descend
    return std::max(t1 + slope * (static_cast<double>(rank) - r1), 0.5 * t1);
  };
  const auto at = [&](Split split, double log_error) {
    return PredictedPoint{split, std::exp(log_error), std::exp(law.at(log_error)), latency_at(split.rank)};
  };
  std::vector<PredictedPoint> result;
  for (std::size_t i = 0; i < row.size(); ++i) {
    const double here = std::log(std::max(row[i].error_selection, smallest_error));
    result.push_back(at(row[i].split, here));
    if (i + 1 == row.size()) break;
    const double next = std::log(std::max(row[i + 1].error_selection, smallest_error));
    const auto high = row[i].split.rank, low = row[i + 1].split.rank;
    for (auto rank = high - 1; rank > low; --rank)
      result.push_back(at({row[i].split.groups, rank},
                          std::lerp(here, next, static_cast<double>(high - rank) / static_cast<double>(high - low))));
  }
  return result;
}

} // namespace

std::vector<PredictedPoint> predict(const LayerCurve& curve) {
  std::vector<PredictedPoint> result, before;
  std::optional<HarmLaw> law;
  for (const auto& row : curve.rows) {
    HarmLaw next(row, law ? law->slope() : 1);
    if (!law || next.is_measured()) law = std::move(next); // else that of the row before
    const auto now = predict_row(row, *law);
    // Ranks that both rows have: both lists are consecutive and descending.
    for (const auto& a : before) {
      const auto offset = now.empty() ? -1 : now.front().split.rank - a.split.rank;
      if (offset < 0 || offset >= std::ssize(now)) continue;
      const auto& b = now[static_cast<std::size_t>(offset)];
      const auto between = std::min(groups_between_rows, b.split.groups - a.split.groups - 1);
      for (std::int64_t i = 1; i <= between; ++i) {
        const double t = static_cast<double>(i) / static_cast<double>(between + 1);
        const auto mean = [&](double x, double y) { return std::exp(std::lerp(std::log(x), std::log(y), t)); };
        const auto groups =
            a.split.groups +
            static_cast<std::int64_t>(std::llround(t * static_cast<double>(b.split.groups - a.split.groups)));
        result.push_back(
            {{groups, a.split.rank}, mean(a.error, b.error), mean(a.kl, b.kl), std::lerp(a.latency, b.latency, t)});
      }
    }
    result.insert(result.end(), now.begin(), now.end());
    before = now;
  }
  return result;
}

} // namespace slr::run
