#include "slr/store/feature_set.hpp"

#include "slr/base/error.hpp"
#include "slr/base/narrow.hpp"
#include "slr/base/text.hpp"
#include "slr/mpi/agree.hpp"

#include <algorithm>
#include <numeric>

namespace slr::store {
namespace {

constexpr std::size_t most_open_files = 8;

} // namespace

const FeatureSet::Table& FeatureSet::table(const std::string& layer) const {
  const auto found = tables_.find(layer);
  if (found != tables_.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [name, table] : tables_) names.push_back(name);
  const auto nearest = nearest_name(layer, names);
  throw Error(ExitCode::bad_data,
              "the feature shards have no layer " + layer + (nearest.empty() ? "" : "; did you mean " + nearest + "?"));
}

std::vector<FeatureLayer> FeatureSet::layers() const {
  std::vector<FeatureLayer> all;
  for (const auto& [name, table] : tables_) all.push_back(table.layer);
  return all;
}

const FeatureLayer& FeatureSet::layer(const std::string& name) const {
  return table(name).layer;
}

bool FeatureSet::has(const std::string& layer, Quantity quantity) const {
  const auto found = tables_.find(layer);
  if (found == tables_.end()) return false;
  const auto& table = found->second;
  return table.has[static_cast<int>(quantity)];
}

std::span<const std::int64_t> FeatureSet::samples(const std::string& layer) const {
  return table(layer).samples;
}

std::span<const FeatureSet::Location> FeatureSet::locations(const std::string& layer, Quantity quantity) const {
  return table(layer).locations[static_cast<int>(quantity)];
}

const std::string& FeatureSet::group(const std::string& layer, std::int32_t file) const {
  const auto& groups = table(layer).groups;
  const auto found = groups.find(file);
  require(found != groups.end(), "a shard was asked for a layer that it does not have");
  return found->second;
}

std::vector<float> FeatureSet::read(const std::string& layer, Quantity quantity, std::int64_t first,
                                    std::int64_t count) const {
  const auto& wanted = table(layer);
  const auto total = std::ssize(wanted.samples);
  require(first >= 0 && count >= 0 && first <= total && count <= total - first,
          "samples outside a layer's features were to be read");
  std::vector<std::int64_t> positions(static_cast<std::size_t>(count));
  std::iota(positions.begin(), positions.end(), first);
  return read_positions(wanted, quantity, positions);
}

std::vector<float> FeatureSet::read(const std::string& layer, Quantity quantity,
                                    std::span<const std::int64_t> sample_numbers) const {
  const auto& wanted = table(layer);
  std::vector<std::int64_t> positions;
  positions.reserve(sample_numbers.size());
  for (const auto number : sample_numbers) {
    const auto at = std::lower_bound(wanted.samples.begin(), wanted.samples.end(), number);
    if (at == wanted.samples.end() || *at != number)
      throw Error(ExitCode::bad_data, "the feature shards have no sample " + std::to_string(number) + " of layer " +
                                          layer + ": calibrate again with the images that are asked for");
    positions.push_back(at - wanted.samples.begin());
  }
  return read_positions(wanted, quantity, positions);
}

std::vector<float> FeatureSet::read_positions(const Table& wanted, Quantity quantity,
                                              std::span<const std::int64_t> positions) const {
  const auto& locations = wanted.locations[static_cast<int>(quantity)];
  if (!wanted.has[static_cast<int>(quantity)])
    throw Error(ExitCode::bad_data, std::string("the feature shards have no ") + dataset_name(quantity) +
                                        " for layer " + wanted.layer.name);
  const auto width = quantity == Quantity::outputs ? wanted.layer.outputs : wanted.layer.inputs;
  const auto elements = checked_product(std::ssize(positions), width, "the features of " + wanted.layer.name);
  std::vector<float> out(static_cast<std::size_t>(elements));

  std::map<std::int32_t, std::vector<ShardReader::RowCopy>> by_file;
  for (std::size_t i = 0; i < positions.size(); ++i) {
    const auto& location = locations[static_cast<std::size_t>(positions[i])];
    by_file[location.file].push_back({location.row, static_cast<std::int64_t>(i)});
  }
  for (auto& [file, rows] : by_file) {
    std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.row < b.row; });
    reader(file).read(wanted.layer.name, quantity, rows, out);
  }
  return out;
}

void FeatureSet::announce(const std::string& layer, Quantity quantity, std::int64_t first, std::int64_t count) const {
  if (!has(layer, quantity)) return;
  const auto places =
      locations(layer, quantity).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
  struct Rows {
    std::int64_t first = 0, end = 0;
  };
  std::map<std::int32_t, Rows> rows; // by file
  for (const auto& place : places) {
    auto& here = rows.try_emplace(place.file, Rows{place.row, place.row + 1}).first->second;
    here = {std::min(here.first, place.row), std::max(here.end, place.row + 1)};
  }
  for (const auto& [file, range] : rows) reader(file).announce(layer, quantity, range.first, range.end - range.first);
}

const ShardReader& FeatureSet::reader(std::int32_t file) const {
  for (const auto& [number, reader] : open_)
    if (number == file) return reader;
  if (open_.size() == most_open_files) open_.pop_front();
  return open_.emplace_back(file, ShardReader(files_[static_cast<std::size_t>(file)])).second;
}

} // namespace slr::store
