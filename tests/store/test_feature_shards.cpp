// Feature shards: any number of writers, any number of readers, and everything that can be wrong with a set of files.
#include "slr/store/feature_set.hpp"

#include "slr/base/hash.hpp"
#include "slr/mpi/agree.hpp"

#include "shared_folder.hpp"

#include <gtest/gtest.h>
#include <hdf5.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace {

using namespace slr;
using namespace slr::store;
using namespace slr::test;
namespace fs = std::filesystem;

constexpr std::int64_t positions = 3;

FeatureLayer convolution() {
  return {"block/1%conv", 6, 4, positions, {3, 3}, {1, 2}, {1, 1, 1, 1}, {1, 1}, "clip", {0, 6}};
}

/// The value in column j of a quantity for a sample: exact in float, different everywhere.
float value_of(Quantity quantity, std::int64_t sample, std::int64_t j) {
  return static_cast<float>(1000 * sample + 100 * static_cast<int>(quantity) + j);
}

std::vector<float> rows_of(Quantity quantity, std::span<const std::int64_t> samples, std::int64_t width) {
  std::vector<float> rows;
  for (const auto sample : samples)
    for (std::int64_t j = 0; j < width; ++j) rows.push_back(value_of(quantity, sample, j));
  return rows;
}

/// Samples of the images that writer `index` of `count` has; the last writer has none.
std::vector<std::int64_t> samples_of(std::int64_t images, std::int64_t index, std::int64_t count) {
  const std::int64_t workers = std::max<std::int64_t>(1, count - 1);
  std::vector<std::int64_t> samples;
  if (index >= workers) return samples;
  for (std::int64_t image = images * index / workers; image < images * (index + 1) / workers; ++image)
    for (std::int64_t p = 0; p < positions; ++p) samples.push_back(image * positions + p);
  return samples;
}

ShardHeader header_of(std::int64_t index, std::int64_t count) {
  return {sha256("model"), sha256("config"), index, count};
}

std::vector<std::int64_t> numbers_to(std::int64_t end) {
  std::vector<std::int64_t> all;
  for (std::int64_t i = 0; i < end; ++i) all.push_back(i);
  return all;
}

/// One shard of X0 and Y, written in uneven pieces.
void write_shard(const fs::path& folder, std::int64_t images, std::int64_t index, std::int64_t count) {
  const auto layer = convolution();
  ShardWriter writer(shard_file(folder, index, count), header_of(index, count));
  writer.begin_layer(layer);
  for (const auto quantity : {Quantity::original_inputs, Quantity::outputs}) writer.append(layer.name, quantity, {});
  const auto samples = samples_of(images, index, count);
  for (std::size_t at = 0; at < samples.size(); at += 5) {
    const auto piece = std::span(samples).subspan(at, std::min<std::size_t>(5, samples.size() - at));
    writer.append(layer.name, Quantity::original_inputs, rows_of(Quantity::original_inputs, piece, layer.inputs));
    writer.append(layer.name, Quantity::outputs, rows_of(Quantity::outputs, piece, layer.outputs));
    writer.append_samples(layer.name, piece);
  }
  writer.commit();
}

/// One shard of the compressed inputs of a layer.
void write_inputs(const fs::path& folder, std::int64_t images, std::int64_t index, std::int64_t count) {
  auto layer = convolution();
  ShardWriter writer(shard_file(inputs_folder(folder, layer.name), index, count), header_of(index, count));
  writer.begin_layer(layer);
  const auto samples = samples_of(images, index, count);
  writer.append(layer.name, Quantity::inputs, rows_of(Quantity::inputs, samples, layer.inputs));
  writer.append_samples(layer.name, samples);
  writer.commit();
}

class FeatureShards : public testing::Test {
protected:
  Communicator comm{MPI_COMM_WORLD};
  SharedFolder folder{comm};

  void write_all(const std::string& name, std::int64_t images, std::int64_t count) const {
    on_root(comm, [&] {
      for (std::int64_t i = 0; i < count; ++i) write_shard(folder / name, images, i, count);
    });
  }
  [[nodiscard]] FeatureSet open(const std::string& name) const {
    return FeatureSet::open(comm, (folder / name).string());
  }
  /// Expects the opening to fail with these words after the root did something to the set of three shards.
  template <class Action>
  void expect_refused(Action&& action, const std::vector<std::string>& words) const {
    on_root(comm, [&] { fs::remove_all(folder / "set"); });
    write_all("set", 8, 3);
    on_root(comm, std::forward<Action>(action));
    expect_error([&] { (void)open("set"); }, ExitCode::bad_data, words);
    comm.barrier();
  }
};

