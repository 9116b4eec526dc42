#include "feature_capture.hpp"

#include "image_batches.hpp"
#include "slr/base/background.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

namespace slr::run {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t copied_at_once = std::int64_t{64} << 20; // bytes
constexpr std::size_t most_pieces_waiting = 64; ///< samples of a layer of a block of images, to be written

store::FeatureLayer describe(const graph::Layer& layer, std::int64_t positions) {
  store::FeatureLayer result;
  result.name = layer.name;
  result.inputs = layer.cols;
  result.outputs = layer.rows;
  result.positions = positions * std::ssize(layer.uses());
  result.kernel.assign(layer.window.kernel.begin(), layer.window.kernel.end());
  result.strides.assign(layer.window.strides.begin(), layer.window.strides.end());
  result.pads.assign(layer.window.pads.begin(), layer.window.pads.end());
  result.dilations.assign(layer.window.dilations.begin(), layer.window.dilations.end());
  result.activation = solver_activation(layer.activation).to_text();
  return result;
}

/// The shards of one capture on this rank, and what of them is put aside.
class Capture {
public:
  Capture(const Communicator& comm, const Network& network, const std::vector<std::string>& layers,
          const Configuration& config, const std::string& config_hash, fs::path folder)
      : comm_(comm), network_(network), layers_(layers), sampling_(sampling_of(config)),
        links_inputs_(config.calibration.inputs == CalibrationInputs::original), header_{network.sha256, config_hash,
                                                                                         comm.rank(), comm.size()},
        folder_(std::move(folder)) {}

  /// Goes on from so many parts of an earlier start (none if one is damaged), and removes what else it left. Returns
  /// the images that they have. Collective.
  std::vector<std::int64_t> resume(std::int64_t parts, Progress& progress) {
    parts_ = 0;
    on_root(comm_, [&] {
      while (parts_ < parts && fs::exists(part_folder(parts_))) ++parts_;
      if (!fs::exists(folder_)) return;
      std::set<fs::path> kept;
      for (std::int64_t part = 0; part < parts_; ++part) kept.insert(part_folder(part));
      const auto remove_others = [&](const fs::path& folder, const fs::path& but) {
        for (const auto& entry : fs::directory_iterator(folder))
          if (entry.path() != but && !kept.contains(entry.path())) fs::remove_all(entry.path());
      };
      remove_others(folder_, capture_parts(folder_));
      if (fs::exists(capture_parts(folder_))) remove_others(capture_parts(folder_), {});
    });
    parts_ = comm_.broadcast_value(parts_);
    has_earlier_ = parts_ > 0;
    try {
      return images_of_parts();
    } catch (const Error& error) {
      if (error.code() != ExitCode::bad_data) throw;
      progress.warning(std::string(error.what()) + "; what an earlier start captured is captured again");
      return resume(0, progress);
    }
  }

  /// What the network is to show.
  [[nodiscard]] std::vector<std::string> values() const {
    std::vector<std::string> names;
    for (const auto& name : layers_) {
      for (const auto* use : layer_named(network_.layers, name).uses())
        names.insert(names.end(), {use->input, use->output});
    }
    return names;
  }

  /// Samples a value of some images; of every layer its input comes before its output. What is complete is written
  /// beside. Local.
  void append(std::span<const std::int64_t> images, const std::string& value, const infer::StridedView& view,
              Background& beside) {
    for (const auto& name : layers_) {
      const auto uses = layer_named(network_.layers, name).uses();
      auto& seen = seen_[name];
      seen.resize(uses.size());
      for (std::size_t u = 0; u < uses.size(); ++u) {
        const auto& use = *uses[u];
        if (use.input == value) {
          seen.table[u] = infer::sample_batch(sampling_, images, use.name, infer::output_map(use, view.dims));
          seen.inputs[u] = infer::patches(view, use, seen.table[u]);
        }
        if (use.output == value) {
          seen.outputs[u] = infer::outputs(view, use, seen.table[u]);
          ++seen.complete;
        }
      }
      if (seen.complete < uses.size()) continue;
      const auto complete = std::make_shared<Seen>(std::exchange(seen, {}));
      beside.add([this, name, complete] { write(name, std::move(*complete)); });
    }
  }

