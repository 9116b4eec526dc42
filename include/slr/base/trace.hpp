#pragma once
/// \file
/// A timeline of what this process does, for people who look for lost time.
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace slr {

/// What a span of time was spent on. Viewers show one colour per kind.
enum class TraceKind { stage, layer, step, communication, file };

/// The spans of this process, of its main thread. Off until `start`; then a span costs two readings of the clock and 56
/// bytes. After `most_spans` (56 MB) no more are kept, and the timeline says so.
class Trace {
public:
  static constexpr std::size_t most_spans = 1'000'000;
  /// Now is the timeline's zero: to be called right after a barrier, so that the ranks' timelines fit together. Local.
  static void start();
  [[nodiscard]] static bool is_on();
  /// The events of the Chrome trace format, without the brackets around a list of them: complete events ("X") in
  /// microseconds, this process as `pid`. Stops the tracing. Local.
  [[nodiscard]] static std::string take_events(int pid);
};

/// A span from here to the end of the scope. Names of layers and stages are copied, so they may go.
class TraceSpan {
public:
  /// `bytes`: what is moved, if anything is.
  TraceSpan(TraceKind kind, std::string_view name, std::uint64_t bytes = 0) {
    if (Trace::is_on()) begin(kind, name, bytes);
  }
  ~TraceSpan() {
    if (index_ >= 0) end();
  }
  TraceSpan(const TraceSpan&) = delete;
  TraceSpan& operator=(const TraceSpan&) = delete;

private:
  void begin(TraceKind kind, std::string_view name, std::uint64_t bytes);
  void end() const;
  std::int64_t index_ = -1;
};

} // namespace slr
