#include "slr/dist/redistribute.hpp"
#include "slr/graph/count.hpp"
#include "slr/layer/block_columns.hpp"
#include "slr/run/solver_options.hpp"
#include "slr/run/sweep.hpp"

#include <algorithm>
#include <cmath>
#include <memory>

namespace slr::run {
namespace {

constexpr int evaluations = 8;
constexpr std::int64_t first_iterations = 40; // of the first factor
constexpr std::int64_t later_iterations = 20; // of the following ones, which start from the last
constexpr double close_enough = 0.03;         // the sweep trims what is left

/// A layer's problem on the original inputs, kept between factors so that each starts from the last one's solution.
struct WarmLayer {
  std::size_t index = 0;
  PreparedProblem prepared;
  LayerStatistics statistics;
  std::unique_ptr<RelaxedSolver> solver;
};

/// A matrix in block columns, shaped like the layer's weights.
void save_point(StateWriter& to, const std::string& name, const RelaxedPoint& point) {
  to.put_doubles(name + ".a", gather(point.a));
  to.put_doubles(name + ".b", gather(point.b));
  to.put_doubles(name + ".bias", point.bias);
}

RelaxedPoint restore_point(StateReader& from, const std::string& name, const Grid& row_grid,
                           const graph::Layer& layer) {
  const auto matrix = [&](const std::string& part) {
    auto result = make_block_columns(row_grid, layer.rows, layer.cols, layer.group_columns());
    const auto whole = from.get<double>(name + part);
    require(std::ssize(whole) == layer.rows * layer.cols, "a matrix of the checkpoint has another size");
    take_local(std::span<const double>(whole), result);
    return result;
  };
  auto a = matrix(".a"), b = matrix(".b");
  return {std::move(a), std::move(b), from.get<double>(name + ".bias")};
}

void save_allotment(StateWriter& to, const Allotment& allotment) {
  to.put_integers("parameters", allotment.parameters);
  to.put_doubles("lambda_factor", {allotment.lambda_factor});
  std::vector<std::int64_t> with_points;
  for (std::size_t i = 0; i < allotment.points.size(); ++i)
    if (allotment.points[i]) with_points.push_back(static_cast<std::int64_t>(i));
  to.put_integers("points", with_points);
  for (const auto i : with_points) save_point(to, std::to_string(i), *allotment.points[static_cast<std::size_t>(i)]);
}

Allotment restore_allotment(StateReader& from, const Network& network, const Grid& row_grid) {
  auto result = no_limit(network);
  result.parameters = from.get<std::int64_t>("parameters");
  result.lambda_factor = from.get<double>("lambda_factor").at(0);
  for (const auto i : from.get<std::int64_t>("points")) {
    const auto at = static_cast<std::size_t>(i);
    result.points.at(at) = restore_point(from, std::to_string(i), row_grid, network.layers.at(at));
  }
  return result;
}

/// The search for the factor. A stopped one goes on with the layer that it was at.
class FactorSearch {
public:
  FactorSearch(const Communicator& comm, const Grid& row_grid, const Network& network,
               const std::vector<std::string>& dense_reasons, const store::FeatureSet& features,
               const Configuration& config, std::int64_t limit, Progress& progress, Checkpoints& checkpoints)
      : network_(network), config_(config), limit_(limit), progress_(progress),
        whole_(graph::count(network.model).parameters) {
    const auto share = share_of_rank(comm, config.calibration.images);
    auto options = relaxed_options(config);
    options.checkpoints = &checkpoints;
    for (std::size_t i = 0; i < network.layers.size(); ++i) {
      if (!dense_reasons[i].empty()) continue;
      auto layer = std::make_unique<WarmLayer>();
      layer->index = i;
      layer->prepared = prepare_problem(comm, network, network.layers[i], features, share, {});
      layer->statistics = measure_statistics(comm, row_grid, layer->prepared.problem);
      options.part = "relaxed-" + std::to_string(i);
      layer->solver = std::make_unique<RelaxedSolver>(comm, layer->prepared.problem, layer->prepared.scale,
                                                      layer->statistics, options);
      layers_.push_back(std::move(layer));
    }
    if (const auto saved = checkpoints.take("search")) restore(*saved);
    if (const auto saved = checkpoints.take("best")) best_ = restore_allotment(*saved, network, row_grid);
    kept_ = checkpoints.keep("search", [this](StateWriter& to) { save(to); });
    kept_best_ = checkpoints.keep("best", [this](StateWriter& to) { save_allotment(to, best_); });
  }

