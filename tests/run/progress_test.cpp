// What people see of a job, on a terminal and elsewhere, at times that the test sets.
#include "slr/base/error.hpp"
#include "slr/base/file.hpp"
#include "slr/run/progress.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

namespace slr::run {
namespace {

using testing::HasSubstr;

struct Screen {
  std::string text;
  double now = 0;
  int columns = 80;
  std::unique_ptr<Progress> progress(bool is_terminal) {
    ProgressSettings settings;
    settings.write = [this](std::string_view more) { text += more; };
    settings.is_terminal = is_terminal;
    settings.columns = [this] { return columns; };
    settings.seconds = [this] { return now; };
    return make_visible_progress(std::move(settings));
  }
};

class Folder {
public:
  Folder() {
    path = std::filesystem::temp_directory_path() / ("slr_progress_" + std::to_string(::getpid()));
    std::filesystem::create_directory(path);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::filesystem::path path;
};

TEST(PlainProgress, ShowsStagesAtOnceAndTheRestNowAndThen) {
  Screen screen;
  const auto progress = screen.progress(false);
  progress->stage("capture", 100);
  for (int i = 0; i < 100; ++i) {
    screen.now += 0.125;
    progress->advance(i + 1);
  }
  progress->stage("solve", 2);
  progress->note("a note");
  progress->warning("a warning");
  EXPECT_EQ(screen.text, "capture\n"
                         "capture 40/100, 5.0 s, about 7.5 s left\n"
                         "capture 80/100, 10 s, about 2.5 s left\n"
                         "solve\n"
                         "a note\n"
                         "warning: a warning\n");
}

TEST(PlainProgress, ShowsTheSolveWithTheTimeLeft) {
  Screen screen;
  const auto progress = screen.progress(false);
  progress->stage("solve", 4);
  screen.now = 30;
  progress->layer(1, 4, "conv2");
  screen.now = 60;
  progress->step({50, 100, 0.01234567, 20, 12});
  EXPECT_EQ(screen.text, "solve\n"
                         "solve 2/4 conv2, 30 s, about 1 min 30 s left\n"
                         // 1.5 of 4 layers in 60 s: 100 s left.
                         "solve 2/4 conv2, iteration 50/100, error 0.01235, rank 20, groups 12, 1 min 00 s, "
                         "about 1 min 40 s left\n");
}

TEST(PlainProgress, EstimatesFromTheCostsOfTheLayers) {
  Screen screen;
  const auto progress = screen.progress(false);
  progress->stage("solve", 3, {1, 8, 1});
  screen.now = 10;
  progress->layer(1, 3, "fc1");
  EXPECT_THAT(screen.text, HasSubstr("solve 2/3 fc1, 10 s, about 1 min 30 s left")); // 1 of 10 done
  screen.now = 20;
  progress->layer(2, 3, "fc2");
  EXPECT_THAT(screen.text, HasSubstr("solve 3/3 fc2, 20 s, about 2.2 s left")); // 9 of 10
}

TEST(PlainProgress, SurvivesStrangeCalls) {
  Screen screen;
  const auto progress = screen.progress(false);
  progress->step({1, 0, 1e300, {}, {}});
  progress->stage("solve", 0, {std::numeric_limits<double>::quiet_NaN(), -1});
  screen.now = 10;
  progress->layer(7, 2, "a\033[2J\nb");
  screen.now = 20;
  progress->advance(-3);
  EXPECT_EQ(screen.text.find('\033'), std::string::npos);
  EXPECT_THAT(screen.text, HasSubstr("solve 2/2 a?[2J?b"));
}

TEST(TerminalProgress, RedrawsOneLineWithinTheWidth) {
  Screen screen;
  {
    const auto progress = screen.progress(true);
    progress->stage("solve", 2);
    for (int i = 0; i < 1000; ++i) {
      screen.now += 0.001;
      progress->layer(1, 2, std::string(300, 'x'));
      progress->step({i, 1000, 0.5, 3, 4});
    }
  }
  EXPECT_EQ(screen.text.find('\n'), std::string::npos);
  std::size_t frames = 0;
  for (std::size_t at = 0; (at = screen.text.find('\r', at)) != std::string::npos; ++frames) {
    const auto end = screen.text.find("\033[K", at);
    ASSERT_NE(end, std::string::npos);
    EXPECT_LT(end - at - 1, 80U);
    at = end;
  }
  EXPECT_LE(frames, 13U) << "ten per second, the first and the clearing";
  EXPECT_GE(frames, 8U);
  EXPECT_TRUE(screen.text.ends_with("\r\033[K")) << "the line is gone at the end";
}

TEST(TerminalProgress, NotesStandAboveTheBar) {
  Screen screen;
  const auto progress = screen.progress(true);
  progress->stage("solve", 2);
  screen.text.clear();
  progress->note("hello");
  EXPECT_TRUE(screen.text.starts_with("\r\033[Khello\n\r[")) << screen.text;
  screen.columns = 3;
  progress->note("narrow");
}

TEST(RunLog, GetsThePlainLinesOnTerminalsToo) {
  const Folder folder;
  const auto file = folder.path / "run.log";
  write_file_atomically(file, "before\n");
  for (const bool is_terminal : {false, true}) {
    Screen screen;
    const auto progress = screen.progress(is_terminal);
    progress->open_log(file);
    progress->stage("solve", 2);
    screen.now = 6;
    progress->layer(1, 2, "fc1");
    progress->warning("odd");
  }
  const std::string stamp = "[0-9]+-[0-9]+-[0-9]+ [0-9]+:[0-9]+:[0-9]+ ";
  const auto once = stamp + "solve\n" + stamp + "solve 2/2 fc1, 6.0 s, about 6.0 s left\n" + stamp + "warning: odd\n";
  EXPECT_THAT(read_file(file), testing::MatchesRegex("before\n" + once + once)) << "appended";
}

TEST(RunLog, AFileThatCannotBeOpenedIsAnError) {
  const Folder folder;
  Screen screen;
  const auto progress = screen.progress(false);
  try {
    progress->open_log(folder.path);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::io);
  }
}

} // namespace
} // namespace slr::run
