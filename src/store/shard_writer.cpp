#include "slr/store/feature_shards.hpp"

#include "slr/base/error.hpp"
#include "slr/base/hash.hpp"

#include <cstdio>

namespace slr::store {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t sample_chunk_bytes = 1 << 16;

std::string group_of(const std::string& layer) {
  return "/" + escape_name(layer);
}

fs::path with_folder(const fs::path& file) {
  std::error_code error;
  if (file.has_parent_path()) fs::create_directories(file.parent_path(), error);
  if (error)
    throw Error(ExitCode::io, "cannot create the folder " + file.parent_path().string() + ": " + error.message());
  return file;
}

} // namespace

const char* dataset_name(Quantity quantity) {
  switch (quantity) {
  case Quantity::original_inputs:
    return "X0";
  case Quantity::inputs:
    return "X";
  case Quantity::outputs:
    return "Y";
  }
  throw Error(ExitCode::bug, "internal error: an unknown quantity of a layer");
}

std::string escape_name(const std::string& name) {
  if (name == ".") return "%2E"; // HDF5's name for the group itself
  if (name == "..") return "%2E%2E";
  std::string escaped;
  for (const char c : name) {
    if (c == '%')
      escaped += "%25";
    else if (c == '/')
      escaped += "%2F";
    else
      escaped += c;
  }
  return escaped;
}

std::string unescape_name(const std::string& escaped) {
  std::string name;
  for (std::size_t at = 0; at < escaped.size(); ++at) {
    const std::string_view code = std::string_view(escaped).substr(at, 3);
    const char c = code == "%25" ? '%' : code == "%2F" ? '/' : code == "%2E" ? '.' : '\0';
    name += c != '\0' ? c : escaped[at];
    if (c != '\0') at += 2;
  }
  return name;
}

fs::path shard_file(const fs::path& folder, std::int64_t index, std::int64_t count) {
  require(index >= 0 && index < count, "a shard number is not below the number of shards");
  char name[64];
  std::snprintf(name, sizeof name, "shard-%05lld-of-%05lld.h5", static_cast<long long>(index),
                static_cast<long long>(count));
  return folder / name;
}

fs::path inputs_folder(const fs::path& folder, const std::string& layer) {
  constexpr std::size_t longest = 200; // file systems end at 255 bytes
  std::string name = escape_name(layer);
  if (name.size() > longest) name = name.substr(0, longest - 17) + "~" + slr::sha256(layer).substr(0, 16);
  return folder / "inputs" / name;
}

ShardWriter::ShardWriter(const fs::path& file, const ShardHeader& header) : file_(Hdf5File::create(with_folder(file))) {
  require(header.index >= 0 && header.index < header.count, "a shard number is not below the number of shards");
  file_.set_attribute("/", "schema", ShardHeader::current_schema);
  file_.set_attribute("/", "model_sha256", header.model_sha256);
  file_.set_attribute("/", "config_hash", header.config_hash);
  file_.set_attribute("/", "shard_index", header.index);
  file_.set_attribute("/", "shard_count", header.count);
}

void ShardWriter::begin_layer(const FeatureLayer& layer) {
  require(!layer.name.empty() && !layers_.contains(layer.name), "a layer of a shard has no name or comes twice");
  const auto group = group_of(layer.name);
  file_.make_group(group);
  file_.set_attribute(group, "name", layer.name);
  file_.set_attribute(group, "inputs", layer.inputs);
  file_.set_attribute(group, "outputs", layer.outputs);
  file_.set_attribute(group, "positions", layer.positions);
  file_.set_attribute(group, "kernel", layer.kernel);
  file_.set_attribute(group, "strides", layer.strides);
  file_.set_attribute(group, "pads", layer.pads);
  file_.set_attribute(group, "dilations", layer.dilations);
  file_.set_attribute(group, "activation", layer.activation);
  file_.set_attribute(group, "activation_parameters", layer.activation_parameters);
  layers_.emplace(layer.name,
                  OpenLayer{layer, {}, RowAppender<std::int64_t>(file_, group + "/sample", {}, sample_chunk_bytes)});
}

ShardWriter::OpenLayer& ShardWriter::open_layer(const std::string& name) {
  const auto found = layers_.find(name);
  require(found != layers_.end(), "layer " + name + " of a shard was not begun");
  return found->second;
}

void ShardWriter::append(const std::string& layer, Quantity quantity, std::span<const float> rows) {
  auto& open = open_layer(layer);
  auto found = open.rows.find(quantity);
  if (found == open.rows.end()) {
    const auto width = quantity == Quantity::outputs ? open.layer.outputs : open.layer.inputs;
    require(width > 0, "layer " + layer + " of a shard has no width");
    found =
        open.rows.emplace(quantity, RowAppender<float>(file_, group_of(layer) + "/" + dataset_name(quantity), {width}))
            .first;
  }
  found->second.append(rows);
}

void ShardWriter::append_samples(const std::string& layer, std::span<const std::int64_t> numbers) {
  open_layer(layer).samples.append(numbers);
}

void ShardWriter::link_inputs(const std::string& layer) {
  auto& open = open_layer(layer);
  require(!open.rows.contains(Quantity::inputs), "the inputs of layer " + layer + " are both stored and linked");
  open.is_linked = true;
}

void ShardWriter::commit() {
  for (auto& [name, open] : layers_) {
    for (auto& [quantity, rows] : open.rows) {
      require(rows.rows() == open.samples.rows(), "layer " + name + " of a shard has unequal numbers of rows");
      rows.finish();
    }
    open.samples.finish();
    if (!open.is_linked) continue;
    require(open.rows.contains(Quantity::original_inputs), "layer " + name + " has no original inputs to link to");
    file_.hard_link(group_of(name) + "/X0", group_of(name) + "/X");
  }
  file_.commit();
}

std::string ShardWriter::sha256() const {
  return sha256_of_file(file_.path());
}

} // namespace slr::store
