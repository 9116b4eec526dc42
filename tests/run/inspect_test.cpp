// slr_inspect: every kind of content is recognised, and a run verifies exactly as long as nothing in it was changed.
#include "slr/run/inspect.hpp"

#include "slr/mpi/agree.hpp"
#include "slr/store/feature_set.hpp"

#include "finished_run.hpp"
#include "store/shared_folder.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

namespace slr::run {
namespace {

void flip_byte(const fs::path& file, double where) {
  auto bytes = read_file(file);
  auto& byte = bytes[static_cast<std::size_t>(static_cast<double>(bytes.size()) * where)];
  byte = static_cast<char>(~static_cast<unsigned char>(byte));
  write_file_atomically(file, bytes);
}

struct Outcome {
  std::string text; ///< on standard output, of the root
  int code = 0;
  std::string sentence;
};

struct Inspect : testing::Test {
  Inspect() : comm(MPI_COMM_WORLD), folder(comm) { job.folder = folder / "run"; }

  Outcome inspect(const fs::path& file, bool verify = false) {
    comm.barrier();
    Outcome outcome;
    InspectOptions options;
    options.file = file.string();
    options.verify = verify;
    testing::internal::CaptureStdout();
    try {
      outcome.code = static_cast<int>(run_inspect(comm, options));
    } catch (const Error& error) {
      outcome.code = static_cast<int>(error.code());
      outcome.sentence = error.what();
    }
    const auto text = testing::internal::GetCapturedStdout();
    if (!comm.is_root()) {
      EXPECT_EQ(text, "") << "only the root prints";
    }
    outcome.text = comm.broadcast_text(text);
    EXPECT_EQ(outcome.sentence, comm.broadcast_text(outcome.sentence));
    EXPECT_EQ(outcome.sentence.find('\n'), std::string::npos);
    return outcome;
  }
  /// Expects success and these words in the text.
  void expect_text(const fs::path& file, bool verify, const std::vector<std::string>& words) {
    const auto outcome = inspect(file, verify);
    EXPECT_EQ(outcome.code, 0) << outcome.sentence;
    for (const auto& word : words)
      EXPECT_NE(outcome.text.find(word), std::string::npos) << outcome.text << "\nlacks: " << word;
  }
  /// Expects one sentence with these words, and bad data.
  void expect_failure(const fs::path& file, bool verify, const std::vector<std::string>& words) {
    const auto outcome = inspect(file, verify);
    EXPECT_EQ(outcome.code, 65) << outcome.text;
    for (const auto& word : words)
      EXPECT_NE(outcome.sentence.find(word), std::string::npos) << outcome.sentence << "\nlacks: " << word;
  }
  /// Writes the run as it is described now, then changes it.
  void prepare(const std::function<void()>& change = [] {}) {
    on_root(comm, [&] {
      job.write();
      change();
    });
  }

