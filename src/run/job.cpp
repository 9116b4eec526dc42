#include "slr/run/job.hpp"

#include "first_stages.hpp"

#include "slr/base/file.hpp"
#include "slr/base/trace.hpp"
#include "slr/graph/groups.hpp"
#include "slr/graph/onnx_file.hpp"
#include "slr/infer/latency.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/run/job_checkpoints.hpp"
#include "slr/run/json_text.hpp"
#include "slr/run/own_layers.hpp"
#include "slr/run/plan_job.hpp"
#include "slr/run/report.hpp"
#include "slr/run/report_table.hpp"
#include "slr/run/safeguards.hpp"
#include "slr/run/verify_outputs.hpp"

#include <iostream>
#include <thread>

namespace slr::run {
namespace {

/// Text for the user on standard output, once.
void print(const Communicator& comm, const std::string& text) {
  if (comm.is_root()) std::cout << text << std::flush;
}

/// A result's folder shows the shared shards under the usual name: slr_inspect and scripts find them beside the
/// factors. The inputs that the result's own layers were fitted on lie there for real.
void link_features(const OutputFiles& from, const OutputFiles& to) {
  std::filesystem::create_directories(to.features());
  for (const auto& entry : std::filesystem::directory_iterator(from.features())) {
    const auto link = to.features() / entry.path().filename();
    if (entry.is_regular_file() && !std::filesystem::exists(link))
      std::filesystem::create_symlink(std::filesystem::relative(entry.path(), to.features()), link);
  }
}

/// Accuracy on data.validation, else on the report images of the calibration set.
Accuracy judge(const Communicator& comm, const Network& original, const Network& compressed,
               const ImageFeed& calibration, const Configuration& config, Progress& progress,
               const Checkpoints& checkpoints, std::string& judged_on) {
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
    const double first = infer::measure_latency(before, options).median_seconds;
    const double second = infer::measure_latency(after, options).median_seconds;
    json[name] = {{"threads", threads}, {"before", first}, {"after", second}};
  }
  return json;
}

/// What the results of a job share.
struct Prepared {
  std::vector<std::string> dense;
  ImageFeed feed;
  store::FeatureSet features;
  Grid row_grid;
  Curves curves; ///< constrained only
};

/// Solves, writes and judges one result; returns its report.
nlohmann::ordered_json compress_point(const Communicator& comm, const Configuration& config, const Network& network,
                                      const Prepared& shared, const BudgetPoint& point, const OutputFiles& files,
                                      StageClock clock, bool& is_missed, Progress& progress,
                                      JobCheckpoints& checkpoints) {
  const auto limit = point.limit_of(Resource::parameters);
  Allotment allotment = no_limit(network);
  clock.measure("budget", [&] {
    if (config.budget.spread == Spread::uniform)
      allotment = allot_uniformly(network, shared.dense, *limit);
    else if (config.method.kind == MethodKind::constrained)
      allotment = allot(network, shared.dense, shared.curves, point, config);
    else if (limit)
      allotment = find_shared_factor(comm, shared.row_grid, network, shared.dense, shared.features, config, *limit,
                                     progress, checkpoints);
  });
  Checkpoints::Kept kept_allotment;
  if (config.method.kind == MethodKind::relaxed && limit) kept_allotment = keep_shared_factor(checkpoints, allotment);
  auto result = clock.measure("solve", [&] {
    return sweep(comm, shared.row_grid, network, shared.dense, allotment, shared.features, &shared.feed, config, limit,
                 files.features(), progress, checkpoints);
  });
  const auto kept_outcomes = keep_outcomes(checkpoints, result.layers);
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
    return checkpoints.guard(
        [&] { return judge(comm, network, compressed, shared.feed, config, progress, checkpoints, judged_on); });
  });
  nlohmann::ordered_json latency;
  clock.measure("latency", [&] { on_root(comm, [&] { latency = latency_json(network.model, result.model); }); });
  clock.measure("verify", [&] { verify_outputs(comm, network, result, files, unverified); });
  auto report = make_report(comm, network, result, accuracy, judged_on, clock, point, allotment);
  on_root(comm, [&] { report["latency"] = latency; });
  report["refine"] = refine_json(refined);
  report["run"].update(checkpoints.json());
  on_root(comm, [&] {
    write_file_atomically(unverified.report(), json_text(report));
    publish(unverified, files);
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

/// One whole run into its folder; returns the exit code.
ExitCode compress(const Communicator& comm, const Configuration& config, const Network& network,
                  const std::vector<BudgetPoint>& points, const OutputFiles& files, Progress& progress,
                  JobCheckpoints& checkpoints) {
  StageClock clock;
  auto dense = dense_reasons(network, config);
  check_weights(network, config, dense, progress);
  auto feed =
      clock.measure("pack", [&] { return open_calibration(comm, config, files, network, progress, checkpoints); });
  auto features = clock.measure(
      "calibrate", [&] { return open_features(comm, network, dense, feed, config, files, progress, checkpoints); });
  Prepared shared{dense, std::move(feed), std::move(features), ProcessGrid::row(comm), {}};
  if (config.method.kind == MethodKind::constrained && config.budget.spread == Spread::network)
    clock.measure("curves", [&] {
      shared.curves = open_curves(comm, shared.row_grid, network, dense, shared.features, shared.feed, config, files,
                                  progress, checkpoints);
    });
  for (std::size_t i = 0; i < shared.curves.layers.size(); ++i)
    if (const auto& failure = shared.curves.layers[i].failure; !failure.empty())
      shared.dense[i] = failed_layer + failure;
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
    reports.push_back(
        compress_point(comm, config, network, shared, point, below, clock, is_missed_here, progress, checkpoints));
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

ExitCode compress_or_show(const Communicator& comm, const Configuration& config, bool is_fresh,
                          std::optional<double> max_hours) {
  check_supported(config);
  check_solver_options(config);
  const bool has_own_layers = !config.layers.empty();
  const auto network = has_own_layers ? own_network(comm, config) : load_network(comm, config.model.absolute);
  const auto points = budget_points(network, dense_reasons(network, config), config); // before the folder is claimed
  if (config.method.kind == MethodKind::constrained && points.front().limits.empty() && config.budget.layers.empty())
    throw Error(ExitCode::configuration, config.where("budget") + ": there is no budget; set budget.parameters, "
                                                                  "budget.macs, budget.bytes, budget.latency or "
                                                                  "budget.layers");
  std::vector<std::string> names;
  for (const auto& point : points) names.push_back(point.name);
  const OutputFolder folder(comm, config, network.sha256, is_fresh, names);
  const auto progress = make_progress(comm);
  if (folder.state() == FolderState::finished) {
    nlohmann::ordered_json report;
    on_root(comm, [&] { report = read_json(folder.files().report()); });
    if (comm.is_root()) print(comm, report_table(report));
    on_root(comm, [&] { // of a run that was killed right behind its end
      for (const auto& path : {folder.files().checkpoint(), folder.files().previous_checkpoint()})
        std::filesystem::remove(path);
    });
    progress->note("this run was finished before; use --fresh to repeat it");
    return ExitCode::done;
  }
  on_root(comm, [&] { progress->open_log(folder.files().log()); });
  const auto watchdog = watch_over(comm, config, folder.files());
  if (folder.state() == FolderState::unfinished)
    progress->note("an unfinished run is continued: " + config.output.given);
  JobCheckpoints checkpoints(comm, config, network.sha256, folder.files(), max_hours,
                             folder.state() == FolderState::unfinished, *progress);
  const auto code = has_own_layers ? compress_own_layers(comm, config, network, points.front(), folder.files(),
                                                         *progress, checkpoints)
                                   : compress(comm, config, network, points, folder.files(), *progress, checkpoints);
  on_root(comm, [&] { std::filesystem::remove(folder.files().heartbeat()); });
  return code;
}

/// The names of a run's results: those of its outputs in folders of their own, else the only one.
std::vector<std::string> points_in(const nlohmann::json& manifest) {
  std::vector<std::string> names;
  for (const auto& [output, hash] : manifest["outputs"].items())
    if (const auto folder = std::filesystem::path(output).parent_path().string();
        names.empty() || names.back() != folder)
      names.push_back(folder);
  return names;
}

/// Repeats the run of a manifest in a folder of its own and compares the outputs' hashes.
ExitCode reproduce(const Communicator& comm, const CompressOptions& options) {
  nlohmann::json manifest;
  std::string text;
  on_root(comm, [&] {
    manifest = read_manifest(options.reproduce);
    text = manifest["configuration"].dump();
  });
  text = comm.broadcast_text(text);
  auto overrides = options.overrides;
  const auto folder = std::filesystem::absolute(options.reproduce).parent_path();
  const bool has_output =
      std::any_of(overrides.begin(), overrides.end(), [](const auto& o) { return o.starts_with("output="); });
  if (!has_output) overrides.push_back("output=" + (folder.string() + "-reproduced"));
  const auto config = parse_configuration(text, options.reproduce, folder, overrides, std::filesystem::current_path(),
                                          required_by_compress);
  on_root(comm, [&] {
    FileHashes hashes;
    for (const auto& [path, hash] : input_hashes(config, hashes))
      if (manifest["inputs"].value(path, "") != hash)
        throw Error(ExitCode::bad_data, "the input " + path + " is not the file that " + options.reproduce +
                                            " was made from: its SHA-256 differs");
  });
  const auto code = compress_or_show(comm, config, true, options.max_hours);
  bool is_equal = true;
  std::string words;
  on_root(comm, [&] {
    FileHashes hashes;
    for (const auto& [name, hash] : output_hashes({config.output.absolute}, points_in(manifest), hashes)) {
      const bool same = manifest["outputs"].value(name, "") == hash;
      is_equal = is_equal && same;
      words += name + (same ? ": same bytes\n" : ": DIFFERENT\n");
    }
    if (!is_equal && manifest.value("mpi_ranks", 0) != comm.size())
      words += "the manifest's run had " + std::to_string(manifest.value("mpi_ranks", 0)) + " ranks, this one " +
               std::to_string(comm.size()) + "\n";
  });
  print(comm, words);
  is_equal = comm.broadcast_value(is_equal);
  return is_equal ? code : ExitCode::target_missed;
}

/// The work of slr_compress, whether its time is watched or not.
ExitCode compress_as_asked(const Communicator& comm, const CompressOptions& options) {
  if (!options.reproduce.empty()) return reproduce(comm, options);
  const auto config = load_configuration(comm, options.config, options.overrides, required_by_compress);
  if (options.print_config) {
    print(comm, resolved_yaml(config));
    return ExitCode::done;
  }
  if (options.plan) {
    check_supported(config);
    if (!config.layers.empty())
      throw Error(ExitCode::usage, "--plan predicts the job of a network; leave it out to compress layers without one");
    const auto network = load_network(comm, config.model.absolute);
    const auto dense = dense_reasons(network, config);
    const auto points = budget_points(network, dense, config);
    std::string text;
    on_root(comm, [&] { text = plan_text(network, dense, points, config, options.plan_ranks.value_or(comm.size())); });
    print(comm, text);
    return ExitCode::done;
  }
  return compress_or_show(comm, config, options.fresh, options.max_hours);
}

/// The ranks' timelines side by side, one process each.
void write_trace(const Communicator& comm, const std::string& file) {
  const auto mine = Trace::take_events(comm.rank()) + (comm.rank() + 1 < comm.size() ? ",\n" : "\n");
  const auto all = comm.gather(std::span<const char>(mine));
  on_root(comm, [&] {
    write_file_atomically(file, "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n" +
                                    std::string(all.begin(), all.end()) + "]}\n");
  });
}

} // namespace

ExitCode run_compress(const Communicator& comm, const CompressOptions& options) {
  if (options.trace.empty()) return compress_as_asked(comm, options);
  comm.barrier();
  Trace::start();
  try {
    const auto code = compress_as_asked(comm, options);
    write_trace(comm, options.trace);
    return code;
  } catch (const Error& error) {
    if (error.code() == ExitCode::stopped) write_trace(comm, options.trace); // all ranks stop together
    throw;
  }
}

ExitCode run_calibrate(const Communicator& comm, const CalibrateOptions& options) {
  const auto config = load_configuration(comm, options.config, options.overrides, required_by_calibrate);
  check_supported(config);
  const auto network = load_network(comm, config.model.absolute);
  const OutputFolder folder(comm, config, network.sha256, options.fresh);
  const auto progress = make_progress(comm);
  const auto dense = dense_reasons(network, config);
  const JobCheckpoints checkpoints(comm, config, network.sha256, folder.files(), std::nullopt, false, *progress);
  const auto feed = open_calibration(comm, config, folder.files(), network, *progress, checkpoints);
  const auto features = open_features(comm, network, dense, feed, config, folder.files(), *progress, checkpoints);
  progress->note(std::to_string(features.files().size()) + " feature shards are in " +
                 folder.files().features().string());
  return ExitCode::done;
}

} // namespace slr::run
