#pragma once
/// \file
/// Images from where people have them, as uint8 planes of one size, with random access by number.
///
/// Four kinds, recognised by content:
/// - packed: an HDF5 file of `slr_pack` (slr/store/packed_images.hpp);
/// - idx: MNIST-style `idx3-ubyte`, plain or gzip, labels in a file of their own;
/// - CIFAR-10: binary records of one label byte and 3 x 32 x 32 bytes;
/// - folder: JPEG and PNG files, in the order of a list file, else in the order of their names' bytes, without labels.
///
/// A list file has one `NAME LABEL` per line, NAME relative to the folder and free to contain spaces, LABEL an integer
/// of at least 0; either every line has a label or none. Empty lines and lines that begin with `#` do not count.
///
/// Resizing gives the short side `resize` pixels and keeps the ratio (the long side is rounded down): averaging over
/// the area when shrinking (OpenCV's INTER_AREA), bilinear when growing. Then a centre crop of `crop` x `crop` pixels
/// whose top left corner is at floor((size - crop) / 2). Images of a folder are RGB, or grey if every one of the first
/// 16 readable ones is (then a colour image among them counts as unreadable); orientation tags are ignored and an alpha
/// channel is dropped, as training pipelines commonly do.
#include "slr/base/error.hpp"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace slr::store {

/// Where images are and which part of them, in what size.
struct ImageSource {
  std::filesystem::path images;
  std::optional<std::filesystem::path> labels; ///< idx only
  std::optional<std::filesystem::path> list;   ///< folder only
  std::int64_t first = 0;                      ///< number of the first image taken
  std::int64_t count = -1;                     ///< how many; -1: all from `first` on
  int resize = 0;                              ///< short side in pixels; 0: as it is
  int crop = 0;                                ///< side of the centre crop in pixels; 0: none
};

enum class ImageKind { packed, idx, cifar10, folder };

/// What to do with a file of a folder that is missing, damaged or of the wrong size.
enum class OnUnreadable { fail, skip };

struct UnreadableImage {
  std::int64_t number = 0;
  std::string sentence; ///< names the file
};

/// Consecutive images without the unreadable ones.
struct ImageBatch {
  std::int64_t count = 0;
  std::vector<std::uint8_t> pixels;        ///< count x channels x height x width; planes in the order red, green, blue
  std::vector<std::int32_t> labels;        ///< count, or empty if the source has none
  std::vector<UnreadableImage> unreadable; ///< left out, only with OnUnreadable::skip
};

/// An open source. Image 0 is the source's `first`. Local: every rank opens its own.
class ImageReader {
public:
  virtual ~ImageReader() = default;
  ImageReader(const ImageReader&) = delete;
  ImageReader& operator=(const ImageReader&) = delete;

  [[nodiscard]] ImageKind kind() const { return shape_.kind; }
  [[nodiscard]] std::int64_t size() const { return shape_.count; }
  [[nodiscard]] std::int64_t channels() const { return shape_.channels; } ///< 3, or 1 for grey
  [[nodiscard]] std::int64_t height() const { return shape_.height; }
  [[nodiscard]] std::int64_t width() const { return shape_.width; }
  [[nodiscard]] bool has_labels() const { return shape_.has_labels; }
  [[nodiscard]] std::int64_t image_bytes() const { return channels() * height() * width(); }

  /// The image for people: a file's path, or "image 17 of FILE".
  [[nodiscard]] virtual std::string name(std::int64_t number) const = 0;

  /// Images [first, first + count). Memory: what is returned and a few images more. Cheapest in increasing order: going
  /// back in a gzip file starts it again.
  /// \pre 0 <= first, 0 <= count, first + count <= size().
  /// \throws Error{bad_data} naming the image or file that is damaged (with OnUnreadable::skip never for one image of a
  /// folder), Error{io}.
  [[nodiscard]] ImageBatch read(std::int64_t first, std::int64_t count, OnUnreadable policy = OnUnreadable::fail) const;

protected:
  struct Shape {
    ImageKind kind = ImageKind::packed;
    std::int64_t count = 0, channels = 0, height = 0, width = 0;
    bool has_labels = false;
  };
  explicit ImageReader(const Shape& shape) : shape_(shape) {}
  [[nodiscard]] const Shape& shape() const { return shape_; }

private:
  /// Appends to the empty batch; `read` has checked the range.
  virtual void fill(std::int64_t first, std::int64_t count, OnUnreadable policy, ImageBatch& batch) const = 0;
  Shape shape_;
};

/// Opens the source: finds its kind, checks its counts against the length of its files, loads labels of an idx file
/// and the list of a folder. A gzip file is read through once, at most to the length that its header gives. Local.
/// \throws Error{bad_data} if the content contradicts itself or the request (kind, counts, range, crop), Error{io}.
[[nodiscard]] std::unique_ptr<ImageReader> open_images(const ImageSource& source);

/// One line on kind, file names (without folders), range and sizes: what a packed file remembers of its origin. Local.
[[nodiscard]] std::string describe(const ImageSource& source, ImageKind kind);

} // namespace slr::store