  Communicator comm;
  test::SharedFolder folder;
  FinishedRun job;
};

TEST_F(Inspect, EveryPartOfARunIsRecognised) {
  prepare();
  expect_text(job.folder, false, {"output folder of a run", "finished", "factors.h5", layer_name});
  expect_text(job.folder.string() + "/", false, {"output folder of a run"});
  expect_text(job.folder / "manifest.json", false, {"manifest of a run", "budget.parameters = 3.2", "compressed.onnx"});
  expect_text(job.folder / "report.json", false, {"report of a run", layer_name});
  expect_text(job.folder / "factors.h5", false,
              {"factors", layer_name, "3 x 4", std::to_string(job.stored_train).substr(0, 5), "kkt_low_rank 1e-05",
               "converged"});
  expect_text(job.folder / "features", true, {"2, one per rank, and 2 with", "X0 X Y", "60", "relu", "verified"});
  expect_text(job.folder / "features" / "shard-00001-of-00002.h5", true,
              {"feature shard 1 of 2", layer_name, "30", "X0 Y", "verified"});
}

TEST_F(Inspect, AModelIsReadFoldedAndCounted) {
  on_root(comm, [&] { graph::write_model(make_model(), folder / "any.name"); });
  // 4 x 27 weights and 4 biases; 4 x 4 positions of 4 x 27 products.
  expect_text(folder / "any.name", true,
              {"ONNX model", "the test", "operator set 13", "x, batch x 3 x 6 x 6", "conv1", "4 x 27", "3 x 3", "relu",
               "parameters      112\n", "MACs            1728\n", "verified"});
}

TEST_F(Inspect, AModelWithAWeightThatIsNotFiniteFailsVerification) {
  on_root(comm, [&] {
    auto model = make_model();
    model.initializers["b"] = graph::Tensor::of_floats({4}, std::vector<float>{1, 2, INFINITY, 4});
    graph::write_model(model, folder / "m.onnx");
  });
  expect_text(folder / "m.onnx", false, {"ONNX model"});
  expect_failure(folder / "m.onnx", true, {"'b'", "not finite"});
}

TEST_F(Inspect, PackedImagesAreDescribedAndRead) {
  const auto file = folder / "images.h5";
  on_root(comm, [&] {
    auto out = store::Hdf5File::create(file);
    out.write<std::uint8_t>("/images", {5, 3, 8, 7}, std::vector<std::uint8_t>(std::size_t(5) * 3 * 8 * 7, 9));
    out.write<std::int32_t>("/labels", {5}, std::vector<std::int32_t>{0, 1, 2, 3, 4});
    out.set_attribute("/", "source", std::string("a folder"));
    out.commit();
  });
  expect_text(file, true, {"packed images", "5", "3 x 8 x 7", "yes", "a folder", "verified: 5 images"});
  on_root(comm, [&] {
    // The pixels are the only long run of nines.
    auto bytes = read_file(file);
    bytes[bytes.find(std::string(100, '\x09')) + 50] = '\x0a';
    write_file_atomically(file, bytes);
  });
  expect_failure(file, true, {"images"});
}

TEST_F(Inspect, TheJointViewOfTheShardsIsRecognised) {
  prepare();
  const auto view = job.folder / "features.h5";
  {
    const auto features = store::FeatureSet::open(comm, (job.folder / "features").string());
    on_root(comm, [&] { store::write_virtual_features(features, view); });
  }
  expect_text(view, true, {"one view", layer_name, "60", "X0 X Y", "verified"});
  on_root(comm, [&] { fs::remove(store::shard_file(job.folder / "features", 0, 2)); });
  expect_failure(view, true, {layer_name, "not finite"});
  expect_failure(job.folder / "features", false, {"shard 0 of 2 is missing"});
}

TEST_F(Inspect, ShardsOfOtherProgramsAreRecognised) {
  on_root(comm, [&] {
    auto out = store::Hdf5File::create(folder / "own.h5");
    out.write<float>("/fc/X", {2, 3}, std::vector<float>(6, 1.0F));
    out.write<float>("/fc/Y", {2, 1}, std::vector<float>(2, 1.0F));
    out.commit();
  });
  expect_text(folder / "own.h5", true, {"other programs", "fc", "X Y", "8 values"});
}

TEST_F(Inspect, WhatIsNothingOfThisIsRefused) {
  const std::vector<std::string> words{"is no ONNX model"};
  on_root(comm, [&] {
    test::write_bytes(folder / "text", "hello");
    test::write_bytes(folder / "empty", "");
    test::write_bytes(folder / "other.json", "[1, 2]");
    test::write_bytes(folder / "object.json", " {\"a\": 1}");
    fs::create_directory(folder / "nothing");
    auto out = store::Hdf5File::create(folder / "other.h5");
    out.write<float>("/values", {2}, std::vector<float>(2, 1.0F));
    out.commit();
  });
  for (const auto* name : {"text", "empty", "other.json", "object.json", "nothing", "other.h5"})
    expect_failure(folder / name, true, {name, words.front()});
  on_root(comm, [&] {
    test::write_bytes(folder / "broken.json", "{\"a\": ");
    test::write_bytes(folder / "broken.onnx", "\x08\x07garbage");
    test::write_bytes(folder / "broken.h5", "\x89HDF\r\n\x1a\ngarbage");
  });
  on_root(comm, [&] { // what recursion could not take
    const std::string deep = std::string(1'000'000, '[') + std::string(1'000'000, ']');
    test::write_bytes(folder / "deep.json", "{\"a\": " + deep + "}");
  });
  for (const auto* name : {"broken.json", "broken.onnx", "deep.json"}) expect_failure(folder / name, false, {name});
  EXPECT_NE(inspect(folder / "broken.h5").code, 0);
  EXPECT_EQ(inspect(folder / "not there").code, 74);
}

TEST_F(Inspect, AnUntouchedRunVerifies) {
  prepare();
  for (const auto* part : {"", "manifest.json", "report.json", "factors.h5"})
    expect_text(part[0] ? job.folder / part : job.folder, true,
                {"ok         input", "ok         shard", "ok         output compressed.onnx",
                 "ok         parameters_after 112", layer_name, "48 + 6", "verified: everything"});
}

TEST_F(Inspect, OriginalInputsServeWhereNoOthersAre) {
  job.has_fitted_inputs = false;
  job.stored_train = job.reported_train = train_error(job.factors, true);
  job.stored_heldout = job.reported_heldout = heldout_error(job.factors, true);
  ASSERT_GT(std::abs(train_error(job.factors) - job.stored_train), 1e-2);
  prepare();
  expect_text(job.folder, true, {"verified: everything"});
}

TEST_F(Inspect, StoredErrorsMayDifferByRoundingOnly) {
  const double train = job.stored_train, heldout = job.stored_heldout;
  job.stored_train = train * (1 + 5e-4);
  job.reported_heldout = heldout * (1 - 5e-4);
  prepare();
  expect_text(job.folder, true, {"verified: everything"});
  job.stored_train = train * (1 + 2e-3);
  prepare();
  expect_failure(job.folder, true, {layer_name, "error_train", "factors.h5"});
  job.stored_train = train;
  job.reported_heldout = heldout * (1 - 2e-3);
  prepare();
  expect_failure(job.folder, true, {layer_name, "error_heldout", "report.json"});
  job.stored_train = std::nan("");
  prepare();
  expect_failure(job.folder, true, {layer_name, "error_train", "factors.h5 says nan", "1 other difference,"});
}

TEST_F(Inspect, AChangedFactorIsFoundEvenWithAFreshHash) {
  for (auto* values : {&job.factors.u.values, &job.factors.v.values, &job.factors.b.values, &job.factors.bias}) {
    const float before = values->front();
    values->front() += 0.25F;
    prepare();
    expect_failure(job.folder, true, {"layer " + layer_name, "by the shards and factors"});
    values->front() = before;
  }
  job.factors.kept_groups = {0};
  prepare();
  expect_failure(job.folder, true, {"layer " + layer_name});
}

TEST_F(Inspect, FactorsThatDoNotFitTogetherAreRefused) {
  const auto expect_refused = [&](const std::function<void(store::LayerFactors&)>& change, const std::string& word) {
    job.factors = make_factors();
    change(job.factors);
    prepare();
    expect_failure(job.folder, true, {layer_name, word});
  };
  expect_refused([](auto& f) { f.kept_groups = {2}; }, "kept_groups");
  expect_refused([](auto& f) { f.kept_groups = {-1}; }, "kept_groups");
  expect_refused([](auto& f) { f.kept_groups = {}; }, "sizes");
  expect_refused([](auto& f) { f.bias.pop_back(); }, "sizes");
  expect_refused([](auto& f) { f.certificate["group_columns"] = std::int64_t(3); }, "group_columns");
  expect_refused([](auto& f) { f.certificate["group_columns"] = std::int64_t(0); }, "group_columns");
  expect_refused([](auto& f) { f.certificate["rows"] = std::int64_t(4); }, "sizes");
  expect_refused([](auto& f) { f.certificate.erase("cols"); }, "cols");
  expect_refused([](auto& f) { f.certificate["activation"] = std::string("softmax"); }, "softmax");
  expect_refused(
      [](auto& f) {
        f.certificate["cols"] = std::int64_t(3);
        f.certificate["group_columns"] = std::int64_t(1);
        f.v = {1, 2, {1, 1}};
        f.b = {rows, 1, {1, 1, 1}};
      },
      "feature shards");
}

TEST_F(Inspect, AFlippedByteOfAShardIsFoundByHashAndByChecksum) {
  const auto shard = store::shard_file(job.folder / "features", 1, 2);
  prepare([&] { flip_byte(shard, 0.5); });
  expect_failure(job.folder, true, {"shard features/shard-00001-of-00002.h5", "SHA-256 differs"});
  // A pixel's worth of Y, with the manifest's hash brought up to date: HDF5's checksum remains.
  prepare([&] {
    const float value = output(samples / 2, 1);
    auto bytes = read_file(shard);
    const auto at = bytes.find(std::string(reinterpret_cast<const char*>(&value), sizeof value));
    ASSERT_NE(at, std::string::npos);
    bytes[at + 1] = static_cast<char>(~static_cast<unsigned char>(bytes[at + 1]));
    write_file_atomically(shard, bytes);
    job.write_manifest(job.make_manifest());
  });
  expect_failure(job.folder, true, {"shard-00001-of-00002.h5"});
  expect_failure(shard, true, {"shard-00001-of-00002.h5"});
}

TEST_F(Inspect, EveryHashOfTheManifestCounts) {
  for (const auto* key : {"inputs", "shards", "outputs"}) {
    std::string name;
    prepare([&] {
      auto manifest = job.make_manifest();
      auto entry = manifest[key].begin();
      name = entry.key();
      *entry = sha256("something else");
      job.write_manifest(manifest);
    });
    expect_failure(job.folder, true, {comm.broadcast_text(name), "SHA-256 differs"});
    expect_text(job.folder, false, {"finished"});
  }
}

TEST_F(Inspect, WhatIsMissingIsNamed) {
  prepare([&] { fs::remove(folder / "input.bin"); });
  expect_failure(job.folder, true, {"input.bin is missing"});
  for (const auto* name : {"compressed.onnx", "factors.h5", "report.json"}) {
    prepare([&] { fs::remove(job.folder / name); });
    expect_failure(job.folder, true, {name, "is missing"});
  }
  prepare([&] { fs::remove_all(job.folder / "features"); });
  expect_failure(job.folder, true, {"shard features/", "is missing"});
  prepare([&] { fs::remove(job.folder / "manifest.json"); });
  expect_text(job.folder, false, {"unfinished"});
  expect_failure(job.folder, true, {"manifest.json"});
}

TEST_F(Inspect, CountsOfTheReportAreCompared) {
  job.parameters_off = 1;
  prepare();
  expect_failure(job.folder, true, {"compressed.onnx", "parameters_after 112", "113"});
}

TEST_F(Inspect, AnInputMayBeAFolder) {
  const auto given = folder / "pictures";
  prepare([&] {
    fs::create_directory(given);
    test::write_bytes(given / "b", "2");
    test::write_bytes(given / "a", "1");
    auto manifest = job.make_manifest();
    // One hash for a folder: of its files' names and hashes, in the order of the names.
    manifest["inputs"][given.string()] = sha256("a " + sha256("1") + "\nb " + sha256("2") + "\n");
    job.write_manifest(manifest);
  });
  expect_text(job.folder, true, {"verified: everything"});
  on_root(comm, [&] { test::write_bytes(given / "b", "3"); });
  expect_failure(job.folder, true, {"pictures", "SHA-256 differs"});
}

TEST_F(Inspect, AHostileManifestIsBadData) {
  for (const auto& value : {json(1), json::array({1}), json("x"), json()}) {
    prepare([&] {
      auto manifest = job.make_manifest();
      manifest["shards"] = value;
      job.write_manifest(manifest);
    });
    expect_text(job.folder / "manifest.json", false, {"manifest"});
    expect_failure(job.folder / "manifest.json", true, {"shards"});
  }
  prepare([&] {
    auto manifest = job.make_manifest();
    manifest["outputs"] = {{"compressed.onnx", 7}, {"/dev/zero", "x"}, {"two\nlines", json::array()}};
    manifest["configuration"] = 3;
    manifest["versions"] = "none";
    job.write_manifest(manifest);
  });
  expect_text(job.folder / "manifest.json", false, {"two?lines"});
  expect_failure(job.folder, true, {"/dev/zero is missing", "other differences"});
}

} // namespace
} // namespace slr::run