TEST_F(FeatureShards, WrittenByAnyNumberReadByAnyOther) {
  constexpr std::int64_t images = 23;
  const auto layer = convolution();
  for (int writers = 1; writers <= comm.size(); ++writers) {
    const std::string name = "by" + std::to_string(writers);
    collectively(comm, [&] {
      if (comm.rank() < writers) write_shard(folder / name, images, comm.rank(), writers);
    });
    // The compressed inputs come later and from another number of ranks.
    const int input_writers = comm.size() - writers + 1;
    collectively(comm, [&] {
      if (comm.rank() < input_writers) write_inputs(folder / name, images, comm.rank(), input_writers);
    });
    for (int readers = 1; readers <= comm.size(); ++readers) {
      const auto part = comm.split(comm.rank() < readers ? 0 : 1, comm.rank());
      const auto features = FeatureSet::open(part, (folder / name).string());
      ASSERT_EQ(features.layers(), std::vector{layer});
      EXPECT_EQ(features.model_sha256(), sha256("model"));
      const auto samples = features.samples(layer.name);
      ASSERT_EQ(std::vector(samples.begin(), samples.end()), numbers_to(images * positions));
      // This reader's contiguous share, and every other sample backwards.
      const auto total = std::ssize(samples);
      const auto first = total * part.rank() / part.size(), end = total * (part.rank() + 1) / part.size();
      std::vector<std::int64_t> some;
      for (auto i = total - 1 - part.rank() % 2; i >= 0; i -= 2) some.push_back(i);
      for (const auto quantity : {Quantity::original_inputs, Quantity::inputs, Quantity::outputs}) {
        const auto width = quantity == Quantity::outputs ? layer.outputs : layer.inputs;
        EXPECT_EQ(features.read(layer.name, quantity, first, end - first),
                  rows_of(quantity,
                          samples.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(end - first)),
                          width));
        EXPECT_EQ(features.read(layer.name, quantity, some), rows_of(quantity, some, width));
      }
    }
    comm.barrier();
  }
}

TEST_F(FeatureShards, RowsOfManyChunksAreReadInPieces) {
  // Rows of 40 kB: 26 per chunk.
  constexpr std::int64_t width = 10'000, rows = 70;
  FeatureLayer layer{"fc", width, 2, 1, {}, {}, {}, {}, "identity", {}};
  on_root(comm, [&] {
    ShardWriter writer(shard_file(folder / "set", 0, 1), header_of(0, 1));
    writer.begin_layer(layer);
    const auto samples = numbers_to(rows);
    writer.append("fc", Quantity::original_inputs, rows_of(Quantity::original_inputs, samples, width));
    writer.append("fc", Quantity::outputs, rows_of(Quantity::outputs, samples, 2));
    writer.append_samples("fc", samples);
    writer.link_inputs("fc");
    writer.commit();
    EXPECT_EQ(writer.sha256(), sha256_of_file(shard_file(folder / "set", 0, 1)));
  });
  const auto features = open("set");
  for (const auto& some : std::vector<std::vector<std::int64_t>>{{0, 69}, {25, 26, 27, 60}, {68, 3, 30}, {}})
    EXPECT_TRUE(features.read("fc", Quantity::original_inputs, some) ==
                rows_of(Quantity::original_inputs, some, width));
  // X is a second name of X0.
  EXPECT_TRUE(features.read("fc", Quantity::inputs, 5, 1) == features.read("fc", Quantity::original_inputs, 5, 1));
  const ShardReader shard(shard_file(folder / "set", 0, 1));
  const auto numbers = numbers_to(rows);
  EXPECT_TRUE(shard.read("fc", Quantity::outputs, 20, 40) ==
              rows_of(Quantity::outputs, std::span(numbers).subspan(20, 40), 2));
  // Announced are whole chunks with their checksums; what is missing is passed over.
  const auto file = Hdf5File::open(shard_file(folder / "set", 0, 1));
  const auto x = file.dataset(shard.layer("fc").group + "/X0");
  const auto chunk = x.info().chunk_rows * width * std::int64_t(sizeof(float)) + 4;
  EXPECT_EQ(x.announce_rows(0, 0), 0);
  EXPECT_EQ(x.announce_rows(0, 1), chunk);
  EXPECT_EQ(x.announce_rows(x.info().chunk_rows - 1, 2), 2 * chunk);
  EXPECT_EQ(x.announce_rows(0, rows), (rows + x.info().chunk_rows - 1) / x.info().chunk_rows * chunk);
  features.announce("fc", Quantity::original_inputs, 3, 60);
  features.announce("fc", Quantity::outputs, 0, 0);
}

