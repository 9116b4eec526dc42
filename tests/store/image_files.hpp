#pragma once
// Image files of every kind, written by the tests themselves.
#include "store_test.hpp"

#include <opencv2/imgcodecs.hpp>
#include <zlib.h>

#include <cmath>

namespace slr::test {

inline void append_big_endian(std::string& bytes, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift & 255);
}

/// Pixel of image i at offset j of the made-up sets below.
inline std::uint8_t made_up_pixel(std::int64_t i, std::int64_t j) {
  return static_cast<std::uint8_t>(7 * i + 3 * j + 1);
}

inline std::string idx_images(std::uint32_t count, std::uint32_t height, std::uint32_t width) {
  std::string bytes;
  for (const auto value : {0x0803u, count, height, width}) append_big_endian(bytes, value);
  for (std::uint32_t i = 0; i < count; ++i)
    for (std::uint32_t j = 0; j < height * width; ++j) bytes += static_cast<char>(made_up_pixel(i, j));
  return bytes;
}

inline std::string idx_labels(std::uint32_t count) {
  std::string bytes;
  append_big_endian(bytes, 0x0801);
  append_big_endian(bytes, count);
  for (std::uint32_t i = 0; i < count; ++i) bytes += static_cast<char>(i % 10);
  return bytes;
}

inline std::string cifar_records(int count) {
  std::string bytes;
  for (int i = 0; i < count; ++i) {
    bytes += static_cast<char>(i % 10);
    for (int j = 0; j < 3072; ++j) bytes += static_cast<char>(made_up_pixel(i, j));
  }
  return bytes;
}

inline void write_gzip(const std::filesystem::path& file, std::string_view bytes) {
  const gzFile out = gzopen(file.c_str(), "wb9");
  gzwrite(out, bytes.data(), static_cast<unsigned>(bytes.size()));
  gzclose(out);
}

/// A picture whose colour tells the place: red grows to the right, green downwards, blue is 40.
inline cv::Mat gradient(int height, int width) {
  cv::Mat image(height, width, CV_8UC3);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      image.at<cv::Vec3b>(y, x) = {40, static_cast<std::uint8_t>(255.0 * (y + 0.5) / height),
                                   static_cast<std::uint8_t>(255.0 * (x + 0.5) / width)};
  return image;
}

} // namespace slr::test
