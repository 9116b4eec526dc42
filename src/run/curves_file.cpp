#include "slr/run/curves.hpp"

#include <nlohmann/json.hpp>

namespace slr::run {

std::string curves_text(const Curves& curves) {
  auto json = nlohmann::ordered_json::array();
  for (const auto& curve : curves.layers) {
    auto rows = nlohmann::ordered_json::array();
    for (const auto& row : curve.rows) {
      auto points = nlohmann::ordered_json::array();
      for (const auto& point : row) {
        nlohmann::ordered_json one{
            {"groups", point.split.groups}, {"rank", point.split.rank}, {"error_selection", point.error_selection}};
        if (point.kl) one["kl"] = *point.kl;
        if (point.latency) one["latency"] = *point.latency;
        points.push_back(std::move(one));
      }
      rows.push_back(std::move(points));
    }
    json.push_back({{"pull", curve.pull}, {"dense_latency", curve.dense_latency}, {"rows", std::move(rows)}});
  }
  return nlohmann::ordered_json{{"schema", 1}, {"network_latency", curves.network_latency}, {"layers", std::move(json)}}
             .dump(1) +
         "\n";
}

Curves curves_from_text(const std::string& text) {
  try {
    const auto json = nlohmann::json::parse(text);
    require(json.at("schema") == 1, "curves of another version");
    Curves curves;
    curves.network_latency = json.at("network_latency").get<double>();
    for (const auto& layer : json.at("layers")) {
      auto& curve = curves.layers.emplace_back();
      curve.pull = layer.at("pull").get<double>();
      curve.dense_latency = layer.at("dense_latency").get<double>();
      for (const auto& row : layer.at("rows")) {
        auto& points = curve.rows.emplace_back();
        for (const auto& point : row) {
          auto& to = points.emplace_back();
          to.split = {point.at("groups").get<std::int64_t>(), point.at("rank").get<std::int64_t>()};
          to.error_selection = point.at("error_selection").get<double>();
          if (point.contains("kl")) to.kl = point.at("kl").get<double>();
          if (point.contains("latency")) to.latency = point.at("latency").get<double>();
        }
      }
    }
    return curves;
  } catch (const nlohmann::json::exception&) {
    throw Error(ExitCode::bad_data, "curves.json is damaged; use --fresh to start anew");
  }
}

} // namespace slr::run
