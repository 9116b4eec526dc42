// Hashing against published digests, whole-file writing, name suggestions, checked conversions, glob patterns.
#include "slr/base/error.hpp"
#include "slr/base/file.hpp"
#include "slr/base/hash.hpp"
#include "slr/base/narrow.hpp"
#include "slr/base/text.hpp"
#include "slr/base/trace.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <functional>
#include <limits>
#include <string>
#include <unistd.h>
#include <vector>

namespace slr {
namespace {

class TemporaryFolder {
public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "slr-base-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

private:
  std::filesystem::path path_;
};

ExitCode code_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  return ExitCode::done;
}

TEST(Hash, IsTheStandardsSha256) { // FIPS 180-4, examples for "" and "abc"
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Hash, OfAFileIsTheHashOfItsBytes) {
  const TemporaryFolder folder;
  const std::string bytes(3'000'001, 'x');
  write_file_atomically(folder.path() / "a", bytes);
  EXPECT_EQ(sha256_of_file(folder.path() / "a"), sha256(bytes));
  EXPECT_EQ(code_of([&] { (void)sha256_of_file(folder.path() / "missing"); }), ExitCode::io);
}

TEST(Hash, OfManyFilesReadsEachOnce) {
  const TemporaryFolder folder;
  write_file_atomically(folder.path() / "a", "first");
  std::filesystem::create_symlink("a", folder.path() / "link");
  FileHashes hashes;
  EXPECT_EQ(hashes.of(folder.path() / "a"), sha256("first"));
  write_file_atomically(folder.path() / "a", "second"); // shows that the link's file is not read again
  EXPECT_EQ(hashes.of(folder.path() / "link"), sha256("first"));
  EXPECT_EQ(code_of([&] { (void)hashes.of(folder.path() / "missing"); }), ExitCode::io);
  write_file_atomically(folder.path() / "missing", "now there");
  EXPECT_EQ(hashes.of(folder.path() / "missing"), sha256("now there"));
}

TEST(Trace, HoldsNestedSpansInTheChromeFormat) {
  { const TraceSpan unseen(TraceKind::stage, "before the start"); }
  Trace::start();
  {
    const TraceSpan outer(TraceKind::stage, "solve");
    const TraceSpan inner(TraceKind::communication, "allreduce", 24);
  }
  const auto events = nlohmann::json::parse("[" + Trace::take_events(3) + "]");
  EXPECT_FALSE(Trace::is_on());
  ASSERT_EQ(events.size(), 3U);
  EXPECT_EQ(events[0]["args"]["name"], "rank 3");
  EXPECT_EQ(events[1]["name"], "solve");
  EXPECT_EQ(events[1]["cat"], "stage");
  EXPECT_EQ(events[2]["args"]["bytes"], 24);
  for (const auto* event : {&events[1], &events[2]}) {
    EXPECT_EQ((*event)["ph"], "X");
    EXPECT_EQ((*event)["pid"], 3);
    EXPECT_GE((*event)["ts"], 0);
  }
  EXPECT_LE(events[1]["ts"], events[2]["ts"]);
  EXPECT_GE(events[1]["ts"].get<double>() + events[1]["dur"].get<double>(),
            events[2]["ts"].get<double>() + events[2]["dur"].get<double>());
}

TEST(File, IsReplacedWholeAndLeavesNothingBeside) {
  const TemporaryFolder folder;
  const auto file = folder.path() / "report.json";
  write_file_atomically(file, "first");
  write_file_atomically(file, "second");
  EXPECT_EQ(read_file(file), "second");
  int entries = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder.path())) ++entries;
  EXPECT_EQ(entries, 1);
}

TEST(File, FailuresHaveTheirCodes) {
  const TemporaryFolder folder;
  EXPECT_EQ(code_of([&] { write_file_atomically(folder.path() / "no" / "such" / "folder", "x"); }), ExitCode::io);
  EXPECT_EQ(code_of([&] { (void)read_file(folder.path()); }), ExitCode::io);
  write_file_atomically(folder.path() / "long", "0123456789");
  EXPECT_EQ(code_of([&] { (void)read_file(folder.path() / "long", 9); }), ExitCode::bad_data);
}

TEST(Text, NearestNameIsTheOneThatWasMeant) {
  const std::vector<std::string> keys{"iterations", "images", "positions", "seed"};
  EXPECT_EQ(nearest_name("itertions", keys), "iterations");
  EXPECT_EQ(nearest_name("image", keys), "images");
  EXPECT_EQ(nearest_name("zzzzzz", keys), "");
}

TEST(Text, Durations) {
  EXPECT_EQ(words_for_seconds(2.34), "2.3 s");
  EXPECT_EQ(words_for_seconds(59.4), "59 s");
  EXPECT_EQ(words_for_seconds(185), "3 min 05 s");
  EXPECT_EQ(words_for_seconds(7620), "2 h 07 min");
  EXPECT_EQ(words_for_bytes(34.5e6), "34.5 MB");
}

TEST(Text, Globs) {
  EXPECT_TRUE(glob_match("conv*_1", "conv12_1"));
  EXPECT_TRUE(glob_match("*", ""));
  EXPECT_TRUE(glob_match("fc?", "fc6"));
  EXPECT_FALSE(glob_match("fc?", "fc"));
  EXPECT_FALSE(glob_match("conv*_1", "conv12_2"));
}

TEST(Narrow, RefusesWhatDoesNotFit) {
  EXPECT_EQ(narrow<int>(std::int64_t(7)), 7);
  EXPECT_EQ(code_of([] { (void)narrow<int>(std::int64_t(1) << 31); }), ExitCode::bad_data);
  EXPECT_EQ(code_of([] { (void)checked_product(std::numeric_limits<long long>::max(), 2); }), ExitCode::bad_data);
  EXPECT_EQ(code_of([] { (void)checked_product(-1, 2); }), ExitCode::bad_data);
}

} // namespace
} // namespace slr
