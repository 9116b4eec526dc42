#include "slr/run/report_table.hpp"

#include "slr/base/text.hpp"
#include "slr/run/json_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <vector>

namespace slr::run {
namespace {

using json = nlohmann::ordered_json;

constexpr std::size_t columns_limit = 100;
constexpr std::size_t name_limit = 28;

const json& part(const json& value, const char* key) {
  static const json nothing;
  if (!value.is_object()) return nothing;
  const auto at = value.find(key);
  return at == value.end() ? nothing : *at;
}
std::optional<double> number(const json& value, const char* key) {
  const auto& found = part(value, key);
  return found.is_number() ? std::optional(found.get<double>()) : std::nullopt;
}

/// 1234567 -> "1,234,567".
std::string whole(std::optional<double> value) {
  if (!value || !(std::abs(*value) < 0x1p63)) return "-";
  auto digits = fmt::format("{}", static_cast<std::int64_t>(*value));
  const std::size_t sign = *value < 0 ? 1 : 0;
  for (std::size_t at = digits.size(); at > sign + 3;) digits.insert(at -= 3, ",");
  return digits;
}
std::string small(std::optional<double> value) {
  return value ? fmt::format("{:.4g}", *value) : "-";
}
std::string percent(std::optional<double> value) {
  return value ? fmt::format("{:.2f} %", 100 * *value) : "-";
}
std::string ratio(std::optional<double> before, std::optional<double> after) {
  return before && after && *after > 0 ? fmt::format("{:.2f}x", *before / *after) : "-";
}

/// Characters, not bytes: names may hold any UTF-8.
std::size_t width(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80; }));
}

using Row = std::array<std::string, 8>;
const Row heading{"layer", "n x k", "rank", "groups", "before", "after", "ratio", "error"};

Row row_of(const json& layer) {
  const auto before = number(layer, "parameters_before"), after = number(layer, "parameters_after");
  const auto target_rank = number(layer, "rank"), groups = number(layer, "kept_groups");
  const auto& name = part(layer, "name");
  Row row{printable(name.is_string() ? name.get<std::string>() : "-", name_limit),
          whole(number(layer, "rows")) + " x " + whole(number(layer, "cols")),
          whole(target_rank),
          whole(groups),
          whole(before),
          whole(after),
          ratio(before, after),
          small(number(layer, "error_heldout"))};
  std::erase(row[1], ',');
  if (!target_rank && !groups) row[2] = row[3] = "dense";
  return row;
}

std::string layer_lines(const json& layers) {
  std::vector<Row> rows{heading};
  if (layers.is_array())
    for (const auto& layer : layers) rows.push_back(row_of(layer));
  if (rows.size() == 1) return {};
  std::array<std::size_t, std::tuple_size_v<Row>> widths{};
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  std::string text;
  for (const auto& row : rows) {
    std::string line = row[0] + std::string(widths[0] - width(row[0]), ' ');
    for (std::size_t i = 1; i < row.size(); ++i) line += "  " + std::string(widths[i] - width(row[i]), ' ') + row[i];
    text += printable(line, columns_limit) + "\n";
  }
  return text + "before, after: parameters; error: held out, after the activation\n\n";
}

/// "label   before -> after (remark)"; nothing if neither is known.
std::string change(const char* label, const std::string& before, const std::string& after, const std::string& remark) {
  if (before == "-" && after == "-") return {};
  return fmt::format("{:<12}{} -> {}{}\n", label, before, after, remark.empty() ? "" : " (" + remark + ")");
}

std::string quantity(const json& model, const char* label, const std::string& key) {
  const auto before = number(model, (key + "_before").c_str()), after = number(model, (key + "_after").c_str());
  return change(label, whole(before), whole(after), ratio(before, after));
}

std::string accuracy(const json& values, const char* label, const std::string& key) {
  const auto before = number(values, (key + "_before").c_str()), after = number(values, (key + "_after").c_str());
  if (!before || !after) return change(label, percent(before), percent(after), "");
  const auto error = number(values, (key + "_standard_error").c_str());
  return change(
      label, percent(before), percent(after),
      fmt::format("{:+.2f}{} points", 100 * (*after - *before), error ? fmt::format(" +- {:.2f}", 100 * *error) : ""));
}

