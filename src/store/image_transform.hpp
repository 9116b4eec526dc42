#pragma once
// Decoding, resizing and cropping with OpenCV. Private to the module.
#include <cstdint>
#include <filesystem>
#include <opencv2/core/mat.hpp>
#include <span>
#include <string>

namespace slr::store {

struct ImageSize {
  std::int64_t height = 0;
  std::int64_t width = 0;
  bool operator==(const ImageSize&) const = default;
};

/// The size after resizing the short side and cropping (0: leave out). `name` is for the sentence.
/// \throws Error{bad_data} if the crop does not fit into the image or the result is too large.
[[nodiscard]] ImageSize transformed_size(ImageSize size, int resize, int crop, const std::string& name);

/// The image so resized and cropped.
[[nodiscard]] cv::Mat transformed(const cv::Mat& image, int resize, int crop, const std::string& name);

/// Interleaved blue, green, red (or grey) to planes red, green, blue (or grey).
void to_planes(const cv::Mat& image, std::span<std::uint8_t> planes);
/// The other way round.
[[nodiscard]] cv::Mat from_planes(std::span<const std::uint8_t> planes, std::int64_t channels, ImageSize size);

/// What the first bytes of a JPEG or PNG file say.
struct ImageHeader {
  ImageSize size;
  bool is_grey = false;
};

/// Reads the header and checks that the file is whole: every checksum of a PNG, the end marker of a JPEG.
/// \throws Error{bad_data} naming the file if it is neither or is damaged or has too many pixels.
[[nodiscard]] ImageHeader read_image_header(std::string_view bytes, const std::string& name);

/// Decodes the bytes of a whole file with 3 channels (blue, green, red) or 1. \throws Error{bad_data} naming the file.
[[nodiscard]] cv::Mat decode_image(std::string_view bytes, bool as_grey, const std::string& name);

} // namespace slr::store
