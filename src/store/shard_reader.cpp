#include "slr/base/error.hpp"
#include "slr/store/feature_shards.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace slr::store {
namespace {

constexpr int deepest_group = 16;
constexpr std::size_t most_layers = 100'000;
constexpr Quantity all_quantities[] = {Quantity::original_inputs, Quantity::inputs, Quantity::outputs};

std::optional<ShardHeader> read_header(const Hdf5File& file) {
  const auto index = file.attribute_as<std::int64_t>("/", "shard_index");
  if (!index) return std::nullopt;
  const auto schema = file.attribute_as<std::int64_t>("/", "schema").value_or(0);
  if (schema != ShardHeader::current_schema)
    throw Error(ExitCode::bad_data, file.path().string() + " has schema " + std::to_string(schema) +
                                        " of feature shards, this program reads " +
                                        std::to_string(ShardHeader::current_schema) + ": calibrate again");
  ShardHeader header{file.attribute_as<std::string>("/", "model_sha256").value_or(""),
                     file.attribute_as<std::string>("/", "config_hash").value_or(""), *index,
                     file.attribute_as<std::int64_t>("/", "shard_count").value_or(0)};
  if (header.index < 0 || header.index >= header.count)
    throw Error(ExitCode::bad_data, file.path().string() + " says that it is shard " + std::to_string(header.index) +
                                        " of " + std::to_string(header.count) + ": calibrate again");
  return header;
}

FeatureLayer read_attributes(const Hdf5File& file, const std::string& group) {
  FeatureLayer layer;
  layer.name = file.attribute_as<std::string>(group, "name").value_or(unescape_name(group.substr(1)));
  layer.inputs = file.attribute_as<std::int64_t>(group, "inputs").value_or(0);
  layer.outputs = file.attribute_as<std::int64_t>(group, "outputs").value_or(0);
  layer.positions = file.attribute_as<std::int64_t>(group, "positions").value_or(0);
  using List = std::vector<std::int64_t>;
  layer.kernel = file.attribute_as<List>(group, "kernel").value_or(List{});
  layer.strides = file.attribute_as<List>(group, "strides").value_or(List{});
  layer.pads = file.attribute_as<List>(group, "pads").value_or(List{});
  layer.dilations = file.attribute_as<List>(group, "dilations").value_or(List{});
  layer.activation = file.attribute_as<std::string>(group, "activation").value_or("");
  layer.activation_parameters =
      file.attribute_as<std::vector<double>>(group, "activation_parameters").value_or(std::vector<double>{});
  return layer;
}

} // namespace

ShardReader::ShardReader(const std::filesystem::path& file) : file_(Hdf5File::open(file)), header_(read_header(file_)) {
  find_layers("/", 0);
  std::sort(layers_.begin(), layers_.end(), [](const Layer& a, const Layer& b) { return a.layer.name < b.layer.name; });
  const auto twice = std::adjacent_find(layers_.begin(), layers_.end(),
                                        [](const Layer& a, const Layer& b) { return a.layer.name == b.layer.name; });
  if (twice != layers_.end())
    throw Error(ExitCode::bad_data, path().string() + " has two groups for layer " + twice->layer.name);
}

void ShardReader::find_layers(const std::string& group, int depth) {
  if (depth > deepest_group || layers_.size() > most_layers)
    throw Error(ExitCode::bad_data, path().string() + " nests its groups too deeply to be a feature shard");
  const std::string prefix = group == "/" ? "/" : group + "/";
  for (const auto& name : file_.children(group)) {
    const std::string child = prefix + name;
    if (!file_.is_group(child)) continue;
    const bool is_layer = std::any_of(std::begin(all_quantities), std::end(all_quantities), [&](Quantity quantity) {
      return file_.is_dataset(child + "/" + dataset_name(quantity));
    });
    if (is_layer)
      layers_.push_back(describe_layer(child));
    else if (file_.exists(child + "/sample") || file_.attribute(child, "name"))
      continue; // a layer without features
    else
      find_layers(child, depth + 1);
  }
}

