// The resolved configuration: as JSON, as YAML, as a hash, compared with another, and the reference of its keys.
#include "schema.hpp"
#include "slr/base/hash.hpp"
#include "slr/run/json_text.hpp"

#include <algorithm>

namespace slr::run {
namespace {

using ErrorHandler = nlohmann::ordered_json::error_handler_t;

/// A value on one line: JSON is YAML, and a plain word needs no quotes in it. Paths may hold bytes that are not UTF-8.
std::string flow(const Json& value) {
  if (value.is_string()) {
    const auto& word = value.get_ref<const std::string&>();
    const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || c == '_'; };
    if (!word.empty() && word != "null" && std::all_of(word.begin(), word.end(), is_letter)) return word;
  }
  return value.dump(-1, ' ', false, ErrorHandler::replace);
}

/// The value at a dotted key of nested objects; null if there is none.
nlohmann::json value_at(const nlohmann::json& root, const std::string& dotted_key) {
  const nlohmann::json* node = &root;
  std::size_t begin = 0;
  while (true) {
    const auto dot = dotted_key.find('.', begin);
    if (!node->is_object()) return nullptr;
    const auto child = node->find(dotted_key.substr(begin, dot - begin));
    if (child == node->end()) return nullptr;
    node = &*child;
    if (dot == std::string::npos) return *node;
    begin = dot + 1;
  }
}

/// The configuration with what depends on other keys filled in.
Configuration complete(Configuration config) {
  config.method.iterations = config.method.iteration_limit();
  return config;
}

std::string shown(const nlohmann::json& value) {
  return value.is_null() ? "not set" : printable(value.dump(-1, ' ', false, ErrorHandler::replace), 200);
}

} // namespace

nlohmann::ordered_json resolved_json(const Configuration& config, PathForm form) {
  const auto whole = complete(config);
  Json result = Json::object();
  for (const auto& entry : schema())
    if (auto value = entry.write(whole, form); !value.is_null()) put(result, entry.key, std::move(value));
  return result;
}

std::string resolved_yaml(const Configuration& config) {
  const auto whole = complete(config);
  std::string text;
  std::vector<std::string> open; // the sections that the last line was in
  for (const auto& entry : schema()) {
    const auto value = entry.write(whole, PathForm::absolute);
    if (value.is_null()) continue;
    std::vector<std::string> parts;
    for (std::size_t begin = 0, dot = 0; dot != std::string::npos; begin = dot + 1) {
      dot = entry.key.find('.', begin);
      parts.push_back(entry.key.substr(begin, dot - begin));
    }
    std::size_t common = 0;
    while (common < open.size() && common + 1 < parts.size() && open[common] == parts[common]) ++common;
    for (std::size_t level = common; level + 1 < parts.size(); ++level)
      text += std::string(2 * level, ' ') + parts[level] + ":\n";
    open.assign(parts.begin(), parts.end() - 1);
    text += std::string(2 * open.size(), ' ') + parts.back() + ": " + flow(value) + " # " + entry.doc + "\n";
  }
  return text;
}

std::string configuration_hash(const Configuration& config) {
  const auto whole = complete(config);
  nlohmann::json hashed; // sorted: moving a key in the documentation does not change the hash
  for (const auto& entry : schema())
    if (entry.is_hashed)
      if (auto value = entry.write(whole, PathForm::absolute); !value.is_null()) hashed[entry.key] = std::move(value);
  return sha256(hashed.dump(-1, ' ', false, ErrorHandler::replace));
}

std::string first_stages_hash(const Configuration& config) {
  const auto whole = complete(config);
  const auto counts = [](const std::string& key) {
    return key == "model" || key == "budget.keep" || key == "on_failure" || key.starts_with("data.calibration.") ||
           key.starts_with("data.preprocess.") || key.starts_with("calibration.") || key.starts_with("method.");
  };
  nlohmann::json hashed;
  for (const auto& entry : schema())
    if (counts(entry.key))
      if (auto value = entry.write(whole, PathForm::absolute); !value.is_null()) hashed[entry.key] = std::move(value);
  hashed["budget.latency"] = !config.budget.latency.empty(); // then the curves hold times
  return sha256(hashed.dump(-1, ' ', false, ErrorHandler::replace));
}

std::string Difference::sentence() const {
  return "differs in " + key + ": " + there + " there, " + here + " here";
}

std::optional<Difference> first_difference(const nlohmann::json& there, const Configuration& here) {
  const auto whole = complete(here);
  for (const auto& entry : schema()) {
    if (!entry.is_hashed) continue;
    const nlohmann::json mine = entry.write(whole, PathForm::absolute);
    const auto other = value_at(there, entry.key);
    if (mine != other) return Difference{entry.key, shown(other), shown(mine)};
  }
  return std::nullopt;
}

std::string configuration_reference() {
  const Configuration defaults;
  std::string text = "| key | value | default | meaning |\n| --- | --- | --- | --- |\n";
  for (const auto& entry : schema()) {
    const auto value = entry.write(defaults, PathForm::as_given);
    text += "| `" + entry.key + "` | " + entry.expected + " | " + (value.is_null() ? "" : "`" + flow(value) + "`") +
            " | " + entry.doc + " |\n";
  }
  return text;
}

} // namespace slr::run
