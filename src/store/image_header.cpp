#include "image_readers.hpp"
#include "image_transform.hpp"

#include "slr/base/error.hpp"

#include <zlib.h>

#include <algorithm>

namespace slr::store {
namespace {

using Bytes = std::string_view;

std::uint32_t big_endian(Bytes bytes, std::size_t at, std::size_t count) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < count; ++i) value = value << 8 | static_cast<std::uint8_t>(bytes[at + i]);
  return value;
}

Error damaged(const std::string& name, const std::string& why) {
  return Error(ExitCode::bad_data, "the image " + name + " " + why + ": replace or remove it");
}

ImageHeader checked(ImageHeader header, const std::string& name) {
  const auto [height, width] = header.size;
  if (height < 1 || width < 1 || height > most_pixels / width)
    throw damaged(name, "claims " + std::to_string(width) + " x " + std::to_string(height) + " pixels");
  return header;
}

/// A PNG is a signature and chunks of length, type, data and the CRC of type and data. Checking them here also keeps
/// the decoder from printing about them.
ImageHeader png_header(Bytes bytes, const std::string& name) {
  constexpr std::size_t frame = 12; // length, type, CRC
  ImageHeader header;
  bool has_header = false, has_data = false;
  for (std::size_t at = 8; bytes.size() - at >= frame;) {
    const std::size_t length = big_endian(bytes, at, 4);
    if (length > bytes.size() - at - frame) break;
    const auto body = bytes.substr(at + 4, length + 4);
    const auto type = body.substr(0, 4);
    const auto sum = crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()));
    if (sum != big_endian(bytes, at + 8 + length, 4)) throw damaged(name, "is damaged (wrong checksum in a PNG chunk)");
    if (!has_header) {
      if (type != "IHDR" || length != 13) break;
      header.size = {big_endian(body, 8, 4), big_endian(body, 4, 4)};
      const auto color_type = big_endian(body, 13, 1);
      header.is_grey = color_type == 0 || color_type == 4;
      has_header = true;
    }
    has_data = has_data || type == "IDAT";
    if (type == "IEND" && has_data) return checked(header, name);
    at += frame + length;
  }
  throw damaged(name, "is a truncated or damaged PNG");
}

bool is_frame_start(unsigned marker) {
  return marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
}

/// A JPEG is markers with segments up to the first scan; the end marker follows somewhere after the scans. Decoders
/// fill what is missing of a truncated file with grey, so the end marker is looked for here.
ImageHeader jpeg_header(Bytes bytes, const std::string& name) {
  ImageHeader header;
  bool has_frame = false;
  for (std::size_t at = 2; at + 4 <= bytes.size();) {
    if (big_endian(bytes, at, 1) != 0xFF) break;
    const auto marker = big_endian(bytes, at + 1, 1);
    if (marker == 0xFF) { // padding
      ++at;
      continue;
    }
    const std::size_t length = big_endian(bytes, at + 2, 2);
    if (length < 2 || length > bytes.size() - at - 2) break;
    if (is_frame_start(marker)) {
      if (length < 8) break;
      header.size = {big_endian(bytes, at + 5, 2), big_endian(bytes, at + 7, 2)};
      header.is_grey = big_endian(bytes, at + 9, 1) == 1;
      has_frame = true;
    }
    at += 2 + length;
    if (marker != 0xDA) continue;
    if (!has_frame || bytes.find("\xFF\xD9", at) == Bytes::npos) break;
    return checked(header, name);
  }
  throw damaged(name, "is a truncated or damaged JPEG");
}

} // namespace

ImageHeader read_image_header(std::string_view bytes, const std::string& name) {
  if (bytes.starts_with("\x89PNG\r\n\x1a\n")) return png_header(bytes, name);
  if (bytes.starts_with("\xFF\xD8\xFF")) return jpeg_header(bytes, name);
  throw damaged(name, "is neither JPEG nor PNG");
}

} // namespace slr::store