TEST_F(FeatureShards, LayerNamesSurvive) {
  for (const std::string name : {"conv1", "a/b/c", "100%", "%2F", "a%25/b", ".", "..", "x:0 [ß]"}) {
    EXPECT_EQ(unescape_name(escape_name(name)), name);
    EXPECT_EQ(escape_name(name).find('/'), std::string::npos);
  }
  EXPECT_NE(escape_name("a/b"), escape_name("a%2Fb"));
  EXPECT_LT(inputs_folder("f", std::string(1000, 'x')).filename().string().size(), 255u);
}

TEST_F(FeatureShards, QuestionsAboutWhatIsNotThere) {
  write_all("set", 4, 2);
  const auto features = open("set");
  EXPECT_TRUE(features.has("block/1%conv", Quantity::outputs));
  EXPECT_FALSE(features.has("block/1%conv", Quantity::inputs));
  EXPECT_FALSE(features.has("conv", Quantity::outputs));
  expect_error([&] { (void)features.layer("block/1%con"); }, ExitCode::bad_data, {"did you mean block/1%conv"});
  expect_error([&] { (void)features.read("block/1%conv", Quantity::inputs, 0, 1); }, ExitCode::bad_data, {"no X"});
  const std::vector<std::int64_t> absent = {3, 12};
  expect_error([&] { (void)features.read("block/1%conv", Quantity::outputs, absent); }, ExitCode::bad_data,
               {"no sample 12"});
  expect_error([&] { (void)open("nothing"); }, ExitCode::bad_data, {"no feature shards"});
}

TEST_F(FeatureShards, IncompleteOrMixedSetsAreRefused) {
  const auto shard = [&](std::int64_t i) { return shard_file(folder / "set", i, 3); };
  expect_refused([&] { fs::remove(shard(1)); }, {"shard 1 of 3 is missing", "set"});
  expect_refused([&] { fs::copy_file(shard(0), shard_file(folder / "set", 2, 4)); }, {"both shard 0"});
  expect_refused([&] { write_shard(folder / "set", 8, 3, 4); }, {"different numbers of shards"});
  expect_refused(
      [&] {
        write_shard(folder / "set" / "other", 8, 0, 3);
        fs::rename(shard_file(folder / "set" / "other", 0, 3), shard(1));
      },
      {"both shard 0"});
  expect_refused(
      [&] {
        auto header = header_of(2, 3);
        header.model_sha256 = sha256("another");
        ShardWriter writer(shard(2), header);
        writer.begin_layer(convolution());
        writer.append(convolution().name, Quantity::outputs, {});
        writer.commit();
      },
      {"different networks"});
  expect_refused(
      [&] { // the same images twice
        const auto layer = convolution();
        const auto samples = samples_of(8, 0, 3);
        ShardWriter writer(shard(2), header_of(2, 3));
        writer.begin_layer(layer);
        for (const auto quantity : {Quantity::original_inputs, Quantity::outputs})
          writer.append(layer.name, quantity,
                        rows_of(quantity, samples, quantity == Quantity::outputs ? layer.outputs : layer.inputs));
        writer.append_samples(layer.name, samples);
        writer.commit();
      },
      {"sample 0", "both in"});
  expect_refused(
      [&] { // another width
        auto layer = convolution();
        layer.inputs = 7;
        ShardWriter writer(shard(2), header_of(2, 3));
        writer.begin_layer(layer);
        for (const auto quantity : {Quantity::original_inputs, Quantity::outputs})
          writer.append(layer.name, quantity, {});
        writer.commit();
      },
      {"other sizes or attributes", "block/1%conv"});
  expect_refused(
      [&] {
        ShardWriter writer(shard(2), header_of(2, 3));
        writer.commit();
      },
      {"same layers"});
  expect_refused([&] { write_inputs(folder / "set", 7, 0, 1); }, {"X of layer block/1%conv", "samples that are not"});
}

