#include "slr/run/curves.hpp"

#include "slr/base/hash.hpp"
#include "slr/run/json_text.hpp"

#include <nlohmann/json.hpp>

#include <cmath>

namespace slr::run {
namespace {

using Json = nlohmann::ordered_json;

constexpr int current_schema = 2;

Error damaged() {
  return {ExitCode::bad_data, "curves.json is damaged or of another version; use --fresh to start anew"};
}

/// A number that an error, a divergence or a time can be.
double measured(const Json& value) {
  const auto number = value.get<double>();
  if (!std::isfinite(number)) throw damaged();
  return number;
}

std::int64_t counted(const Json& value) {
  const auto number = value.get<std::int64_t>();
  if (number < 0) throw damaged();
  return number;
}

} // namespace

std::string curves_text(const Curves& curves) {
  auto json = Json::array();
  for (const auto& curve : curves.layers) {
    auto rows = Json::array();
    for (const auto& row : curve.rows) {
      auto points = Json::array();
      for (const auto& point : row) {
        Json one{
            {"groups", point.split.groups}, {"rank", point.split.rank}, {"error_selection", point.error_selection}};
        if (point.kl) one["kl"] = *point.kl;
        if (point.latency) one["latency"] = *point.latency;
        points.push_back(std::move(one));
      }
      rows.push_back(std::move(points));
    }
    json.push_back({{"pull", curve.pull}, {"dense_latency", curve.dense_latency}, {"rows", std::move(rows)}});
    if (!curve.failure.empty()) json.back()["failure"] = curve.failure;
  }
  Json whole{{"schema", current_schema}, {"network_latency", curves.network_latency}, {"layers", std::move(json)}};
  if (!curves.latency_beside.empty()) whole["latency_beside"] = curves.latency_beside;
  whole["sha256"] = sha256(whole.dump()); // of everything before it
  return whole.dump(1) + "\n";
}

Curves curves_from_text(const std::string& text) {
  try {
    auto json = parse_json(text, "curves.json");
    const auto sum = json.at("sha256").get<std::string>();
    json.erase("sha256");
    if (json.at("schema") != current_schema || sha256(json.dump()) != sum) throw damaged();
    Curves curves;
    curves.network_latency = measured(json.at("network_latency"));
    if (json.contains("latency_beside"))
      for (const auto& [point, seconds] : json.at("latency_beside").items())
        curves.latency_beside[point] = measured(seconds);
    for (const auto& layer : json.at("layers")) {
      auto& curve = curves.layers.emplace_back();
      curve.pull = measured(layer.at("pull"));
      curve.dense_latency = measured(layer.at("dense_latency"));
      curve.failure = layer.value("failure", std::string());
      for (const auto& row : layer.at("rows")) {
        auto& points = curve.rows.emplace_back();
        for (const auto& point : row) {
          auto& to = points.emplace_back();
          to.split = {counted(point.at("groups")), counted(point.at("rank"))};
          to.error_selection = measured(point.at("error_selection"));
          if (point.contains("kl")) to.kl = measured(point.at("kl"));
          if (point.contains("latency")) to.latency = measured(point.at("latency"));
        }
      }
    }
    return curves;
  } catch (const nlohmann::json::exception&) {
    throw damaged();
  }
}

} // namespace slr::run
