#include "layer_state.hpp"

#include <algorithm>

namespace slr::run {
namespace {

/// Values of a list, one after the other.
template <class T>
class Values {
public:
  Values(std::vector<T> values, std::string name) : values_(std::move(values)), name_(std::move(name)) {}
  [[nodiscard]] T one() { return many<T>(1).front(); }
  template <class To>
  [[nodiscard]] std::vector<To> many(std::int64_t count) {
    if (count < 0 || count > std::ssize(values_) - at_)
      throw Error(ExitCode::bad_data, "the checkpoint's " + name_ + " are too short; use --fresh to start anew");
    const auto begin = values_.begin() + at_;
    at_ += count;
    return {begin, begin + count};
  }

private:
  std::vector<T> values_;
  std::string name_;
  std::ptrdiff_t at_ = 0;
};

void append(std::vector<double>& to, const SolveReport& report) {
  to.insert(to.end(), {report.primal_residual, report.dual_residual, report.error_train});
}

/// The lists of a report, whose lengths and words are among the counts.
SolveReport restore_report(Values<std::int64_t>& counts, Values<double>& numbers) {
  SolveReport report;
  report.iterations = counts.one();
  report.stop_reason = static_cast<StopReason>(counts.one());
  const auto length = counts.one();
  report.primal_residual = numbers.one();
  report.dual_residual = numbers.one();
  report.error_train = numbers.one();
  report.objective = numbers.many<double>(length);
  return report;
}

void append_report(std::vector<std::int64_t>& counts, std::vector<double>& numbers, const SolveReport& report) {
  counts.insert(counts.end(),
                {report.iterations, static_cast<std::int64_t>(report.stop_reason), std::ssize(report.objective)});
  append(numbers, report);
  numbers.insert(numbers.end(), report.objective.begin(), report.objective.end());
}

} // namespace

void save_outcome(StateWriter& to, const std::string& name, const LayerOutcome& outcome) {
  const auto& engines = outcome.engine_counts;
  const auto& f = outcome.factors;
  std::vector<std::int64_t> counts{outcome.is_compressed ? 1 : 0,
                                   outcome.relaxed ? 1 : 0,
                                   outcome.samples,
                                   engines.pdgesvd,
                                   engines.gram,
                                   engines.subspace,
                                   engines.fallbacks,
                                   outcome.solved.refine_evaluations,
                                   static_cast<std::int64_t>(outcome.least_squares)};
  std::vector<double> numbers{outcome.seconds, outcome.error_heldout, outcome.solved.pull,
                              outcome.solved.error_selection, outcome.solved.refine_gain};
  append_report(counts, numbers, outcome.solved.report);
  if (outcome.relaxed) {
    const auto& [report, c, factor] = *outcome.relaxed;
    append_report(counts, numbers, report);
    numbers.insert(numbers.end(), {c.low_rank_distance, c.group_distance, c.bias_distance, c.loss_distance, factor});
  }
  counts.insert(counts.end(), {f.numerical_rank, std::ssize(f.kept_groups)});
  counts.insert(counts.end(), f.kept_groups.begin(), f.kept_groups.end());
  std::vector<float> factors;
  for (const auto* part : {&f.u, &f.v, &f.b, &f.bias}) factors.insert(factors.end(), part->begin(), part->end());
  to.put_text(name + ".dense_reason", outcome.dense_reason);
  to.put_integers(name + ".counts", counts);
  to.put_doubles(name + ".numbers", numbers);
  to.put(name + ".factors", std::span<const float>(factors));
}

LayerOutcome restore_outcome(StateReader& from, const std::string& name, const graph::Layer& layer) {
  LayerOutcome outcome;
  outcome.dense_reason = from.text(name + ".dense_reason");
  Values<std::int64_t> counts(from.get<std::int64_t>(name + ".counts"), name + ".counts");
  Values<double> numbers(from.get<double>(name + ".numbers"), name + ".numbers");
  Values<float> factors(from.get<float>(name + ".factors"), name + ".factors");
  outcome.is_compressed = counts.one() != 0;
  const bool is_relaxed = counts.one() != 0;
  outcome.samples = counts.one();
  for (auto* count : {&outcome.engine_counts.pdgesvd, &outcome.engine_counts.gram, &outcome.engine_counts.subspace,
                      &outcome.engine_counts.fallbacks})
    *count = counts.one();
  outcome.solved.refine_evaluations = counts.one();
  outcome.least_squares = static_cast<LeastSquares>(counts.one());
  for (auto* number : {&outcome.seconds, &outcome.error_heldout, &outcome.solved.pull, &outcome.solved.error_selection,
                       &outcome.solved.refine_gain})
    *number = numbers.one();
  outcome.solved.report = restore_report(counts, numbers);
  if (is_relaxed) {
    auto& [report, c, factor] = outcome.relaxed.emplace();
    report = restore_report(counts, numbers);
    for (auto* number : {&c.low_rank_distance, &c.group_distance, &c.bias_distance, &c.loss_distance, &factor})
      *number = numbers.one();
  }
  auto& f = outcome.factors;
  f.numerical_rank = counts.one();
  const auto groups = counts.one();
  f.kept_groups = counts.many<std::int64_t>(groups);
  if (!outcome.is_compressed) return outcome;
  f.grouping = layer.grouping;
  const auto sizes = layer.factor_sizes(groups);
  f.u = factors.many<double>(sizes.u_rows * f.numerical_rank);
  f.v = factors.many<double>(f.numerical_rank * sizes.v_cols);
  f.b = factors.many<double>(sizes.b_rows * sizes.b_cols);
  f.bias = factors.many<double>(layer.rows);
  return outcome;
}

} // namespace slr::run
