#include "slr/run/progress.hpp"

#include "slr/base/error.hpp"
#include "slr/base/text.hpp"
#include "slr/mpi/whereabouts.hpp"
#include "slr/run/json_text.hpp"

#include <fmt/format.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <sys/ioctl.h>
#include <unistd.h>
#include <utility>

namespace slr::run {
namespace {

/// Lets the watchdog know what this rank is at.
class Place {
public:
  void stage(std::string_view name) {
    stage_ = name;
    layer_.clear();
    note_step(stage_);
  }
  void layer(std::string_view name) {
    layer_ = fmt::format("{}, layer {}", stage_, name);
    note_step(layer_);
  }
  void iteration(std::int64_t number) const { note_step(fmt::format("{}, iteration {}", layer_, number)); }

private:
  std::string stage_, layer_;
};

class Silent : public Progress {
public:
  void stage(std::string_view name, std::int64_t, std::vector<double>) override { place_.stage(name); }
  void advance(std::int64_t) override { note_life(); }
  void layer(std::int64_t, std::int64_t, std::string_view name) override { place_.layer(name); }
  void step(const SolveProgress& now) override { place_.iteration(now.iteration); }
  void note(std::string_view) override {}
  void warning(std::string_view) override {}
  void open_log(const std::filesystem::path&) override {}

private:
  Place place_;
};

/// Lets an event through at most once per interval.
class RateLimit {
public:
  explicit RateLimit(double interval) : interval_(interval) {}
  [[nodiscard]] bool is_due(double now) {
    if (now < next_) return false;
    restart(now);
    return true;
  }
  void restart(double now) { next_ = now + interval_; }

private:
  double interval_;
  double next_ = -std::numeric_limits<double>::infinity();
};

ProgressSettings with_defaults(ProgressSettings s) {
  if (!s.write)
    s.write = [](std::string_view text) {
      while (!text.empty()) { // a full pipe or a closed terminal is no reason to end a job
        const auto written = ::write(STDERR_FILENO, text.data(), text.size());
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return;
        text.remove_prefix(static_cast<std::size_t>(written));
      }
    };
  if (!s.is_terminal) {
    const char* kind = std::getenv("TERM");
    s.is_terminal = ::isatty(STDERR_FILENO) == 1 && kind && std::string_view(kind) != "dumb";
  }
  if (!s.columns)
    s.columns = [] {
      winsize size{};
      return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? int(size.ws_col) : 80;
    };
  if (!s.seconds)
    s.seconds = [] {
      return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
    };
  return s;
}

/// What is known of the running stage, and the words for it.
struct Stage {
  std::string name;
  double begin_seconds = 0;
  std::int64_t total = 0, done = 0;
  std::vector<double> weights;
  std::string layer;
  std::int64_t layer_index = 0, layer_count = 0;
  SolveProgress solve;

  /// Part of the stage that is done, 0 to 1; unknown: 0.
  [[nodiscard]] double fraction() const {
    if (layer_count == 0) return total > 0 ? std::clamp(double(done) / double(total), 0.0, 1.0) : 0;
    const double inside = solve.limit > 0 ? std::clamp(double(solve.iteration) / double(solve.limit), 0.0, 1.0) : 0;
    if (static_cast<std::int64_t>(weights.size()) != layer_count)
      return std::clamp((double(layer_index) + inside) / double(layer_count), 0.0, 1.0);
    const double all = std::accumulate(weights.begin(), weights.end(), 0.0);
    const double before = std::accumulate(weights.begin(), weights.begin() + layer_index, 0.0);
    return all > 0 ? std::clamp((before + inside * weights[std::size_t(layer_index)]) / all, 0.0, 1.0) : 0;
  }

  [[nodiscard]] std::string words(double now) const {
    auto text = name;
    if (layer_count > 0)
      text += fmt::format(" {}/{} {}", layer_index + 1, layer_count, layer);
    else if (total > 0)
      text += fmt::format(" {}/{}", done, total);
    if (solve.limit > 0) text += fmt::format(", iteration {}/{}", solve.iteration, solve.limit);
    if (std::isfinite(solve.error)) text += fmt::format(", error {:.4g}", solve.error);
    if (solve.target_rank) text += fmt::format(", rank {}", *solve.target_rank);
    if (solve.groups) text += fmt::format(", groups {}", *solve.groups);
    const double elapsed = now - begin_seconds;
    text += ", " + words_for_seconds(elapsed);
    const double part = fraction();
    if (part > 0 && part < 1) text += ", about " + words_for_seconds(elapsed * (1 - part) / part) + " left";
    return text;
  }
};

class Visible : public Progress {
public:
  explicit Visible(ProgressSettings settings)
      : settings_(with_defaults(std::move(settings))), bar_due_(settings_.bar_interval_seconds),
        plain_due_(settings_.plain_interval_seconds) {}
  ~Visible() override { clear_bar(); }

