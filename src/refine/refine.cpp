#include "slr/refine/refine.hpp"

#include "slr/linalg/lmvm.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/refine/adam.hpp"
#include "slr/refine/objective.hpp"

#include <algorithm>
#include <cmath>
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

/// The root mean square of every weight's tensor: steps are in proportion to it. 1 for a tensor of zeros.
std::vector<double> magnitudes(const infer::Tape& tape, std::span<const double> start) {
  std::vector<double> result(start.size(), 1.0);
  for (const auto& tensor : tape.trained()) {
    const auto part = start.subspan(static_cast<std::size_t>(tensor.offset), static_cast<std::size_t>(tensor.size));
    const double square = std::inner_product(part.begin(), part.end(), part.begin(), 0.0);
    if (square > 0)
      std::fill_n(result.begin() + tensor.offset, tensor.size, std::sqrt(square / static_cast<double>(tensor.size)));
  }
  return result;
}

/// What both optimisers work on: the objective with its pull, and the judgement after every pass.
class Search {
public:
  Search(infer::Tape& tape, Objective& objective, Objective& judge, const Settings& settings, const Listener& listener)
      : tape_(tape), objective_(objective), judge_(judge), settings_(settings), listener_(listener) {
    best_ = tape.weights();
    start_.assign(best_.begin(), best_.end());
    pulls_ = pulls(tape, start_, settings.proximal);
    result_.selection_loss_before = result_.selection_loss_after = last_ = judge.loss();
  }
  [[nodiscard]] const Settings& settings() const { return settings_; }
  [[nodiscard]] const std::vector<double>& start() const { return start_; }
  [[nodiscard]] std::vector<double> scales() const { return magnitudes(tape_, start_); }

  void move_to(std::span<const double> weights) { tape_.set_weights(rounded(weights)); }
  /// The mean loss over the blocks there, without the pull; its gradient with the pull.
  [[nodiscard]] Objective::Value gradient(std::span<const double> weights, std::span<const std::int64_t> blocks) {
    auto value = objective_.gradient(blocks);
    for (std::size_t i = 0; i < weights.size(); ++i) value.gradient[i] += pulls_[i] * (weights[i] - start_[i]);
    return value;
  }
  [[nodiscard]] double pull_loss(std::span<const double> weights) const {
    double sum = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) sum += pulls_[i] * std::pow(weights[i] - start_[i], 2);
    return sum / 2;
  }
  void tell(std::int64_t batch, std::int64_t batches) const {
    if (listener_) listener_({std::ssize(result_.epochs), settings_.epochs, batch, batches, last_});
  }
  /// Judges where it is after a pass; whether to go on.
  [[nodiscard]] bool judge(double fit_loss) {
    const double before = last_;
    last_ = judge_.loss();
    rises_ = last_ < before ? 0 : rises_ + 1;
    result_.epochs.push_back({fit_loss, last_});
    const std::int64_t epoch = std::ssize(result_.epochs);
    if (last_ < result_.selection_loss_after) {
      result_.selection_loss_after = last_;
      result_.best_epoch = epoch;
      best_ = tape_.weights();
    }
    if (epoch >= settings_.epochs) return false;
    if (rises_ < settings_.patience) return true;
    result_.stop_reason = StopReason::no_improvement;
    return false;
  }
  void diverged() { result_.stop_reason = StopReason::diverged; }
  [[nodiscard]] Result result() && {
    tape_.set_weights(best_);
    result_.model = tape_.model();
    result_.is_better = result_.best_epoch > 0;
    return std::move(result_);
  }

private:
  infer::Tape& tape_;
  Objective &objective_, &judge_;
  const Settings& settings_;
  const Listener& listener_;
  std::vector<double> start_, pulls_;
  std::vector<float> best_;
  double last_ = 0;        ///< on the selection images
  std::int64_t rises_ = 0; ///< passes in a row after which it was not smaller
  Result result_;
};

void run_adam(Search& search, std::int64_t blocks) {
  const Settings& settings = search.settings();
  const std::int64_t size = settings.batch_blocks, batches = (blocks + size - 1) / size;
  const OneCycle cycle{settings.peak_rate, batches * settings.epochs};
  auto weights = search.start();
  Adam adam(search.scales());
  double sum = 0;
  for (std::int64_t epoch = 1, step = 0; epoch == 1 || search.judge(sum / static_cast<double>(blocks)); ++epoch) {
    const auto order = order_of_pass(blocks, settings.seed, epoch);
    sum = 0;
    for (std::int64_t batch = 0; batch < batches; ++batch) {
      const std::int64_t count = std::min(size, blocks - batch * size);
      const auto part =
          std::span(order).subspan(static_cast<std::size_t>(batch * size), static_cast<std::size_t>(count));
      const auto [loss, gradient] = search.gradient(weights, part);
      adam.step(weights, gradient, cycle.rate(step++));
      search.move_to(weights);
      sum += loss * static_cast<double>(count);
      search.tell(batch + 1, batches);
    }
  }
}

void run_lmvm(Search& search, std::int64_t blocks) {
  std::vector<std::int64_t> all(static_cast<std::size_t>(blocks));
  std::iota(all.begin(), all.end(), 0);
  auto weights = search.start();
  const auto function = [&](std::span<const double> at, std::span<double> gradient) {
    search.move_to(at);
    const auto value = search.gradient(at, all);
    std::copy(value.gradient.begin(), value.gradient.end(), gradient.begin());
    search.tell(1, 1);
    return value.loss + search.pull_loss(at);
  };
  const auto after_iteration = [&](std::span<const double> at, double value) {
    search.move_to(at);
    return search.judge(value - search.pull_loss(at));
  };
  minimize_lmvm(function, weights, static_cast<int>(search.settings().epochs), after_iteration);
}

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
  Search search(tape, objective, judge, settings, listener);
  try {
    if (settings.optimizer == Optimizer::lmvm)
      run_lmvm(search, fit.blocks());
    else
      run_adam(search, fit.blocks());
  } catch (const Error& error) {
    if (error.code() != ExitCode::numerical) throw;
    search.diverged();
  }
  return std::move(search).result();
}

} // namespace slr::refine
