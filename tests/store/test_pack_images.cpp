// Packing at any number of ranks: the same bytes, everything there, failures on all ranks alike.
#include "slr/store/packed_images.hpp"

#include "slr/mpi/agree.hpp"
#include "slr/store/hdf5.hpp"

#include "image_files.hpp"
#include "manual_checkpoints.hpp"
#include "shared_folder.hpp"

#include <gtest/gtest.h>

#include <opencv2/imgproc.hpp>

namespace {

using namespace slr;
using namespace slr::store;
using namespace slr::test;
namespace fs = std::filesystem;

class PackImages : public testing::Test {
protected:
  Communicator comm{MPI_COMM_WORLD};
  SharedFolder folder{comm};

  /// The root writes, all wait.
  template <class Action>
  void prepare(Action&& action) {
    on_root(comm, std::forward<Action>(action));
  }

  [[nodiscard]] ImageSource source(const std::string& name) const {
    ImageSource all;
    all.images = folder / name;
    return all;
  }

  /// Packs with the first `ranks` ranks; what the root then reads back, and the bytes, are for the caller.
  void pack_with(int ranks, const ImageSource& images, const fs::path& output, const PackOptions& options = {}) const {
    const auto part = comm.split(comm.rank() < ranks ? 0 : -1, comm.rank());
    if (comm.rank() < ranks) (void)pack_images(part, images, output, options);
    comm.barrier();
  }
};

TEST_F(PackImages, TheBytesDoNotDependOnTheRanks) {
  // 2,311 images of 32 x 32: three pieces of at most 1,024, more than one chunk, and a rest.
  prepare([&] {
    write_bytes(folder / "images", idx_images(2311, 32, 32));
    write_bytes(folder / "labels", idx_labels(2311));
  });
  auto images = source("images");
  images.labels = folder / "labels";
  std::string known;
  for (int ranks = 1; ranks <= comm.size(); ++ranks) {
    pack_with(ranks, images, folder / "packed.h5");
    const auto bytes = read_file(folder / "packed.h5");
    if (known.empty()) known = bytes;
    EXPECT_TRUE(bytes == known) << ranks << " ranks";
    comm.barrier();
  }
  const auto reader = open_images(source("packed.h5")); // on every rank
  EXPECT_EQ(reader->kind(), ImageKind::packed);
  EXPECT_EQ(reader->size(), 2311);
  EXPECT_EQ(reader->height(), 32);
  const auto got = reader->read(0, 2311), expected = open_images(images)->read(0, 2311);
  EXPECT_TRUE(got.pixels == expected.pixels);
  EXPECT_EQ(got.labels, expected.labels);
  EXPECT_EQ(Hdf5File::open(folder / "packed.h5").attribute_as<std::string>("/", "source"),
            "idx file images, labels labels, first 0, count all");
}

TEST_F(PackImages, ThePackedFormatIsTheDocumentedOne) {
  prepare([&] { write_bytes(folder / "batch.bin", cifar_records(3)); });
  const auto report = pack_images(comm, source("batch.bin"), folder / "packed.h5");
  EXPECT_EQ(report.count, 3);
  EXPECT_EQ(report.channels, 3);
  EXPECT_TRUE(report.has_labels);
  EXPECT_TRUE(report.skipped.empty());
  const auto file = Hdf5File::open(folder / "packed.h5");
  EXPECT_EQ(file.dataset("/images").info().dims, (Extent{3, 3, 32, 32}));
  EXPECT_EQ(file.dataset("/images").info().element_bytes, 1);
  EXPECT_EQ(file.dataset("/labels").read<std::int32_t>(), (std::vector<std::int32_t>{0, 1, 2}));
}

TEST_F(PackImages, UnreadableImagesStopOrAreLeftOut) {
  prepare([&] {
    fs::create_directory(folder / "set");
    std::string list;
    for (int i = 0; i < 40; ++i) {
      const std::string name = "image" + std::to_string(i) + ".png";
      if (i % 11 != 5) cv::imwrite((folder / "set" / name).string(), gradient(30 + i, 40));
      list += name + " " + std::to_string(i) + "\n";
    }
    write_bytes(folder / "list.txt", list);
    write_bytes(folder / "packed.h5", "as it was");
  });
  auto images = source("set");
  images.list = folder / "list.txt";
  images.resize = 24;
  images.crop = 24;
  expect_error([&] { (void)pack_images(comm, images, folder / "packed.h5"); }, ExitCode::io, {"image5.png"});
  EXPECT_EQ(read_file(folder / "packed.h5"), "as it was");
  comm.barrier();

  PackOptions options;
  options.on_unreadable = OnUnreadable::skip;
  std::int64_t last = 0;
  options.progress = [&](std::int64_t done, std::int64_t total) {
    EXPECT_EQ(total, 40);
    EXPECT_GT(done, last);
    last = done;
  };
  const auto report = pack_images(comm, images, folder / "packed.h5", options);
  EXPECT_EQ(last, comm.is_root() ? 40 : 0);
  EXPECT_EQ(report.count, 36);
  ASSERT_EQ(report.skipped.size(), 4u);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(report.skipped[i].number, 5 + 11 * std::int64_t(i));
    EXPECT_NE(report.skipped[i].sentence.find(std::to_string(5 + 11 * i) + ".png"), std::string::npos);
  }
  const auto labels = open_images(source("packed.h5"))->read(0, 36).labels;
  EXPECT_EQ(labels[5], 6);
  EXPECT_EQ(labels.back(), 39);
  const auto known = read_file(folder / "packed.h5");
  comm.barrier();
  options.progress = {};
  pack_with(1, images, folder / "packed.h5", options);
  EXPECT_TRUE(read_file(folder / "packed.h5") == known);
}

