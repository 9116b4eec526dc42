#include "slr/store/packed_images.hpp"

#include "image_readers.hpp"
#include "slr/base/error.hpp"
#include "slr/base/narrow.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/store/hdf5.hpp"

#include <algorithm>
#include <charconv>
#include <span>

namespace slr::store {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t piece_bytes = 8 << 20;

class PackedImages final : public ImageReader {
public:
  explicit PackedImages(Hdf5File file)
      : ImageReader(read_shape(file)), file_(std::move(file)), images_(file_.dataset("/images")) {
    if (has_labels()) labels_.emplace(file_.dataset("/labels"));
  }

  [[nodiscard]] std::string name(std::int64_t number) const override {
    return "image " + std::to_string(number) + " of " + file_.path().string();
  }

private:
  static Shape read_shape(const Hdf5File& file) {
    const auto images = file.dataset("/images").info();
    const auto& dims = images.dims;
    const bool is_byte =
        images.element_class == ElementClass::integer && images.element_bytes == 1 && !images.is_signed;
    if (!is_byte || dims.size() != 4 || (dims[1] != 1 && dims[1] != 3) || dims[2] < 1 || dims[3] < 1 ||
        dims[2] > most_pixels / dims[3])
      throw Error(ExitCode::bad_data, "/images of " + file.path().string() +
                                          " must be uint8, images x 1 or 3 channels x height x width: pack them again");
    const bool has_labels = file.exists("/labels");
    if (has_labels) {
      const auto labels = file.dataset("/labels").info();
      if (labels.element_class != ElementClass::integer || labels.dims != Extent{dims[0]})
        throw Error(ExitCode::bad_data,
                    "/labels of " + file.path().string() + " must be one integer per image: pack them again");
    }
    return {ImageKind::packed, dims[0], dims[1], dims[2], dims[3], has_labels};
  }

  void fill(std::int64_t first, std::int64_t count, OnUnreadable /*policy*/, ImageBatch& batch) const override {
    batch.count = count;
    batch.pixels.resize(static_cast<std::size_t>(count * image_bytes()));
    images_.read_rows(first, count, std::span(batch.pixels));
    if (!labels_) return;
    std::vector<std::int64_t> labels(static_cast<std::size_t>(count)); // numpy's integers have 64 bits
    labels_->read_rows(first, count, std::span(labels));
    for (const auto label : labels) batch.labels.push_back(narrow<std::int32_t>(label, "a label"));
  }

