#include "correction.hpp"

#include "layer_solver.hpp"
#include "output_probe.hpp"
#include "slr/graph/count.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/store/feature_shards.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace slr::run {
namespace {

constexpr double largest_measuring_macs = 4e12; // of a round, but at least so many images are judged:
constexpr std::int64_t least_images = 16;
constexpr double largest_ratio = 10; // of what a layer does to what its curve said, either way
constexpr double least_gain = 0.02;  // of the divergence, that another sweep must promise

/// How many calibration images have the judged selection images among them.
std::int64_t judged_images(const Network& network, const Configuration& config) {
  const auto macs = static_cast<double>(std::max<std::int64_t>(1, graph::count(network.model).macs));
  const auto runs = static_cast<double>(network.layers.size() + 2);
  const auto affordable =
      std::min(largest_measuring_macs / (runs * macs), static_cast<double>(config.calibration.images));
  return std::min(config.calibration.images, 10 * std::max(static_cast<std::int64_t>(affordable), least_images));
}

/// What the curve says of a structure; none for one that it does not have.
std::optional<double> harm_of(const LayerCurve& curve, const std::optional<Split>& split) {
  if (!split) return std::nullopt;
  for (const auto& point : predict(curve))
    if (point.split == *split) return point.kl;
  return std::nullopt;
}

} // namespace

Correction::Correction(const CorrectionJob& job, const Allotment& allotment, SweepResult& result)
    : job_(job), first_(allotment), result_(result) {
  if (const auto saved = job.checkpoints.take("correction")) restore(*saved);
  kept_ = job.checkpoints.keep("correction", [this](StateWriter& to) { save(to); });
}

bool can_be_corrected(const Configuration& config) {
  return config.budget.corrections > 0 && config.method.kind == MethodKind::constrained &&
         config.budget.spread == Spread::network && config.pipeline.schedule != Schedule::parallel;
}

nlohmann::ordered_json Correction::json() const {
  auto json = nlohmann::ordered_json::array();
  for (const auto& round : rounds_)
    json.push_back({{"layers", round.layers},
                    {"kl_before", round.kl_before},
                    {"kl_expected", round.kl_expected},
                    {"kl_after", round.kl_after},
                    {"accepted", round.is_accepted}});
  return json;
}

void Correction::run() {
  while (!is_over_ && std::ssize(rounds_) < job_.config.budget.corrections) is_over_ = !run_round();
  is_over_ = true;
}

/// Every layer's curve, multiplied by what the layer really does over what the curve said.
Curves Correction::corrected_curves(const OutputProbe& probe, double kl) const {
  auto curves = job_.curves;
  for (std::size_t i = 0; i < curves.layers.size(); ++i) {
    const auto said = harm_of(curves.layers[i], allotment().splits[i]);
    if (!said || *said <= 0 || !result_.layers[i].is_compressed) continue;
    auto without = job_.network.model;
    collectively(job_.comm, [&] {
      for (std::size_t j = 0; j < result_.layers.size(); ++j)
        if (auto outcome = result_.layers[j]; j != i && outcome.is_compressed)
          replace(job_.network.layers[j], without, outcome);
    });
    const double ratio = std::clamp((kl - probe.kl_of(std::move(without))) / *said, 1 / largest_ratio, largest_ratio);
    for (auto& row : curves.layers[i].rows)
      for (auto& point : row)
        if (point.kl) *point.kl *= ratio;
  }
  return curves;
}

double Correction::harm_on(const Curves& curves, const Allotment& allotment) const {
  double harm = 0;
  for (std::size_t i = 0; i < curves.layers.size(); ++i)
    harm += harm_of(curves.layers[i], allotment.splits[i]).value_or(0);
  return harm;
}

/// Holds images and the original network, so none is kept while layers are solved.
OutputProbe Correction::probe() const {
  return collectively(job_.comm, [&] {
    return OutputProbe(job_.comm, job_.network, job_.feed, judged_images(job_.network, job_.config));
  });
}