TEST_F(PackImages, GoesOnWhereItWasStopped) {
  prepare([&] { // many pieces of few images
    fs::create_directory(folder / "set");
    for (int i = 0; i < 30; ++i) {
      const auto name = "image" + std::to_string(10 + i) + ".png";
      if (i % 11 == 5)
        write_bytes(folder / "set" / name, "no image");
      else
        cv::imwrite((folder / "set" / name).string(), gradient(1100, 1200));
    }
  });
  PackOptions options;
  options.on_unreadable = OnUnreadable::skip;
  const auto images = source("set");
  const auto whole = pack_images(comm, images, folder / "whole.h5", options);
  options.parts = folder / "parts";
  for (const int looks : {0, 1, 3}) {
    for (int start = 0; start < 4; ++start) {
      const int ranks = start % 2 == 0 ? comm.size() : 1;
      const auto part = comm.split(comm.rank() < ranks ? 0 : 1, comm.rank());
      if (comm.rank() < ranks) {
        ManualCheckpoints checkpoints(part, folder);
        if (start < 3) checkpoints.stop_at = looks;
        options.checkpoints = &checkpoints;
        try {
          const auto report = pack_images(part, images, folder / "packed.h5", options);
          EXPECT_EQ(report.count, 27);
          ASSERT_EQ(report.skipped.size(), 3U);
          for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(report.skipped[i].number, 5 + 11 * std::int64_t(i));
        } catch (const Error& error) {
          EXPECT_EQ(error.code(), ExitCode::stopped) << error.what();
        }
      }
      comm.barrier();
    }
    EXPECT_TRUE(read_file(folder / "packed.h5") == read_file(folder / "whole.h5")) << looks;
    EXPECT_FALSE(fs::exists(folder / "parts"));
    comm.barrier();
    if (comm.is_root()) {
      fs::remove(folder / "packed.h5");
      fs::remove(paths_in(folder).current);
      fs::remove(paths_in(folder).previous);
    }
    comm.barrier();
  }
}

TEST_F(PackImages, FailuresReachEveryRank) {
  prepare([&] { write_bytes(folder / "batch.bin", cifar_records(5)); });
  expect_error([&] { (void)pack_images(comm, source("batch.bin"), folder / "no/such/packed.h5"); }, ExitCode::io,
               {"packed.h5"});
  expect_error([&] { (void)pack_images(comm, source("absent"), folder / "packed.h5"); }, ExitCode::io, {"absent"});
  PackOptions options;
  options.progress = [](std::int64_t, std::int64_t) { throw Error(ExitCode::stopped, "enough"); };
  expect_error([&] { (void)pack_images(comm, source("batch.bin"), folder / "packed.h5", options); }, ExitCode::stopped,
               {"enough"});
  auto none = source("batch.bin");
  none.count = 0;
  expect_error([&] { (void)pack_images(comm, none, folder / "packed.h5"); }, ExitCode::bad_data, {"no images"});
  EXPECT_FALSE(fs::exists(folder / ".packed.h5.part"));
}

TEST_F(PackImages, DamagedPackedFilesAreRefused) {
  prepare([&] {
    auto file = Hdf5File::create(folder / "float.h5");
    file.write<float>("/images", {1, 1, 2, 2}, std::vector<float>(4));
    file.commit();
    auto flat = Hdf5File::create(folder / "flat.h5");
    flat.write<std::uint8_t>("/images", {4, 4}, std::vector<std::uint8_t>(16));
    flat.commit();
    auto short_labels = Hdf5File::create(folder / "labels.h5");
    short_labels.write<std::uint8_t>("/images", {2, 1, 2, 2}, std::vector<std::uint8_t>(8));
    short_labels.write<std::int32_t>("/labels", {1}, std::vector<std::int32_t>(1));
    short_labels.commit();
    auto other = Hdf5File::create(folder / "other.h5");
    other.commit();
  });
  for (const auto& [name, word] :
       std::vector<std::pair<std::string, std::string>>{{"float.h5", "uint8"},
                                                        {"flat.h5", "uint8"},
                                                        {"labels.h5", "one integer per image"},
                                                        {"other.h5", "/images"}})
    expect_error([&, file = name] { (void)open_images(source(file)); }, ExitCode::bad_data, {name, word});
}

} // namespace
