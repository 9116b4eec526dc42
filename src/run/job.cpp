#include "slr/run/job.hpp"

#include "batch.hpp"
#include "first_stages.hpp"
#include "result_job.hpp"

#include "slr/base/file.hpp"
#include "slr/base/trace.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/mpi/trace_file.hpp"
#include "slr/run/job_checkpoints.hpp"
#include "slr/run/json_text.hpp"
#include "slr/run/own_layers.hpp"
#include "slr/run/plan_job.hpp"
#include "slr/run/report.hpp"
#include "slr/run/report_table.hpp"
#include "slr/run/safeguards.hpp"
#include "slr/run/verify_outputs.hpp"

#include <iostream>

namespace slr::run {
namespace {

/// One whole run into its folder; returns the exit code.
ExitCode compress(const Communicator& comm, const Configuration& config, const Network& network,
                  const std::vector<BudgetPoint>& points, const OutputFiles& files, Progress& progress,
                  JobCheckpoints& checkpoints) {
  StageClock clock;
  const auto shared = prepare(comm, config, network, files, clock, progress, checkpoints);
  return compress_points(comm, config, network, shared, points, files, clock, nullptr, progress, checkpoints);
}

ExitCode compress_or_show(const Communicator& comm, const Configuration& config, bool is_fresh,
                          std::optional<double> max_hours) {
  check_supported(config);
  check_solver_options(config);
  if (!config.batch.empty())
    return compress_batch(comm, config, is_fresh, max_hours,
                          [&](const Configuration& item) { return compress_or_show(comm, item, false, max_hours); });
  const bool has_own_layers = !config.layers.empty();
  const auto network =
      has_own_layers ? own_network(comm, config) : load_network(comm, config.model.absolute, config.method.grouping);
  const auto points = checked_points(network, config); // before the folder is claimed
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

/// The nodes of the ranks that a plan is for.
std::vector<int> planned_nodes(const Communicator& comm, const CompressOptions& options) {
  if (!options.plan_ranks && !options.plan_ranks_per_node) return nodes_of(comm);
  const auto ranks = options.plan_ranks.value_or(comm.size()), per_node = options.plan_ranks_per_node.value_or(ranks);
  std::vector<int> nodes;
  for (std::int64_t r = 0; r < ranks; ++r) nodes.push_back(static_cast<int>(r / per_node));
  return nodes;
}

ExitCode show_plan(const Communicator& comm, const Configuration& config, const CompressOptions& options) {
  check_supported(config);
  if (!config.layers.empty())
    throw Error(ExitCode::usage, "--plan predicts the job of a network; leave it out to compress layers without one");
  const auto configs = config.batch.empty() ? std::vector{config} : batch_items(config);
  const auto networks = load_networks(comm, configs);
  std::vector<PlanItem> items;
  for (std::size_t i = 0; i < configs.size(); ++i) {
    const auto dense = dense_reasons(*networks[i], configs[i]);
    items.push_back({config.batch.empty() ? "" : batch_name(i), *networks[i], dense,
                     budget_points(*networks[i], dense, configs[i]), configs[i]});
  }
  const auto nodes = planned_nodes(comm, options);
  const auto measured = measure_machine(comm);
  std::string text;
  on_root(comm,
          [&] { text = plan_text(items, config, nodes, read_machine(OutputFiles{config.output.absolute}), measured); });
  print(comm, text);
  return ExitCode::done;
}

/// The work of slr_compress, whether its time is watched or not.
ExitCode compress_as_asked(const Communicator& comm, const CompressOptions& options) {
  if (!options.reproduce.empty()) return reproduce(comm, options);
  const auto config = load_configuration(comm, options.config, options.overrides, required_by_compress);
  if (options.print_config) {
    print(comm, resolved_yaml(config));
    return ExitCode::done;
  }
  if (options.plan) return show_plan(comm, config, options);
  return compress_or_show(comm, config, options.fresh, options.max_hours);
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
  const auto network = load_network(comm, config.model.absolute, config.method.grouping);
  const OutputFolder folder(comm, config, network.sha256, options.fresh);
  const auto progress = make_progress(comm);
  const auto dense = dense_reasons(network, config);
  JobCheckpoints checkpoints(comm, config, network.sha256, folder.files(), std::nullopt,
                             folder.state() == FolderState::unfinished, *progress);
  const auto feed = open_calibration(comm, config, folder.files(), network, *progress, checkpoints);
  const auto features = open_features(comm, network, dense, feed, config, folder.files(), *progress, checkpoints);
  progress->note(std::to_string(features.files().size()) + " feature shards are in " +
                 folder.files().features().string());
  return ExitCode::done;
}

} // namespace slr::run