std::string single(const char* label, const std::string& value) {
  return value == "-" ? "" : fmt::format("{:<12}{}\n", label, value);
}

/// "KL 0.16 -> 0.08 on the report images, 5 passes over 10,000 images"; nothing if there was none.
std::string refinement(const json& values) {
  const auto before = number(values, "kl_before"), after = number(values, "kl_after");
  const auto passes = number(values, "epochs"), images = number(values, "images");
  if (!before || !after || !passes || !images) return {};
  return fmt::format("{:<12}KL {} -> {} on the report images, {} {} over {} images\n", "refined", small(before),
                     small(after), whole(passes), *passes == 1 ? "pass" : "passes", whole(images));
}

/// "capture 3.1 s, solve 2 min 05 s, ...", wrapped.
std::string stage_lines(const json& stages) {
  if (!stages.is_object()) return {};
  const std::string indent(12, ' ');
  std::string text, line;
  for (const auto& [name, seconds] : stages.items()) {
    if (!seconds.is_number()) continue;
    const auto item = printable(name, 40) + " " + words_for_seconds(seconds.get<double>());
    if (!line.empty() && indent.size() + width(line) + 2 + width(item) + 1 > columns_limit) {
      text += indent + line + ",\n";
      line.clear();
    }
    line += (line.empty() ? "" : ", ") + item;
  }
  return line.empty() ? text : text + indent + line + "\n";
}

std::string job_lines(const json& run) {
  const auto seconds = number(run, "seconds"), memory = number(run, "peak_rss_bytes");
  const auto ranks = number(run, "mpi_ranks"), groups = number(run, "groups");
  std::string text;
  if (seconds) {
    text += fmt::format("{:<12}{}", "time", words_for_seconds(*seconds));
    if (ranks) text += " on " + whole(ranks) + (*ranks == 1 ? " rank" : " ranks");
    if (ranks && groups && *groups > 1) text += " in " + whole(groups) + " groups";
    text += "\n";
  }
  return text + stage_lines(part(run, "seconds_by_stage")) +
         single("peak memory", memory ? words_for_bytes(*memory) : "-");
}

/// A row per result of a job with several.
std::string point_lines(const json& points) {
  std::string text = fmt::format("{:<28} {:>12} {:>14} {:>10} {:>18} {:>10}\n", "result", "parameters", "MACs", "top-1",
                                 "change, points", "KL");
  for (const auto& point : points) {
    const auto &model = part(point, "model"), &values = part(point, "accuracy");
    const auto before = number(values, "top1_before"), after = number(values, "top1_after");
    const auto error = number(values, "top1_standard_error");
    const std::string change = before && after && error
                                   ? fmt::format("{:+.2f} +- {:.2f}", 100 * (*after - *before), 100 * *error)
                                   : std::string("-");
    text += fmt::format("{:<28} {:>12} {:>14} {:>10} {:>18} {:>10}\n", printable(point.value("folder", ""), 28),
                        whole(number(model, "parameters_after")), whole(number(model, "macs_after")), percent(after),
                        change, small(number(values, "kl")));
  }
  return text;
}

} // namespace

std::string report_table(const json& report) {
  if (const auto& points = part(report, "points"); points.is_array()) return point_lines(points);
  const auto& model = part(report, "model");
  const auto& values = part(report, "accuracy");
  std::string text = layer_lines(part(report, "layers"));
  text +=
      quantity(model, "parameters", "parameters") + quantity(model, "MACs", "macs") + quantity(model, "bytes", "bytes");
  const auto& latency = part(part(report, "latency"), "one_thread");
  if (const auto before = number(latency, "before"), after = number(latency, "after"); before && after)
    text += change("latency", fmt::format("{:.3g} ms", 1e3 * *before), fmt::format("{:.3g} ms", 1e3 * *after),
                   ratio(before, after));
  text += accuracy(values, "top-1", "top1") + accuracy(values, "top-5", "top5");
  text += single("KL", small(number(values, "kl"))) + single("agreement", percent(number(values, "agreement")));
  text += refinement(part(report, "refine"));
  text += single("images", whole(number(values, "images")));
  return text + job_lines(part(report, "run"));
}

} // namespace slr::run