  /// The logarithm of the count falls with that of the factor: interpolate between the two sides, and bisect where that
  /// would hardly move; double or halve until there are two sides.
  Allotment run() {
    progress_.stage("budget", evaluations);
    for (; evaluation_ < evaluations; ++evaluation_, solved_ = 0) {
      auto now = evaluate();
      progress_.advance(evaluation_ + 1);
      (total(now) > limit_ ? too_many_ : too_few_) = Side{log_factor_, std::log(static_cast<double>(total(now)))};
      const auto off = [&](const Allotment& at) { return std::abs(static_cast<double>(total(at) - limit_)); };
      if (best_.parameters.empty() || off(now) < off(best_)) best_ = std::move(now);
      if (off(best_) <= close_enough * static_cast<double>(limit_)) break;
      if (!too_many_ || !too_few_) {
        log_factor_ += too_many_ ? std::log(2.0) : -std::log(2.0);
        continue;
      }
      const double wanted =
          (std::log(static_cast<double>(limit_)) - too_many_->log_count) / (too_few_->log_count - too_many_->log_count);
      log_factor_ = std::lerp(too_many_->log_factor, too_few_->log_factor, std::clamp(wanted, 0.15, 0.85));
    }
    return std::move(best_);
  }

private:
  struct Side {
    double log_factor = 0, log_count = 0;
  };

  /// Solves the layers that are not solved yet with the present factor; where all of them are then.
  Allotment evaluate() {
    auto result = no_limit(network_);
    result.lambda_factor = std::exp(log_factor_);
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      auto& layer = *layers_[l];
      const auto& graph_layer = network_.layers[layer.index];
      if (static_cast<std::int64_t>(l) >= solved_) {
        progress_.layer(static_cast<std::int64_t>(l), std::ssize(layers_), graph_layer.name);
        (void)layer.solver->solve(result.lambda_factor, evaluation_ == 0 ? first_iterations : later_iterations,
                                  config_.method.tolerance, step_listener(progress_));
        solved_ = static_cast<std::int64_t>(l) + 1;
      }
      const auto structure = layer.solver->structure();
      result.points[layer.index] = layer.solver->point();
      auto& here = result.parameters[layer.index];
      here = std::min(here, graph::cheapest_form(graph_layer, structure.target_rank,
                                                 static_cast<std::int64_t>(structure.kept_groups.size()))
                                .parameters);
    }
    return result;
  }
  [[nodiscard]] std::int64_t total(const Allotment& at) const {
    std::int64_t sum = whole_;
    for (std::size_t i = 0; i < network_.layers.size(); ++i)
      sum += at.parameters[i] - dense_parameters(network_, network_.layers[i]);
    return sum;
  }
  void save(StateWriter& to) const {
    to.put_integers("counts", {evaluation_, solved_, too_many_ ? 1 : 0, too_few_ ? 1 : 0});
    const auto many = too_many_.value_or(Side{}), few = too_few_.value_or(Side{});
    to.put_doubles("logarithms", {log_factor_, many.log_factor, many.log_count, few.log_factor, few.log_count});
  }
  void restore(StateReader& from) {
    const auto counts = from.get<std::int64_t>("counts");
    const auto logs = from.get<double>("logarithms");
    evaluation_ = counts.at(0);
    solved_ = counts.at(1);
    log_factor_ = logs.at(0);
    if (counts.at(2) != 0) too_many_ = Side{logs.at(1), logs.at(2)};
    if (counts.at(3) != 0) too_few_ = Side{logs.at(3), logs.at(4)};
  }

  const Network& network_;
  const Configuration& config_;
  std::int64_t limit_;
  Progress& progress_;
  std::int64_t whole_;
  std::vector<std::unique_ptr<WarmLayer>> layers_;
  std::int64_t evaluation_ = 0, solved_ = 0; ///< layers of this evaluation
  double log_factor_ = 0;
  std::optional<Side> too_many_, too_few_;
  Allotment best_;
  Checkpoints::Kept kept_, kept_best_;
};

} // namespace

Allotment find_shared_factor(const Communicator& comm, const Grid& row_grid, const Network& network,
                             const std::vector<std::string>& dense_reasons, const store::FeatureSet& features,
                             const Configuration& config, std::int64_t limit, Progress& progress,
                             Checkpoints& checkpoints) {
  if (const auto saved = checkpoints.take("allotment")) return restore_allotment(*saved, network, row_grid);
  const Checkpoints::Unit unit(checkpoints, "shared-factor");
  return FactorSearch(comm, row_grid, network, dense_reasons, features, config, limit, progress, checkpoints).run();
}

Checkpoints::Kept keep_shared_factor(Checkpoints& checkpoints, const Allotment& allotment) {
  return checkpoints.keep("allotment", [&allotment](StateWriter& to) { save_allotment(to, allotment); });
}

} // namespace slr::run