  void stage(std::string_view name, std::int64_t total, std::vector<double> weights) override {
    stage_ = {};
    stage_.name = printable(name, 60);
    place_.stage(stage_.name);
    stage_.begin_seconds = settings_.seconds();
    stage_.total = total;
    stage_.weights = std::move(weights);
    for (auto& weight : stage_.weights)
      if (!(weight >= 0 && std::isfinite(weight))) weight = 0;
    plain_due_.restart(stage_.begin_seconds);
    log(spdlog::level::info, stage_.name);
    if (*settings_.is_terminal)
      draw();
    else
      settings_.write(stage_.name + "\n");
  }
  void advance(std::int64_t done) override {
    stage_.done = done;
    note_life();
    show();
  }
  void layer(std::int64_t index, std::int64_t count, std::string_view name) override {
    stage_.layer_count = std::max<std::int64_t>(count, 1);
    stage_.layer_index = std::clamp<std::int64_t>(index, 0, stage_.layer_count - 1);
    stage_.layer = printable(name, 60);
    place_.layer(stage_.layer);
    stage_.solve = {};
    show();
  }
  void step(const SolveProgress& now) override {
    stage_.solve = now;
    place_.iteration(now.iteration);
    show();
  }
  void note(std::string_view text) override { line(spdlog::level::info, printable(text)); }
  void warning(std::string_view text) override { line(spdlog::level::warn, "warning: " + printable(text)); }

  void open_log(const std::filesystem::path& file) override {
    try {
      auto sink = std::make_shared<spdlog::sinks::basic_file_sink_st>(file.string(), false);
      log_ = std::make_unique<spdlog::logger>("run", std::move(sink));
    } catch (const spdlog::spdlog_ex& problem) {
      throw Error(ExitCode::io, "cannot open " + file.string() + " for writing: " + printable(problem.what(), 200));
    }
    log_->set_pattern("%Y-%m-%d %H:%M:%S %v");
    log_->flush_on(spdlog::level::trace);
    // A full disk ends the log, not the job; people at the terminal hear of it once.
    log_->set_error_handler([this](const std::string& problem) {
      if (!std::exchange(has_log_failed_, true)) emit("warning: run.log is incomplete: " + printable(problem, 200));
    });
  }

private:
  /// The bar and the plain line, each when it is due.
  void show() {
    const double now = settings_.seconds();
    if (*settings_.is_terminal && bar_due_.is_due(now)) draw();
    if (!plain_due_.is_due(now)) return;
    const auto text = stage_.words(now);
    log(spdlog::level::info, text);
    if (!*settings_.is_terminal) settings_.write(text + "\n");
  }
  void line(spdlog::level::level_enum level, const std::string& text) {
    log(level, text);
    emit(text);
  }
  void emit(const std::string& text) {
    clear_bar();
    settings_.write(text + "\n");
    if (*settings_.is_terminal && !stage_.name.empty()) draw();
  }
  void log(spdlog::level::level_enum level, const std::string& text) {
    if (log_) log_->log(level, text);
  }
  void draw() {
    // A line as wide as the terminal would wrap on some, so one column stays free.
    const auto width = static_cast<std::size_t>(std::max(settings_.columns() - 1, 8));
    const std::size_t cells = width >= 60 ? 20 : 0;
    std::string bar;
    if (cells > 0) {
      const auto full = static_cast<std::size_t>(stage_.fraction() * double(cells));
      bar = "[" + std::string(full, '#') + std::string(cells - full, '.') + "] ";
    }
    settings_.write("\r" + printable(bar + stage_.words(settings_.seconds()), width) + "\033[K");
    has_bar_ = true;
  }
  void clear_bar() {
    if (std::exchange(has_bar_, false)) settings_.write("\r\033[K");
  }

  ProgressSettings settings_;
  RateLimit bar_due_, plain_due_;
  Stage stage_;
  Place place_;
  std::unique_ptr<spdlog::logger> log_;
  bool has_bar_ = false;
  bool has_log_failed_ = false;
};

} // namespace

std::unique_ptr<Progress> make_visible_progress(ProgressSettings settings) {
  return std::make_unique<Visible>(std::move(settings));
}

std::unique_ptr<Progress> make_progress(const Communicator& comm, ProgressSettings settings) {
  if (comm.is_root()) return make_visible_progress(std::move(settings));
  return std::make_unique<Silent>();
}

} // namespace slr::run