  /// Ends the part that is being written, if any rank has begun one. Collective.
  void put_aside() {
    if (comm_.allreduce_value(writer_ ? 1 : 0, Reduction::max) == 0) return;
    collectively(comm_, [&] {
      if (!writer_) begin(store::shard_file(part_folder(parts_), comm_.rank(), comm_.size()));
      const auto writer = std::move(writer_); // whatever happens, it is not used again
      writer->commit();
    });
    ++parts_;
  }
  [[nodiscard]] std::int64_t parts() const { return parts_; }

  /// The parts become the shards. Collective.
  void finish(Share share) {
    put_aside();
    const auto shard = store::shard_file(folder_, comm_.rank(), comm_.size());
    if (parts_ == 1 && !has_earlier_) {
      collectively(comm_, [&] { fs::rename(store::shard_file(part_folder(0), comm_.rank(), comm_.size()), shard); });
      return;
    }
    std::optional<store::FeatureSet> parts;
    if (!layers_.empty()) parts = open_parts();
    collectively(comm_, [&] {
      begin(shard);
      for (const auto& name : layers_) copy(*parts, name, share);
      writer_->commit();
    });
    writer_.reset();
  }

private:
  /// What the nodes of a layer showed of the present images.
  struct Seen {
    std::vector<infer::SampleTable> table;
    std::vector<std::vector<float>> inputs, outputs;
    std::size_t complete = 0; ///< nodes of which all was shown

    void resize(std::size_t nodes) {
      table.resize(nodes);
      inputs.resize(nodes);
      outputs.resize(nodes);
    }
  };

  void write(const std::string& layer, Seen seen) {
    if (!writer_) begin(store::shard_file(part_folder(parts_), comm_.rank(), comm_.size()));
    const std::span<const infer::SampleTable> tables(seen.table);
    writer_->append(layer, store::Quantity::original_inputs, infer::interleaved(tables, std::move(seen.inputs)));
    writer_->append_samples(layer, infer::interleaved_samples(sampling_, tables));
    writer_->append(layer, store::Quantity::outputs, infer::interleaved(tables, std::move(seen.outputs)));
  }

  [[nodiscard]] fs::path part_folder(std::int64_t part) const { return capture_parts(folder_) / std::to_string(part); }

  /// Increasing. \throws Error{bad_data} if a part is damaged
  [[nodiscard]] std::vector<std::int64_t> images_of_parts() const {
    std::vector<std::int64_t> images;
    if (parts_ == 0 || layers_.empty()) return images;
    const auto features = open_parts();
    const auto& layer = features.layer(layers_.front());
    for (const auto sample : features.samples(layer.name))
      if (images.empty() || images.back() != image_of(sample, layer)) images.push_back(image_of(sample, layer));
    return images;
  }

  [[nodiscard]] store::FeatureSet open_parts() const {
    std::vector<fs::path> files;
    on_root(comm_, [&] {
      for (std::int64_t part = 0; part < parts_; ++part)
        for (auto& file : store::shard_files(part_folder(part).string())) files.push_back(std::move(file));
    });
    return store::FeatureSet::open_files(comm_, std::move(files));
  }

  void begin(const fs::path& file) {
    writer_ = std::make_unique<store::ShardWriter>(file, header_);
    for (const auto& name : layers_) {
      writer_->begin_layer(describe(layer_named(network_.layers, name), sampling_.positions));
      writer_->append(name, store::Quantity::original_inputs, {});
      writer_->append(name, store::Quantity::outputs, {});
      if (links_inputs_) writer_->link_inputs(name);
    }
  }

