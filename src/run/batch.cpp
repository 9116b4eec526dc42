#include "batch.hpp"

#include "layer_solver.hpp"
#include "pipeline.hpp"
#include "result_job.hpp"
#include "schema.hpp"
#include "slr/base/file.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/run/json_text.hpp"
#include "slr/run/report_table.hpp"
#include "slr/run/safeguards.hpp"

#include <algorithm>
#include <iostream>
#include <memory>

namespace slr::run {
namespace {

/// The value at a dotted key of nested objects; null if there is none.
const Json* find_at(const Json& root, const std::string& dotted_key) {
  const Json* node = &root;
  for (std::size_t begin = 0;;) {
    const auto dot = dotted_key.find('.', begin);
    const auto child = node->is_object() ? node->find(dotted_key.substr(begin, dot - begin)) : node->end();
    if (!node->is_object() || child == node->end()) return nullptr;
    node = &*child;
    if (dot == std::string::npos) return node;
    begin = dot + 1;
  }
}

/// One item of a pipelined batch.
struct BatchJob {
  std::size_t number = 0;
  const Configuration* config = nullptr;
  const Network* network = nullptr;
  std::unique_ptr<OutputFolder> folder;
  std::unique_ptr<JobCheckpoints> checkpoints;
  std::vector<BudgetPoint> points;
  StageClock clock;
  std::optional<Prepared> shared;
  Allotment allotment;
  std::optional<std::int64_t> limit;
};

/// Images, features and curves of an item that has the same ones. On one rank.
void share_first_stages(const OutputFiles& from, const OutputFiles& to) {
  const auto link = [](const std::filesystem::path& target, const std::filesystem::path& path) {
    if (std::filesystem::exists(target) && !std::filesystem::exists(path))
      std::filesystem::create_symlink(std::filesystem::relative(target, path.parent_path()), path);
  };
  link(from.calibration(), to.calibration());
  if (std::filesystem::exists(from.features_view()) && !std::filesystem::exists(to.features_view())) {
    std::filesystem::remove_all(to.features());
    link_features(from, to);
    link(from.features_view(), to.features_view());
  }
  if (std::filesystem::exists(from.curves()) && !std::filesystem::exists(to.curves()))
    write_file_atomically(to.curves(), read_file(from.curves()));
}

/// The first stages of all items that are not finished.
std::vector<BatchJob> prepare_all(const Communicator& comm, const std::vector<Configuration>& items,
                                  const std::vector<std::shared_ptr<const Network>>& networks,
                                  std::optional<double> max_hours, Progress& progress) {
  std::vector<BatchJob> jobs;
  for (std::size_t i = 0; i < items.size(); ++i) {
    BatchJob job;
    job.number = i;
    job.config = &items[i];
    job.network = networks[i].get();
    job.points = checked_points(*job.network, *job.config);
    job.folder = std::make_unique<OutputFolder>(comm, *job.config, job.network->sha256, false);
    if (job.folder->state() == FolderState::finished) continue;
    const auto& files = job.folder->files();
    progress.note("item " + std::to_string(i + 1) + " of " + std::to_string(items.size()));
    for (std::size_t other = 0; other < i; ++other)
      if (first_stages_hash(items[other]) == first_stages_hash(items[i])) {
        on_root(comm, [&] { share_first_stages(OutputFiles{items[other].output.absolute}, files); });
        break;
      }
    job.checkpoints = std::make_unique<JobCheckpoints>(comm, *job.config, job.network->sha256, files, max_hours,
                                                       job.folder->state() == FolderState::unfinished, progress);
    job.shared = prepare(comm, *job.config, *job.network, files, job.clock, progress, *job.checkpoints);
    job.limit = job.points.front().limit_of(Resource::parameters);
    std::optional<Checkpoints::Unit> unit; // at whose end what was saved of later stages is dropped
    if (job.config->method.kind == MethodKind::relaxed && job.limit) unit.emplace(*job.checkpoints, "result-0");
    job.allotment = job.clock.measure("budget", [&] {
      return make_allotment(comm, *job.config, *job.network, *job.shared, job.points.front(), progress,
                            *job.checkpoints);
    });
    jobs.push_back(std::move(job));
  }
  return jobs;
}

/// What the pipeline did, beside what it was expected to take.
nlohmann::ordered_json pipeline_json(const Timetable& predicted, const std::vector<BatchJob>& jobs,
                                     const std::vector<std::vector<LayerOutcome>>& layers, double seconds) {
  nlohmann::ordered_json json{{"groups", predicted.ranks_of_group},
                              {"predicted_seconds", predicted.seconds()},
                              {"seconds", seconds},
                              {"predicted_idle_share", predicted.idle},
                              {"turns", nlohmann::ordered_json::array()}};
  for (const auto& turn : predicted.turns)
    json["turns"].push_back({{"item", batch_name(jobs[turn.item].number)},
                             {"layer", jobs[turn.item].network->layers[turn.layer].name},
                             {"group", turn.group + 1},
                             {"predicted_begin_seconds", turn.begin_seconds},
                             {"predicted_seconds", turn.end_seconds - turn.begin_seconds},
                             {"seconds", layers[turn.item][turn.layer].seconds}});
  return json;
}

/// All items in stages; then each is written and judged by all ranks.
nlohmann::ordered_json compress_pipelined(const Communicator& comm, const Configuration& config,
                                          std::vector<BatchJob>& jobs, bool& is_missed, Progress& progress) {
  if (jobs.empty()) return nullptr;
  std::vector<PlannedItem> planned;
  for (const auto& job : jobs) {
    const LayerJob layers{comm,          job.shared->row_grid, *job.network,
                          job.allotment, job.shared->features, *job.config,
                          progress,      *job.checkpoints};
    planned.push_back({*job.network, reasons_with(layers, job.shared->dense, job.limit), job.allotment, *job.config});
  }
  const NodeGroups groups(comm, choose_groups(planned, config, jobs.front().shared->node_of_rank));
  progress.note(std::to_string(groups.count()) + " groups of ranks");
  std::vector<PipelineItem> items;
  for (std::size_t j = 0; j < jobs.size(); ++j) {
    const auto& job = jobs[j];
    items.push_back({*job.config, *job.network, job.shared->dense, job.allotment, job.shared->features,
                     job.shared->feed, job.limit, job.folder->files(), stages_of(planned[j], groups.sizes())});
  }
  StageClock clock;
  const auto solved =
      clock.measure("solve", [&] { return run_pipeline(groups, items, progress, *jobs.front().checkpoints); });
  auto json = pipeline_json(make_timetable(planned, groups.sizes(), Schedule::pipelined, jobs.front().shared->machine),
                            jobs, solved, clock.total_seconds());
  for (std::size_t j = 0; j < jobs.size(); ++j) {
    auto& job = jobs[j];
    progress.note(batch_name(job.number));
    const Solved all{job.allotment, solved[j]};
    const auto code = compress_points(comm, *job.config, *job.network, *job.shared, job.points, job.folder->files(),
                                      job.clock, &all, progress, *job.checkpoints);
    is_missed = is_missed || code == ExitCode::target_missed;
    on_root(comm, [&] { std::filesystem::remove_all(job.folder->files().layers()); });
  }
  return json;
}

} // namespace

std::vector<std::shared_ptr<const Network>> load_networks(const Communicator& comm,
                                                          const std::vector<Configuration>& items) {
  std::map<std::pair<std::filesystem::path, Grouping>, std::shared_ptr<const Network>> known;
  std::vector<std::shared_ptr<const Network>> networks;
  for (const auto& item : items) {
    auto& network = known[{item.model.absolute, item.method.grouping}];
    if (!network)
      network = std::make_shared<const Network>(load_network(comm, item.model.absolute, item.method.grouping));
    networks.push_back(network);
  }
  return networks;
}

std::string batch_name(std::size_t index) {
  return "batch-" + std::to_string(index + 1);
}

std::vector<Configuration> batch_items(const Configuration& config) {
  auto base = resolved_json(config);
  base.erase("batch");
  if (config.pipeline.schedule == Schedule::pipelined) base.erase("pipeline");
  std::vector<Configuration> items;
  for (std::size_t i = 0; i < config.batch.size(); ++i) {
    const auto& overrides = config.batch[i];
    const auto name = "item " + std::to_string(i + 1) + " of batch";
    for (const auto* key : {"output", "pipeline", "checkpoint", "watchdog", "layers"})
      if (overrides.contains(key))
        throw Error(ExitCode::configuration, config.where("batch") + ": " + name + " sets " + key +
                                                 ", which all items share; set it for the whole job");
    auto whole = base;
    for (const auto& entry : schema())
      if (const auto* value = find_at(overrides, entry.key)) put(whole, entry.key, *value);
    whole["output"] = (config.output.absolute / batch_name(i)).string();
    items.push_back(
        parse_configuration(whole.dump(), config.source_name + ", " + name, "/", {}, "/", required_by_compress));
    auto& item = items.back();
    item.output.given = (std::filesystem::path(config.output.given) / batch_name(i)).string();
    check_supported(item);
    const auto& budget = item.budget;
    if (std::max({budget.parameters.size(), budget.macs.size(), budget.bytes.size(), budget.latency.size()}) > 1)
      throw Error(ExitCode::configuration,
                  config.where("batch") + ": " + name + " has a list of budgets; give one item for each of them");
  }
  return items;
}

ExitCode compress_batch(const Communicator& comm, const Configuration& config, bool is_fresh,
                        std::optional<double> max_hours,
                        const std::function<ExitCode(const Configuration&)>& compress_one) {
  const auto items = batch_items(config);
  const auto networks = load_networks(comm, items);
  std::string models;
  for (std::size_t i = 0; i < items.size(); ++i) {
    (void)checked_points(*networks[i], items[i]); // before the folder is claimed
    models += networks[i]->sha256;
  }
  const OutputFolder folder(comm, config, sha256(models), is_fresh);
  const auto& files = folder.files();
  const auto progress = make_progress(comm);
  if (folder.state() == FolderState::finished) {
    std::string table;
    on_root(comm, [&] { table = report_table(read_json(files.report())); });
    print(comm, table);
    progress->note("this run was finished before; use --fresh to repeat it");
    return ExitCode::done;
  }
  on_root(comm, [&] { progress->open_log(files.log()); });
  bool is_missed = false;
  nlohmann::ordered_json pipeline;
  if (config.pipeline.schedule == Schedule::pipelined) {
    const auto watchdog = watch_over(comm, config, files);
    auto jobs = prepare_all(comm, items, networks, max_hours, *progress);
    pipeline = compress_pipelined(comm, config, jobs, is_missed, *progress);
  } else {
    for (std::size_t i = 0; i < items.size(); ++i) {
      progress->note(batch_name(i));
      is_missed = compress_one(items[i]) == ExitCode::target_missed || is_missed;
    }
  }
  on_root(comm, [&] {
    std::vector<BudgetPoint> names;
    std::vector<nlohmann::ordered_json> reports;
    for (std::size_t i = 0; i < items.size(); ++i) {
      names.push_back({batch_name(i), {}});
      reports.push_back(read_json(OutputFiles{items[i].output.absolute}.report()));
    }
    auto summary = make_summary(names, reports);
    if (!pipeline.is_null()) summary["pipeline"] = pipeline;
    write_file_atomically(files.report(), json_text(summary));
    std::cout << report_table(summary) << std::flush;
    FileHashes hashes;
    auto manifest = make_manifest(comm, config, files, names, hashes);
    for (const auto& item : items)
      for (const auto& [path, hash] : input_hashes(item, hashes)) manifest["inputs"][path] = hash;
    write_file_atomically(files.manifest(), json_text(manifest));
    std::filesystem::remove(files.heartbeat());
  });
  return is_missed ? ExitCode::target_missed : ExitCode::done;
}

} // namespace slr::run