ShardReader::Layer ShardReader::describe_layer(const std::string& group) const {
  Layer found{read_attributes(file_, group), group, -1, {}, file_.is_dataset(group + "/sample")};
  const auto contradiction = [&](const std::string& what) {
    return Error(ExitCode::bad_data,
                 path().string() + ": " + what + " in layer " + found.layer.name + ": write the shards again");
  };
  const auto take = [&](std::int64_t& known, std::int64_t value, std::int64_t unknown, const std::string& what) {
    if (known != unknown && known != value)
      throw contradiction(what + " differs (" + std::to_string(known) + " and " + std::to_string(value) + ")");
    known = value;
  };
  for (const auto quantity : all_quantities) {
    const std::string name = group + "/" + dataset_name(quantity);
    if (!file_.is_dataset(name)) continue;
    const auto info = file_.dataset(name).info();
    if (info.element_class != ElementClass::floating || info.dims.size() != 2 || info.dims[1] < 1)
      throw contradiction(std::string(dataset_name(quantity)) + " is not a matrix of floating numbers");
    take(found.rows, info.dims[0], -1, "the number of samples");
    if (quantity == Quantity::outputs)
      take(found.layer.outputs, info.dims[1], 0, "the number of outputs");
    else
      take(found.layer.inputs, info.dims[1], 0, "the number of inputs");
    found.has_quantity[static_cast<int>(quantity)] = true;
  }
  if (found.has_samples) {
    const auto info = file_.dataset(group + "/sample").info();
    if (info.element_class != ElementClass::integer || info.dims.size() != 1)
      throw contradiction("sample is not a list of integers");
    take(found.rows, info.dims[0], -1, "the number of samples");
  }
  return found;
}

const ShardReader::Layer& ShardReader::layer(const std::string& name) const {
  const auto found = std::lower_bound(layers_.begin(), layers_.end(), name,
                                      [](const Layer& a, const std::string& b) { return a.layer.name < b; });
  if (found == layers_.end() || found->layer.name != name)
    throw Error(ExitCode::bad_data, path().string() + " has no layer " + name);
  return *found;
}

std::vector<std::int64_t> ShardReader::samples(const std::string& name) const {
  return file_.dataset(layer(name).group + "/sample").read<std::int64_t>();
}

std::vector<float> ShardReader::read(const std::string& name, Quantity quantity, std::int64_t first,
                                     std::int64_t count) const {
  const auto& found = layer(name);
  require(first >= 0 && count >= 0 && first <= found.rows && count <= found.rows - first,
          "rows outside a shard were to be read");
  const auto width = quantity == Quantity::outputs ? found.layer.outputs : found.layer.inputs;
  std::vector<float> out(static_cast<std::size_t>(count * width));
  std::vector<RowCopy> rows(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) rows[static_cast<std::size_t>(i)] = {first + i, i};
  read(name, quantity, rows, out);
  return out;
}

void ShardReader::read(const std::string& name, Quantity quantity, std::span<const RowCopy> rows,
                       std::span<float> out) const {
  const auto& found = layer(name);
  if (!found.has(quantity))
    throw Error(ExitCode::bad_data, path().string() + " has no " + dataset_name(quantity) + " for layer " + name);
  const auto dataset = file_.dataset(found.group + "/" + dataset_name(quantity));
  const auto width = static_cast<std::size_t>(dataset.info().row_elements());
  // A window is one chunk, so that no chunk is unpacked twice.
  const auto window_rows = dataset.info().is_chunked()
                               ? dataset.info().chunk_rows
                               : std::max<std::int64_t>(1, default_chunk_bytes / std::int64_t(width * sizeof(float)));
  std::vector<float> window;
  for (std::size_t at = 0; at < rows.size();) {
    const auto first = rows[at].row;
    const auto limit = (first / window_rows + 1) * window_rows;
    std::size_t end = at;
    while (end < rows.size() && rows[end].row < limit) ++end;
    const auto count = rows[end - 1].row + 1 - first;
    window.resize(static_cast<std::size_t>(count) * width);
    dataset.read_rows(first, count, std::span<float>(window));
    for (; at < end; ++at) {
      const auto* row = window.data() + static_cast<std::size_t>(rows[at].row - first) * width;
      if (!std::all_of(row, row + width, [](float x) { return std::isfinite(x); }))
        throw_not_finite(found, quantity, rows[at].row);
      std::copy(row, row + width, out.begin() + rows[at].to * static_cast<std::ptrdiff_t>(width));
    }
  }
}

void ShardReader::announce(const std::string& name, Quantity quantity, std::int64_t first, std::int64_t count) const {
  const auto& found = layer(name);
  (void)file_.dataset(found.group + "/" + dataset_name(quantity)).announce_rows(first, count);
}

void ShardReader::throw_not_finite(const Layer& found, Quantity quantity, std::int64_t row) const {
  const bool has_number = found.has_samples;
  const auto number = has_number ? samples(found.layer.name)[static_cast<std::size_t>(row)] : row;
  throw Error(ExitCode::numerical, "layer " + found.layer.name + " of " + path().string() +
                                       " has a value that is not finite in " + dataset_name(quantity) +
                                       (has_number ? ", sample " : ", row ") + std::to_string(number) +
                                       ": check the images and the network, then write the shards again");
}

} // namespace slr::store