bool Correction::run_round() {
  const Checkpoints::Unit unit(job_.checkpoints, "correction-" + std::to_string(rounds_.size()));
  job_.progress.stage("correct", 0);
  CorrectionRound round;
  auto measured = std::optional(probe());
  round.kl_before = round.kl_after = measured->kl_of(result_.model);
  const auto curves = corrected_curves(*measured, round.kl_before);
  measured.reset();
  auto other = allot(job_.network, job_.dense_reasons, curves, job_.point, job_.config);
  round.kl_expected = round.kl_before - harm_on(curves, allotment()) + harm_on(curves, other);
  if (round.kl_expected > (1 - least_gain) * round.kl_before) return false;
  auto next = solve(other, round.layers);
  std::swap(result_, next);
  round.kl_after = probe().kl_of(result_.model);
  round.is_accepted = round.kl_after < round.kl_before;
  if (round.is_accepted)
    corrected_ = std::move(other);
  else
    std::swap(result_, next);
  adopt_inputs(round.is_accepted);
  job_.progress.note(fmt::format("budget moved between {} layers: KL {:.4g} -> {:.4g} on the selection images{}",
                                 round.layers, round.kl_before, round.kl_after,
                                 round.is_accepted ? "" : ", taken back"));
  rounds_.push_back(round);
  return round.is_accepted;
}

/// All layers from the first one with another structure on; their inputs lie apart until they are accepted.
SweepResult Correction::solve(const Allotment& other, std::int64_t& changed) {
  std::vector<LayerOutcome> same;
  changed = 0;
  for (std::size_t i = 0; i < result_.layers.size(); ++i) {
    if (other.splits[i] != allotment().splits[i]) ++changed;
    if (changed == 0) same.push_back(result_.layers[i]);
  }
  return sweep(job_.comm, job_.row_grid, job_.network, job_.dense_reasons, other, job_.features, &job_.feed,
               job_.config, job_.point.limit_of(Resource::parameters), job_.files.corrected_inputs(), job_.progress,
               job_.checkpoints, std::move(same));
}

/// The inputs of accepted layers take the place of the earlier ones, those of others go.
void Correction::adopt_inputs(bool is_accepted) const {
  on_root(job_.comm, [&] {
    for (const auto& layer : job_.network.layers) {
      const auto from = store::inputs_folder(job_.files.corrected_inputs(), layer.name),
                 to = store::inputs_folder(job_.files.features(), layer.name);
      if (!is_accepted || !std::filesystem::exists(from)) continue;
      std::filesystem::remove_all(to);
      std::filesystem::create_directories(to.parent_path());
      std::filesystem::rename(from, to);
    }
    std::filesystem::remove_all(job_.files.corrected_inputs());
  });
}

void Correction::save(StateWriter& to) const {
  std::vector<std::int64_t> counts{is_over_ ? 1 : 0, std::ssize(rounds_)}, splits;
  std::vector<double> numbers;
  for (const auto& round : rounds_) {
    counts.insert(counts.end(), {round.layers, round.is_accepted ? 1 : 0});
    numbers.insert(numbers.end(), {round.kl_before, round.kl_expected, round.kl_after});
  }
  for (const auto& split : allotment().splits)
    splits.insert(splits.end(), {split ? split->groups : -1, split ? split->rank : -1});
  to.put_integers("counts", counts);
  to.put_doubles("numbers", numbers);
  to.put_integers("splits", splits);
  to.put_integers("parameters", allotment().parameters);
  to.put_doubles("pulls", allotment().pulls);
  to.put_doubles("predicted_kl", {allotment().predicted_kl});
}

void Correction::restore(StateReader& from) {
  const auto counts = from.get<std::int64_t>("counts"), splits = from.get<std::int64_t>("splits");
  const auto numbers = from.get<double>("numbers");
  is_over_ = counts.at(0) != 0;
  for (std::size_t i = 0; i < static_cast<std::size_t>(counts.at(1)); ++i)
    rounds_.push_back({numbers.at(3 * i), numbers.at(3 * i + 1), numbers.at(3 * i + 2), counts.at(2 + 2 * i),
                       counts.at(3 + 2 * i) != 0});
  corrected_ = no_limit(job_.network);
  for (std::size_t i = 0; i < corrected_->splits.size(); ++i)
    if (splits.at(2 * i) >= 0) corrected_->splits[i] = Split{splits.at(2 * i), splits.at(2 * i + 1)};
  corrected_->parameters = from.get<std::int64_t>("parameters");
  corrected_->pulls = from.get<double>("pulls");
  corrected_->predicted_kl = from.get<double>("predicted_kl").at(0);
}

} // namespace slr::run