TEST_F(FeatureShards, DamageIsNoticed) {
  const auto shard = shard_file(folder / "set", 0, 3);
  expect_refused([&] { fs::resize_file(shard, fs::file_size(shard) / 2); }, {shard.string()});
  expect_refused([&] { fs::resize_file(shard, 0); }, {shard.string()});
  // A flipped bit in the data: opening does not read them, reading does.
  on_root(comm, [&] { fs::remove_all(folder / "set"); });
  write_all("set", 8, 3);
  on_root(comm, [&] {
    auto bytes = read_file(shard);
    const float known = value_of(Quantity::outputs, 1, 2);
    const auto at = bytes.find(std::string_view(reinterpret_cast<const char*>(&known), sizeof known));
    ASSERT_NE(at, std::string::npos);
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
    write_bytes(shard, bytes);
  });
  const auto features = open("set");
  expect_error([&] { (void)features.read("block/1%conv", Quantity::outputs, 0, 4); }, ExitCode::bad_data,
               {"shard-00000-of-00003.h5", "/Y", "Fletcher32"});
}

TEST_F(FeatureShards, ValuesThatAreNotFiniteAreNamed) {
  on_root(comm, [&] {
    const auto layer = convolution();
    ShardWriter writer(shard_file(folder / "set", 0, 1), header_of(0, 1));
    writer.begin_layer(layer);
    const std::vector<std::int64_t> samples = {20, 10, 30};
    auto inputs = rows_of(Quantity::original_inputs, samples, layer.inputs);
    auto outputs = rows_of(Quantity::outputs, samples, layer.outputs);
    inputs[8] = std::numeric_limits<float>::quiet_NaN(); // sample 10
    outputs[3] = -std::numeric_limits<float>::infinity();
    writer.append(layer.name, Quantity::original_inputs, inputs);
    writer.append(layer.name, Quantity::outputs, outputs);
    writer.append_samples(layer.name, samples);
    writer.commit();
  });
  const auto features = open("set");
  const std::string name = "block/1%conv";
  EXPECT_EQ(features.read(name, Quantity::original_inputs, 1, 2).size(), 12u); // the good ones
  expect_error([&] { (void)features.read(name, Quantity::original_inputs, 0, 3); }, ExitCode::numerical,
               {"X0", "sample 10", name, "shard-00000-of-00001.h5", "not finite"});
  expect_error([&] { (void)features.read(name, Quantity::outputs, 1, 1); }, ExitCode::numerical, {"Y", "sample 20"});
}

