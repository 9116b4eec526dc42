#include "layer_sweep.hpp"

#include "slr/base/trace.hpp"
#include "slr/mpi/agree.hpp"

#include <chrono>

namespace slr::run {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

} // namespace

LayerSweep::LayerSweep(const LayerJob& job, std::vector<std::string> dense_reasons,
                       std::optional<std::int64_t> parameter_limit, std::filesystem::path inputs_folder)
    : job_(job), reasons_(reasons_with(job, std::move(dense_reasons), parameter_limit)), limit_(parameter_limit),
      inputs_folder_(std::move(inputs_folder)), share_(share_of_rank(job.comm, job.config.calibration.images)),
      sampling_(sampling_of(job.config)), result_{job.network.model, {}, false} {
  if (limit_) budget_ = budget_of(job, reasons_, *limit_); // what one layer does not use goes to the next
}

std::vector<Frontier::Batch> LayerSweep::leave() {
  while (!is_over() && is_next_dense()) take(dense_outcome(job_.network, next(), reasons_[next()]));
  if (is_over() || !frontier_) return {};
  (void)inputs_of_next(false);
  auto result = frontier_->take_batches();
  frontier_.reset();
  return result;
}

std::vector<float> LayerSweep::inputs_of_next(bool is_wanted) {
  return collectively(job_.comm, [&] {
    return frontier_ ? frontier_->inputs_of(result_.model, job_.network.layers[next()].name, sampling_, is_wanted)
                     : std::vector<float>();
  });
}

std::optional<std::int64_t> LayerSweep::allowance() const {
  if (!limit_) return std::nullopt;
  return budget_.share(job_.allotment.parameters[next()]);
}

void LayerSweep::take(LayerOutcome earlier) {
  auto outcome = dense_outcome(job_.network, next(), earlier.dense_reason);
  earlier.name = outcome.name;
  earlier.rows = outcome.rows;
  earlier.cols = outcome.cols;
  earlier.parameters_before = earlier.parameters_after = outcome.parameters_before;
  const Checkpoints::Unit unit(job_.checkpoints, "layer-" + std::to_string(next())); // of which nothing is needed
  if (!is_next_dense()) (void)inputs_of_next(false);
  put(std::move(earlier));
}

void LayerSweep::solve() {
  const auto i = next();
  const auto& layer = job_.network.layers[i];
  auto outcome = dense_outcome(job_.network, i, reasons_[i]);
  if (!reasons_[i].empty()) return put(std::move(outcome));
  const auto start = std::chrono::steady_clock::now();
  const TraceSpan span(TraceKind::layer, layer.name);
  const Checkpoints::Unit unit(job_.checkpoints, "layer-" + std::to_string(i));
  solve_or_keep_dense(job_, outcome, [&] {
    const auto inputs = inputs_of_next(true);
    if (frontier_) rewrite_inputs(job_, layer, share_, inputs, inputs_folder_);
    const auto prepared = prepare_problem(job_.comm, job_.network, layer, job_.features, share_, inputs);
    announce_behind(job_.comm, job_.network, reasons_, i, job_.features, share_);
    solve_layer(job_, prepared, i, allowance(), outcome);
  });
  outcome.seconds = seconds_since(start);
  put(std::move(outcome));
}

void LayerSweep::put(LayerOutcome outcome) {
  const auto i = next();
  const auto& layer = job_.network.layers[i];
  if (outcome.is_compressed) replace(layer, result_.model, outcome);
  if (outcome.dense_reason.starts_with(failed_layer)) result_.is_failure_tolerated = true;
  if (reasons_[i].empty()) {
    budget_.left -= outcome.parameters_after;
    budget_.expected -= job_.allotment.parameters[i];
  }
  result_.layers.push_back(std::move(outcome));
}

} // namespace slr::run
