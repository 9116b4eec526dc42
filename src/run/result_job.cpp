#include "result_job.hpp"

#include "correction.hpp"
#include "first_stages.hpp"
#include "layer_sweep.hpp"
#include "parallel.hpp"
#include "slr/base/file.hpp"
#include "slr/graph/groups.hpp"
#include "slr/graph/onnx_file.hpp"
#include "slr/infer/latency.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/run/json_text.hpp"
#include "slr/run/report_table.hpp"
#include "slr/run/safeguards.hpp"
#include "slr/run/verify_outputs.hpp"

#include <iostream>
#include <thread>

namespace slr::run {

void print(const Communicator& comm, const std::string& text) {
  if (comm.is_root()) std::cout << text << std::flush;
}

// A result's folder shows the shared shards under the usual name: slr_inspect and scripts find them beside the factors.
// The inputs that the result's own layers were fitted on lie there for real.
void link_features(const OutputFiles& from, const OutputFiles& to) {
  std::filesystem::create_directories(to.features());
  for (const auto& entry : std::filesystem::directory_iterator(from.features())) {
    const auto link = to.features() / entry.path().filename();
    if (entry.is_regular_file() && !std::filesystem::exists(link))
      std::filesystem::create_symlink(std::filesystem::relative(entry.path(), to.features()), link);
  }
}

namespace {

/// Accuracy on data.validation, else on the report images of the calibration set.
Accuracy judge(const Communicator& comm, const Network& original, const Network& compressed,
               const ImageFeed& calibration, const Configuration& config, Progress& progress, Checkpoints& checkpoints,
               std::string& judged_on) {
  if (config.data.validation.is_given()) {
    judged_on = "data.validation";
    const auto feed = open_feed(comm, image_source(config.data.validation), config, original);
    return evaluate(comm, compressed, &original, feed, feed.size(), {}, progress, {}, &checkpoints);
  }
  judged_on = "the report images of data.calibration";
  return evaluate(
      comm, compressed, &original, calibration, config.calibration.images,
      [](std::int64_t image) { return role_of_image(image) == Role::report; }, progress, {}, &checkpoints);
}

/// Seconds for one image, the original and the compressed network in turns, on one thread and on all cores. Local.
nlohmann::ordered_json latency_json(graph::Model before, const graph::Model& after) {
  graph::join_groups(before); // as it was given
  nlohmann::ordered_json json;
  const auto cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  for (const auto& [name, threads] : {std::pair{"one_thread", 1}, std::pair{"all_cores", cores}}) {
    const infer::LatencyOptions options{.warm_up = 2, .repeats = 11, .threads = threads};
    const auto [first, second] = infer::measure_latencies(before, after, options);
    json[name] = {{"threads", threads}, {"before", first.median_seconds}, {"after", second.median_seconds}};
  }
  return json;
}

/// The layers by the schedule of the configuration; `schedule` says who was to do what, and what it took.
SweepResult solve_layers(const Communicator& comm, const Configuration& config, const Network& network,
                         const Prepared& shared, const Allotment& allotment, std::optional<std::int64_t> limit,
                         const OutputFiles& files, Progress& progress, Checkpoints& checkpoints, const Solved* solved,
                         nlohmann::ordered_json& schedule) {
  const LayerJob job{comm, shared.row_grid, network, allotment, shared.features, config, progress, checkpoints};
  if (solved) {
    const auto corrected = restore_outcomes(checkpoints, network);
    LayerSweep steps(job, shared.dense, limit, files.features());
    for (const auto& outcome : corrected.empty() ? solved->layers : corrected) steps.take(outcome);
    return steps.take_result();
  }
  const PlannedItem item{network, reasons_with(job, shared.dense, limit), allotment, config};
  const NodeGroups groups(comm, choose_groups({item}, config, shared.node_of_rank));
  if (groups.count() > 1) progress.note(std::to_string(groups.count()) + " groups of ranks");
  auto result = config.pipeline.schedule == Schedule::parallel
                    ? parallel_sweep(groups, job, shared.dense, &shared.feed, limit, files)
                    : sweep(comm, shared.row_grid, network, shared.dense, allotment, shared.features, &shared.feed,
                            config, limit, files.features(), progress, checkpoints);
  schedule =
      schedule_json(make_timetable({item}, groups.sizes(), config.pipeline.schedule, shared.machine), result, network);
  return result;
}

} // namespace

Prepared prepare(const Communicator& comm, const Configuration& config, const Network& network,
                 const OutputFiles& files, StageClock& clock, Progress& progress, JobCheckpoints& checkpoints) {
  auto dense = dense_reasons(network, config);
  check_weights(network, config, dense, progress);
  auto feed =
      clock.measure("pack", [&] { return open_calibration(comm, config, files, network, progress, checkpoints); });
  auto features = clock.measure(
      "calibrate", [&] { return open_features(comm, network, dense, feed, config, files, progress, checkpoints); });
  Prepared shared{dense, std::move(feed), std::move(features),      ProcessGrid::row(comm),
                  {},    nodes_of(comm),  open_machine(comm, files)};
  if (config.method.kind == MethodKind::constrained && config.budget.spread == Spread::network)
    clock.measure("curves", [&] {
      shared.curves =
          open_curves(comm, network, dense, shared.features, shared.feed, config, files, progress, checkpoints);
    });
  for (std::size_t i = 0; i < shared.curves.layers.size(); ++i)
    if (const auto& failure = shared.curves.layers[i].failure; !failure.empty())
      shared.dense[i] = failed_layer + failure;
  return shared;
}

Allotment make_allotment(const Communicator& comm, const Configuration& config, const Network& network,
                         const Prepared& shared, const BudgetPoint& point, Progress& progress,
                         Checkpoints& checkpoints) {
  const auto limit = point.limit_of(Resource::parameters);
  if (config.budget.spread == Spread::uniform) return allot_uniformly(network, shared.dense, *limit);
  if (config.method.kind == MethodKind::constrained) return allot(network, shared.dense, shared.curves, point, config);
  if (limit)
    return find_shared_factor(comm, shared.row_grid, network, shared.dense, shared.features, config, *limit, progress,
                              checkpoints);
  return no_limit(network);
}

namespace {

/// Solves, writes and judges one result; returns its report.
nlohmann::ordered_json compress_point(const Communicator& comm, const Configuration& config, const Network& network,
                                      const Prepared& shared, const BudgetPoint& point, const OutputFiles& files,
                                      StageClock clock, const Solved* solved, bool& is_missed, Progress& progress,
                                      JobCheckpoints& checkpoints) {
  const auto limit = point.limit_of(Resource::parameters);
  std::optional<Allotment> found;
  if (!solved)
    found = clock.measure("budget",
                          [&] { return make_allotment(comm, config, network, shared, point, progress, checkpoints); });
  const auto& allotment = solved ? solved->allotment : *found;
  Checkpoints::Kept kept_allotment;
  if (!solved && config.method.kind == MethodKind::relaxed && limit)
    kept_allotment = keep_shared_factor(checkpoints, allotment);
  nlohmann::ordered_json schedule;
  auto result = clock.measure("solve", [&] {
    return solve_layers(comm, config, network, shared, allotment, limit, files, progress, checkpoints, solved,
                        schedule);
  });
  const auto kept_outcomes = keep_outcomes(checkpoints, result.layers);
  const CorrectionJob correction_job{comm,          shared.row_grid, network,     shared.dense,
                                     shared.curves, shared.features, shared.feed, config,
                                     point,         files,           progress,    checkpoints};
  Correction correction(correction_job, allotment, result);
  if (can_be_corrected(config)) clock.measure("correct", [&] { correction.run(); });
  std::optional<RefineOutcome> refined;
  if (config.refine.epochs > 0)
    refined = clock.measure(
        "refine", [&] { return refine_network(comm, network, shared.feed, config, result, progress, checkpoints); });
  const auto kept_refined = keep_refined(checkpoints, refined);
  const auto unverified = files.unverified();
  clock.measure("export", [&] {
    tidy(result);
    on_root(comm, [&] {
      std::filesystem::remove_all(unverified.folder);
      std::filesystem::create_directories(unverified.folder);
      graph::write_model(result.model, unverified.compressed());
      write_factors(result, refined, network, configuration_hash(config), unverified.factors());
    });
  });
  // The accuracy is that of the file that was written, read back.
  std::string judged_on;
  const auto accuracy = clock.measure("evaluate", [&] {
    const auto compressed = load_network(comm, unverified.compressed());
    return judge(comm, network, compressed, shared.feed, config, progress, checkpoints, judged_on);
  });
  nlohmann::ordered_json latency;
  clock.measure("latency",
                [&] { on_root_undisturbed(comm, [&] { latency = latency_json(network.model, result.model); }); });
  clock.measure("verify", [&] { verify_outputs(comm, network, result, files, unverified); });
  auto report = make_report(comm, network, result, accuracy, judged_on, clock, point, correction.allotment());
  on_root(comm, [&] { report["latency"] = latency; });
  if (!correction.rounds().empty()) report["corrections"] = correction.json();
  report["refine"] = refine_json(refined);
  if (!schedule.is_null()) report["run"]["groups"] = schedule["groups"].size();
  report["run"].update(checkpoints.json());
  if (!schedule.is_null()) report["schedule"] = schedule;
  on_root(comm, [&] {
    write_file_atomically(unverified.report(), json_text(report));
    publish(unverified, files);
    std::filesystem::remove_all(files.layers());
  });
  print(comm, report_table(report));
  bool misses = result.is_failure_tolerated;
  on_root(comm, [&] {
    for (const auto& [resource, at_most, factor] : point.limits)
      if (resource == Resource::latency) {
        const double before = latency["one_thread"]["before"], after = latency["one_thread"]["after"];
        misses = misses || after > (factor > 0 ? before / factor : 1e-9 * static_cast<double>(at_most));
      } else {
        misses = misses || report["model"][to_text(resource) + "_after"].get<std::int64_t>() > at_most;
      }
  });
  is_missed = comm.broadcast_value(misses);
  return report;
}

} // namespace

std::vector<BudgetPoint> checked_points(const Network& network, const Configuration& config) {
  auto points = budget_points(network, dense_reasons(network, config), config);
  if (config.method.kind == MethodKind::constrained && points.front().limits.empty() && config.budget.layers.empty())
    throw Error(ExitCode::configuration, config.where("budget") + ": there is no budget; set budget.parameters, "
                                                                  "budget.macs, budget.bytes, budget.latency or "
                                                                  "budget.layers");
  return points;
}

ExitCode compress_points(const Communicator& comm, const Configuration& config, const Network& network,
                         const Prepared& shared, const std::vector<BudgetPoint>& points, const OutputFiles& files,
                         const StageClock& clock, const Solved* solved, Progress& progress,
                         JobCheckpoints& checkpoints) {
  bool is_missed = false;
  std::vector<nlohmann::ordered_json> reports;
  std::vector<std::int64_t> finished; // per result whether it missed its target
  if (const auto saved = checkpoints.take("results")) finished = saved->get<std::int64_t>("is_missed");
  const auto earlier = finished.size();
  const auto kept = checkpoints.keep("results", [&](StateWriter& to) { to.put_integers("is_missed", finished); });
  for (std::size_t i = 0; i < points.size(); ++i) {
    const auto& point = points[i];
    const auto below = files.point(point.name);
    if (i < earlier) {
      nlohmann::ordered_json report;
      on_root(comm, [&] { report = read_json(below.report()); });
      reports.push_back(std::move(report));
      is_missed = is_missed || finished[i] != 0;
      continue;
    }
    const Checkpoints::Unit unit(checkpoints, "result-" + std::to_string(i));
    if (!point.name.empty()) {
      progress.note("result " + point.name);
      on_root(comm, [&] { link_features(files, below); });
    }
    bool is_missed_here = false;
    reports.push_back(compress_point(comm, config, network, shared, point, below, clock, solved, is_missed_here,
                                     progress, checkpoints));
    finished.push_back(is_missed_here ? 1 : 0);
    is_missed = is_missed || is_missed_here;
  }
  on_root(comm, [&] {
    FileHashes hashes;
    if (points.size() > 1) {
      for (const auto& point : points) { // so that each folder stands, and can be verified, by itself
        const auto below = files.point(point.name);
        write_file_atomically(below.manifest(), json_text(make_manifest(comm, config, below, {{}}, hashes)));
      }
      const auto summary = make_summary(points, reports);
      write_file_atomically(files.report(), json_text(summary));
      std::cout << report_table(summary) << std::flush;
    }
    write_file_atomically(files.manifest(), json_text(make_manifest(comm, config, files, points, hashes)));
  });
  checkpoints.finish();
  return is_missed ? ExitCode::target_missed : ExitCode::done;
}

} // namespace slr::run
