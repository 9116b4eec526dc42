#include "slr/refine/refine.hpp"

#include "slr/linalg/remembered_function.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/refine/adam.hpp"
#include "slr/refine/input_metric.hpp"
#include "slr/refine/objective.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <random>

namespace slr::refine {

namespace {

std::uint64_t seed_of_pass(std::uint64_t seed, std::int64_t epoch) {
  return seed * 0x9e3779b97f4a7c15U + static_cast<std::uint64_t>(epoch);
}

/// The blocks in the order of a pass: Fisher and Yates' shuffle by a generator that the standard fixes to the bit.
std::vector<std::int64_t> order_of_pass(std::int64_t blocks, std::uint64_t seed) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(blocks));
  std::iota(order.begin(), order.end(), 0);
  std::mt19937_64 random(seed);
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
  [[nodiscard]] std::vector<double> scales(std::span<const double> weights) const { return magnitudes(tape_, weights); }

  void move_to(std::span<const double> weights) { tape_.set_weights(rounded(weights)); }
  /// The mean loss over the blocks there, without the pull; its gradient with the pull.
  [[nodiscard]] Objective::Value gradient(std::span<const double> weights, std::span<const std::int64_t> blocks,
                                          std::optional<std::uint64_t> mixture = {}) {
    auto value = objective_.gradient(blocks, mixture);
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
    const auto pass = result_.epochs.size();
    last_ = pass < judged_.size() ? judged_[pass] : judge_.loss();
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
  /// Where it is, for optimisers that can go on from there. Collective.
  void save(StateWriter& to) const {
    std::vector<double> fit, selection;
    for (const auto& epoch : result_.epochs) {
      fit.push_back(epoch.fit_loss);
      selection.push_back(epoch.selection_loss);
    }
    to.put_doubles("fit", fit);
    to.put_doubles("selection", selection);
    to.put("best", std::span<const float>(best_));
    to.put_doubles("losses_after", {last_, result_.selection_loss_after});
    to.put_integers("passes", {rises_, result_.best_epoch});
    objective_.save(to);
  }
  void restore(StateReader& from) {
    const auto fit = from.get<double>("fit"), selection = from.get<double>("selection");
    for (std::size_t i = 0; i < fit.size(); ++i) result_.epochs.push_back({fit[i], selection.at(i)});
    best_ = from.get<float>("best");
    const auto losses = from.get<double>("losses_after");
    const auto passes = from.get<std::int64_t>("passes");
    last_ = losses.at(0);
    result_.selection_loss_after = losses.at(1);
    rises_ = passes.at(0);
    result_.best_epoch = passes.at(1);
    objective_.restore(from);
  }
  /// For an optimiser that is gone through again: only what passes were judged to be, and the objective's grids.
  void judge_again(StateReader& from) {
    judged_ = from.get<double>("selection");
    objective_.restore(from);
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
  double last_ = 0;            ///< on the selection images
  std::int64_t rises_ = 0;     ///< passes in a row after which it was not smaller
  std::vector<double> judged_; ///< losses on the selection images that are known already, per pass
  Result result_;
};

/// Mini-batches, pass after pass; a stopped run goes on with the next mini-batch.
class AdamRun {
public:
  /// With a metric the steps are taken in its coordinates.
  AdamRun(Search& search, std::int64_t blocks, const InputMetric* metric)
      : search_(search), blocks_(blocks), metric_(metric), weights_(search.start()), adam_(scales()) {
    auto* const checkpoints = search.settings().checkpoints;
    if (const auto saved = take(checkpoints, "adam")) restore(*saved);
    kept_ = keep(checkpoints, "adam", [this](StateWriter& to) { save(to); });
  }
  void run() {
    do run_pass();
    while (search_.judge(sum_ / static_cast<double>(blocks_)));
  }

private:
  [[nodiscard]] std::vector<double> scales() const {
    auto start = search_.start();
    if (metric_) metric_->divide(start);
    return search_.scales(start);
  }
  void step(std::vector<double> gradient, double rate) {
    if (!metric_) return adam_.step(weights_, gradient, rate);
    metric_->multiply(gradient);
    std::vector<double> change(weights_.size(), 0.0);
    adam_.step(change, gradient, rate);
    metric_->multiply(change);
    for (std::size_t i = 0; i < change.size(); ++i) weights_[i] += change[i];
  }
  void run_pass() {
    const Settings& settings = search_.settings();
    const std::int64_t size = settings.batch_blocks, batches = (blocks_ + size - 1) / size;
    const OneCycle cycle{settings.peak_rate, batches * settings.epochs};
    if (batch_ == batches) batch_ = 0; // the last pass is behind us, not one that was stopped
    const std::int64_t pass = step_ / batches;
    if (batch_ == 0) sum_ = 0;
    const auto seed = seed_of_pass(settings.seed, pass + 1);
    const auto order = order_of_pass(blocks_, seed);
    while (batch_ < batches) {
      const std::int64_t count = std::min(size, blocks_ - batch_ * size);
      const auto part =
          std::span(order).subspan(static_cast<std::size_t>(batch_ * size), static_cast<std::size_t>(count));
      auto value = search_.gradient(weights_, part, settings.mixes ? std::optional(seed) : std::nullopt);
      step(std::move(value.gradient), cycle.rate(step_++));
      search_.move_to(weights_);
      sum_ += value.loss * static_cast<double>(count);
      search_.tell(++batch_, batches);
      if (batch_ < batches) poll(settings.checkpoints); // behind the last one the pass is judged first
    }
  }
  void save(StateWriter& to) const {
    to.put_integers("place", {step_, batch_});
    to.put_doubles("sum", {sum_});
    to.put_doubles("weights", weights_);
    adam_.save(to);
    search_.save(to);
  }
  void restore(StateReader& from) {
    const auto place = from.get<std::int64_t>("place");
    step_ = place.at(0);
    batch_ = place.at(1);
    sum_ = from.get<double>("sum").at(0);
    weights_ = from.get<double>("weights");
    adam_.restore(from);
    search_.restore(from);
    search_.move_to(weights_);
  }

  Search& search_;
  std::int64_t blocks_;
  const InputMetric* metric_;
  std::vector<double> weights_;
  Adam adam_;
  std::int64_t step_ = 0, batch_ = 0; ///< of all passes, of this pass
  double sum_ = 0;                    ///< of this pass' losses
  Checkpoints::Kept kept_;
};

/// Quasi-Newton steps on all images.
void run_lmvm(Search& search, std::int64_t blocks) {
  std::vector<std::int64_t> all(static_cast<std::size_t>(blocks));
  std::iota(all.begin(), all.end(), 0);
  RememberedFunction loss(
      [&](std::span<const double> at, std::span<double> gradient) {
        search.move_to(at);
        const auto value = search.gradient(at, all);
        std::copy(value.gradient.begin(), value.gradient.end(), gradient.begin());
        search.tell(1, 1);
        return value.loss;
      },
      search.settings().checkpoints,
      {"lmvm", [&](StateWriter& to) { search.save(to); }, [&](StateReader& from) { search.judge_again(from); }});
  auto weights = search.start();
  const auto function = [&](std::span<const double> at, std::span<double> gradient) {
    return loss(at, gradient) + search.pull_loss(at);
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
    std::optional<InputMetric> metric;
    if (settings.optimizer == Optimizer::white_adam)
      metric.emplace(comm, problem.model, problem.input, tape.trained(), fit);
    if (settings.optimizer == Optimizer::lmvm)
      run_lmvm(search, fit.blocks());
    else
      AdamRun(search, fit.blocks(), metric ? &*metric : nullptr).run();
  } catch (const Error& error) {
    if (error.code() != ExitCode::numerical) throw;
    search.diverged();
  }
  return std::move(search).result();
}

} // namespace slr::refine
