// A folder of JPEG and PNG files.
#include "image_readers.hpp"
#include "image_transform.hpp"

#include "slr/base/error.hpp"
#include "slr/base/file.hpp"
#include "slr/base/narrow.hpp"

#include <opencv2/core/utility.hpp>

#include <algorithm>
#include <charconv>
#include <span>

namespace slr::store {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t most_list_bytes = std::size_t(1) << 30;
constexpr std::size_t most_image_bytes = std::size_t(1) << 28;
constexpr std::int64_t probed_images = 16; // looked at for size and colour when opening

struct Listing {
  std::vector<fs::path> files;
  std::vector<std::int32_t> labels; ///< one per file, or none
};

std::string_view trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

/// "NAME LABEL" in two; the label is nothing if the last word is not a whole number.
std::pair<std::string_view, std::optional<std::int32_t>> split_line(std::string_view line) {
  const auto gap = line.find_last_of(" \t");
  if (gap == std::string_view::npos) return {line, std::nullopt};
  const auto word = line.substr(gap + 1);
  std::int32_t label = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), label);
  if (error != std::errc() || end != word.data() + word.size() || label < 0) return {line, std::nullopt};
  return {trimmed(line.substr(0, gap)), label};
}

Listing read_list(const fs::path& list, const fs::path& folder) {
  const std::string text = read_file(list, most_list_bytes);
  Listing listing;
  std::int64_t line_number = 0;
  for (std::size_t at = 0; at < text.size(); ++line_number) {
    const auto end = std::min(text.find('\n', at), text.size());
    const auto line = trimmed(std::string_view(text).substr(at, end - at));
    at = end + 1;
    if (line.empty() || line.front() == '#') continue;
    const auto [name, label] = split_line(line);
    if (label.has_value() != (listing.files.size() == listing.labels.size()) && !listing.files.empty())
      throw Error(ExitCode::bad_data, "line " + std::to_string(line_number + 1) + " of " + list.string() +
                                          (label ? " has a label" : " has no label") +
                                          ", unlike the lines before: write NAME LABEL in every line");
    listing.files.push_back(folder / name);
    if (label) listing.labels.push_back(*label);
  }
  if (listing.files.empty()) throw Error(ExitCode::bad_data, list.string() + " lists no images");
  return listing;
}

bool has_image_name(const fs::path& file) {
  auto extension = file.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png";
}

Listing read_folder(const fs::path& folder) {
  Listing listing;
  try {
    for (const auto& entry : fs::directory_iterator(folder))
      if (entry.is_regular_file() && has_image_name(entry.path())) listing.files.push_back(entry.path());
  } catch (const fs::filesystem_error& error) {
    throw Error(ExitCode::io, "cannot list " + folder.string() + ": " + error.code().message());
  }
  std::sort(listing.files.begin(), listing.files.end(),
            [](const fs::path& a, const fs::path& b) { return a.native() < b.native(); });
  if (listing.files.empty()) throw Error(ExitCode::bad_data, folder.string() + " has no JPEG or PNG files");
  return listing;
}

std::string read_image_file(const fs::path& file) {
  std::error_code error;
  // A pipe or a device would block or never end.
  if (!fs::is_regular_file(file, error))
    throw Error(ExitCode::io, "the image " + file.string() + " does not exist or is not a file: correct the list");
  return read_file(file, most_image_bytes);
}

class FolderImages final : public ImageReader {
public:
  FolderImages(const ImageSource& source, Listing listing)
      : ImageReader(probe(source, listing)), source_(source), listing_(std::move(listing)) {
    cv::setNumThreads(1); // the ranks of a node already use its cores
  }

  [[nodiscard]] std::string name(std::int64_t number) const override { return file(number).string(); }

private:
  [[nodiscard]] const fs::path& file(std::int64_t number) const {
    return listing_.files[static_cast<std::size_t>(source_.first + number)];
  }

  /// Size and colour of the first images that can be read.
  static Shape probe(const ImageSource& source, const Listing& listing) {
    Shape shape{ImageKind::folder,      selected_count(source, std::ssize(listing.files)), 1, source.crop, source.crop,
                !listing.labels.empty()};
    std::optional<Error> first_error;
    std::int64_t readable = 0;
    for (std::int64_t i = 0; i < std::min(shape.count, probed_images); ++i) {
      const auto& file = listing.files[static_cast<std::size_t>(source.first + i)];
      try {
        const auto header = read_image_header(read_image_file(file), file.string());
        const auto size = transformed_size(header.size, source.resize, source.crop, file.string());
        if (readable++ == 0) {
          shape.height = size.height;
          shape.width = size.width;
        }
        if (!header.is_grey) shape.channels = 3;
      } catch (const Error& error) {
        if (!first_error) first_error = error;
      }
    }
    if (readable == 0 && first_error) throw Error(*first_error);
    return shape;
  }

  /// Appends one image. \throws Error naming it.
  void append(std::int64_t number, ImageBatch& batch) const {
    const std::string words = name(number);
    const std::string bytes = read_image_file(file(number));
    const bool as_grey = channels() == 1;
    if (as_grey && !read_image_header(bytes, words).is_grey)
      throw Error(ExitCode::bad_data, "the image " + words +
                                          " is coloured but the first ones of its folder are grey: "
                                          "keep them in separate folders");
    // The header comes first: it bounds what the decoder allocates.
    const auto size = transformed_size(read_image_header(bytes, words).size, source_.resize, source_.crop, words);
    if (size.height != height() || size.width != width())
      throw Error(ExitCode::bad_data, "the image " + words + " has " + std::to_string(size.width) + " x " +
                                          std::to_string(size.height) + " pixels, the first one " +
                                          std::to_string(width()) + " x " + std::to_string(height()) +
                                          ": set resize and crop to bring all to one size");
    const auto image = transformed(decode_image(bytes, as_grey, words), source_.resize, source_.crop, words);
    const auto before = batch.pixels.size();
    batch.pixels.resize(before + static_cast<std::size_t>(image_bytes()));
    to_planes(image, std::span(batch.pixels).subspan(before));
    if (has_labels()) batch.labels.push_back(listing_.labels[static_cast<std::size_t>(source_.first + number)]);
    ++batch.count;
  }

  void fill(std::int64_t first, std::int64_t count, OnUnreadable policy, ImageBatch& batch) const override {
    for (std::int64_t number = first; number < first + count; ++number) {
      try {
        append(number, batch);
      } catch (const Error& error) {
        if (policy == OnUnreadable::fail || error.code() == ExitCode::bug) throw;
        batch.unreadable.push_back({number, error.what()});
      }
    }
  }

  ImageSource source_;
  Listing listing_;
};

} // namespace

std::unique_ptr<ImageReader> open_folder(const ImageSource& source) {
  auto listing = source.list ? read_list(*source.list, source.images) : read_folder(source.images);
  return std::make_unique<FolderImages>(source, std::move(listing));
}

} // namespace slr::store
