#include "slr/refine/refine.hpp"

#include "slr/mpi/agree.hpp"
#include "slr/refine/adam.hpp"
#include "slr/refine/objective.hpp"

#include <algorithm>
#include <numeric>
#include <random>

namespace slr::refine {

namespace {

/// The blocks in the order of a pass: Fisher and Yates' shuffle by a generator that the standard fixes to the bit.
std::vector<std::int64_t> order_of_pass(std::int64_t blocks, std::uint64_t seed, std::int64_t epoch) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(blocks));
  std::iota(order.begin(), order.end(), 0);
  std::mt19937_64 random(seed * 0x9e3779b97f4a7c15U + static_cast<std::uint64_t>(epoch));
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random() % i]);
  return order;
}

std::vector<float> rounded(std::span<const double> values) {
  std::vector<float> result(values.size());
  std::transform(values.begin(), values.end(), result.begin(), [](double v) { return static_cast<float>(v); });
  return result;
}

/// The pull of every weight towards its start: proximal / ||W_start||^2 of its tensor.
std::vector<double> pulls(const infer::Tape& tape, std::span<const double> start, double proximal) {
  std::vector<double> result(start.size(), 0.0);
  for (const auto& tensor : tape.trained()) {
    const auto part = start.subspan(static_cast<std::size_t>(tensor.offset), static_cast<std::size_t>(tensor.size));
    const double norm = std::inner_product(part.begin(), part.end(), part.begin(), 0.0);
    if (norm > 0) std::fill_n(result.begin() + tensor.offset, tensor.size, proximal / norm);
  }
  return result;
}

/// The iterate with the smallest loss on the selection images.
class Best {
public:
  Best(double loss, std::vector<float> weights) : loss_(loss), weights_(std::move(weights)) {}
  void consider(double loss, std::span<const float> weights, std::int64_t epoch) {
    if (!(loss < loss_)) return;
    loss_ = loss;
    weights_.assign(weights.begin(), weights.end());
    epoch_ = epoch;
  }
  [[nodiscard]] double loss() const { return loss_; }
  [[nodiscard]] std::int64_t epoch() const { return epoch_; }
  [[nodiscard]] const std::vector<float>& weights() const { return weights_; }

private:
  double loss_;
  std::vector<float> weights_;
  std::int64_t epoch_ = 0;
};

/// One pass; returns the mean loss of its mini-batches.
class Pass {
public:
  Pass(infer::Tape& tape, Objective& objective, const Settings& settings, std::int64_t steps)
      : tape_(tape), objective_(objective), settings_(settings), cycle_{settings.peak_rate, steps},
        adam_(static_cast<std::size_t>(tape.size())) {
    const auto start = tape.weights();
    weights_.assign(start.begin(), start.end());
    start_ = weights_;
    pulls_ = pulls(tape, start_, settings.proximal);
  }
  double run(const std::vector<std::int64_t>& order, const std::function<void(std::int64_t)>& done) {
    const auto size = static_cast<std::size_t>(settings_.batch_blocks);
    double sum = 0;
    for (std::size_t first = 0; first < order.size(); first += size) {
      const auto batch = std::span(order).subspan(first, std::min(size, order.size() - first));
      auto [loss, gradient] = objective_.gradient(batch);
      for (std::size_t i = 0; i < gradient.size(); ++i) gradient[i] += pulls_[i] * (weights_[i] - start_[i]);
      adam_.step(weights_, gradient, cycle_.rate(step_++));
      tape_.set_weights(rounded(weights_));
      sum += loss * static_cast<double>(batch.size());
      done(static_cast<std::int64_t>(first / size) + 1);
    }
    return sum / static_cast<double>(order.size());
  }

private:
  infer::Tape& tape_;
  Objective& objective_;
  const Settings& settings_;
  OneCycle cycle_;
  Adam adam_;
  std::int64_t step_ = 0;
  std::vector<double> weights_, start_, pulls_;
};

} // namespace

const char* to_text(StopReason reason) {
  switch (reason) {
  case StopReason::epoch_limit:
    return "epoch limit";
  case StopReason::no_improvement:
    return "no improvement";
  case StopReason::diverged:
    return "diverged";
  }
  return "";
}

infer::Tape tape_of(const Problem& problem) {
  return {problem.model,
          {problem.input, problem.image, problem.output, problem.trained, problem.loss, images_per_block}};
}

Result refine(const Communicator& comm, const Problem& problem, const Examples& fit, const Examples& selection,
              const Settings& settings, const Listener& listener) {
  require(fit.images() > 0 && selection.images() > 0 && settings.epochs >= 1 && settings.batch_blocks >= 1,
          "a refinement needs images and passes");
  auto tape = collectively(comm, [&] { return tape_of(problem); });
  Objective objective(comm, tape, fit), judge(comm, tape, selection);
  Result result;
  result.selection_loss_before = judge.loss();
  Best best(result.selection_loss_before, tape.weights());
  const std::int64_t batches = (fit.blocks() + settings.batch_blocks - 1) / settings.batch_blocks;
  Pass pass(tape, objective, settings, batches * settings.epochs);
  double last = result.selection_loss_before;
  for (std::int64_t epoch = 1; epoch <= settings.epochs; ++epoch) {
    const auto done = [&](std::int64_t batch) {
      if (listener) listener({epoch - 1, settings.epochs, batch, batches, last});
    };
    try {
      const double fit_loss = pass.run(order_of_pass(fit.blocks(), settings.seed, epoch), done);
      last = judge.loss();
      result.epochs.push_back({fit_loss, last});
    } catch (const Error& error) {
      if (error.code() != ExitCode::numerical) throw;
      result.stop_reason = StopReason::diverged;
      break;
    }
    best.consider(last, tape.weights(), epoch);
    if (epoch - best.epoch() >= settings.patience && epoch < settings.epochs) {
      result.stop_reason = StopReason::no_improvement;
      break;
    }
  }
  tape.set_weights(best.weights());
  result.model = tape.model();
  result.is_better = best.epoch() > 0;
  result.best_epoch = best.epoch();
  result.selection_loss_after = best.loss();
  return result;
}

} // namespace slr::refine
