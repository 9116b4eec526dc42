// The stages that run the network over the images: stopped wherever they may be, and gone on with by any number of
// ranks, they end with what they would have ended with.
#include "configuration_support.hpp"
#include "feature_capture.hpp"
#include "slr/run/evaluate.hpp"
#include "slr/run/output_folder.hpp"
#include "store/manual_checkpoints.hpp"

#include "slr/graph/layers.hpp"
#include "slr/store/hdf5.hpp"

#include <gtest/gtest.h>

namespace slr::run::test {
namespace {

namespace fs = std::filesystem;
using slr::test::ManualCheckpoints;
using slr::test::SharedFolder;

constexpr std::int64_t images = 200, size = 6, classes = 5;

/// Numbers that look random and are the same everywhere.
class Numbers {
public:
  explicit Numbers(std::uint32_t seed) : state_(seed * 2654435761U + 12345U) {}
  std::uint32_t next() { return (state_ = state_ * 1664525U + 1013904223U) >> 8; }
  std::vector<float> floats(std::int64_t count) {
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = static_cast<float>(next()) * 0x1p-23F - 1.0F;
    return values;
  }

private:
  std::uint32_t state_;
};

Network network(std::uint32_t seed) {
  Network result;
  auto& model = result.model;
  Numbers numbers(seed);
  const auto weights = [&](const std::string& name, const graph::Dims& dims) {
    model.initializers[name] = graph::Tensor::of_floats(dims, numbers.floats(graph::element_count(dims)));
  };
  model.opsets[""] = 13;
  model.inputs.push_back({"x", graph::ElementType::float32, {-1, 1, size, size}, {"N", "", "", ""}});
  weights("w", {4, 1, 3, 3});
  weights("v", {classes, 4 * 4 * 4});
  model.nodes.push_back({"conv", "Conv", "", {"x", "w"}, {"c"}, {}});
  model.nodes.push_back({"relu", "Relu", "", {"c"}, {"r"}, {}});
  model.nodes.push_back({"flatten", "Flatten", "", {"r"}, {"f"}, {}});
  model.nodes.push_back({"last", "Gemm", "", {"f", "v"}, {"y"}, {{"transB", std::int64_t(1)}}});
  model.outputs.push_back({"y", graph::ElementType::float32, {}, {}});
  result.sha256 = sha256("model");
  result.input = "x";
  result.logits = "y";
  result.input_shape = {1, size, size};
  result.layers = graph::find_layers(model);
  return result;
}

void write_images(const fs::path& file) {
  Numbers numbers(7);
  std::vector<std::uint8_t> pixels(images * size * size);
  std::vector<std::int32_t> labels(images);
  for (auto& pixel : pixels) pixel = static_cast<std::uint8_t>(numbers.next() % 256);
  for (auto& label : labels) label = static_cast<std::int32_t>(numbers.next() % classes);
  auto hdf5 = store::Hdf5File::create(file);
  hdf5.write<std::uint8_t>("/images", {images, 1, size, size}, pixels);
  hdf5.write<std::int32_t>("/labels", {images}, labels);
  hdf5.commit();
}

/// Some ranks of the world work; the others wait. The numbers of ranks are those of consecutive starts.
template <class Work>
void with_ranks(const Communicator& world, int ranks, Work&& work) {
  const auto part = world.split(world.rank() < ranks ? 0 : 1, world.rank());
  if (world.rank() < ranks) std::forward<Work>(work)(part);
  world.barrier();
}

class ImageStages : public testing::Test {
protected:
  ImageStages() {
    on_root(world, [&] { write_images(folder / "images.h5"); });
    config = parse("model: m.onnx\ndata: {calibration: c.h5}\ncalibration: {images: 200, positions: 3}\noutput: o\n");
  }
  [[nodiscard]] ImageFeed feed(const Network& of) const {
    store::ImageSource source;
    source.images = folder / "images.h5";
    return {source, config.data.preprocess, of};
  }
  /// Until nothing stops it: start k has ranks[k] ranks and is stopped at its k-th look at the clock.
  template <class Work>
  void start_again(const std::vector<int>& ranks, int looks, Work&& work) {
    on_root(world, [&] {
      for (const auto& path : {slr::test::paths_in(folder).current, slr::test::paths_in(folder).previous})
        fs::remove(path);
    });
    for (std::size_t start = 0;; ++start) {
      int is_done = 0;
      with_ranks(world, ranks[start % ranks.size()], [&](const Communicator& comm) {
        ManualCheckpoints checkpoints(comm, folder);
        if (start < 3) checkpoints.stop_at = looks;
        try {
          work(comm, checkpoints);
          is_done = 1;
        } catch (const Error& error) {
          EXPECT_EQ(error.code(), ExitCode::stopped) << error.what();
        }
      });
      if (world.allreduce_value(is_done, Reduction::max) == 1) return;
      ASSERT_LT(start, 4U);
    }
  }
  [[nodiscard]] std::vector<std::vector<int>> orders() const {
    const int all = world.size();
    return {{all}, {1, all}, {all, 1, (all + 1) / 2}};
  }

