#pragma once
// The parts of slr_inspect, one per kind of content. All are Local; a Communicator is one of this process alone, which
// the store needs to open a set of shards.
#include "slr/mpi/communicator.hpp"

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace slr::run {

/// Takes whole lines for standard output as soon as they are known.
using Print = std::function<void(const std::string&)>;

/// "  label             value\n", the value made safe to show.
[[nodiscard]] std::string fact(const std::string& label, const std::string& value);
/// "1 image", "2 images".
[[nodiscard]] std::string counted(std::int64_t count, const std::string& noun);
/// Six digits.
[[nodiscard]] std::string figure(double value);

/// Rows of cells as aligned lines: texts to the left, what begins with a digit or sign to the right.
class TextTable {
public:
  explicit TextTable(std::vector<std::string> heading) : rows_{std::move(heading)} {}
  /// \pre as many cells as the heading has
  void add(std::vector<std::string> row);
  [[nodiscard]] std::string text() const;

private:
  std::vector<std::vector<std::string>> rows_;
};

void inspect_model(const std::filesystem::path& file, bool verify, const Print& print);
void inspect_images(const std::filesystem::path& file, bool verify, const Print& print);
void inspect_shard(const std::filesystem::path& file, bool verify, const Print& print);
void inspect_features(const Communicator& alone, const std::filesystem::path& folder, bool verify, const Print& print);
void inspect_factors(const std::filesystem::path& file, bool verify, const Print& print);
void inspect_checkpoint(const std::filesystem::path& file, const Print& print);
void inspect_manifest(const std::filesystem::path& file, const nlohmann::ordered_json& manifest, const Print& print);
void inspect_report(const std::filesystem::path& file, const nlohmann::ordered_json& report, const Print& print);
void inspect_run(const std::filesystem::path& folder, const Print& print);

[[nodiscard]] bool is_manifest(const nlohmann::ordered_json& value);
[[nodiscard]] bool is_report(const nlohmann::ordered_json& value);
/// A run's folder: it has its mark, its manifest or its report.
[[nodiscard]] bool is_run_folder(const std::filesystem::path& folder);

/// Holds the run against its manifest; prints every comparison. \throws Error{bad_data} naming the first difference.
void verify_run(const Communicator& alone, const std::filesystem::path& manifest, const Print& print);

} // namespace slr::run