  Hdf5File file_;
  Hdf5Dataset images_;
  std::optional<Hdf5Dataset> labels_;
};

/// The file being written, on the root.
class PackedWriter {
public:
  PackedWriter(const fs::path& output, const ImageReader& reader, const std::string& origin)
      : file_(Hdf5File::create(output)),
        images_(file_, "/images", {reader.channels(), reader.height(), reader.width()}), labels_(file_, "/labels", {}),
        has_labels_(reader.has_labels()) {
    file_.set_attribute("/", "source", origin);
  }
  PackedWriter(const PackedWriter&) = delete;
  PackedWriter& operator=(const PackedWriter&) = delete;
  void append(const ImageBatch& batch) {
    images_.append(batch.pixels);
    if (has_labels_) labels_.append(batch.labels);
  }
  [[nodiscard]] bool is_empty() const { return images_.rows() == 0; }
  void commit() {
    if (is_empty()) throw Error(ExitCode::bad_data, "no image is left to be packed");
    images_.finish();
    if (has_labels_) labels_.finish();
    file_.commit();
  }

private:
  Hdf5File file_;
  RowAppender<std::uint8_t> images_;
  RowAppender<std::int32_t> labels_;
  bool has_labels_;
};

void send_batch(const Communicator& comm, const ImageBatch& batch) {
  comm.send(std::span<const std::int64_t>(&batch.count, 1), 0, 0);
  if (batch.count == 0) return;
  comm.send(std::span<const std::uint8_t>(batch.pixels), 0, 0);
  if (!batch.labels.empty()) comm.send(std::span<const std::int32_t>(batch.labels), 0, 0);
}

ImageBatch receive_batch(const Communicator& comm, int source, const ImageReader& reader) {
  ImageBatch batch;
  comm.receive(std::span<std::int64_t>(&batch.count, 1), source, 0);
  if (batch.count == 0) return batch;
  batch.pixels.resize(static_cast<std::size_t>(batch.count * reader.image_bytes()));
  comm.receive(std::span<std::uint8_t>(batch.pixels), source, 0);
  if (reader.has_labels()) {
    batch.labels.resize(static_cast<std::size_t>(batch.count));
    comm.receive(std::span<std::int32_t>(batch.labels), source, 0);
  }
  return batch;
}

/// The pieces of a round, in rank order, into the file. The root takes every piece even after a failure, so that no
/// sender waits for ever; the failure is returned for the next agreement.
std::optional<Error> write_round(const Communicator& comm, const ImageReader& reader, const ImageBatch& mine,
                                 PackedWriter* writer) {
  if (!comm.is_root()) {
    send_batch(comm, mine);
    return std::nullopt;
  }
  std::optional<Error> failure;
  for (int source = 0; source < comm.size(); ++source) {
    const ImageBatch received = source == 0 ? ImageBatch{} : receive_batch(comm, source, reader);
    try {
      if (!failure) writer->append(source == 0 ? mine : received);
    } catch (...) {
      failure = current_error();
    }
  }
  return failure;
}

/// All ranks' lists as one text, "number\0sentence\0", on every rank. Collective.
std::string gather_unreadable(const Communicator& comm, const std::vector<UnreadableImage>& mine) {
  std::string text;
  for (const auto& image : mine) {
    text += std::to_string(image.number) + '\0';
    text += image.sentence + '\0';
  }
  const auto gathered = comm.gather(std::span<const char>(text));
  return comm.broadcast_text(std::string(gathered.begin(), gathered.end()));
}

/// By number.
std::vector<UnreadableImage> unreadable_in(const std::string& all) {
  std::vector<UnreadableImage> images;
  for (std::size_t at = 0; at < all.size();) {
    const std::string number = all.c_str() + at;
    const std::string sentence = all.c_str() + at + number.size() + 1;
    images.push_back({std::stoll(number), sentence});
    at += number.size() + sentence.size() + 2;
  }
  std::sort(images.begin(), images.end(), [](const auto& a, const auto& b) { return a.number < b.number; });
  return images;
}

/// Packing as far as it has come.
class Packing {
public:
  Packing(const Communicator& comm, const ImageReader& reader, std::string origin, const fs::path& output,
          const PackOptions& options)
      : comm_(comm), reader_(reader), origin_(std::move(origin)), output_(output), options_(options),
        piece_(std::clamp<std::int64_t>(piece_bytes / std::max<std::int64_t>(1, reader.image_bytes()), 1, 1024)) {
    if (const auto saved = take(options.checkpoints, "pack")) restore(*saved);
    on_root(comm, [&] { remove_other_parts(); });
  }

  void run() {
    on_root(comm_, [&] { open_writer(); }); // what cannot be written is told before anything is decoded
    const auto kept = keep(options_.checkpoints, "pack", [this](StateWriter& to) { save(to); });
    while (next_ < reader_.size()) {
      round();
      poll(options_.checkpoints);
    }
    finish();
  }

  [[nodiscard]] PackReport report() {
    PackReport result{reader_.size(),  reader_.channels(),   reader_.height(),
                      reader_.width(), reader_.has_labels(), unreadable_in(gather_unreadable(comm_, skipped_))};
    result.count -= std::ssize(result.skipped);
    return result;
  }

private:
  [[nodiscard]] fs::path part_file(std::int64_t part) const { return options_.parts / (std::to_string(part) + ".h5"); }

  void remove_other_parts() const {
    if (options_.checkpoints == nullptr || !fs::exists(options_.parts)) return;
    for (const auto& entry : fs::directory_iterator(options_.parts)) {
      bool is_known = false;
      for (std::int64_t part = 0; part < parts_; ++part) is_known = is_known || entry.path() == part_file(part);
      if (!is_known) fs::remove_all(entry.path());
    }
  }