  Communicator world{MPI_COMM_WORLD};
  SharedFolder folder{world};
  Configuration config;
  std::unique_ptr<Progress> progress = make_progress(world);
};

TEST_F(ImageStages, CaptureGoesOnWhereItWasStopped) {
  const auto original = network(1);
  const std::vector<std::string> layers{original.layers[0].name, original.layers[1].name};
  const auto capture = [&](const Communicator& comm, const fs::path& to, Checkpoints& checkpoints) {
    capture_features(comm, original, layers, feed(original), config, "hash", to, *progress, checkpoints);
  };
  Checkpoints none(world);
  capture(world, folder / "whole", none);
  const auto whole = store::FeatureSet::open(world, (folder / "whole").string());
  EXPECT_EQ(std::ssize(whole.files()), world.size());
  for (const auto& ranks : orders())
    for (const int looks : {0, 1, 2, 3, 5}) {
      start_again(ranks, looks, [&](const Communicator& comm, Checkpoints& checkpoints) {
        capture(comm, folder / "parts", checkpoints);
      });
      const auto parts = store::FeatureSet::open(world, (folder / "parts").string());
      for (const auto& name : layers) {
        const auto count = std::ssize(whole.samples(name));
        ASSERT_EQ(std::ssize(parts.samples(name)), count);
        EXPECT_TRUE(std::ranges::equal(parts.samples(name), whole.samples(name)));
        for (const auto quantity : {store::Quantity::original_inputs, store::Quantity::outputs})
          EXPECT_EQ(parts.read(name, quantity, 0, count), whole.read(name, quantity, 0, count)) << looks;
      }
      world.barrier();
      on_root(world, [&] { fs::remove_all(folder / "parts"); });
    }
}

TEST_F(ImageStages, DamagedPartsAreCapturedAgain) {
  const auto original = network(1);
  const std::vector<std::string> layers{original.layers[0].name, original.layers[1].name};
  const auto capture = [&](int stop_at) {
    ManualCheckpoints checkpoints(world, folder);
    checkpoints.stop_at = stop_at;
    capture_features(world, original, layers, feed(original), config, "hash", folder / "f", *progress, checkpoints);
  };
  EXPECT_THROW(capture(1), Error); // behind the first batches
  on_root(world, [&] {
    const auto part = store::shard_file(capture_parts(folder / "f") / "0", 0, world.size());
    ASSERT_TRUE(fs::exists(part));
    fs::resize_file(part, 3000);
  });
  capture(-1);
  const auto features = store::FeatureSet::open(world, (folder / "f").string());
  EXPECT_EQ(std::ssize(features.samples(layers[1])), images);
}

TEST_F(ImageStages, AFrontierIsTheSameWithLittleMemory) {
  const auto original = network(1);
  const auto share = share_of_rank(world, images);
  const auto source = feed(original);
  const std::string no_room = "/proc/nowhere";
  const auto follow = [&](std::int64_t memory, const fs::path& place) {
    Frontier frontier(original, source, share, {memory, place});
    const infer::Sampling sampling{.seed = 1, .positions = 3};
    std::vector<std::vector<float>> inputs;
    inputs.push_back(frontier.inputs_of(original.model, original.layers[0].name, sampling));
    inputs.push_back(frontier.inputs_ahead(original.model, original.layers[1].name, sampling));
    inputs.push_back(frontier.inputs_of(original.model, original.layers[1].name, sampling));
    // What there is no room for is where it was before; it can be gone on from all the same.
    Frontier further(frontier.take_batches(), {std::int64_t{1} << 40, place});
    inputs.push_back(further.inputs_of(original.model, original.layers[1].name, sampling));
    for (const auto& batch : further.take_batches()) inputs.push_back(batch.values.at(original.layers[1].input).data);
    return inputs;
  };
  const auto expected = follow(std::int64_t{1} << 40, folder.path());
  EXPECT_EQ(expected[1], expected[2]);
  EXPECT_EQ(expected[1], expected[3]);
  for (const std::int64_t memory : {0, 20'000, 50'000})
    for (const auto& place : {folder.path(), fs::path(no_room)})
      EXPECT_EQ(follow(memory, place), expected) << memory << " " << place;
  world.barrier();
  for (const auto& entry : fs::directory_iterator(folder.path()))
    EXPECT_FALSE(entry.path().filename().string().starts_with(OutputFiles::scratch_prefix)) << entry.path();
}

TEST_F(ImageStages, WithoutRoomWhatIsHeldStays) {
  HeldArrays held({10, "/proc/nowhere"}); // a file system without a free byte
  held.add({{"x", {{1, 2}, {1, 2}}}});
  held.add({{"x", {{1, 2}, {3, 4}}}});
  EXPECT_FALSE(held.is_empty(0));
  EXPECT_TRUE(held.is_empty(1));
  auto before = held.take(0);
  HeldArrays::Arrays larger{{"y", {{1, 3}, {5, 6, 7}}}};
  EXPECT_FALSE(held.put(0, larger));
  EXPECT_EQ(larger.at("y").data.size(), 3U);
  held.put_back(0, std::move(before));
  EXPECT_EQ(held.take(0).at("x").data, (std::vector<float>{1, 2}));
}

TEST_F(ImageStages, ActivationsThatCannotBeWrittenAreAnError) {
  HeldArrays held({10, folder.path() / "nowhere"});
  held.add({{"x", {{1, 2}, {1, 2}}}});
  EXPECT_EQ(held.bytes_in_files(), 0);
  try {
    held.add({{"x", {{1, 2}, {3, 4}}}});
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::io);
    EXPECT_NE(std::string(error.what()).find("calibration.memory"), std::string::npos);
  }
}

TEST_F(ImageStages, EvaluationGoesOnWhereItWasStopped) {
  const auto original = network(1), other = network(2);
  const auto judge = [&](const Communicator& comm, const ImageFilter& filter, Checkpoints* checkpoints) {
    return plain_json(evaluate(comm, other, &original, feed(original), images, filter, *progress, {}, checkpoints));
  };
  const ImageFilter filters[] = {{}, [](std::int64_t image) { return image % 10 == 0; }};
  for (const auto& filter : filters) {
    const auto expected = judge(world, filter, nullptr);
    EXPECT_EQ(expected["images"], filter ? images / 10 : images);
    for (const auto& ranks : orders())
      for (const int looks : {0, 1, 2, 3}) {
        nlohmann::ordered_json got;
        start_again(ranks, looks, [&](const Communicator& comm, Checkpoints& checkpoints) {
          got = judge(comm, filter, &checkpoints);
        });
        if (!got.is_null()) {
          EXPECT_EQ(got, expected) << looks;
        }
      }
  }
}

} // namespace
} // namespace slr::run::test
