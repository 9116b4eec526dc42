// Datasets, attributes and whole files: what is written is read, the bytes are reproducible, damage is noticed.
#include "slr/store/hdf5.hpp"

#include "store_test.hpp"

#include <gtest/gtest.h>
#include <hdf5.h>

#include <csignal>
#include <iostream>
#include <numeric>
#include <sys/resource.h>

namespace {

using namespace slr;
using namespace slr::store;
using slr::test::expect_error;
using slr::test::TemporaryFolder;
namespace fs = std::filesystem;

std::vector<float> ramp(std::size_t count) {
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), 0.5f);
  return values;
}

void write_sample_file(const fs::path& path) {
  auto file = Hdf5File::create(path);
  file.write<float>("/a/b/matrix", {7, 5}, ramp(35), 4 * 5 * 2); // chunks of two rows
  file.write<std::int64_t>("/numbers", {3}, std::vector<std::int64_t>{1, -2, 1LL << 40});
  file.write<double>("/empty", {0, 4}, {});
  file.set_attribute("/", "text", std::string("ein Gruß"));
  file.set_attribute("/a", "list", std::vector<std::int64_t>{3, 3});
  file.set_attribute("/a/b/matrix", "scale", 0.25);
  file.commit();
}

/// No file may grow beyond so many bytes, as on a full disk.
class LargestFile {
public:
  explicit LargestFile(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit now{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &now);
  }
  ~LargestFile() { setrlimit(RLIMIT_FSIZE, &before_); }
  LargestFile(const LargestFile&) = delete;
  LargestFile& operator=(const LargestFile&) = delete;

private:
  rlimit before_{};
};

/// Writes that fail for want of room leave nothing behind; then HDF5 ends, as it does in MPI_Finalize. (The end of a
/// file on a full disk needs a disk: tests/jobs/survive.py.)
[[noreturn]] void give_up_files(const fs::path& folder) {
  std::signal(SIGXFSZ, SIG_IGN);
  const auto fails = [&](rlim_t bytes, const auto& action) {
    const LargestFile limit(bytes);
    try {
      action();
      std::cerr << "no error with room for " << bytes << " bytes\n";
      std::_Exit(1);
    } catch (const Error& error) {
      if (error.code() != ExitCode::io) throw;
    }
  };
  fails(0, [&] { (void)Hdf5File::create(folder / "f.h5"); });
  for (const rlim_t bytes : {100, 1000000}) {
    auto file = Hdf5File::create(folder / "f.h5");
    fails(bytes, [&] { file.write<float>("/a/large", {1000, 2000}, ramp(2000000), 8000 * 100); });
  }
  const bool is_clean = fs::is_empty(folder);
  write_sample_file(folder / "f.h5");
  const auto found = Hdf5File::open(folder / "f.h5").children("/").size();
  if (!is_clean || found != 3) std::cerr << "clean: " << is_clean << ", objects: " << found << "\n";
  (void)H5close();
  std::_Exit(is_clean && found == 3 ? 0 : 1);
}

TEST(Hdf5DeathTest, FilesThatDoNotFitAreGivenUp) {
  const TemporaryFolder folder;
  EXPECT_EXIT(give_up_files((folder / "f.h5").parent_path()), ::testing::ExitedWithCode(0), "");
}

