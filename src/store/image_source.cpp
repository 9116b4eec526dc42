#include "slr/store/image_source.hpp"

#include "image_readers.hpp"
#include "image_transform.hpp"
#include "slr/base/narrow.hpp"
#include "slr/store/hdf5.hpp"

#include <algorithm>

namespace slr::store {
namespace {

namespace fs = std::filesystem;

/// A range of another reader's images, resized and cropped.
class SelectedImages final : public ImageReader {
public:
  SelectedImages(std::unique_ptr<ImageReader> all, const ImageSource& source)
      : ImageReader(shape_of(*all, source)), all_(std::move(all)), source_(source) {}

  [[nodiscard]] std::string name(std::int64_t number) const override { return all_->name(source_.first + number); }

private:
  static Shape shape_of(const ImageReader& all, const ImageSource& source) {
    const auto size = transformed_size({all.height(), all.width()}, source.resize, source.crop, source.images.string());
    return {all.kind(), selected_count(source, all.size()), all.channels(), size.height, size.width, all.has_labels()};
  }

  void fill(std::int64_t first, std::int64_t count, OnUnreadable policy, ImageBatch& batch) const override {
    auto raw = all_->read(source_.first + first, count, policy);
    batch.count = raw.count;
    batch.labels = std::move(raw.labels);
    if (source_.resize == 0 && source_.crop == 0) {
      batch.pixels = std::move(raw.pixels);
      return;
    }
    const auto before = static_cast<std::size_t>(all_->image_bytes()), after = static_cast<std::size_t>(image_bytes());
    batch.pixels.resize(static_cast<std::size_t>(raw.count) * after);
    for (std::size_t i = 0; i < static_cast<std::size_t>(raw.count); ++i) {
      const auto image = from_planes(std::span(raw.pixels).subspan(i * before, before), all_->channels(),
                                     {all_->height(), all_->width()});
      to_planes(transformed(image, source_.resize, source_.crop, name(first + static_cast<std::int64_t>(i))),
                std::span(batch.pixels).subspan(i * after, after));
    }
  }

  std::unique_ptr<ImageReader> all_;
  ImageSource source_;
};

void check_request(const ImageSource& source) {
  constexpr int largest_side = 1 << 15;
  if (source.first < 0 || source.count < -1)
    throw Error(ExitCode::bad_data, "first and count of " + source.images.string() + " must not be negative");
  if (source.resize < 0 || source.crop < 0 || source.resize > largest_side || source.crop > largest_side)
    throw Error(ExitCode::bad_data, "resize and crop of " + source.images.string() + " must be between 0 and " +
                                        std::to_string(largest_side) + " pixels");
}

ImageKind kind_of(const fs::path& images) {
  std::error_code error;
  if (fs::is_directory(images, error)) return ImageKind::folder;
  if (Hdf5File::is_hdf5(images)) return ImageKind::packed; // also says so if there is no such file
  if (looks_like_idx(images)) return ImageKind::idx;
  if (looks_like_cifar10(images)) return ImageKind::cifar10;
  throw Error(ExitCode::bad_data,
              images.string() + " is neither packed images (HDF5) nor an idx file nor whole " +
                  "CIFAR-10 records of 3073 bytes nor a folder of JPEG and PNG files: give one of these");
}

void check_side_files(const ImageSource& source, ImageKind kind) {
  if (source.labels && kind != ImageKind::idx)
    throw Error(ExitCode::bad_data, "a file of labels (" + source.labels->string() + ") goes with an idx file, but " +
                                        source.images.string() + " is not one: leave it out");
  if (source.list && kind != ImageKind::folder)
    throw Error(ExitCode::bad_data, "a list (" + source.list->string() + ") goes with a folder of images, but " +
                                        source.images.string() + " is not one: leave it out");
}

} // namespace

ImageBatch ImageReader::read(std::int64_t first, std::int64_t count, OnUnreadable policy) const {
  require(first >= 0 && count >= 0 && first <= size() && count <= size() - first,
          "images outside their source were to be read");
  ImageBatch batch;
  fill(first, count, policy, batch);
  require(static_cast<std::int64_t>(batch.pixels.size()) == batch.count * image_bytes(), "a batch has the wrong size");
  return batch;
}

std::int64_t selected_count(const ImageSource& source, std::int64_t available) {
  const auto rest = available - source.first;
  if (rest < 0 || source.count > rest)
    throw Error(ExitCode::bad_data, source.images.string() + " has " + std::to_string(available) +
                                        " images, fewer than first = " + std::to_string(source.first) +
                                        (source.count > 0 ? " and count = " + std::to_string(source.count) : "") +
                                        " ask for");
  return source.count < 0 ? rest : source.count;
}

std::unique_ptr<ImageReader> select_images(std::unique_ptr<ImageReader> all, const ImageSource& source) {
  const bool is_all =
      source.first == 0 && (source.count < 0 || source.count == all->size()) && source.resize == 0 && source.crop == 0;
  if (is_all) return all;
  return std::make_unique<SelectedImages>(std::move(all), source);
}

std::unique_ptr<ImageReader> open_images(const ImageSource& source) {
  check_request(source);
  const auto kind = kind_of(source.images);
  check_side_files(source, kind);
  switch (kind) {
  case ImageKind::folder:
    return open_folder(source);
  case ImageKind::packed:
    return select_images(open_packed(source.images), source);
  case ImageKind::idx:
    return select_images(open_idx(source.images, source.labels), source);
  case ImageKind::cifar10:
    return select_images(open_cifar10(source.images), source);
  }
  throw Error(ExitCode::bug, "internal error: an unknown kind of images");
}

std::string describe(const ImageSource& source, ImageKind kind) {
  const auto last_name = [](const fs::path& path) {
    const auto clean = path.lexically_normal();
    return (clean.has_filename() ? clean.filename() : clean.parent_path().filename()).string();
  };
  std::string words;
  switch (kind) {
  case ImageKind::packed:
    words = "packed images ";
    break;
  case ImageKind::idx:
    words = "idx file ";
    break;
  case ImageKind::cifar10:
    words = "CIFAR-10 records ";
    break;
  case ImageKind::folder:
    words = "folder ";
    break;
  }
  words += last_name(source.images);
  if (source.labels) words += ", labels " + last_name(*source.labels);
  if (source.list) words += ", list " + last_name(*source.list);
  words += ", first " + std::to_string(source.first);
  words += ", count " + (source.count < 0 ? std::string("all") : std::to_string(source.count));
  if (source.resize > 0) words += ", short side " + std::to_string(source.resize);
  if (source.crop > 0) words += ", centre crop " + std::to_string(source.crop);
  return words;
}

} // namespace slr::store
