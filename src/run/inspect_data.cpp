// What is in packed images, feature shards and factors.
#include "inspect_parts.hpp"
#include "layer_errors.hpp"

#include "slr/base/text.hpp"
#include "slr/run/json_text.hpp"
#include "slr/store/checkpoint_file.hpp"
#include "slr/store/factors.hpp"
#include "slr/store/feature_set.hpp"
#include "slr/store/packed_images.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace slr::run {
namespace {

namespace fs = std::filesystem;
using store::Quantity;

constexpr std::int64_t piece_bytes = 16 << 20;
constexpr Quantity quantities[] = {Quantity::original_inputs, Quantity::inputs, Quantity::outputs};

std::string known(std::int64_t value) {
  return value > 0 ? std::to_string(value) : "-";
}

std::string words_for_activation(const store::FeatureLayer& layer) {
  std::string text = layer.activation;
  for (const double value : layer.activation_parameters) text += " " + figure(value);
  return text;
}

std::vector<std::string> row_of(const store::FeatureLayer& layer, std::int64_t samples, const std::string& what) {
  return {layer.name,
          std::to_string(samples),
          known(layer.inputs),
          known(layer.outputs),
          known(layer.positions),
          words_for_activation(layer),
          what};
}

const std::vector<std::string> feature_heading{"layer", "samples", "k", "n", "positions", "activation", "data"};

/// Reads every value of a shard: checksums and finiteness are checked on the way. What is not finite is trouble for a
/// solver; here it is the file that is judged.
void read_everything(const store::ShardReader& shard, const Print& print) try {
  std::int64_t values = 0;
  for (const auto& found : shard.layers()) {
    const auto& name = found.layer.name;
    if (found.has_samples) (void)shard.samples(name);
    for (const auto quantity : quantities) {
      if (!found.has(quantity)) continue;
      const auto width = quantity == Quantity::outputs ? found.layer.outputs : found.layer.inputs;
      const auto piece = std::max<std::int64_t>(1, piece_bytes / std::int64_t(sizeof(float)) / width);
      for (std::int64_t first = 0; first < found.rows; first += piece)
        (void)shard.read(name, quantity, first, std::min(piece, found.rows - first));
      values += found.rows * width;
    }
  }
  print("verified: " + shard.path().string() + ", " + counted(values, "value") + " read, all finite\n");
} catch (const Error& error) {
  if (error.code() != ExitCode::numerical) throw;
  throw Error(ExitCode::bad_data, error.what());
}

std::string words_for(const store::AttributeValue& value) {
  struct Words {
    std::string operator()(std::int64_t number) const { return std::to_string(number); }
    std::string operator()(double number) const { return figure(number); }
    std::string operator()(const std::string& text) const { return text; }
    std::string operator()(const std::vector<std::int64_t>& list) const {
      return fmt::format("{}", fmt::join(list, " "));
    }
    std::string operator()(const std::vector<double>& list) const { return fmt::format("{}", fmt::join(list, " ")); }
  };
  return std::visit(Words{}, value);
}

std::string certificate_value(const store::LayerFactors& layer, const std::string& key) {
  const auto found = layer.certificate.find(key);
  return found == layer.certificate.end() ? "-" : words_for(found->second);
}

/// What the table does not show of a certificate, wrapped.
std::string certificate_lines(const store::LayerFactors& layer) {
  constexpr std::size_t columns_limit = 100;
  const std::set<std::string> shown{"rows", "cols", "group_columns", "activation", "error_train", "error_heldout"};
  const std::string indent(4, ' ');
  std::string text = "  " + printable(layer.name, 60) + "\n", line;
  for (const auto& [key, value] : layer.certificate) {
    if (shown.contains(key)) continue;
    const auto item = printable(key, 40) + " " + printable(words_for(value), 40);
    if (!line.empty() && indent.size() + line.size() + 2 + item.size() > columns_limit) {
      text += indent + line + ",\n";
      line.clear();
    }
    line += (line.empty() ? "" : ", ") + item;
  }
  return text + (line.empty() ? "" : indent + line + "\n");
}

} // namespace

void inspect_images(const fs::path& file, bool verify, const Print& print) {
  store::ImageSource source;
  source.images = file;
  const auto reader = store::open_images(source);
  const auto origin = store::Hdf5File::open(file).attribute_as<std::string>("/", "source");
  print(file.string() + ": packed images\n" + fact("images", std::to_string(reader->size())) +
        fact("size", fmt::format("{} x {} x {} (channels x height x width), uint8", reader->channels(),
                                 reader->height(), reader->width())) +
        fact("labels", reader->has_labels() ? "yes" : "no") + fact("source", origin.value_or("-")));
  if (!verify) return;
  const auto piece = std::max<std::int64_t>(1, piece_bytes / std::max<std::int64_t>(1, reader->image_bytes()));
  for (std::int64_t first = 0; first < reader->size(); first += piece)
    (void)reader->read(first, std::min(piece, reader->size() - first));
  print("\nverified: " + counted(reader->size(), "image") + " read\n");
}