TEST(Hdf5, WhatIsWrittenIsRead) {
  const TemporaryFolder folder;
  write_sample_file(folder / "f.h5");
  const auto file = Hdf5File::open(folder / "f.h5");
  const auto matrix = file.dataset("/a/b/matrix");
  EXPECT_EQ(matrix.info().dims, (Extent{7, 5}));
  EXPECT_EQ(matrix.info().chunk_rows, 2);
  EXPECT_EQ(matrix.read<float>(), ramp(35));
  EXPECT_EQ(matrix.read<double>()[34], 34.5);
  std::vector<float> rows(15);
  matrix.read_rows<float>(3, 3, rows);
  EXPECT_EQ(rows.front(), 15.5f);
  EXPECT_EQ(rows.back(), 29.5f);
  EXPECT_EQ(file.dataset("/numbers").read<std::int64_t>().back(), 1LL << 40);
  EXPECT_TRUE(file.dataset("/empty").read<double>().empty());
  EXPECT_EQ(file.attribute_as<std::string>("/", "text"), "ein Gruß");
  EXPECT_EQ(file.attribute_as<std::vector<std::int64_t>>("/a", "list"), (std::vector<std::int64_t>{3, 3}));
  EXPECT_EQ(file.attribute_as<double>("/a/b/matrix", "scale"), 0.25);
  EXPECT_FALSE(file.attribute("/", "absent"));
  EXPECT_EQ(file.attributes("/a/b/matrix").size(), 1u);
  EXPECT_EQ(file.children("/"), (std::vector<std::string>{"a", "empty", "numbers"}));
  EXPECT_TRUE(file.is_group("/a/b"));
  EXPECT_TRUE(file.is_dataset("/a/b/matrix"));
  EXPECT_FALSE(file.exists("/a/x/matrix"));
}

TEST(Hdf5, KindsThatDoNotFitAreRefused) {
  const TemporaryFolder folder;
  write_sample_file(folder / "f.h5");
  const auto file = Hdf5File::open(folder / "f.h5");
  // 64-bit integers would be clamped to 32 bits, floats truncated to integers, integers read as floats.
  expect_error([&] { (void)file.dataset("/numbers").read<std::int32_t>(); }, ExitCode::bad_data, {"/numbers", "f.h5"});
  expect_error([&] { (void)file.dataset("/numbers").read<float>(); }, ExitCode::bad_data, {"/numbers"});
  expect_error([&] { (void)file.dataset("/a/b/matrix").read<std::int64_t>(); }, ExitCode::bad_data, {"/a/b/matrix"});
  expect_error([&] { (void)file.dataset("/a/b"); }, ExitCode::bad_data, {"no dataset /a/b"});
  expect_error([&] { (void)file.attribute_as<std::int64_t>("/", "text"); }, ExitCode::bad_data, {"text", "f.h5"});
}

TEST(Hdf5, SameCallsGiveTheSameBytes) {
  const TemporaryFolder folder;
  write_sample_file(folder / "one.h5");
  write_sample_file(folder / "two.h5");
  EXPECT_EQ(read_file(folder / "one.h5"), read_file(folder / "two.h5"));
}

TEST(Hdf5, RowsAppendedInAnyPiecesGiveTheSameBytes) {
  const TemporaryFolder folder;
  constexpr std::size_t width = 3, rows = 101;
  const auto values = ramp(rows * width);
  std::string known;
  for (const std::size_t piece : {1u, 2u, 7u, 16u, 17u, 100u, 101u}) {
    auto file = Hdf5File::create(folder / "f.h5");
    RowAppender<float> appender(file, "/g/rows", {width}, 16 * width * sizeof(float)); // chunks of 16 rows
    for (std::size_t at = 0; at < rows; at += piece)
      appender.append(std::span(values).subspan(at * width, std::min(piece, rows - at) * width));
    appender.finish();
    file.commit();
    const auto bytes = read_file(folder / "f.h5");
    if (known.empty()) known = bytes;
    EXPECT_EQ(bytes, known) << piece;
    EXPECT_EQ(Hdf5File::open(folder / "f.h5").dataset("/g/rows").read<float>(), values) << piece;
  }
}

/// HDF5 reads with its own checksum what was written with ours: lengths about the blocks of the sum, odd ones, in odd
/// pieces, and bytes whose sums are multiples of 65535.
TEST(Hdf5, ChecksumsAreThoseOfHdf5) {
  const TemporaryFolder folder;
  for (const std::size_t size : {1U, 2U, 3U, 31U, 8191U, 8192U, 8193U, 16383U, 16384U, 40001U})
    for (const int kind : {0, 1, 2, 3}) {
      std::vector<std::uint8_t> values(size, kind == 1 ? 0xff : 0);
      if (kind == 2) values.back() = 1;
      for (std::size_t i = 0; kind == 3 && i < size; ++i) values[i] = static_cast<std::uint8_t>(i * i * 31 + i / 7);
      for (const std::size_t piece : {std::size_t(33), std::size_t(8191), size}) {
        auto file = Hdf5File::create(folder / "f.h5");
        RowAppender<std::uint8_t> appender(file, "/bytes", {}, 16384);
        for (std::size_t at = 0; at < size; at += piece)
          appender.append(std::span(values).subspan(at, std::min(piece, size - at)));
        appender.finish();
        file.commit();
        EXPECT_EQ(Hdf5File::open(folder / "f.h5").dataset("/bytes").read<std::uint8_t>(), values)
            << size << " " << kind << " " << piece;
      }
    }
}

