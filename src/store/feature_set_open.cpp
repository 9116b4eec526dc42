// Finding the files of a set of shards, and holding their contents against each other.
#include "slr/store/feature_set.hpp"

#include "shard_summary.hpp"
#include "slr/base/error.hpp"
#include "slr/base/narrow.hpp"
#include "slr/base/text.hpp"
#include "slr/mpi/agree.hpp"

#include <algorithm>
#include <glob.h>
#include <memory>
#include <numeric>

namespace slr::store {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> files_in(const fs::path& folder, std::string_view pattern) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_regular_file() && glob_match(pattern, entry.path().filename().string()) &&
        !entry.path().filename().string().starts_with('.'))
      files.push_back(entry.path());
  return files;
}

std::vector<fs::path> files_of_folder(const fs::path& folder) {
  auto files = files_in(folder, "shard-*.h5");
  if (files.empty()) return files_in(folder, "*.h5");
  if (!fs::is_directory(folder / "inputs")) return files;
  for (const auto& entry : fs::directory_iterator(folder / "inputs")) {
    if (!entry.is_directory()) continue;
    const auto more = files_in(entry.path(), "shard-*.h5");
    files.insert(files.end(), more.begin(), more.end());
  }
  return files;
}

std::vector<fs::path> files_of_pattern(const std::string& pattern) {
  ::glob_t found{};
  const std::unique_ptr<::glob_t, void (*)(::glob_t*)> owner(&found, ::globfree);
  const int result = ::glob(pattern.c_str(), GLOB_NOSORT, nullptr, &found);
  if (result != 0 && result != GLOB_NOMATCH) throw Error(ExitCode::io, "cannot list the files " + pattern);
  return {found.gl_pathv, found.gl_pathv + found.gl_pathc};
}

} // namespace

std::vector<fs::path> shard_files(const std::string& place) {
  std::vector<fs::path> files;
  try {
    if (fs::is_directory(place))
      files = files_of_folder(place);
    else if (fs::is_regular_file(place))
      files = {place};
    else
      files = files_of_pattern(place);
  } catch (const fs::filesystem_error& error) {
    throw Error(ExitCode::io, "cannot list the feature shards of " + place + ": " + error.code().message());
  }
  if (files.empty()) throw Error(ExitCode::bad_data, "there are no feature shards (*.h5) at " + place);
  return files;
}

/// Puts summaries together. What contradicts becomes a sentence.
class FeatureSetBuilder {
public:
  FeatureSetBuilder(std::vector<fs::path> files, std::vector<ShardSummary> summaries)
      : summaries_(std::move(summaries)) {
    set_.files_ = std::move(files);
  }

  FeatureSet build() {
    check_headers();
    check_folders();
    for (const auto& summary : summaries_)
      for (const auto& layer : summary.layers) add(summary.file, layer);
    for (auto& [name, table] : set_.tables_) order(table);
    return std::move(set_);
  }

private:
  using Table = FeatureSet::Table;

  /// Rows in the order of the files, before they are ordered by sample.
  struct Column {
    std::vector<std::int64_t> samples;
    std::vector<FeatureSet::Location> locations;
    std::optional<bool> has_samples;
  };

  [[nodiscard]] std::string file_name(std::int32_t file) const {
    return set_.files_[static_cast<std::size_t>(file)].string();
  }
  [[nodiscard]] static Error wrong(const std::string& sentence) {
    return Error(ExitCode::bad_data, sentence + ": calibrate again, or remove what does not belong here");
  }

  /// One model and one configuration.
  void check_headers() {
    const ShardSummary* known = nullptr;
    for (const auto& summary : summaries_) {
      if (!summary.header) continue;
      if (known == nullptr) known = &summary;
      const auto &first = *known->header, &here = *summary.header;
      const char* what = first.model_sha256 != here.model_sha256 ? "networks"
                         : first.config_hash != here.config_hash ? "configurations"
                                                                 : nullptr;
      if (what != nullptr)
        throw wrong(file_name(known->file) + " and " + file_name(summary.file) + " come from different " + what);
    }
    if (known == nullptr) return;
    set_.model_sha256_ = known->header->model_sha256;
    set_.config_hash_ = known->header->config_hash;
  }

  /// In every folder either no shard is numbered, or each of 0 .. count - 1 is there once, with the same layers.
  void check_folders() const {
    std::map<fs::path, std::vector<const ShardSummary*>> folders;
    for (const auto& summary : summaries_)
      folders[set_.files_[static_cast<std::size_t>(summary.file)].parent_path()].push_back(&summary);
    for (const auto& [folder, members] : folders) {
      const bool is_numbered = members.front()->header.has_value();
      std::map<std::int64_t, const ShardSummary*> by_index;
      for (const auto* member : members) {
        if (member->header.has_value() != is_numbered)
          throw wrong(file_name(member->file) + " and its neighbours are not from one program");
        if (is_numbered) check_member(*members.front(), *member, by_index);
      }
      if (!is_numbered || std::ssize(by_index) == members.front()->header->count) continue;
      std::int64_t missing = 0;
      while (by_index.contains(missing)) ++missing;
      throw wrong("shard " + std::to_string(missing) + " of " + std::to_string(members.front()->header->count) +
                  " is missing in " + (folder.empty() ? "." : folder.string()));
    }
  }

