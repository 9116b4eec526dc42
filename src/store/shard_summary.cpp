#include "shard_summary.hpp"

#include "slr/base/error.hpp"
#include "slr/mpi/agree.hpp"

#include <nlohmann/json.hpp>

#include <cstring>

namespace slr::store {
namespace {

using Json = nlohmann::json;

Json to_json(const ShardSummary::Layer& layer) {
  const auto& known = layer.found.layer;
  std::vector<std::uint8_t> numbers(layer.samples.size() * sizeof(std::int64_t));
  if (!numbers.empty()) std::memcpy(numbers.data(), layer.samples.data(), numbers.size());
  // Names and texts travel as bytes: another program may not have written UTF-8.
  const auto bytes = [](const std::string& text) { return Json::binary({text.begin(), text.end()}); };
  return {{"name", bytes(known.name)},
          {"group", bytes(layer.found.group)},
          {"inputs", known.inputs},
          {"outputs", known.outputs},
          {"positions", known.positions},
          {"kernel", known.kernel},
          {"strides", known.strides},
          {"pads", known.pads},
          {"dilations", known.dilations},
          {"activation", bytes(known.activation)},
          {"parameters", known.activation_parameters},
          {"rows", layer.found.rows},
          {"has", layer.found.has_quantity},
          {"has_samples", layer.found.has_samples},
          {"samples", Json::binary(std::move(numbers))}};
}

std::string text_of(const Json& value) {
  const auto& bytes = value.get_binary();
  return {bytes.begin(), bytes.end()};
}

ShardSummary::Layer layer_from(const Json& json) {
  ShardSummary::Layer layer;
  auto& known = layer.found.layer;
  known.name = text_of(json.at("name"));
  layer.found.group = text_of(json.at("group"));
  json.at("inputs").get_to(known.inputs);
  json.at("outputs").get_to(known.outputs);
  json.at("positions").get_to(known.positions);
  json.at("kernel").get_to(known.kernel);
  json.at("strides").get_to(known.strides);
  json.at("pads").get_to(known.pads);
  json.at("dilations").get_to(known.dilations);
  known.activation = text_of(json.at("activation"));
  json.at("parameters").get_to(known.activation_parameters);
  json.at("rows").get_to(layer.found.rows);
  json.at("has").get_to(layer.found.has_quantity);
  json.at("has_samples").get_to(layer.found.has_samples);
  const auto& numbers = json.at("samples").get_binary();
  layer.samples.resize(numbers.size() / sizeof(std::int64_t));
  if (!numbers.empty()) std::memcpy(layer.samples.data(), numbers.data(), numbers.size());
  return layer;
}

Json summarize_file(const std::filesystem::path& file, std::size_t number) {
  const ShardReader reader(file);
  Json json{{"file", number}, {"layers", Json::array()}};
  if (const auto& header = reader.header()) {
    const auto bytes = [](const std::string& text) { return Json::binary({text.begin(), text.end()}); };
    json["header"] = {{"model", bytes(header->model_sha256)},
                      {"config", bytes(header->config_hash)},
                      {"index", header->index},
                      {"count", header->count}};
  }
  for (const auto& found : reader.layers())
    json["layers"].push_back(
        to_json({found, found.has_samples ? reader.samples(found.layer.name) : std::vector<std::int64_t>{}}));
  return json;
}

ShardSummary summary_from(const Json& json) {
  ShardSummary summary;
  json.at("file").get_to(summary.file);
  if (json.contains("header")) {
    const auto& header = json.at("header");
    summary.header = ShardHeader{text_of(header.at("model")), text_of(header.at("config")),
                                 header.at("index").get<std::int64_t>(), header.at("count").get<std::int64_t>()};
  }
  for (const auto& layer : json.at("layers")) summary.layers.push_back(layer_from(layer));
  return summary;
}

} // namespace

std::vector<ShardSummary> summarize(const Communicator& comm, const std::vector<std::filesystem::path>& files) {
  const auto mine = collectively(comm, [&] {
    Json list = Json::array();
    const auto step = static_cast<std::size_t>(comm.size());
    for (auto i = static_cast<std::size_t>(comm.rank()); i < files.size(); i += step)
      list.push_back(summarize_file(files[i], i));
    return Json::to_cbor(list);
  });
  // CBOR values can stand one after the other, so the pieces of the ranks need no frame but their lengths.
  const auto lengths = comm.allgather_value(static_cast<std::int64_t>(mine.size()));
  const auto gathered = comm.gather(std::span<const std::uint8_t>(mine));
  const auto all = comm.broadcast_text(std::string(gathered.begin(), gathered.end()));
  std::vector<ShardSummary> summaries(files.size());
  std::size_t at = 0;
  for (const auto length : lengths) {
    for (const auto& json : Json::from_cbor(all.begin() + static_cast<std::ptrdiff_t>(at),
                                            all.begin() + static_cast<std::ptrdiff_t>(at) + length)) {
      auto summary = summary_from(json);
      summaries.at(static_cast<std::size_t>(summary.file)) = std::move(summary);
    }
    at += static_cast<std::size_t>(length);
  }
  return summaries;
}

} // namespace slr::store
