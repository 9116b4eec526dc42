#include "slr/base/trace.hpp"

#include <nlohmann/json.hpp>

#include <map>

namespace slr {
namespace {

using Clock = std::chrono::steady_clock;

struct Span {
  TraceKind kind;
  std::size_t name; ///< place in `names`
  std::uint64_t bytes;
  Clock::time_point begin, end;
};

thread_local bool is_traced = false; ///< of the thread that started the timeline

struct Timeline {
  Clock::time_point zero;
  std::vector<Span> spans;
  std::map<std::string, std::size_t, std::less<>> places;
  std::vector<std::string> names;
  std::uint64_t dropped = 0;
};

Timeline& timeline() {
  static Timeline only;
  return only;
}

const char* text_of(TraceKind kind) {
  switch (kind) {
  case TraceKind::stage:
    return "stage";
  case TraceKind::layer:
    return "layer";
  case TraceKind::step:
    return "step";
  case TraceKind::communication:
    return "communication";
  case TraceKind::file:
    return "file";
  }
  return "";
}

double microseconds(Clock::duration duration) {
  return std::chrono::duration<double, std::micro>(duration).count();
}

} // namespace

void Trace::start() {
  timeline() = {};
  is_traced = true;
  timeline().zero = Clock::now();
}

bool Trace::is_on() {
  return is_traced;
}

std::string Trace::take_events(int pid) {
  auto& all = timeline();
  std::string text;
  const auto add = [&](const nlohmann::ordered_json& event) { text += (text.empty() ? "" : ",\n") + event.dump(); };
  add({{"name", "process_name"}, {"ph", "M"}, {"pid", pid}, {"args", {{"name", "rank " + std::to_string(pid)}}}});
  for (const auto& span : all.spans) {
    nlohmann::ordered_json event{{"name", all.names[span.name]},
                                 {"cat", text_of(span.kind)},
                                 {"ph", "X"},
                                 {"ts", microseconds(span.begin - all.zero)},
                                 {"dur", microseconds(span.end - span.begin)},
                                 {"pid", pid},
                                 {"tid", 0}};
    if (span.bytes > 0) event["args"] = {{"bytes", span.bytes}};
    add(event);
  }
  if (all.dropped > 0)
    add({{"name", std::to_string(all.dropped) + " later spans are not kept"},
         {"ph", "i"},
         {"s", "p"},
         {"ts", microseconds(Clock::now() - all.zero)},
         {"pid", pid},
         {"tid", 0}});
  all = {};
  is_traced = false;
  return text;
}

void TraceSpan::begin(TraceKind kind, std::string_view name, std::uint64_t bytes) {
  auto& all = timeline();
  if (all.spans.size() >= Trace::most_spans) {
    ++all.dropped;
    return;
  }
  auto place = all.places.find(name);
  if (place == all.places.end()) {
    place = all.places.emplace(std::string(name), all.names.size()).first;
    all.names.emplace_back(name);
  }
  index_ = static_cast<std::int64_t>(all.spans.size());
  const auto now = Clock::now();
  all.spans.push_back({kind, place->second, bytes, now, now});
}

void TraceSpan::end() const {
  auto& spans = timeline().spans;
  const auto at = static_cast<std::size_t>(index_);
  if (at < spans.size()) spans[at].end = Clock::now(); // unless the timeline was taken meanwhile
}

} // namespace slr
