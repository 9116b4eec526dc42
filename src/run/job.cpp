#include "slr/run/job.hpp"

#include "slr/base/file.hpp"
#include "slr/graph/onnx_file.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/run/json_text.hpp"
#include "slr/run/report.hpp"
#include "slr/run/report_table.hpp"
#include "slr/store/packed_images.hpp"

#include <cstdio>
#include <iostream>

namespace slr::run {
namespace {

/// Text for the user on standard output, once.
void print(const Communicator& comm, const std::string& text) {
  if (comm.is_root()) std::cout << text << std::flush;
}

/// Where the calibration images are, packed: the file named, or the one packed into the output folder.
store::ImageSource packed_calibration(const Communicator& comm, const Configuration& config, const OutputFiles& files,
                                      Progress& progress) {
  auto source = image_source(config.data.calibration);
  const auto kind = collectively(comm, [&] { return store::open_images(source)->kind(); });
  if (kind == store::ImageKind::packed) return source;
  bool is_there = false;
  on_root(comm, [&] { is_there = std::filesystem::exists(files.calibration()); });
  if (!comm.broadcast_value(is_there)) {
    store::PackOptions options;
    bool has_begun = false;
    options.progress = [&](std::int64_t done, std::int64_t total) {
      if (!has_begun) progress.stage("pack", total);
      has_begun = true;
      progress.advance(done);
    };
    (void)store::pack_images(comm, source, files.calibration(), options);
  }
  store::ImageSource packed;
  packed.images = files.calibration();
  return packed;
}

ImageFeed open_feed(const Communicator& comm, const store::ImageSource& source, const Configuration& config,
                    const Network& network) {
  return collectively(comm, [&] { return ImageFeed(source, config.data.preprocess, network); });
}

ImageFeed open_calibration(const Communicator& comm, const Configuration& config, const OutputFiles& files,
                           const Network& network, Progress& progress) {
  auto feed = open_feed(comm, packed_calibration(comm, config, files, progress), config, network);
  if (feed.size() < config.calibration.images)
    throw Error(ExitCode::configuration, config.where("calibration.images") + ": calibration.images asks for " +
                                             std::to_string(config.calibration.images) +
                                             " images, but data.calibration has " + std::to_string(feed.size()));
  return feed;
}

/// The feature shards of this configuration: those that are there and fit, else captured now.
store::FeatureSet open_features(const Communicator& comm, const Network& network, const std::vector<std::string>& dense,
                                const ImageFeed& feed, const Configuration& config, const OutputFiles& files,
                                Progress& progress) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < network.layers.size(); ++i)
    if (dense[i].empty()) names.push_back(network.layers[i].name);
  const auto hash = configuration_hash(config);
  bool is_complete = false;
  on_root(comm, [&] { is_complete = std::filesystem::exists(files.features_view()); });
  if (!comm.broadcast_value(is_complete)) {
    on_root(comm, [&] { std::filesystem::remove_all(files.features()); }); // what a killed run left
    capture_features(comm, network, names, feed, config, hash, files.features(), progress);
    auto features = store::FeatureSet::open(comm, files.features().string());
    on_root(comm, [&] { store::write_virtual_features(features, files.features_view()); });
    return features;
  }
  on_root(comm, [&] { std::filesystem::remove_all(files.features() / "inputs"); });
  progress.note("features of an earlier run are used: " + files.features().string());
  auto features = store::FeatureSet::open(comm, files.features().string());
  if (features.config_hash() != hash || features.model_sha256() != network.sha256)
    throw Error(ExitCode::configuration, files.features().string() + " holds features of another configuration or "
                                                                     "model; use --fresh");
  return features;
}

/// Accuracy on data.validation, else on the report images of the calibration set.
Accuracy judge(const Communicator& comm, const Network& original, const Network& compressed,
               const ImageFeed& calibration, const Configuration& config, Progress& progress, std::string& judged_on) {
  if (config.data.validation.is_given()) {
    judged_on = "data.validation";
    const auto feed = open_feed(comm, image_source(config.data.validation), config, original);
    return evaluate(comm, compressed, &original, feed, feed.size(), {}, progress);
  }
  judged_on = "the report images of data.calibration";
  return evaluate(
      comm, compressed, &original, calibration, config.calibration.images,
      [](std::int64_t image) { return role_of_image(image) == Role::report; }, progress);
}

/// One whole run into its folder; returns the exit code.
ExitCode compress(const Communicator& comm, const Configuration& config, const Network& network,
                  const OutputFiles& files, Progress& progress) {
  StageClock clock;
  const auto dense = dense_reasons(network, config);
  const auto limit = parameter_limit(network, dense, config);
  const auto feed = clock.measure("pack", [&] { return open_calibration(comm, config, files, network, progress); });
  const auto features =
      clock.measure("calibrate", [&] { return open_features(comm, network, dense, feed, config, files, progress); });
  const auto row_grid = ProcessGrid::row(comm);
  Allotment allotment = no_limit(network);
  if (limit)
    clock.measure("budget", [&] {
      allotment = config.method.kind == MethodKind::relaxed
                      ? find_shared_factor(comm, row_grid, network, dense, features, config, *limit, progress)
                      : allot(network, measure_curves(comm, row_grid, network, dense, features, feed, config, progress),
                              *limit);
    });
  auto result = clock.measure("solve", [&] {
    return sweep(comm, row_grid, network, dense, allotment, features, feed, config, files.features(), progress);
  });
  clock.measure("export", [&] {
    on_root(comm, [&] {
      graph::write_model(result.model, files.compressed());
      write_factors(result, network, configuration_hash(config), files.factors());
    });
  });
  // The accuracy is that of the file that was written, read back.
  std::string judged_on;
  const auto accuracy = clock.measure("evaluate", [&] {
    const auto compressed = load_network(comm, files.compressed());
    return judge(comm, network, compressed, feed, config, progress, judged_on);
  });
  auto report = make_report(comm, network, result, accuracy, judged_on, clock, limit);
  on_root(comm, [&] {
    write_file_atomically(files.report(), json_text(report));
    write_file_atomically(files.manifest(), json_text(make_manifest(comm, config, files)));
  });
  print(comm, report_table(report));
  const bool is_over = limit && report["model"]["parameters_after"].get<std::int64_t>() > *limit;
  return is_over || result.is_failure_tolerated ? ExitCode::target_missed : ExitCode::done;
}

