#pragma once
// The kinds of image sources. Private to the module.
#include "slr/store/image_source.hpp"

#include <string_view>

namespace slr::store {

// No image that a network looks at has more pixels; what claims to is refused before anything is allocated.
inline constexpr std::int64_t most_pixels = std::int64_t(1) << 26;

/// Each opens all images of its kind; range, resizing and cropping of the source are left to `select_images`.
[[nodiscard]] std::unique_ptr<ImageReader> open_packed(const std::filesystem::path& images);
[[nodiscard]] std::unique_ptr<ImageReader> open_idx(const std::filesystem::path& images,
                                                    const std::optional<std::filesystem::path>& labels);
[[nodiscard]] std::unique_ptr<ImageReader> open_cifar10(const std::filesystem::path& images);
/// Range, resizing and cropping are done in here, since the images may differ in size.
[[nodiscard]] std::unique_ptr<ImageReader> open_folder(const ImageSource& source);

/// A part of `all`, resized and cropped.
[[nodiscard]] std::unique_ptr<ImageReader> select_images(std::unique_ptr<ImageReader> all, const ImageSource& source);

/// True if the file begins like an idx file of images, plain or gzip.
[[nodiscard]] bool looks_like_idx(const std::filesystem::path& file);
/// True if the file consists of whole records whose labels are 0 to 9.
[[nodiscard]] bool looks_like_cifar10(const std::filesystem::path& file);

/// The number of images from source.first on. \throws Error{bad_data} if the source asks for more than `available`.
[[nodiscard]] std::int64_t selected_count(const ImageSource& source, std::int64_t available);

} // namespace slr::store
