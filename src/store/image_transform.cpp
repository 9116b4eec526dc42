#include "image_transform.hpp"

#include "image_readers.hpp"
#include "slr/base/error.hpp"
#include "slr/base/narrow.hpp"

#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include <algorithm>
#include <fcntl.h>
#include <unistd.h>

namespace slr::store {
namespace {

/// Keeps the decoders behind OpenCV from printing their complaints while it lives: what they say, an Error says.
class SilentDecoders {
public:
  SilentDecoders() : before_(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)) {
    const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (before_ >= 0 && nowhere >= 0) ::dup2(nowhere, STDERR_FILENO);
    if (nowhere >= 0) ::close(nowhere);
  }
  ~SilentDecoders() {
    if (before_ < 0) return;
    ::dup2(before_, STDERR_FILENO);
    ::close(before_);
  }
  SilentDecoders(const SilentDecoders&) = delete;
  SilentDecoders& operator=(const SilentDecoders&) = delete;

private:
  int before_;
};

/// OpenCV's failures as the program's own.
template <class Action>
auto with_opencv(const std::string& name, Action&& action) {
  try {
    return action();
  } catch (const cv::Exception& error) {
    throw Error(ExitCode::bad_data, "the image " + name + " cannot be decoded (" + error.err + ")");
  }
}

ImageSize resized_size(ImageSize size, int resize) {
  if (resize == 0) return size;
  const auto shorter = std::min(size.height, size.width);
  return {size.height == shorter ? resize : size.height * resize / shorter,
          size.width == shorter ? resize : size.width * resize / shorter};
}

} // namespace

ImageSize transformed_size(ImageSize size, int resize, int crop, const std::string& name) {
  const auto resized = resized_size(size, resize);
  if (resized.height > most_pixels / resized.width)
    throw Error(ExitCode::bad_data, "resizing makes " + name + " too large (" + std::to_string(resized.width) + " x " +
                                        std::to_string(resized.height) + " pixels): it is too thin, remove it");
  if (crop == 0) return resized;
  if (crop > resized.height || crop > resized.width)
    throw Error(ExitCode::bad_data, "a crop of " + std::to_string(crop) + " pixels does not fit into " + name + " (" +
                                        std::to_string(resized.width) + " x " + std::to_string(resized.height) +
                                        " pixels): make the crop smaller or resize to a larger short side");
  return {crop, crop};
}

cv::Mat transformed(const cv::Mat& image, int resize, int crop, const std::string& name) {
  const ImageSize before{image.rows, image.cols};
  const auto after = transformed_size(before, resize, crop, name);
  const auto resized = resized_size(before, resize);
  cv::Mat result = image;
  if (!(resized == before)) {
    const auto method = resized.height < before.height ? cv::INTER_AREA : cv::INTER_LINEAR;
    const cv::Size size(static_cast<int>(resized.width), static_cast<int>(resized.height));
    with_opencv(name, [&] { cv::resize(image, result, size, 0, 0, method); });
  }
  if (crop == 0) return result;
  const cv::Rect window((result.cols - crop) / 2, (result.rows - crop) / 2, static_cast<int>(after.width),
                        static_cast<int>(after.height));
  return result(window);
}

void to_planes(const cv::Mat& image, std::span<std::uint8_t> planes) {
  const auto channels = static_cast<std::size_t>(image.channels());
  const auto width = static_cast<std::size_t>(image.cols);
  const auto plane = static_cast<std::size_t>(image.rows) * width;
  require(planes.size() == channels * plane, "an image has another size than its buffer");
  for (int row = 0; row < image.rows; ++row) {
    const auto* pixels = image.ptr<std::uint8_t>(row);
    auto* line = planes.data() + static_cast<std::size_t>(row) * width;
    for (std::size_t c = 0; c < channels; ++c) { // plane c is red first, the pixels are blue first
      auto* out = line + c * plane;
      const auto* in = pixels + (channels - 1 - c);
      for (std::size_t x = 0; x < width; ++x) out[x] = in[x * channels];
    }
  }
}

cv::Mat from_planes(std::span<const std::uint8_t> planes, std::int64_t channels, ImageSize size) {
  cv::Mat image(static_cast<int>(size.height), static_cast<int>(size.width), CV_8UC(static_cast<int>(channels)));
  const auto count = static_cast<std::size_t>(channels);
  const auto plane = static_cast<std::size_t>(size.height * size.width);
  auto* pixels = image.ptr<std::uint8_t>();
  for (std::size_t c = 0; c < count; ++c)
    for (std::size_t i = 0; i < plane; ++i) pixels[i * count + (count - 1 - c)] = planes[c * plane + i];
  return image;
}

cv::Mat decode_image(std::string_view bytes, bool as_grey, const std::string& name) {
  const cv::Mat raw(1, narrow<int>(bytes.size(), "the size of " + name), CV_8UC1,
                    const_cast<char*>(bytes.data())); // OpenCV has no view of constant bytes; it only reads them
  const int mode = (as_grey ? cv::IMREAD_GRAYSCALE : cv::IMREAD_COLOR) | cv::IMREAD_IGNORE_ORIENTATION;
  cv::Mat image = with_opencv(name, [&] {
    const SilentDecoders silent;
    return cv::imdecode(raw, mode);
  });
  if (image.empty())
    throw Error(ExitCode::bad_data, "the image " + name + " is damaged and cannot be decoded: replace or remove it");
  return image;
}

} // namespace slr::store
