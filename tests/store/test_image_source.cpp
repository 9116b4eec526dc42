// Sources of images: kinds, counts, ranges, geometry, and files that lie.
#include "slr/store/image_source.hpp"

#include "image_files.hpp"
#include "store_test.hpp"

#include <gtest/gtest.h>

#include <opencv2/imgproc.hpp>

#include <cmath>

namespace {

using namespace slr;
using namespace slr::store;
using namespace slr::test;
namespace fs = std::filesystem;

ImageSource source(const fs::path& images) {
  ImageSource all;
  all.images = images;
  return all;
}

TEST(IdxImages, PlainAndGzipGiveTheSame) {
  const TemporaryFolder folder;
  write_bytes(folder / "plain", idx_images(7, 4, 3));
  write_gzip(folder / "packed.gz", idx_images(7, 4, 3));
  write_gzip(folder / "labels", idx_labels(7)); // the name does not matter
  for (const auto* name : {"plain", "packed.gz"}) {
    auto wanted = source(folder / name);
    wanted.labels = folder / "labels";
    const auto reader = open_images(wanted);
    EXPECT_EQ(reader->kind(), ImageKind::idx);
    EXPECT_EQ(reader->size(), 7);
    EXPECT_EQ(reader->channels(), 1);
    EXPECT_EQ(reader->height(), 4);
    EXPECT_EQ(reader->width(), 3);
    ASSERT_TRUE(reader->has_labels());
    for (const std::int64_t first : {2, 5, 0}) { // forwards and back again
      const auto batch = reader->read(first, 2);
      ASSERT_EQ(batch.count, 2);
      for (std::int64_t i = 0; i < 2; ++i) {
        EXPECT_EQ(batch.labels[static_cast<std::size_t>(i)], first + i);
        for (std::int64_t j = 0; j < 12; ++j)
          EXPECT_EQ(batch.pixels[static_cast<std::size_t>(12 * i + j)], made_up_pixel(first + i, j));
      }
    }
    EXPECT_EQ(reader->read(7, 0).count, 0);
  }
}

TEST(IdxImages, ARangeIsAPart) {
  const TemporaryFolder folder;
  write_bytes(folder / "images", idx_images(9, 2, 2));
  auto wanted = source(folder / "images");
  wanted.first = 3;
  wanted.count = 4;
  const auto reader = open_images(wanted);
  EXPECT_EQ(reader->size(), 4);
  EXPECT_EQ(reader->read(1, 1).pixels.front(), made_up_pixel(4, 0));
  wanted.count = 7;
  expect_error([&] { (void)open_images(wanted); }, ExitCode::bad_data, {"images", "has 9 images", "first = 3"});
  wanted.first = 10;
  wanted.count = -1;
  expect_error([&] { (void)open_images(wanted); }, ExitCode::bad_data, {"has 9 images", "first = 10"});
}

TEST(IdxImages, CountsThatDoNotFitTheLengthAreRefused) {
  const TemporaryFolder folder;
  const auto whole = idx_images(5, 4, 4);
  auto too_many = whole, too_large = whole, huge = whole;
  too_many[7] = 6;
  too_large[11] = 5;
  for (const std::size_t at : {4u, 8u, 12u}) huge[at] = '\x7f';
  for (const auto& bytes : {too_many, too_large, huge, whole + "x", whole.substr(0, whole.size() - 1)}) {
    write_bytes(folder / "plain", bytes);
    expect_error([&] { (void)open_images(source(folder / "plain")); }, ExitCode::bad_data, {"plain", "claims"});
    write_gzip(folder / "z.gz", bytes);
    expect_error([&] { (void)open_images(source(folder / "z.gz")); }, ExitCode::bad_data, {"z.gz", "claims"});
  }
}

TEST(IdxImages, AGzipBombIsCutOff) {
  const TemporaryFolder folder;
  // 64 MB of zeros behind a header of four images: reading must stop one byte after the fourth.
  write_gzip(folder / "bomb.gz", idx_images(4, 8, 8) + std::string(64 << 20, '\0'));
  expect_error([&] { (void)open_images(source(folder / "bomb.gz")); }, ExitCode::bad_data, {"bomb.gz", "4 images"});
  // A header of 2^31 images of 2 x 2 in a file of a few bytes: nothing is allocated, nothing is unpacked.
  std::string lie;
  for (const auto value : {0x0803u, 0x7fffffffu, 2u, 2u}) append_big_endian(lie, value);
  write_gzip(folder / "lie.gz", lie);
  expect_error([&] { (void)open_images(source(folder / "lie.gz")); }, ExitCode::bad_data, {"lie.gz", "2147483647"});
}

TEST(IdxImages, DamagedGzipIsNamed) {
  const TemporaryFolder folder;
  write_gzip(folder / "z.gz", idx_images(50, 16, 16));
  const auto bytes = read_file(folder / "z.gz");
  write_bytes(folder / "cut.gz", std::string_view(bytes).substr(0, bytes.size() / 2));
  expect_error([&] { (void)open_images(source(folder / "cut.gz")); }, ExitCode::bad_data, {"cut.gz"});
  auto flipped = bytes;
  flipped[bytes.size() - 6] ^= 1; // in the checksum
  write_bytes(folder / "flipped.gz", flipped);
  expect_error([&] { (void)open_images(source(folder / "flipped.gz")); }, ExitCode::bad_data, {"flipped.gz"});
}

TEST(IdxImages, LabelsMustBelongToTheImages) {
  const TemporaryFolder folder;
  write_bytes(folder / "images", idx_images(5, 2, 2));
  auto wanted = source(folder / "images");
  wanted.labels = folder / "labels";
  write_bytes(folder / "labels", idx_labels(4));
  expect_error([&] { (void)open_images(wanted); }, ExitCode::bad_data, {"labels", "4 labels for 5 images"});
  write_bytes(folder / "labels", idx_labels(5) + "x");
  expect_error([&] { (void)open_images(wanted); }, ExitCode::bad_data, {"labels", "claims"});
  write_bytes(folder / "labels", idx_images(5, 2, 2));
  expect_error([&] { (void)open_images(wanted); }, ExitCode::bad_data, {"labels", "idx1"});
}

TEST(CifarImages, RecordsAreLabelAndPlanes) {
  const TemporaryFolder folder;
  write_bytes(folder / "batch.bin", cifar_records(12));
  const auto reader = open_images(source(folder / "batch.bin"));
  EXPECT_EQ(reader->kind(), ImageKind::cifar10);
  EXPECT_EQ(reader->size(), 12);
  EXPECT_EQ(reader->channels(), 3);
  const auto batch = reader->read(10, 2);
  EXPECT_EQ(batch.labels, (std::vector<std::int32_t>{0, 1}));
  for (std::int64_t j = 0; j < 3072; ++j)
    ASSERT_EQ(batch.pixels[static_cast<std::size_t>(3072 + j)], made_up_pixel(11, j));
}

TEST(CifarImages, PartsOfRecordsAndWrongLabelsAreRefused) {
  const TemporaryFolder folder;
  const auto whole = cifar_records(3);
  auto mislabelled = whole;
  mislabelled[3073] = 10;
  for (const auto& bytes : {whole.substr(0, whole.size() - 1), whole + "\1", mislabelled, std::string()}) {
    write_bytes(folder / "batch.bin", bytes);
    expect_error([&] { (void)open_images(source(folder / "batch.bin")); }, ExitCode::bad_data, {"batch.bin", "3073"});
  }
}

TEST(CifarImages, ARecordThatBeginsLikeAnIdxFileIsARecord) {
  const TemporaryFolder folder;
  auto bytes = cifar_records(2);
  bytes.replace(0, 4, std::string("\0\0\x08\x03", 4));
  write_bytes(folder / "batch.bin", bytes);
  EXPECT_EQ(open_images(source(folder / "batch.bin"))->kind(), ImageKind::cifar10);
}

TEST(Sources, SideFilesGoWithTheirKind) {
  const TemporaryFolder folder;
  write_bytes(folder / "batch.bin", cifar_records(1));
  auto wanted = source(folder / "batch.bin");
  wanted.labels = folder / "labels";
  expect_error([&] { (void)open_images(wanted); }, ExitCode::bad_data, {"labels", "batch.bin"});
  wanted.labels.reset();
  wanted.list = folder / "list";
  expect_error([&] { (void)open_images(wanted); }, ExitCode::bad_data, {"list", "batch.bin"});
  expect_error([&] { (void)open_images(source(folder / "absent")); }, ExitCode::io, {"absent"});
}

TEST(FolderImages, PngIsExactAndInTheOrderOfTheNames) {
  const TemporaryFolder folder;
  for (const auto* name : {"b.png", "a.PNG", "c.jpg.txt"}) {
    cv::Mat image(2, 3, CV_8UC3, cv::Scalar(name[0], 1, 2)); // blue tells the file
    image.at<cv::Vec3b>(1, 2) = {9, 8, 7};
    std::vector<std::uint8_t> bytes;
    cv::imencode(".png", image, bytes);
    write_bytes(folder / name, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }
  const auto reader = open_images(source(folder.path()));
  EXPECT_EQ(reader->kind(), ImageKind::folder);
  ASSERT_EQ(reader->size(), 2);
  EXPECT_FALSE(reader->has_labels());
  const auto batch = reader->read(0, 2);
  const std::vector<std::uint8_t> a = {2, 2, 2, 2, 2, 7, 1, 1, 1, 1, 1, 8, 'a', 'a', 'a', 'a', 'a', 9};
  EXPECT_EQ(std::vector<std::uint8_t>(batch.pixels.begin(), batch.pixels.begin() + 18), a); // red, green, blue planes
  EXPECT_EQ(batch.pixels[18 + 12], 'b');
}

TEST(FolderImages, GreyFoldersHaveOneChannel) {
  const TemporaryFolder folder;
  cv::imwrite((folder / "a.png").string(), cv::Mat(2, 2, CV_8UC1, cv::Scalar(17)));
  cv::imwrite((folder / "b.jpg").string(), cv::Mat(2, 2, CV_8UC1, cv::Scalar(200)));
  EXPECT_EQ(open_images(source(folder.path()))->channels(), 1);
  EXPECT_EQ(open_images(source(folder.path()))->read(0, 1).pixels, std::vector<std::uint8_t>(4, 17));
  cv::imwrite((folder / "c.png").string(), gradient(2, 2));
  const auto reader = open_images(source(folder.path())); // one coloured image makes all three-channelled
  EXPECT_EQ(reader->channels(), 3);
  EXPECT_EQ(reader->read(0, 1).pixels, std::vector<std::uint8_t>(12, 17));
}

TEST(FolderImages, ListsGiveOrderAndLabels) {
  const TemporaryFolder folder;
  fs::create_directory(folder / "sub");
  for (const auto* name : {"one.png", "sub/two.png", "with space.png"})
    cv::imwrite((folder / name).string(), cv::Mat(1, 1, CV_8UC3, cv::Scalar::all(name[0])));
  auto wanted = source(folder.path());
  wanted.list = folder / "list.txt";
  write_bytes(*wanted.list, "# name label\r\nwith space.png 3\r\n\nsub/two.png\t999\n  one.png 0");
  auto reader = open_images(wanted);
  ASSERT_EQ(reader->size(), 3);
  const auto batch = reader->read(0, 3);
  EXPECT_EQ(batch.labels, (std::vector<std::int32_t>{3, 999, 0}));
  EXPECT_EQ(batch.pixels, (std::vector<std::uint8_t>{'w', 'w', 'w', 's', 's', 's', 'o', 'o', 'o'}));
  EXPECT_NE(reader->name(1).find("two.png"), std::string::npos);

  write_bytes(*wanted.list, "one.png\nsub/two.png\n");
  EXPECT_FALSE(open_images(wanted)->has_labels());
  for (const auto* text : {"one.png 1\nsub/two.png\n", "one.png\nsub/two.png 2\n"}) {
    write_bytes(*wanted.list, text);
    expect_error([&] { (void)open_images(wanted); }, ExitCode::bad_data, {"line 2", "list.txt"});
  }
  write_bytes(*wanted.list, "#\n\n");
  expect_error([&] { (void)open_images(wanted); }, ExitCode::bad_data, {"list.txt", "no images"});
  write_bytes(*wanted.list, "one.png 1\nthree.png 2\n");
  reader = open_images(wanted);
  expect_error([&] { (void)reader->read(0, 2); }, ExitCode::io, {"three.png", "does not exist"});
  const auto rest = reader->read(0, 2, OnUnreadable::skip);
  EXPECT_EQ(rest.count, 1);
  EXPECT_EQ(rest.labels, (std::vector<std::int32_t>{1}));
  ASSERT_EQ(rest.unreadable.size(), 1u);
  EXPECT_EQ(rest.unreadable[0].number, 1);
}

/// Centre crop of the resized gradient: colour at a pixel's centre follows from its place in the original. JPEG,
/// rounding and the change of the gradient within one pixel stay below `tolerance` steps of 255.
void expect_gradient(const ImageReader& reader, std::int64_t number, double height, double width, int resize,
                     int crop) {
  const double tolerance = 6;
  const auto pixels = reader.read(number, 1).pixels;
  const double scale = resize / std::min(height, width);
  const double scaled_height = std::floor(height * scale), scaled_width = std::floor(width * scale);
  const double top = std::floor((scaled_height - crop) / 2), left = std::floor((scaled_width - crop) / 2);
  for (int y = 0; y < crop; y += crop - 1) {
    for (int x = 0; x < crop; x += crop - 1) {
      const auto at = static_cast<std::size_t>(y * crop + x);
      const auto plane = static_cast<std::size_t>(crop * crop);
      EXPECT_NEAR(pixels[at], 255.0 * (left + x + 0.5) / scaled_width, tolerance) << "red " << y << " " << x;
      EXPECT_NEAR(pixels[plane + at], 255.0 * (top + y + 0.5) / scaled_height, tolerance) << "green " << y << " " << x;
      EXPECT_NEAR(pixels[2 * plane + at], 40, tolerance) << "blue " << y << " " << x;
    }
  }
}

TEST(FolderImages, WideAndTallImagesAreResizedAndCropped) {
  const TemporaryFolder folder;
  const std::vector<int> best = {cv::IMWRITE_JPEG_QUALITY, 98};
  cv::imwrite((folder / "a_wide.jpg").string(), gradient(60, 151), best);
  cv::imwrite((folder / "b_tall.jpg").string(), gradient(181, 50), best);
  cv::imwrite((folder / "c_small.jpg").string(), gradient(20, 25), best); // grows
  auto wanted = source(folder.path());
  wanted.resize = 40;
  wanted.crop = 33;
  const auto reader = open_images(wanted);
  EXPECT_EQ(reader->height(), 33);
  EXPECT_EQ(reader->width(), 33);
  expect_gradient(*reader, 0, 60, 151, 40, 33);
  expect_gradient(*reader, 1, 181, 50, 40, 33);
  expect_gradient(*reader, 2, 20, 25, 40, 33);
  wanted.crop = 0; // three sizes
  expect_error([&] { (void)open_images(wanted)->read(0, 3); }, ExitCode::bad_data,
               {"b_tall.jpg", "set resize and crop"});
  wanted.crop = 41;
  const auto all_too_small = [&] { (void)open_images(wanted)->read(1, 1); };
  expect_error(all_too_small, ExitCode::bad_data, {"crop of 41"});
}

TEST(Sources, EveryKindIsResizedAndCropped) {
  const TemporaryFolder folder;
  write_bytes(folder / "images", idx_images(3, 6, 8));
  auto wanted = source(folder / "images");
  wanted.crop = 5; // top floor((6-5)/2) = 0, left floor((8-5)/2) = 1
  auto reader = open_images(wanted);
  const auto batch = reader->read(1, 2);
  for (std::int64_t i = 0; i < 2; ++i)
    for (std::int64_t y = 0; y < 5; ++y)
      for (std::int64_t x = 0; x < 5; ++x)
        EXPECT_EQ(batch.pixels[static_cast<std::size_t>(25 * i + 5 * y + x)], made_up_pixel(1 + i, 8 * y + x + 1));
  wanted.crop = 0;
  wanted.resize = 3; // half: the mean of four pixels, rounded
  reader = open_images(wanted);
  EXPECT_EQ(reader->height(), 3);
  EXPECT_EQ(reader->width(), 4);
  const auto half = reader->read(0, 1).pixels;
  for (std::int64_t y = 0; y < 3; ++y)
    for (std::int64_t x = 0; x < 4; ++x) {
      double mean = 0;
      for (const std::int64_t j : {16 * y + 2 * x, 16 * y + 2 * x + 1, 16 * y + 8 + 2 * x, 16 * y + 9 + 2 * x})
        mean += made_up_pixel(0, j) / 4.0;
      EXPECT_NEAR(half[static_cast<std::size_t>(4 * y + x)], mean, 0.5 + 1e-9);
    }
}

TEST(FolderImages, DamagedFilesAreNamedAndSkippedOnRequest) {
  const TemporaryFolder folder;
  for (const auto* name : {"a.png", "b.png", "c.jpg", "d.jpg", "e.png"})
    cv::imwrite((folder / name).string(), gradient(40, 40));
  auto flipped = read_file(folder / "b.png");
  flipped[flipped.size() / 2] ^= 4;
  write_bytes(folder / "b.png", flipped);
  const auto cut = read_file(folder / "c.jpg");
  write_bytes(folder / "c.jpg", std::string_view(cut).substr(0, cut.size() / 2));
  write_bytes(folder / "e.png", "GIF89a");
  const auto reader = open_images(source(folder.path()));
  for (const auto& [number, name] : std::vector<std::pair<int, std::string>>{{1, "b.png"}, {2, "c.jpg"}, {4, "e.png"}})
    expect_error([&] { (void)reader->read(number, 1); }, ExitCode::bad_data, {name});
  const auto batch = reader->read(0, 5, OnUnreadable::skip);
  EXPECT_EQ(batch.count, 2);
  ASSERT_EQ(batch.unreadable.size(), 3u);
  EXPECT_EQ(batch.unreadable[1].number, 2);
  EXPECT_NE(batch.unreadable[1].sentence.find("c.jpg"), std::string::npos);
}

TEST(FolderImages, EveryCutOfAnImageIsNoticed) {
  const TemporaryFolder folder;
  for (const std::string name : {"a.png", "a.jpg"}) {
    cv::imwrite((folder / name).string(), gradient(16, 16));
    const auto bytes = read_file(folder / name);
    for (std::size_t length = 0; length < bytes.size(); length += 7) {
      write_bytes(folder / name, std::string_view(bytes).substr(0, length));
      expect_error([&] { (void)open_images(source(folder.path())); }, ExitCode::bad_data, {name});
    }
    fs::remove(folder / name);
  }
}

TEST(FolderImages, ClaimsOfManyPixelsAreRefusedBeforeDecoding) {
  const TemporaryFolder folder;
  // A whole PNG whose header claims 2^20 x 2^20 pixels, with right checksums.
  std::string png = "\x89PNG\r\n\x1a\n";
  const auto chunk = [&](const std::string& type, const std::string& body) {
    append_big_endian(png, static_cast<std::uint32_t>(body.size()));
    png += type + body;
    const std::string summed = type + body;
    append_big_endian(png, static_cast<std::uint32_t>(crc32(0, reinterpret_cast<const Bytef*>(summed.data()),
                                                            static_cast<uInt>(summed.size()))));
  };
  std::string header;
  append_big_endian(header, 1 << 20);
  append_big_endian(header, 1 << 20);
  chunk("IHDR", header + std::string("\x08\x02\0\0\0", 5));
  chunk("IDAT", "x");
  chunk("IEND", "");
  write_bytes(folder / "bomb.png", png);
  expect_error([&] { (void)open_images(source(folder.path())); }, ExitCode::bad_data, {"bomb.png", "1048576"});
  fs::remove(folder / "bomb.png");
  // One pixel high and very wide: resizing the short side would blow it up.
  cv::imwrite((folder / "thin.png").string(), cv::Mat(1, 60'000, CV_8UC3));
  auto wanted = source(folder.path());
  wanted.resize = 256;
  wanted.crop = 224;
  expect_error([&] { (void)open_images(wanted)->read(0, 1); }, ExitCode::bad_data, {"thin.png", "too large"});
}

TEST(FolderImages, AnEmptyFolderIsNamed) {
  const TemporaryFolder folder;
  expect_error([&] { (void)open_images(source(folder.path())); }, ExitCode::bad_data, {folder.path().string()});
}

} // namespace
