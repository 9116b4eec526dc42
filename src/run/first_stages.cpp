#include "first_stages.hpp"

#include "feature_capture.hpp"
#include "latency_beside.hpp"
#include "slr/base/file.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/run/budget.hpp"
#include "slr/run/features.hpp"
#include "slr/store/packed_images.hpp"

namespace slr::run {
namespace {

/// Where the calibration images are, packed: the file named, or the one packed into the output folder.
store::ImageSource packed_calibration(const Communicator& comm, const Configuration& config, const OutputFiles& files,
                                      Progress& progress, Checkpoints& checkpoints) {
  auto source = image_source(config.data.calibration);
  const auto kind = collectively(comm, [&] { return store::open_images(source)->kind(); });
  if (kind == store::ImageKind::packed) return source;
  bool is_there = false;
  on_root(comm, [&] { is_there = std::filesystem::exists(files.calibration()); });
  if (!comm.broadcast_value(is_there)) {
    store::PackOptions options;
    options.checkpoints = &checkpoints;
    options.parts = files.calibration_parts();
    bool has_begun = false;
    options.progress = [&](std::int64_t done, std::int64_t total) {
      if (!has_begun) progress.stage("pack", total);
      has_begun = true;
      progress.advance(done);
    };
    (void)store::pack_images(comm, source, files.calibration(), options);
  } else {
    (void)checkpoints.take("pack"); // of a packing that was finished after it
    on_root(comm, [&] { std::filesystem::remove_all(files.calibration_parts()); });
  }
  store::ImageSource packed;
  packed.images = files.calibration();
  return packed;
}

} // namespace

ImageFeed open_feed(const Communicator& comm, const store::ImageSource& source, const Configuration& config,
                    const Network& network) {
  return collectively(comm, [&] { return ImageFeed(source, config.data.preprocess, network); });
}

ImageFeed open_calibration(const Communicator& comm, const Configuration& config, const OutputFiles& files,
                           const Network& network, Progress& progress, Checkpoints& checkpoints) {
  auto feed = open_feed(comm, packed_calibration(comm, config, files, progress, checkpoints), config, network);
  if (feed.size() < config.calibration.images)
    throw Error(ExitCode::configuration, config.where("calibration.images") + ": calibration.images asks for " +
                                             std::to_string(config.calibration.images) +
                                             " images, but data.calibration has " + std::to_string(feed.size()) +
                                             ": set it to what is there, or give more images");
  return feed;
}

store::FeatureSet open_features(const Communicator& comm, const Network& network, const std::vector<std::string>& dense,
                                const ImageFeed& feed, const Configuration& config, const OutputFiles& files,
                                Progress& progress, Checkpoints& checkpoints) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < network.layers.size(); ++i)
    if (dense[i].empty()) names.push_back(network.layers[i].name);
  const auto hash = first_stages_hash(config);
  bool is_complete = false;
  on_root(comm, [&] { is_complete = std::filesystem::exists(files.features_view()); });
  if (!comm.broadcast_value(is_complete)) {
    capture_features(comm, network, names, feed, config, hash, files.features(), progress, checkpoints);
    auto features = store::FeatureSet::open(comm, files.features().string());
    on_root(comm, [&] {
      store::write_virtual_features(features, files.features_view());
      std::filesystem::remove_all(capture_parts(files.features()));
    });
    return features;
  }
  (void)checkpoints.take("features"); // of a capture that was finished after it
  progress.note("features of an earlier run are used: " + files.features().string());
  // Inputs of a compressed network that an earlier start wrote there are not what any layer starts from.
  std::vector<std::filesystem::path> shards;
  on_root(comm, [&] {
    for (const auto& entry : std::filesystem::directory_iterator(files.features()))
      if (entry.is_regular_file()) shards.push_back(entry.path());
    if (shards.empty())
      throw Error(ExitCode::bad_data, files.features().string() + " has no feature shards any more; use --fresh");
  });
  auto features = store::FeatureSet::open_files(comm, shards);
  if (features.config_hash() != hash || features.model_sha256() != network.sha256)
    throw Error(ExitCode::configuration, files.features().string() + " holds features of another configuration or "
                                                                     "model; use --fresh");
  return features;
}

Curves open_curves(const Communicator& comm, const Network& network, const std::vector<std::string>& dense,
                   const store::FeatureSet& features, const ImageFeed& feed, const Configuration& config,
                   const OutputFiles& files, Progress& progress, Checkpoints& checkpoints) {
  std::string text;
  on_root(comm, [&] {
    if (std::filesystem::exists(files.curves())) text = read_file(files.curves());
  });
  text = comm.broadcast_text(text);
  if (!text.empty()) {
    progress.note("curves of an earlier run are used: " + files.curves().string());
    return curves_from_text(text);
  }
  auto curves = measure_curves(comm, network, dense, features, feed, config, files.layers(), progress, checkpoints);
  if (needs_latency(config)) measure_latency_beside(comm, network, dense, config, curves);
  on_root(comm, [&] {
    write_file_atomically(files.curves(), curves_text(curves));
    forget_curves(files.layers(), network.layers.size());
  });
  return curves;
}

} // namespace slr::run