TEST(Hdf5, AnAppendedDatasetMayBeEmpty) {
  const TemporaryFolder folder;
  auto file = Hdf5File::create(folder / "f.h5");
  RowAppender<std::int64_t> appender(file, "/sample", {});
  appender.finish();
  file.commit();
  EXPECT_TRUE(Hdf5File::open(folder / "f.h5").dataset("/sample").read<std::int64_t>().empty());
}

TEST(Hdf5, WithoutCommitNothingIsLeft) {
  const TemporaryFolder folder;
  { write_sample_file(folder / "f.h5"); }
  const auto before = read_file(folder / "f.h5");
  {
    auto file = Hdf5File::create(folder / "f.h5");
    file.write<float>("/x", {2}, ramp(2));
  }
  EXPECT_EQ(read_file(folder / "f.h5"), before);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 1);
  expect_error([&] { (void)Hdf5File::create(folder / "no/such/f.h5"); }, ExitCode::io, {"no/such/f.h5"});
}

TEST(Hdf5, WhatIsNotHdf5IsNamed) {
  const TemporaryFolder folder;
  slr::test::write_bytes(folder / "text", "images: yes");
  expect_error([&] { (void)Hdf5File::open(folder / "text"); }, ExitCode::bad_data, {"text", "not an HDF5 file"});
  expect_error([&] { (void)Hdf5File::open(folder / "absent"); }, ExitCode::io, {"absent"});
  expect_error([&] { (void)Hdf5File::open(folder.path()); }, ExitCode::io, {folder.path().string()});
}

TEST(Hdf5, TruncatedFilesAreRefused) {
  const TemporaryFolder folder;
  write_sample_file(folder / "f.h5");
  const auto bytes = read_file(folder / "f.h5");
  for (std::size_t length = 0; length < bytes.size(); length += bytes.size() / 23) {
    slr::test::write_bytes(folder / "cut.h5", std::string_view(bytes).substr(0, length));
    expect_error([&] { (void)Hdf5File::open(folder / "cut.h5"); }, ExitCode::bad_data, {"cut.h5"});
  }
}

/// Everything below an object, as text; what a damaged file hides is missing in it.
std::string content(const Hdf5File& file, const std::string& object) {
  std::string text = object + " ";
  for (const auto& [name, value] : file.attributes(object)) {
    text += name + "=";
    std::visit(
        [&](const auto& x) {
          if constexpr (std::is_arithmetic_v<std::decay_t<decltype(x)>>)
            text += std::to_string(x);
          else if constexpr (std::is_same_v<std::decay_t<decltype(x)>, std::string>)
            text += x;
          else
            for (const auto y : x) text += std::to_string(y) + " ";
        },
        value);
  }
  if (file.is_group(object)) {
    for (const auto& name : file.children(object)) text += content(file, (object == "/" ? "" : object) + "/" + name);
  } else if (file.is_dataset(object)) {
    const auto dataset = file.dataset(object);
    for (const auto extent : dataset.info().dims) text += std::to_string(extent) + " ";
    if (dataset.info().element_class == ElementClass::integer)
      for (const auto x : dataset.read<std::int64_t>()) text += std::to_string(x) + " ";
    else
      for (const auto x : dataset.read<double>()) text += std::to_string(x) + " ";
  }
  return text;
}

