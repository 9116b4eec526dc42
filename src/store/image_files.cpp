// idx and CIFAR-10 files.
#include "image_readers.hpp"

#include "slr/base/error.hpp"
#include "slr/base/narrow.hpp"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <span>

namespace slr::store {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t cifar_pixels = 3 * 32 * 32;
constexpr std::int64_t cifar_record = 1 + cifar_pixels;
// Deflate cannot expand further.
constexpr std::int64_t largest_expansion = 1032;

/// The bytes of a file, which zlib unpacks if it is gzip and passes through if it is not.
class Unpacked {
public:
  explicit Unpacked(const fs::path& file) : path_(file), file_(gzopen(file.c_str(), "rb")) {
    if (file_ == nullptr) throw Error(ExitCode::io, "cannot open " + file.string() + ": " + std::strerror(errno));
    gzbuffer(file_, 1 << 17);
  }
  ~Unpacked() { gzclose_r(file_); }
  Unpacked(const Unpacked&) = delete;
  Unpacked& operator=(const Unpacked&) = delete;

  /// As many bytes as there are, at most out.size(). \throws Error{bad_data} if the gzip data are damaged.
  std::size_t read_some(std::span<std::uint8_t> out) const {
    std::size_t done = 0;
    while (done < out.size()) {
      const auto piece = static_cast<unsigned>(std::min<std::size_t>(out.size() - done, 1 << 28));
      const int got = gzread(file_, out.data() + done, piece);
      check(got);
      if (got <= 0) break;
      done += static_cast<std::size_t>(got);
    }
    return done;
  }
  void read(std::span<std::uint8_t> out) const {
    if (read_some(out) != out.size()) throw Error(ExitCode::bad_data, path_.string() + " is truncated: fetch it again");
  }
  void seek(std::int64_t position) const {
    if (gzseek(file_, position, SEEK_SET) != position) check(-1);
  }
  /// True if exactly `bytes` more can be read; reads no further than one byte beyond.
  [[nodiscard]] bool has_exactly(std::int64_t bytes) const {
    std::vector<std::uint8_t> scratch(1 << 17);
    while (bytes > 0) {
      const auto piece = static_cast<std::size_t>(std::min<std::int64_t>(bytes, std::ssize(scratch)));
      if (read_some(std::span(scratch).first(piece)) != piece) return false;
      bytes -= static_cast<std::int64_t>(piece);
    }
    return read_some(std::span(scratch).first(1)) == 0;
  }
  [[nodiscard]] bool is_plain() const { return gzdirect(file_) == 1; }

private:
  void check(int result) const {
    int code = Z_OK;
    const char* reason = gzerror(file_, &code);
    if (code == Z_ERRNO) throw Error(ExitCode::io, "reading " + path_.string() + " failed: " + std::strerror(errno));
    // Z_BUF_ERROR: the gzip data end too early
    if (result < 0 || code == Z_BUF_ERROR)
      throw Error(ExitCode::bad_data,
                  path_.string() + " is damaged or truncated gzip (" + reason + "): fetch it again");
  }

  fs::path path_;
  gzFile file_;
};

std::int64_t big_endian(std::span<const std::uint8_t> bytes) {
  std::int64_t value = 0;
  for (const auto byte : bytes) value = value << 8 | byte;
  return value;
}

/// Checks that the file holds exactly header + payload bytes, first by what its length makes possible.
void check_length(const Unpacked& file, const fs::path& path, std::int64_t header, std::int64_t payload,
                  const std::string& claim) {
  const auto length = static_cast<std::int64_t>(fs::file_size(path));
  const bool is_possible = file.is_plain() ? header + payload == length : payload / largest_expansion <= length;
  if (!is_possible || (!file.is_plain() && !file.has_exactly(payload)))
    throw Error(ExitCode::bad_data,
                path.string() + " claims " + claim + " but holds another number of bytes: fetch it again");
}

std::vector<std::int32_t> read_idx_labels(const fs::path& path, std::int64_t images) {
  const Unpacked file(path);
  std::array<std::uint8_t, 8> header{};
  if (file.read_some(header) != header.size() || big_endian(std::span(header).first(4)) != 0x0801)
    throw Error(ExitCode::bad_data, path.string() +
                                        " is not an idx file of labels (idx1-ubyte): give the one that goes "
                                        "with the images");
  const auto count = big_endian(std::span(header).last(4));
  if (count != images)
    throw Error(ExitCode::bad_data, path.string() + " has " + std::to_string(count) + " labels for " +
                                        std::to_string(images) + " images: give the one that goes with the images");
  check_length(file, path, 8, count, std::to_string(count) + " labels");
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(count));
  file.seek(8);
  file.read(bytes);
  return {bytes.begin(), bytes.end()};
}