  void check_member(const ShardSummary& first, const ShardSummary& member,
                    std::map<std::int64_t, const ShardSummary*>& by_index) const {
    if (member.header->count != first.header->count)
      throw wrong(file_name(first.file) + " and " + file_name(member.file) + " belong to different numbers of shards");
    const auto [at, is_new] = by_index.emplace(member.header->index, &member);
    if (!is_new)
      throw wrong(file_name(at->second->file) + " and " + file_name(member.file) + " are both shard " +
                  std::to_string(member.header->index));
    const auto names = [](const ShardSummary& summary) {
      std::vector<std::string> all;
      for (const auto& layer : summary.layers) all.push_back(layer.found.layer.name);
      return all;
    };
    if (names(member) != names(first))
      throw wrong(file_name(first.file) + " and " + file_name(member.file) + " do not have the same layers");
  }

  void add(std::int32_t file, const ShardSummary::Layer& layer) {
    const auto& found = layer.found;
    auto& table = set_.tables_[found.layer.name];
    merge(table, found.layer, file);
    table.groups[file] = found.group;
    for (int quantity = 0; quantity < 3; ++quantity) {
      if (!found.has_quantity[quantity]) continue;
      table.has[quantity] = true;
      auto& column = columns_[found.layer.name][quantity];
      if (column.has_samples.value_or(found.has_samples) != found.has_samples)
        throw wrong("some shards number the samples of layer " + found.layer.name + ", " + file_name(file) +
                    (found.has_samples ? " does and others do not" : " does not"));
      column.has_samples = found.has_samples;
      for (std::int64_t row = 0; row < found.rows; ++row) {
        column.samples.push_back(found.has_samples ? layer.samples[static_cast<std::size_t>(row)]
                                                   : std::ssize(column.samples));
        column.locations.push_back({file, row});
      }
    }
  }

  /// What two files say about a layer; a size of 0 says nothing.
  void merge(Table& table, const FeatureLayer& here, std::int32_t file) const {
    auto& known = table.layer;
    if (table.groups.empty()) {
      known = here;
      return;
    }
    auto expected = here;
    if (expected.inputs == 0) expected.inputs = known.inputs;
    if (expected.outputs == 0) expected.outputs = known.outputs;
    if (known.inputs == 0) known.inputs = expected.inputs;
    if (known.outputs == 0) known.outputs = expected.outputs;
    if (!(known == expected))
      throw wrong("layer " + here.name + " has other sizes or attributes in " + file_name(file) + " than in " +
                  file_name(table.groups.begin()->first));
  }

  /// Brings every column of the table into the order of the sample numbers, which must be the same in all.
  void order(Table& table) {
    const std::string& name = table.layer.name;
    bool is_first = true;
    for (int quantity = 0; quantity < 3; ++quantity) {
      if (!table.has[quantity]) continue;
      auto& column = columns_[name][quantity];
      std::vector<std::size_t> by_sample(column.samples.size());
      std::iota(by_sample.begin(), by_sample.end(), std::size_t{0});
      std::sort(by_sample.begin(), by_sample.end(), [&](std::size_t a, std::size_t b) {
        return column.samples[a] != column.samples[b] ? column.samples[a] < column.samples[b] : a < b;
      });
      std::vector<std::int64_t> samples;
      auto& locations = table.locations[quantity];
      for (const auto i : by_sample) {
        samples.push_back(column.samples[i]);
        locations.push_back(column.locations[i]);
        const auto last = samples.size() - 1;
        if (last > 0 && samples[last] == samples[last - 1])
          throw wrong("sample " + std::to_string(samples[last]) + " of layer " + name + " is both in " +
                      file_name(locations[last - 1].file) + " and in " + file_name(locations[last].file));
      }
      column = {};
      if (is_first)
        table.samples = std::move(samples);
      else if (samples != table.samples)
        throw wrong(std::string(dataset_name(static_cast<Quantity>(quantity))) + " of layer " + name + " has " +
                    std::to_string(samples.size()) + " samples that are not the " +
                    std::to_string(table.samples.size()) + " of its other datasets");
      is_first = false;
    }
  }

  std::vector<ShardSummary> summaries_;
  std::map<std::string, std::map<int, Column>> columns_;
  FeatureSet set_;
};

FeatureSet FeatureSet::open(const Communicator& comm, const std::string& place) {
  std::vector<fs::path> files;
  on_root(comm, [&] { files = shard_files(place); });
  return open_files(comm, std::move(files));
}

FeatureSet FeatureSet::open_files(const Communicator& comm, std::vector<fs::path> files) {
  std::sort(files.begin(), files.end(), [](const fs::path& a, const fs::path& b) { return a.native() < b.native(); });
  files.erase(std::unique(files.begin(), files.end()), files.end());
  std::string names; // zero-terminated, one after the other
  for (const auto& file : files) names += file.native() + '\0';
  names = comm.broadcast_text(names);
  files.clear();
  for (std::size_t at = 0; at < names.size(); at = names.find('\0', at) + 1) files.emplace_back(names.c_str() + at);
  auto summaries = summarize(comm, files);
  return collectively(comm, [&] { return FeatureSetBuilder(std::move(files), std::move(summaries)).build(); });
}

} // namespace slr::store
