#include "candidate.hpp"

#include "descent.hpp"

#include "slr/base/trace.hpp"
#include "slr/layer/splitting.hpp"

#include <cmath>

namespace slr {

Choices::Choices(Checkpoints* checkpoints) : checkpoints_(checkpoints) {
  if (const auto saved = take(checkpoints, "choices")) restore(*saved);
  kept_ = keep(checkpoints, "choices", [this](StateWriter& to) { save(to); });
}

std::optional<GivenUp> Choices::given_up(std::int64_t number) const {
  const auto found = given_up_.find(number);
  return found == given_up_.end() ? std::nullopt : std::optional(found->second);
}

void Choices::save(StateWriter& to) const {
  std::vector<std::int64_t> numbers, groups;
  std::vector<double> figures;
  for (const auto& [number, rest] : given_up_) {
    numbers.insert(numbers.end(), {number, rest.target_rank});
    figures.insert(figures.end(), {rest.gain, rest.best_error});
  }
  for (const auto& list : groups_) {
    groups.push_back(std::ssize(list));
    groups.insert(groups.end(), list.begin(), list.end());
  }
  to.put_integers("given_up", numbers);
  to.put_doubles("given_up_figures", figures);
  to.put_integers("groups", groups);
}

void Choices::restore(StateReader& from) {
  const auto numbers = from.get<std::int64_t>("given_up"), groups = from.get<std::int64_t>("groups");
  const auto figures = from.get<double>("given_up_figures");
  for (std::size_t i = 0; i + 1 < numbers.size(); i += 2)
    given_up_[numbers[i]] = {figures.at(i), figures.at(i + 1), numbers[i + 1]};
  for (std::size_t at = 0; at < groups.size();) {
    const auto begin = groups.begin() + static_cast<std::ptrdiff_t>(at) + 1;
    const auto length = static_cast<std::size_t>(groups[at]);
    if (length > groups.size() - at - 1) throw Error(ExitCode::bad_data, "the checkpoint's groups are cut off");
    groups_.emplace_back(begin, begin + groups[at]);
    at += length + 1;
  }
}

namespace {

/// The largest second derivative of m -> 1/2 (y - r(m))^2 over all m and all y that r can be.
double largest_curvature(const Activation& r) {
  switch (r.type) {
  case ActivationType::sigmoid:
    return 0.07703; // (t - t^2)^2 + t (t - t^2) (1 - 2 t) at its maximum t = 0.3856, y = 0
  case ActivationType::tanh:
    return 1.2325; // sixteen times that: tanh(m) = 2 sigmoid(2 m) - 1
  default:
    return 1;
  }
}

} // namespace

SolverLayer::SolverLayer(const Communicator& its_comm, const LayerProblem& its_problem, const InputScale& its_scale,
                         const LayerStatistics& its_statistics, const ConstrainedOptions& its_options,
                         const ProgressCallback& its_progress)
    : comm(its_comm), problem(its_problem), scale(its_scale), statistics(its_statistics), options(its_options),
      progress(its_progress),
      rho(problem.activation.is_identity() ? 1 : options.rho * largest_curvature(problem.activation)),
      has_selection(comm.allreduce_value(problem.selection.count) > 0),
      choices(std::make_unique<Choices>(options.checkpoints)) {
  const TraceSpan span(TraceKind::step, "first target");
  if (statistics.is_implicit()) {
    const auto outputs = measure_outputs(comm, problem, statistics.samples);
    output_squared = outputs.squared;
    output_variation = outputs.variation;
    target_mean = row_means(comm, problem.rows, problem.fit.linear, statistics.samples);
    target = problem.fit.linear;
    for (std::size_t i = 0; i < target.size(); ++i)
      target[i] = static_cast<float>(target[i] - target_mean[i % target_mean.size()]);
    return;
  }
  ActivationSplitting original(comm, problem, scale, statistics);
  auto products = original.cross();
  cross = std::move(products.p);
  target_mean = std::move(products.target_mean);
  output_squared = original.output_squared();
  output_variation = original.output_variation();
}

namespace {

std::string part_name(std::int64_t number) {
  return "candidate-" + std::to_string(number);
}

} // namespace

Candidate::Candidate(const SolverLayer& layer, const Structure& structure, double pull, const Candidate* same_metric)
    : layer_(layer), number_(layer.choices->next_candidate()), pull_(pull), target_mean_(layer.target_mean) {
  if (const auto rest = layer.choices->given_up(number_)) {
    given_up_ = *rest;
    return;
  }
  auto* const checkpoints = layer.choices->checkpoints();
  std::optional<TraceSpan> span(std::in_place, TraceKind::step, "factor");
  fixed_ = std::make_unique<FixedStructure>(layer.comm, layer.problem, layer.statistics, structure, layer.delta(pull),
                                            layer.options.engine, same_metric ? same_metric->fixed_.get() : nullptr);
  span.emplace(TraceKind::step, "start");
  if (const auto saved = take(checkpoints, part_name(number_)))
    restore(*saved);
  else if (layer.statistics.is_implicit())
    fixed_->start(layer.target);
  else
    fixed_->start(layer.cross);
  kept_ = keep(checkpoints, part_name(number_), [this](StateWriter& to) { save(to); });
}

Candidate::~Candidate() {
  if (fixed_) layer_.choices->give_up(number_, {gain(), best_error_, target_rank()});
}

const FixedStructure& Candidate::fixed() const {
  require(fixed_ != nullptr, "layer " + layer_.problem.name + ": a candidate is asked for after it was given up");
  return *fixed_;
}

void Candidate::run_with_rank(std::int64_t rank, std::int64_t iterations) {
  if (!fixed_) return;
  if (row_rank_ != rank) {
    fixed_->lower_rank(rank);
    map_.reset();
    row_rank_ = rank;
    row_begin_ = report_.iterations;
    best_error_ = std::numeric_limits<double>::infinity();
    report_.stop_reason = StopReason::iteration_limit;
    judge();
    error_before_ = best_error_;
  }
  run(row_begin_ + iterations);
}

void Candidate::run(std::int64_t limit) {
  if (!fixed_) return;
  const auto& options = layer_.options;
  if (!splitting_) {
    splitting_.emplace(layer_.comm, layer_.problem, layer_.scale, layer_.statistics, layer_.rho);
    judge();
  }
  const double variation = std::sqrt(layer_.output_variation);
  if (layer_.problem.activation.is_identity() || variation == 0) return;
  while (report_.iterations < limit && report_.stop_reason != StopReason::converged) {
    std::optional<TraceSpan> span(std::in_place, TraceKind::step, "pass over the samples");
    const auto cross = splitting_->advance(map());
    report_.objective.push_back(cross.loss / layer_.output_squared); // of the weights that entered the pass
    report_.primal_residual = std::sqrt(cross.primal_squared) / variation;
    report_.dual_residual = std::sqrt(cross.dual_squared) / variation;
    ++report_.iterations;
    target_mean_ = cross.target_mean;
    span.emplace(TraceKind::step, "left basis");
    map_.reset();
    if (fixed_->has_features_to_stay() && !row_space_moves(report_.iterations - 1 - row_begin_)) {
      fixed_->improve_within(cross);
    } else {
      fixed_->improve_left(cross);
      span.emplace(TraceKind::step, "projection");
      if (layer_.statistics.is_implicit()) {
        const auto projected = splitting_->project_target(fixed_->left_basis());
        span.emplace(TraceKind::step, "right basis");
        fixed_->improve_right(projected);
      } else {
        auto projected = splitting_->project(fixed_->left_basis());
        span.emplace(TraceKind::step, "right basis");
        fixed_->improve_right(std::move(projected));
      }
    }
    span.reset();
    judge();
    const bool is_converged = report_.primal_residual < options.tolerance && report_.dual_residual < options.tolerance;
    report_.stop_reason = is_converged ? StopReason::converged : StopReason::iteration_limit;
    if (layer_.progress)
      layer_.progress(
          {report_.iterations, options.iterations, best_error_, best_.numerical_rank, std::ssize(best_.kept_groups)});
    poll(options.checkpoints);
  }
}

ConstrainedResult Candidate::finish() {
  const auto& problem = layer_.problem;
  ConstrainedResult result{fixed().structure(), best_, report_, pull_, 0, fixed().engine_counts(), 0, 0};
  const auto error = [&](const Samples& samples) { return relative_error(layer_.comm, problem, samples, best_); };
  result.report.error_train = error(problem.fit);
  result.error_selection = layer_.has_selection ? error(problem.selection) : result.report.error_train;
  splitting_.reset();
  judged_features_ = {};
  map_.reset();
  descend(layer_, fixed(), result);
  return result;
}

/// The weights as they stand: the judgement and the next pass apply the same.
const FactoredMap& Candidate::map() {
  if (!map_) map_.emplace(fixed_->map(target_mean_));
  return *map_;
}

/// Remembers the best iterate on the selection samples.
void Candidate::judge() {
  const TraceSpan span(TraceKind::step, "judgement");
  const auto& problem = layer_.problem;
  const double error = relative_error(layer_.comm, problem, layer_.has_selection ? problem.selection : problem.fit,
                                      map(), judged_features_);
  if (error < best_error_) {
    best_error_ = error;
    best_ = fixed_->factors(target_mean_);
  }
}

void Candidate::save(StateWriter& to) const {
  fixed_->save(to);
  to.put_integers("iteration", {report_.iterations, static_cast<std::int64_t>(report_.stop_reason), row_rank_,
                                row_begin_, best_.numerical_rank, splitting_ ? 1 : 0});
  to.put_doubles("figures", {best_error_, report_.primal_residual, report_.dual_residual, error_before_});
  to.put_doubles("objective", report_.objective);
  to.put_doubles("target_mean", target_mean_);
  to.put_integers("best_groups", best_.kept_groups);
  to.put_doubles("best_u", best_.u);
  to.put_doubles("best_v", best_.v);
  to.put_doubles("best_b", best_.b);
  to.put_doubles("best_bias", best_.bias);
  if (splitting_) splitting_->save(to);
}

void Candidate::restore(StateReader& from) {
  fixed_->restore(from);
  const auto integers = from.get<std::int64_t>("iteration");
  const auto figures = from.get<double>("figures");
  report_.iterations = integers.at(0);
  report_.stop_reason = static_cast<StopReason>(integers.at(1));
  row_rank_ = integers.at(2);
  row_begin_ = integers.at(3);
  best_error_ = figures.at(0);
  report_.primal_residual = figures.at(1);
  report_.dual_residual = figures.at(2);
  error_before_ = figures.at(3);
  report_.objective = from.get<double>("objective");
  target_mean_ = from.get<double>("target_mean");
  best_ = {from.get<std::int64_t>("best_groups"),
           integers.at(4),
           from.get<double>("best_u"),
           from.get<double>("best_v"),
           from.get<double>("best_b"),
           from.get<double>("best_bias"),
           layer_.problem.grouping};
  if (integers.at(5) == 0) return;
  splitting_.emplace(layer_.comm, layer_.problem, layer_.scale, layer_.statistics, layer_.rho);
  splitting_->restore(from);
}

} // namespace slr