class IdxImages final : public ImageReader {
public:
  static constexpr std::int64_t header_bytes = 16;

  IdxImages(const fs::path& images, const std::optional<fs::path>& labels)
      : ImageReader(read_shape(images, labels.has_value())), path_(images), file_(images) {
    if (labels) labels_ = read_idx_labels(*labels, size());
  }

  [[nodiscard]] std::string name(std::int64_t number) const override {
    return "image " + std::to_string(number) + " of " + path_.string();
  }

private:
  static Shape read_shape(const fs::path& path, bool has_labels) {
    const Unpacked file(path);
    std::array<std::uint8_t, header_bytes> header{};
    file.read(header);
    const std::span<const std::uint8_t> bytes(header);
    const Shape shape{ImageKind::idx,
                      big_endian(bytes.subspan(4, 4)),
                      1,
                      big_endian(bytes.subspan(8, 4)),
                      big_endian(bytes.subspan(12, 4)),
                      has_labels};
    if (shape.height < 1 || shape.width < 1 || shape.height > most_pixels / shape.width)
      throw Error(ExitCode::bad_data, path.string() + " claims images of " + std::to_string(shape.width) + " x " +
                                          std::to_string(shape.height) + " pixels: it is damaged, fetch it again");
    check_length(file, path, header_bytes, checked_product(shape.count, shape.height * shape.width, "an idx file"),
                 std::to_string(shape.count) + " images of " + std::to_string(shape.width) + " x " +
                     std::to_string(shape.height) + " pixels");
    return shape;
  }

  void fill(std::int64_t first, std::int64_t count, OnUnreadable /*policy*/, ImageBatch& batch) const override {
    batch.count = count;
    batch.pixels.resize(static_cast<std::size_t>(count * image_bytes()));
    file_.seek(header_bytes + first * image_bytes());
    file_.read(batch.pixels);
    if (has_labels()) batch.labels.assign(labels_.begin() + first, labels_.begin() + first + count);
  }

  fs::path path_;
  Unpacked file_;
  std::vector<std::int32_t> labels_;
};

class CifarImages final : public ImageReader {
public:
  explicit CifarImages(const fs::path& images)
      : ImageReader(Shape{ImageKind::cifar10, static_cast<std::int64_t>(fs::file_size(images)) / cifar_record, 3, 32,
                          32, true}),
        path_(images), file_(images) {}

  [[nodiscard]] std::string name(std::int64_t number) const override {
    return "image " + std::to_string(number) + " of " + path_.string();
  }

private:
  void fill(std::int64_t first, std::int64_t count, OnUnreadable /*policy*/, ImageBatch& batch) const override {
    batch.count = count;
    batch.pixels.resize(static_cast<std::size_t>(count * cifar_pixels));
    file_.seek(first * cifar_record);
    for (std::int64_t i = 0; i < count; ++i) {
      std::uint8_t label = 0;
      file_.read({&label, 1});
      batch.labels.push_back(label);
      file_.read(std::span(batch.pixels).subspan(static_cast<std::size_t>(i * cifar_pixels), cifar_pixels));
    }
  }

  fs::path path_;
  Unpacked file_;
};

} // namespace

bool looks_like_idx(const fs::path& path) {
  const Unpacked file(path);
  std::array<std::uint8_t, IdxImages::header_bytes> header{};
  const auto got = file.read_some(header);
  if (got < 4 || big_endian(std::span(header).first(4)) != 0x0803) return false;
  // A CIFAR-10 record may begin with the same four bytes: black with label 0. The length tells.
  const std::span<const std::uint8_t> bytes(header);
  const auto height = big_endian(bytes.subspan(8, 4)), width = big_endian(bytes.subspan(12, 4));
  const auto images = big_endian(bytes.subspan(4, 4));
  const auto length = static_cast<std::int64_t>(fs::file_size(path));
  const bool fits = height < 1 << 16 && width < 1 << 15 && images * height * width == length - IdxImages::header_bytes;
  return fits || !file.is_plain() || !looks_like_cifar10(path);
}

bool looks_like_cifar10(const fs::path& path) {
  const auto length = static_cast<std::int64_t>(fs::file_size(path));
  if (length == 0 || length % cifar_record != 0) return false;
  std::ifstream stream(path, std::ios::binary);
  for (std::int64_t at = 0; at < length; at += cifar_record) {
    stream.seekg(at);
    if (const int label = stream.get(); label < 0 || label > 9) return false;
  }
  return true;
}

std::unique_ptr<ImageReader> open_idx(const fs::path& images, const std::optional<fs::path>& labels) {
  return std::make_unique<IdxImages>(images, labels);
}

std::unique_ptr<ImageReader> open_cifar10(const fs::path& images) {
  return std::make_unique<CifarImages>(images);
}

} // namespace slr::store