ExitCode compress_or_show(const Communicator& comm, const Configuration& config, bool is_fresh) {
  check_supported(config);
  const auto network = load_network(comm, config.model.absolute);
  (void)parameter_limit(network, dense_reasons(network, config), config); // before the folder is claimed
  const OutputFolder folder(comm, config, network.sha256, is_fresh);
  const auto progress = make_progress(comm);
  if (folder.state() == FolderState::finished) {
    nlohmann::json report;
    on_root(comm, [&] { report = read_json(folder.files().report()); });
    if (comm.is_root()) print(comm, report_table(report));
    progress->note("this run was finished before; use --fresh to repeat it");
    return ExitCode::done;
  }
  on_root(comm, [&] { progress->open_log(folder.files().log()); });
  if (folder.state() == FolderState::unfinished)
    progress->note("an unfinished run is continued: " + config.output.given);
  return compress(comm, config, network, folder.files(), *progress);
}

/// Repeats the run of a manifest in a folder of its own and compares the outputs' hashes.
ExitCode reproduce(const Communicator& comm, const CompressOptions& options) {
  nlohmann::json manifest;
  std::string text;
  on_root(comm, [&] {
    manifest = read_json(options.reproduce);
    if (!manifest.is_object() || !manifest.contains("configuration") || !manifest.contains("outputs") ||
        !manifest.contains("inputs"))
      throw Error(ExitCode::bad_data, options.reproduce + " is not a manifest of slr_compress");
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
    for (const auto& [path, hash] : input_hashes(config))
      if (manifest["inputs"].value(path, "") != hash)
        throw Error(ExitCode::bad_data, "the input " + path + " is not the file that " + options.reproduce +
                                            " was made from: its SHA-256 differs");
  });
  const auto code = compress_or_show(comm, config, true);
  bool is_equal = true;
  std::string words;
  on_root(comm, [&] {
    for (const auto& [name, hash] : output_hashes({config.output.absolute})) {
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

} // namespace

ExitCode run_compress(const Communicator& comm, const CompressOptions& options) {
  if (options.plan)
    throw Error(ExitCode::usage, "--plan is not available in this version; leave it out to run the job");
  if (!options.reproduce.empty()) return reproduce(comm, options);
  const auto config = load_configuration(comm, options.config, options.overrides, required_by_compress);
  if (options.print_config) {
    print(comm, resolved_yaml(config));
    return ExitCode::done;
  }
  return compress_or_show(comm, config, options.fresh);
}

ExitCode run_calibrate(const Communicator& comm, const CalibrateOptions& options) {
  const auto config = load_configuration(comm, options.config, options.overrides, required_by_calibrate);
  check_supported(config);
  const auto network = load_network(comm, config.model.absolute);
  const OutputFolder folder(comm, config, network.sha256, options.fresh);
  const auto progress = make_progress(comm);
  const auto dense = dense_reasons(network, config);
  const auto feed = open_calibration(comm, config, folder.files(), network, *progress);
  const auto features = open_features(comm, network, dense, feed, config, folder.files(), *progress);
  progress->note(std::to_string(features.files().size()) + " feature shards are in " +
                 folder.files().features().string());
  return ExitCode::done;
}

ExitCode run_evaluate(const Communicator& comm, const EvaluateOptions& options) {
  const auto config = load_configuration(comm, options.config, options.overrides, required_by_evaluate);
  const auto progress = make_progress(comm);
  const auto path = [&](const std::string& given) {
    return given.empty() ? config.model.absolute : std::filesystem::absolute(given);
  };
  const auto candidate = load_network(comm, path(options.model));
  std::optional<Network> reference;
  if (!options.reference.empty()) reference = load_network(comm, path(options.reference));
  const auto feed = open_feed(comm, image_source(config.data.validation), config, candidate);

  std::vector<float> inputs, logits;
  EvaluationSink sink;
  if (!options.dump_inputs.empty() || !options.dump_logits.empty())
    sink = [&](const infer::Array& in, const infer::Array& out) {
      inputs.insert(inputs.end(), in.data.begin(), in.data.end());
      logits.insert(logits.end(), out.data.begin(), out.data.end());
    };
  const auto accuracy =
      evaluate(comm, candidate, reference ? &*reference : nullptr, feed, feed.size(), {}, *progress, sink);
  const auto dump = [&](const std::string& file, const std::vector<float>& mine) {
    if (file.empty()) return;
    const auto all = comm.gather(std::span<const float>(mine));
    on_root(comm, [&] {
      write_file_atomically(file, {reinterpret_cast<const char*>(all.data()), all.size() * sizeof(float)});
    });
  };
  dump(options.dump_inputs, inputs);
  dump(options.dump_logits, logits);
  const auto json = plain_json(accuracy);
  if (!options.json.empty()) on_root(comm, [&] { write_file_atomically(options.json, json_text(json)); });
  print(comm, json_text(json));
  return ExitCode::done;
}

} // namespace slr::run
