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
  void commit() {
    if (images_.rows() == 0) throw Error(ExitCode::bad_data, "no image is left to be packed");
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

/// All ranks' lists on every rank, by number. Travels as "number\0sentence\0".
std::vector<UnreadableImage> gather_unreadable(const Communicator& comm, const std::vector<UnreadableImage>& mine) {
  std::string text;
  for (const auto& image : mine) {
    text += std::to_string(image.number) + '\0';
    text += image.sentence + '\0';
  }
  const auto gathered = comm.gather(std::span<const char>(text));
  const auto all = comm.broadcast_text(std::string(gathered.begin(), gathered.end()));
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
  std::optional<PackedWriter> writer;
  on_root(comm, [&] { writer.emplace(output, *reader, describe(source, reader->kind())); });

  const auto total = reader->size();
  const auto piece = std::clamp<std::int64_t>(piece_bytes / std::max<std::int64_t>(1, reader->image_bytes()), 1, 1024);
  std::vector<UnreadableImage> skipped;
  std::optional<Error> failure; // of the round before: agreed on together with the next decoding, which it overlaps
  for (std::int64_t round = 0; round < total; round += piece * comm.size()) {
    const auto first = std::min(total, round + piece * comm.rank());
    const auto batch = collectively(comm, [&] {
      if (failure) throw Error(*failure);
      if (options.progress && comm.is_root() && round > 0) options.progress(round, total);
      return reader->read(first, std::min(piece, total - first), options.on_unreadable);
    });
    skipped.insert(skipped.end(), batch.unreadable.begin(), batch.unreadable.end());
    failure = write_round(comm, *reader, batch, writer ? &*writer : nullptr);
  }
  on_root(comm, [&] {
    if (failure) throw Error(*failure);
    writer->commit();
    if (options.progress) options.progress(total, total);
  });

  PackReport report{total,           reader->channels(),   reader->height(),
                    reader->width(), reader->has_labels(), gather_unreadable(comm, skipped)};
  report.count -= std::ssize(report.skipped);
  return report;
}

} // namespace slr::store
