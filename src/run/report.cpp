#include "slr/run/report.hpp"

#include "slr/base/hash.hpp"
#include "slr/graph/count.hpp"
#include "slr/graph/groups.hpp"
#include "slr/graph/onnx_file.hpp"
#include "slr/run/json_text.hpp"
#include "slr/run/versions.hpp"
#include "slr/store/factors.hpp"

#include <algorithm>
#include <chrono>
#include <sys/resource.h>

namespace slr::run {
namespace {

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::int64_t peak_rss_bytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
}

const char* form_name(graph::Form form) {
  switch (form) {
  case graph::Form::dense:
    return "dense";
  case graph::Form::low_rank:
    return "low_rank";
  case graph::Form::kept:
    return "kept";
  case graph::Form::mixed:
    return "mixed";
  case graph::Form::columns:
    return "columns";
  case graph::Form::filters:
    return "filters";
  case graph::Form::bias_only:
    return "bias_only";
  }
  return "dense";
}

nlohmann::ordered_json certificate_json(const LayerOutcome& layer) {
  nlohmann::ordered_json json;
  if (layer.relaxed) {
    const auto& [report, c, factor] = *layer.relaxed;
    json = {{"structure_iterations", report.iterations},
            {"structure_stop_reason", to_text(report.stop_reason)},
            {"structure_primal_residual", report.primal_residual},
            {"structure_dual_residual", report.dual_residual},
            {"kkt_low_rank", c.low_rank_distance},
            {"kkt_group", c.group_distance},
            {"kkt_bias", c.bias_distance},
            {"kkt_loss", c.loss_distance},
            {"lambda_factor", factor}};
  }
  json.update({{"pull", layer.solved.pull},
               {"error_selection", layer.solved.error_selection},
               {"refine_evaluations", layer.solved.refine_evaluations},
               {"refine_gain", layer.solved.refine_gain},
               {"samples", layer.samples},
               {"least_squares", to_text(layer.least_squares)},
               {"svd_pdgesvd", layer.engine_counts.pdgesvd},
               {"svd_gram", layer.engine_counts.gram},
               {"svd_subspace", layer.engine_counts.subspace},
               {"svd_fallbacks", layer.engine_counts.fallbacks}});
  return json;
}

nlohmann::ordered_json layer_json(const LayerOutcome& layer) {
  nlohmann::ordered_json json{{"name", layer.name}, {"rows", layer.rows}, {"cols", layer.cols}};
  const auto set = [&](const char* key, auto value) {
    json[key] = nullptr;
    if (layer.is_compressed) json[key] = value;
  };
  set("rank", layer.factors.numerical_rank);
  set("kept_groups", layer.factors.kept_groups.size());
  json["form"] = form_name(layer.form);
  json["dense_reason"] = nullptr;
  if (!layer.dense_reason.empty()) json["dense_reason"] = layer.dense_reason;
  json["parameters_before"] = layer.parameters_before;
  json["parameters_after"] = layer.parameters_after;
  set("error_train", layer.solved.report.error_train);
  set("error_heldout", layer.error_heldout);
  set("iterations", layer.solved.report.iterations);
  set("stop_reason", to_text(layer.solved.report.stop_reason));
  set("primal_residual", layer.solved.report.primal_residual);
  set("dual_residual", layer.solved.report.dual_residual);
  json["certificate"] = nullptr;
  if (layer.samples > 0) json["certificate"] = certificate_json(layer);
  json["seconds"] = layer.seconds;
  return json;
}

store::FactorMatrix row_major(const std::vector<double>& from, std::int64_t rows, std::int64_t cols) {
  store::FactorMatrix to{rows, cols, std::vector<float>(static_cast<std::size_t>(rows * cols))};
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < cols; ++j)
      to.values[static_cast<std::size_t>(i * cols + j)] =
          static_cast<float>(from[static_cast<std::size_t>(j * rows + i)]);
  return to;
}

} // namespace

StageClock::Running::Running(StageClock& clock, std::string stage)
    : clock_(clock), stage_(std::move(stage)), start_(now_seconds()) {}
StageClock::Running::~Running() {
  clock_.stages_.emplace_back(stage_, now_seconds() - start_);
}

nlohmann::ordered_json StageClock::json() const {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const auto& [stage, seconds] : stages_) json[stage] = json.value(stage, 0.0) + seconds;
  return json;
}