  void open_writer() {
    if (writer_ || next_ >= reader_.size()) return;
    if (options_.checkpoints != nullptr) fs::create_directories(options_.parts);
    writer_.emplace(options_.checkpoints != nullptr ? part_file(parts_) : output_, reader_, origin_);
  }

  /// Each rank decodes its next piece; the pieces of the round before are agreed on with it.
  void round() {
    const auto total = reader_.size();
    const auto first = std::min(total, next_ + piece_ * comm_.rank());
    const auto batch = collectively(comm_, [&] {
      if (failure_) throw Error(*failure_);
      if (comm_.is_root()) open_writer();
      if (options_.progress && comm_.is_root() && next_ > 0) options_.progress(next_, total);
      return reader_.read(first, std::min(piece_, total - first), options_.on_unreadable);
    });
    skipped_.insert(skipped_.end(), batch.unreadable.begin(), batch.unreadable.end());
    failure_ = write_round(comm_, reader_, batch, writer_ ? &*writer_ : nullptr);
    next_ = std::min(total, next_ + piece_ * comm_.size());
  }

  /// The file that is being written is complete. Collective.
  void end_file() {
    bool has_ended = false;
    collectively(comm_, [&] {
      if (failure_) throw Error(*failure_);
      if (!writer_ || (options_.checkpoints != nullptr && writer_->is_empty())) return;
      try {
        writer_->commit();
      } catch (...) {
        failure_ = current_error(); // also for the rounds that follow
        throw;
      }
      has_ended = true;
      writer_.reset();
    });
    if (comm_.broadcast_value(has_ended)) ++parts_;
  }

  void finish() {
    end_file();
    on_root(comm_, [&] {
      if (options_.checkpoints != nullptr) {
        if (parts_ == 0) throw Error(ExitCode::bad_data, "no image is left to be packed");
        if (parts_ == 1)
          fs::rename(part_file(0), output_);
        else
          join();
        fs::remove_all(options_.parts);
      }
      if (options_.progress) options_.progress(reader_.size(), reader_.size());
    });
  }

  void join() const {
    PackedWriter whole(output_, reader_, origin_);
    for (std::int64_t part = 0; part < parts_; ++part) {
      const PackedImages images(Hdf5File::open(part_file(part)));
      for (std::int64_t first = 0; first < images.size(); first += piece_)
        whole.append(images.read(first, std::min(piece_, images.size() - first), OnUnreadable::fail));
    }
    whole.commit();
  }

  void save(StateWriter& to) {
    end_file();
    to.put_integers("images and parts", {next_, parts_});
    to.put_text("skipped", gather_unreadable(comm_, skipped_));
  }

  void restore(StateReader& from) {
    const auto numbers = from.get<std::int64_t>("images and parts");
    const auto skipped = from.text("skipped");
    bool is_complete = numbers.size() == 2;
    on_root(comm_, [&] {
      for (std::int64_t part = 0; is_complete && part < numbers[1]; ++part) is_complete = fs::exists(part_file(part));
    });
    if (!comm_.broadcast_value(is_complete)) return;
    next_ = numbers[0];
    parts_ = numbers[1];
    if (comm_.is_root()) skipped_ = unreadable_in(skipped);
  }

  const Communicator& comm_;
  const ImageReader& reader_;
  std::string origin_;
  const fs::path& output_;
  const PackOptions& options_;
  std::int64_t piece_, next_ = 0, parts_ = 0;
  std::optional<PackedWriter> writer_; ///< on the root
  std::optional<Error> failure_;       ///< of the round before: agreed on with the next decoding, which it overlaps
  std::vector<UnreadableImage> skipped_;
};

} // namespace

std::unique_ptr<ImageReader> open_packed(const fs::path& images) {
  return std::make_unique<PackedImages>(Hdf5File::open(images));
}

PackReport pack_images(const Communicator& comm, const ImageSource& source, const fs::path& output,
                       const PackOptions& options) {
  const auto reader = collectively(comm, [&] {
    auto opened = open_images(source);
    if (opened->size() == 0) throw Error(ExitCode::bad_data, source.images.string() + " has no images to be packed");
    return opened;
  });
  Packing packing(comm, *reader, describe(source, reader->kind()), output, options);
  packing.run();
  return packing.report();
}

} // namespace slr::store