TEST(Hdf5, AFlippedBitIsNoticedOrDoesNotMatter) {
  const TemporaryFolder folder;
  {
    auto file = Hdf5File::create(folder / "f.h5");
    file.write<float>("/a/b/matrix", {5, 3}, ramp(15), 3 * 4 * 2); // three chunks
    file.write<std::int64_t>("/a/numbers", {3}, std::vector<std::int64_t>{1, -2, 1LL << 40});
    RowAppender<double> appender(file, "/rows", {2}, 2 * 8 * 3);
    appender.append(std::vector<double>(14, 0.5));
    appender.finish();
    file.set_attribute("/", "text", std::string("ein Gruß"));
    for (const auto* name : {"1", "2", "3", "4", "5", "6", "7", "8", "9"}) // more than HDF5 keeps in the header
      file.set_attribute("/a", name, std::int64_t(*name));
    file.commit();
  }
  const auto bytes = read_file(folder / "f.h5");
  const auto known = content(Hdf5File::open(folder / "f.h5"), "/");
  EXPECT_NE(known.find("ein Gruß"), std::string::npos);
  EXPECT_NE(known.find("1099511627776"), std::string::npos);
  int noticed = 0;
  for (std::size_t bit = 0; bit < 8 * bytes.size(); bit += 97) {
    auto damaged = bytes;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    slr::test::write_bytes(folder / "damaged.h5", damaged);
    try {
      EXPECT_EQ(content(Hdf5File::open(folder / "damaged.h5"), "/"), known) << "bit " << bit;
    } catch (const Error& error) {
      ++noticed;
      EXPECT_NE(std::string(error.what()).find("damaged.h5"), std::string::npos) << error.what();
      EXPECT_EQ(error.code(), ExitCode::bad_data) << "bit " << bit << ": " << error.what();
    }
  }
  EXPECT_GT(noticed, 100);
}

/// Writes as another program would, with HDF5's own calls.
void write_foreign(const fs::path& path, hsize_t rows, bool has_data, bool is_compressed) {
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  const hid_t space = H5Screate_simple(1, &rows, nullptr);
  const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
  const hsize_t chunk = 1000;
  if (is_compressed) {
    H5Pset_chunk(properties, 1, &chunk);
    H5Pset_deflate(properties, 9);
  }
  const hid_t dataset = H5Dcreate2(file, "x", H5T_IEEE_F64LE, space, H5P_DEFAULT, properties, H5P_DEFAULT);
  if (has_data) {
    const std::vector<double> values(rows, 1.0);
    H5Dwrite(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
  }
  H5Dclose(dataset);
  H5Pclose(properties);
  H5Sclose(space);
  H5Fclose(file);
}

TEST(Hdf5, ClaimsBeyondTheStoredBytesAreRefused) {
  const TemporaryFolder folder;
  const auto file = folder / "f.h5";
  constexpr hsize_t huge = hsize_t(1) << 55;
  write_foreign(file, 1000, true, false);
  EXPECT_EQ(Hdf5File::open(file).dataset("/x").read<float>(), std::vector<float>(1000, 1.0f));
  write_foreign(file, 100'000, true, true); // 800 kB of ones in a few hundred bytes
  EXPECT_EQ(Hdf5File::open(file).dataset("/x").read<double>().size(), 100'000u);
  write_foreign(file, huge, false, false);
  expect_error([&] { (void)Hdf5File::open(file).dataset("/x"); }, ExitCode::bad_data, {"/x", "f.h5"});
  write_foreign(file, huge, false, true);
  expect_error([&] { (void)Hdf5File::open(file).dataset("/x"); }, ExitCode::bad_data, {"/x", "f.h5"});
}

TEST(Hdf5, VariableLengthTextsAreUnderstood) {
  const TemporaryFolder folder;
  const hid_t file = H5Fcreate((folder / "f.h5").c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  const hid_t space = H5Screate(H5S_SCALAR), type = H5Tcopy(H5T_C_S1);
  H5Tset_size(type, H5T_VARIABLE);
  H5Tset_cset(type, H5T_CSET_UTF8);
  const hid_t attribute = H5Acreate2(file, "note", type, space, H5P_DEFAULT, H5P_DEFAULT);
  const char* text = "from h5py: ß";
  H5Awrite(attribute, type, &text);
  H5Aclose(attribute);
  H5Tclose(type);
  H5Sclose(space);
  H5Fclose(file);
  EXPECT_EQ(Hdf5File::open(folder / "f.h5").attribute_as<std::string>("/", "note"), "from h5py: ß");
}

} // namespace