double StageClock::total_seconds() const {
  double total = 0;
  for (const auto& [stage, seconds] : stages_) total += seconds;
  return total;
}

nlohmann::ordered_json make_report(const Communicator& comm, const Network& network, const SweepResult& result,
                                   const std::optional<Accuracy>& accuracy, const std::string& accuracy_on,
                                   const StageClock& clock, const BudgetPoint& point, const Allotment& allotment) {
  auto original = network.model;
  graph::join_groups(original); // as it was given
  const auto before = graph::count(original), after = graph::count(result.model);
  nlohmann::ordered_json report;
  report["model"] = {
      {"parameters_before", before.parameters},
      {"parameters_after", after.parameters},
      {"parameter_ratio",
       after.parameters > 0 ? static_cast<double>(before.parameters) / static_cast<double>(after.parameters) : 0.0},
      {"macs_before", before.macs},
      {"macs_after", after.macs},
      {"bytes_before", before.bytes},
      {"bytes_after", after.bytes}};
  for (const auto& limit : point.limits) report["model"]["limits"][to_text(limit.resource)] = limit.at_most;
  if (allotment.predicted_kl > 0) report["model"]["predicted_kl"] = allotment.predicted_kl;
  if (accuracy) {
    report["accuracy"] = before_after_json(*accuracy);
    report["accuracy"]["on"] = accuracy_on;
  }
  report["layers"] = nlohmann::ordered_json::array();
  for (const auto& layer : result.layers) report["layers"].push_back(layer_json(layer));
  report["run"] = {{"mpi_ranks", comm.size()},
                   {"groups", 1},
                   {"seconds", clock.total_seconds()},
                   {"seconds_by_stage", clock.json()},
                   {"peak_rss_bytes", comm.allreduce_value(peak_rss_bytes(), Reduction::max)}};
  return report;
}

void write_factors(const SweepResult& result, const std::optional<RefineOutcome>& refined, const Network& network,
                   const std::string& config_hash, const std::filesystem::path& file) {
  store::FactorsWriter writer(file, {{"model_sha256", network.sha256}, {"config_hash", config_hash}});
  for (const auto& layer : result.layers) {
    if (!layer.is_compressed) continue;
    const auto& f = layer.factors;
    const auto& graph_layer = *std::find_if(network.layers.begin(), network.layers.end(),
                                            [&](const auto& l) { return l.name == layer.name; });
    const auto sizes = graph_layer.factor_sizes(std::ssize(f.kept_groups));
    store::LayerFactors out;
    out.name = layer.name;
    out.u = row_major(f.u, sizes.u_rows, f.numerical_rank);
    out.v = row_major(f.v, f.numerical_rank, sizes.v_cols);
    out.b = row_major(f.b, sizes.b_rows, sizes.b_cols);
    out.kept_groups = f.kept_groups;
    out.bias.assign(f.bias.begin(), f.bias.end());
    const auto certificate = certificate_json(layer);
    for (const auto& [key, value] : certificate.items()) {
      if (value.is_number_integer())
        out.certificate[key] = value.get<std::int64_t>();
      else if (value.is_number())
        out.certificate[key] = value.get<double>();
      else if (value.is_string())
        out.certificate[key] = value.get<std::string>();
    }
    out.certificate["rows"] = layer.rows;
    out.certificate["cols"] = layer.cols;
    out.certificate["group_columns"] = graph_layer.group_columns();
    out.certificate["grouping"] = to_text(graph_layer.grouping);
    out.certificate["activation"] = solver_activation(graph_layer.activation).to_text();
    out.certificate["error_train"] = layer.solved.report.error_train;
    out.certificate["error_heldout"] = layer.error_heldout;
    out.certificate["primal_residual"] = layer.solved.report.primal_residual;
    out.certificate["dual_residual"] = layer.solved.report.dual_residual;
    out.certificate["stop_reason"] = to_text(layer.solved.report.stop_reason);
    if (layer.relaxed) out.traces["structure_objective"] = layer.relaxed->report.objective;
    out.traces["objective"] = layer.solved.report.objective;
    if (refined && refined->weights.contains(layer.name)) out.refined = refined->weights.at(layer.name);
    writer.write(out);
  }
  writer.commit();
}