/// A float64 matrix as numpy and h5py would leave it, contiguous and without attributes.
void write_foreign(const fs::path& file, const std::string& group, const std::vector<const char*>& datasets,
                   hsize_t rows, hsize_t cols, double start) {
  const hid_t handle = fs::exists(file) ? H5Fopen(file.c_str(), H5F_ACC_RDWR, H5P_DEFAULT)
                                        : H5Fcreate(file.c_str(), H5F_ACC_EXCL, H5P_DEFAULT, H5P_DEFAULT);
  const hid_t links = H5Pcreate(H5P_LINK_CREATE);
  H5Pset_create_intermediate_group(links, 1);
  const hsize_t dims[2] = {rows, cols};
  const hid_t space = H5Screate_simple(2, dims, nullptr);
  std::vector<double> values(rows * cols);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = start + static_cast<double>(i);
  for (const auto* name : datasets) {
    const hid_t dataset =
        H5Dcreate2(handle, (group + "/" + name).c_str(), H5T_IEEE_F64LE, space, links, H5P_DEFAULT, H5P_DEFAULT);
    H5Dwrite(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
    H5Dclose(dataset);
  }
  H5Sclose(space);
  H5Pclose(links);
  H5Fclose(handle);
}

TEST_F(FeatureShards, FilesOfOtherProgramsAreUnderstood) {
  on_root(comm, [&] {
    fs::create_directory(folder / "own");
    for (const auto& [name, rows, start] : {std::tuple{"b.h5", 3, 12.0}, std::tuple{"a.h5", 4, 0.0}}) {
      write_foreign(folder / "own" / name, "/fc6", {"X"}, static_cast<hsize_t>(rows), 3, start);
      write_foreign(folder / "own" / name, "/fc6", {"Y"}, static_cast<hsize_t>(rows), 2, 0);
      write_foreign(folder / "own" / name, "/features/conv", {"X0", "Y"}, static_cast<hsize_t>(rows), 1, 0);
    }
  });
  for (const std::string place : {"own", "own/*.h5", "own/?.h5"}) {
    const auto features = open(place);
    ASSERT_EQ(features.layers().size(), 2u);
    EXPECT_EQ(features.layers()[1].name, "features/conv");
    EXPECT_EQ(features.layer("fc6").inputs, 3);
    EXPECT_EQ(features.layer("fc6").outputs, 2);
    EXPECT_EQ(features.samples("fc6").size(), 7u);
    EXPECT_TRUE(features.model_sha256().empty());
    std::vector<float> expected;
    for (int i = 0; i < 21; ++i) expected.push_back(static_cast<float>(i)); // a.h5 comes first
    EXPECT_EQ(features.read("fc6", Quantity::inputs, 0, 7), expected);
    EXPECT_FALSE(features.has("fc6", Quantity::original_inputs));
  }
  EXPECT_EQ(open("own/b.h5").samples("fc6").size(), 3u);
  comm.barrier();
  on_root(comm, [&] { write_foreign(folder / "own" / "c.h5", "/fc6", {"X", "Y"}, 2, 4, 0); });
  expect_error([&] { (void)open("own"); }, ExitCode::bad_data, {"fc6", "c.h5"});
  comm.barrier();
  on_root(comm, [&] {
    fs::remove(folder / "own" / "c.h5");
    write_foreign(folder / "own" / "c.h5", "/fc6", {"X"}, 2, 3, 0);
    write_foreign(folder / "own" / "c.h5", "/fc6", {"Y"}, 3, 2, 0);
  });
  expect_error([&] { (void)open("own"); }, ExitCode::bad_data, {"number of samples differs", "fc6", "c.h5"});
}

TEST_F(FeatureShards, TheVirtualFileShowsAllInSampleOrder) {
  constexpr std::int64_t images = 9;
  write_all("run/features", images, 4);
  on_root(comm, [&] {
    for (std::int64_t i = 0; i < 2; ++i) write_inputs(folder / "run/features", images, i, 2);
  });
  const auto features = open("run/features");
  on_root(comm, [&] {
    write_virtual_features(features, folder / "run" / "features.h5");
    fs::rename(folder / "run", folder / "moved"); // the paths in it are relative
    const auto file = Hdf5File::open(folder / "moved" / "features.h5");
    const auto layer = convolution();
    const std::string group = "/" + escape_name(layer.name);
    const auto samples = numbers_to(images * positions);
    EXPECT_EQ(file.dataset(group + "/sample").read<std::int64_t>(), samples);
    for (const auto quantity : {Quantity::original_inputs, Quantity::inputs, Quantity::outputs})
      EXPECT_EQ(file.dataset(group + "/" + dataset_name(quantity)).read<float>(),
                rows_of(quantity, samples, quantity == Quantity::outputs ? layer.outputs : layer.inputs))
          << dataset_name(quantity);
    EXPECT_EQ(file.attribute_as<std::string>(group, "activation"), "clip");
    fs::remove(shard_file(folder / "moved" / "features", 1, 4)); // reads as NaN, not as zeros
    EXPECT_TRUE(std::isnan(Hdf5File::open(folder / "moved" / "features.h5")
                               .dataset(group + "/Y")
                               .read<float>()[static_cast<std::size_t>(3 * positions * layer.outputs)]));
  });
}

TEST_F(FeatureShards, AnAbandonedShardLeavesNothing) {
  on_root(comm, [&] {
    {
      ShardWriter writer(shard_file(folder / "set", 0, 1), header_of(0, 1));
      writer.begin_layer(convolution());
    }
    EXPECT_TRUE(fs::is_empty(folder / "set"));
  });
}

} // namespace
