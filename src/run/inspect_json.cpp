// What a run says about itself: manifest, report, output folder.
#include "inspect_parts.hpp"

#include "slr/base/text.hpp"
#include "slr/run/json_text.hpp"
#include "slr/run/output_folder.hpp"
#include "slr/run/report_table.hpp"

#include <algorithm>

namespace slr::run {
namespace {

namespace fs = std::filesystem;
using json = nlohmann::ordered_json;

std::string words_for(const json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string fact_of(const json& object, const char* key, const std::string& label) {
  const auto found = object.find(key);
  return found == object.end() ? "" : fact(label, words_for(*found));
}

/// "budget.parameters = 3.2", a line per key.
std::string configuration_lines(const json& object) {
  const auto found = object.find("configuration");
  if (found == object.end() || !found->is_object()) return "";
  std::string text = "\nconfiguration\n";
  const auto flat = found->flatten(); // by JSON pointers: "/budget/parameters"
  for (const auto& [pointer, value] : flat.items()) {
    auto key = pointer.substr(std::min<std::size_t>(1, pointer.size()));
    std::replace(key.begin(), key.end(), '/', '.');
    for (const auto& [escape, character] : {std::pair{"~1", "/"}, std::pair{"~0", "~"}})
      for (auto at = key.find(escape); at != std::string::npos; at = key.find(escape, at + 1))
        key.replace(at, 2, character);
    text += "  " + printable(key + " = " + words_for(value)) + "\n";
  }
  return text;
}

std::string hash_lines(const json& manifest, const char* key) {
  const auto found = manifest.find(key);
  if (found == manifest.end() || !found->is_object()) return "";
  std::string text = std::string("\n") + key + "\n";
  for (const auto& [name, hash] : found->items())
    text += "  " + printable(words_for(hash), 64) + "  " + printable(name) + "\n";
  return text;
}

std::int64_t bytes_of(const fs::path& path, std::int64_t& files) {
  if (!fs::is_directory(path)) {
    ++files;
    return static_cast<std::int64_t>(fs::file_size(path));
  }
  std::int64_t bytes = 0;
  for (const auto& entry : fs::recursive_directory_iterator(path)) {
    if (!entry.is_regular_file()) continue;
    ++files;
    bytes += static_cast<std::int64_t>(entry.file_size());
  }
  return bytes;
}

} // namespace

bool is_manifest(const json& value) {
  return value.is_object() && value.contains("configuration") && value.contains("inputs") &&
         value.contains("outputs") && value.contains("shards");
}

bool is_report(const json& value) {
  return value.is_object() && value.contains("model") && value.contains("layers") && value.contains("run");
}

bool is_run_folder(const fs::path& folder) {
  const OutputFiles files{folder};
  return fs::exists(files.job()) || fs::exists(files.manifest()) || fs::exists(files.report());
}

void inspect_manifest(const fs::path& file, const json& manifest, const Print& print) {
  std::string text = file.string() + ": manifest of a run\n";
  text += fact_of(manifest, "program", "program") + fact_of(manifest, "configuration_hash", "configuration") +
          fact_of(manifest, "mpi_ranks", "ranks") + fact_of(manifest, "seed", "seed");
  if (const auto versions = manifest.find("versions"); versions != manifest.end() && versions->is_object())
    for (const auto& [name, version] : versions->items()) text += fact(name, words_for(version));
  text += configuration_lines(manifest);
  text += "\nSHA-256\n";
  for (const auto* key : {"inputs", "shards", "outputs"}) text += hash_lines(manifest, key);
  print(text);
}

void inspect_report(const fs::path& file, const json& report, const Print& print) {
  print(file.string() + ": report of a run\n\n" + report_table(report));
}

void inspect_run(const fs::path& folder, const Print& print) {
  const OutputFiles files{folder};
  const bool is_finished = fs::exists(files.manifest());
  std::string text = folder.string() + ": output folder of a run\n";
  text += fact("state", is_finished                         ? "finished"
                        : fs::exists(files.factors())       ? "unfinished: the layers are solved, the report is missing"
                        : fs::exists(files.features_view()) ? "unfinished: the features are captured"
                                                            : "unfinished: the features are not captured yet");
  for (const auto& path : {files.calibration(), files.features(), files.features_view(), files.compressed(),
                           files.factors(), files.report(), files.manifest(), files.log()}) {
    if (!fs::exists(path)) continue;
    std::int64_t members = 0;
    const auto bytes = words_for_bytes(static_cast<double>(bytes_of(path, members)));
    text += fact(path.filename().string(), fs::is_directory(path) ? bytes + " in " + counted(members, "file") : bytes);
  }
  print(text);
  if (fs::exists(files.job())) print(configuration_lines(read_json(files.job())));
  if (fs::exists(files.report())) print("\n" + report_table(read_json(files.report())));
}

} // namespace slr::run