nlohmann::ordered_json make_summary(const std::vector<BudgetPoint>& points,
                                    const std::vector<nlohmann::ordered_json>& reports) {
  nlohmann::ordered_json summary{{"points", nlohmann::ordered_json::array()}};
  for (std::size_t i = 0; i < points.size(); ++i)
    summary["points"].push_back({{"folder", points[i].name},
                                 {"model", reports[i]["model"]},
                                 {"accuracy", reports[i]["accuracy"]},
                                 {"seconds", reports[i]["run"]["seconds"]}});
  return summary;
}

std::map<std::string, std::string> output_hashes(const OutputFiles& files, const std::vector<std::string>& points,
                                                 FileHashes& hashes) {
  std::map<std::string, std::string> found;
  for (const auto& point : points)
    for (const auto& file : {files.point(point).compressed(), files.point(point).factors()})
      if (std::filesystem::exists(file)) // layers of no network leave only factors
        found[std::filesystem::path(point) / file.filename()] = hashes.of(file);
  return found;
}

std::map<std::string, std::string> input_hashes(const Configuration& config, FileHashes& hashes) {
  std::map<std::string, std::string> found;
  const auto add_file = [&](const std::filesystem::path& path) { found[path.string()] = hashes.of(path); };
  const auto add = [&](const FilePath& path) {
    if (path.empty()) return;
    if (!std::filesystem::is_directory(path.absolute)) {
      add_file(path.absolute);
      return;
    }
    std::vector<std::filesystem::path> members;
    for (const auto& entry : std::filesystem::directory_iterator(path.absolute))
      if (entry.is_regular_file()) members.push_back(entry.path());
    std::sort(members.begin(), members.end());
    Sha256 folder; // one hash for a folder: of its files' names and hashes
    for (const auto& member : members) folder.update(member.filename().string() + " " + hashes.of(member) + "\n");
    found[path.absolute.string()] = folder.hex();
  };
  add(config.model);
  if (!config.model.empty())
    for (const auto& file : graph::external_files(config.model.absolute)) add_file(file);
  for (const auto* source : {&config.data.calibration, &config.data.validation}) {
    add(source->images);
    add(source->labels);
    add(source->list);
  }
  for (const auto& layer : config.layers) {
    add(layer.weights);
    for (const auto& shard : store::shard_files(layer.shards.absolute.string())) add_file(shard);
  }
  return found;
}

nlohmann::ordered_json make_manifest(const Communicator& comm, const Configuration& config, const OutputFiles& files,
                                     const std::vector<BudgetPoint>& points, FileHashes& hashes) {
  nlohmann::ordered_json manifest;
  manifest["program"] = "slr_compress";
  manifest["schema"] = 1;
  manifest["configuration"] = resolved_json(config);
  manifest["configuration_hash"] = configuration_hash(config);
  manifest["mpi_ranks"] = comm.size();
  manifest["seed"] = config.calibration.seed;
  manifest["versions"] = library_versions();
  manifest["environment"] = launch_json();
  manifest["inputs"] = input_hashes(config, hashes);
  nlohmann::ordered_json shards = nlohmann::ordered_json::object();
  std::vector<std::filesystem::path> members;
  if (std::filesystem::exists(files.features())) // own layers bring theirs as inputs
    for (const auto& entry : std::filesystem::recursive_directory_iterator(files.features()))
      if (entry.is_regular_file()) members.push_back(entry.path());
  std::sort(members.begin(), members.end());
  for (const auto& member : members)
    shards[std::filesystem::relative(member, files.folder).generic_string()] = hashes.of(member);
  manifest["shards"] = shards;
  std::vector<std::string> names;
  for (const auto& point : points) names.push_back(point.name);
  manifest["outputs"] = output_hashes(files, names, hashes);
  return manifest;
}

nlohmann::ordered_json read_manifest(const std::filesystem::path& file) {
  auto manifest = read_json(file);
  const auto has_texts = [&](const char* key) {
    const auto found = manifest.find(key);
    return found != manifest.end() && found->is_object() &&
           std::all_of(found->begin(), found->end(), [](const auto& hash) { return hash.is_string(); });
  };
  const bool is_whole = manifest.is_object() && manifest.contains("configuration") &&
                        manifest["configuration"].is_object() && has_texts("inputs") && has_texts("outputs") &&
                        manifest.contains("mpi_ranks") && manifest["mpi_ranks"].is_number_integer();
  if (!is_whole) throw Error(ExitCode::bad_data, file.string() + " is not a manifest of slr_compress, or is damaged");
  return manifest;
}

} // namespace slr::run