  void copy(const store::FeatureSet& parts, const std::string& name, Share share) {
    const auto samples = samples_of_share(parts, name, share);
    const auto begin = samples.data() - parts.samples(name).data();
    const auto& layer = parts.layer(name);
    const auto step = std::max<std::int64_t>(1, copied_at_once / 4 / std::max(layer.inputs, layer.outputs));
    for (std::int64_t first = 0; first < std::ssize(samples); first += step) {
      const auto count = std::min(step, std::ssize(samples) - first);
      for (const auto quantity : {store::Quantity::original_inputs, store::Quantity::outputs})
        writer_->append(name, quantity, parts.read(name, quantity, begin + first, count));
    }
    writer_->append_samples(name, samples);
  }

  const Communicator& comm_;
  const Network& network_;
  const std::vector<std::string>& layers_;
  infer::Sampling sampling_;
  bool links_inputs_;
  store::ShardHeader header_;
  fs::path folder_;
  std::map<std::string, Seen> seen_;           ///< of the layers that are not complete
  std::unique_ptr<store::ShardWriter> writer_; ///< of part `parts_`
  std::int64_t parts_ = 0;
  bool has_earlier_ = false;
};

} // namespace

fs::path capture_parts(const fs::path& folder) {
  return folder / "parts";
}

void capture_features(const Communicator& comm, const Network& network, const std::vector<std::string>& layers,
                      const ImageFeed& feed, const Configuration& config, const std::string& config_hash,
                      const fs::path& folder, Progress& progress, Checkpoints& checkpoints) {
  const auto share = share_of_rank(comm, config.calibration.images);
  Capture capture(comm, network, layers, config, config_hash, folder);
  std::int64_t parts = 0;
  if (const auto saved = checkpoints.take("features")) parts = saved->get<std::int64_t>("parts").at(0);
  const auto left = images_left(share, capture.resume(parts, progress));

  // A part that cannot be written is lost, unlike the state of other computations when there is no checkpoint.
  std::optional<Error> lost;
  const auto kept = checkpoints.keep("features", [&](StateWriter& to) {
    try {
      capture.put_aside();
    } catch (const Error& error) {
      lost = error;
      throw;
    }
    to.put_integers("parts", {capture.parts()});
  });

  const auto values = capture.values();
  const auto at_once = batch_images(network, most_images_captured_at_once);
  std::optional<infer::Executor> executor;
  std::optional<ImageFeed::Batch> ahead; // the images of the next round
  Background beside(most_pieces_waiting);
  progress.stage("calibrate", share.count);
  auto done = share.count - std::ssize(left);
  double seconds = 0, image_seconds = 0; // of processor time
  // Between two rounds nothing goes on beside: HDF5 is used by one thread at a time.
  in_batches(comm, left, at_once, &checkpoints, [&](std::span<const std::int64_t> images) {
    if (lost) throw Error(*lost);
    if (values.empty()) return;
    if (!executor) executor.emplace(network.model);
    const auto batch = ahead ? *std::exchange(ahead, std::nullopt) : feed.read(images);
    const auto end = static_cast<std::size_t>(std::ranges::upper_bound(left, images.back()) - left.begin());
    const auto next =
        std::span(left).subspan(end).first(std::min(left.size() - end, static_cast<std::size_t>(at_once)));
    if (!next.empty())
      beside.add([&, next] {
        const auto start = thread_seconds();
        ahead = feed.read(next);
        image_seconds += thread_seconds() - start;
      });
    const auto start = thread_seconds();
    try {
      executor->show({{network.input, batch.input}}, values,
                     [&](const std::string& value, const infer::StridedView& view, std::int64_t first) {
                       capture.append(
                           images.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(view.images())),
                           value, view, beside);
                     });
    } catch (...) {
      beside.abandon();
      throw;
    }
    seconds += thread_seconds() - start;
    beside.wait();
    done += std::ssize(images);
    progress.advance(done);
  });
  if (lost) throw Error(*lost);
  capture.finish(share);
  if (seconds > 0)
    progress.note(fmt::format("{} images on rank 0: {:.3f} s of processor time for the network and the samples; beside "
                              "it {:.3f} s for images, {:.3f} s for files",
                              std::ssize(left), seconds, image_seconds, beside.seconds() - image_seconds));
}

} // namespace slr::run