void inspect_shard(const fs::path& file, bool verify, const Print& print) {
  const store::ShardReader shard(file);
  const auto view = store::Hdf5File::open(file);
  const auto note = [&](const char* key) { return view.attribute_as<std::string>("/", key).value_or(""); };
  std::string what = "features without a header, as other programs write them";
  if (shard.header())
    what = fmt::format("feature shard {} of {}", shard.header()->index, shard.header()->count);
  else if (!note("config_hash").empty())
    what = "one view of the features in several shards";
  std::string text = file.string() + ": " + what + "\n";
  if (!note("model_sha256").empty()) text += fact("network", "SHA-256 " + note("model_sha256"));
  if (!note("config_hash").empty()) text += fact("configuration", note("config_hash"));
  TextTable table(feature_heading);
  for (const auto& found : shard.layers()) {
    std::string data;
    for (const auto quantity : quantities)
      if (found.has(quantity)) data += std::string(data.empty() ? "" : " ") + store::dataset_name(quantity);
    table.add(row_of(found.layer, found.rows, data));
  }
  print(text + "\n" + table.text());
  if (!verify) return;
  print("\n");
  read_everything(shard, print);
}

void inspect_features(const Communicator& alone, const fs::path& folder, bool verify, const Print& print) {
  const auto features = store::FeatureSet::open(alone, folder.string());
  const auto ranks = std::count_if(features.files().begin(), features.files().end(),
                                   [&](const fs::path& file) { return fs::equivalent(file.parent_path(), folder); });
  std::string text = folder.string() + ": features\n";
  text += fact("shards", fmt::format("{}, one per rank, and {} with the inputs that layers were fitted on", ranks,
                                     std::ssize(features.files()) - ranks));
  if (!features.model_sha256().empty()) text += fact("network", "SHA-256 " + features.model_sha256());
  if (!features.config_hash().empty()) text += fact("configuration", features.config_hash());
  TextTable table(feature_heading);
  for (const auto& layer : features.layers()) {
    std::string data;
    for (const auto quantity : quantities)
      if (features.has(layer.name, quantity))
        data += std::string(data.empty() ? "" : " ") + store::dataset_name(quantity);
    table.add(row_of(layer, std::ssize(features.samples(layer.name)), data));
  }
  print(text + "\n" + table.text());
  if (!verify) return;
  print("\n");
  for (const auto& file : features.files()) read_everything(store::ShardReader(file), print);
}

void inspect_factors(const fs::path& file, bool verify, const Print& print) {
  const store::FactorsReader reader(file);
  std::string text = file.string() + ": factors\n";
  for (const auto& [key, value] : reader.notes()) text += fact(key, words_for(value));
  TextTable table(
      {"layer", "n x k", "rank", "kept groups", "kept columns", "activation", "train error", "held-out error"});
  std::string certificates;
  const auto names = reader.layers();
  for (const auto& name : names) {
    const auto layer = reader.read(name);
    if (verify) (void)checked_shape(layer);
    table.add({name, fmt::format("{} x {}", std::ssize(layer.bias), layer.v.cols + layer.b.cols),
               std::to_string(layer.u.cols), std::to_string(layer.kept_groups.size()), std::to_string(layer.b.cols),
               certificate_value(layer, "activation"), certificate_value(layer, "error_train"),
               certificate_value(layer, "error_heldout")});
    certificates += certificate_lines(layer);
  }
  print(text + "\n" + table.text() + "\ncertificates\n" + certificates);
  if (verify)
    print("\nverified: the factors of " + counted(std::ssize(names), "layer") + " are finite and fit together\n");
}

void inspect_checkpoint(const fs::path& path, const Print& print) {
  const auto found = store::verify_checkpoint(path);
  print("Checkpoint " + path.string() + "\n" + fact("program", found.header.program) +
        fact("model SHA-256", found.header.model_sha256) + fact("ranks", std::to_string(found.header.mpi_ranks)) +
        fact("size", words_for_bytes(static_cast<double>(found.bytes))));
  for (const auto& part : found.parts) print(fact("part", part));
  print("every checksum is right\n");
}

} // namespace slr::run
