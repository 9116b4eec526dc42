#pragma once
// The output folder of a finished run with one small layer, made by hand, and what its numbers must be.
#include "slr/base/file.hpp"
#include "slr/base/hash.hpp"
#include "slr/graph/count.hpp"
#include "slr/graph/onnx_file.hpp"
#include "slr/run/json_text.hpp"
#include "slr/store/factors.hpp"
#include "slr/store/feature_shards.hpp"

#include <algorithm>
#include <functional>

namespace slr::run {

namespace fs = std::filesystem;
using nlohmann::json;

inline constexpr std::int64_t rows = 3, cols = 4, group_columns = 2, positions = 2, images = 30,
                              samples = images * positions;
inline const std::string layer_name = "block/conv%1";

/// Numbers in [-1, 1) that look random and are the same everywhere.
inline float number(std::int64_t seed) {
  auto state = static_cast<std::uint32_t>(seed) * 2654435761U + 12345U;
  for (int i = 0; i < 3; ++i) state = state * 1664525U + 1013904223U;
  return static_cast<float>(state >> 8) * 0x1p-23F - 1.0F;
}

inline float input(std::int64_t sample, std::int64_t j) {
  return number(1000 + sample * cols + j);
}
/// Inputs in the original network, unlike the fitted ones.
inline float original_input(std::int64_t sample, std::int64_t j) {
  return input(sample, j) + 0.5F;
}
inline float output(std::int64_t sample, std::int64_t i) {
  return std::max(0.0F, number(5000 + sample * rows + i));
}

/// Rank one, and the second of the two input channels kept.
inline store::LayerFactors make_factors() {
  store::LayerFactors f;
  f.name = layer_name;
  f.u = {rows, 1, {0.5F, -0.25F, 1.0F}};
  f.v = {1, group_columns, {0.75F, -0.5F}};
  f.b = {rows, group_columns, {0.1F, 0.2F, 0.3F, -0.4F, 0.5F, 0.6F}};
  f.kept_groups = {1};
  f.bias = {0.05F, 0.1F, -0.1F};
  f.certificate = {{"rows", rows},         {"cols", cols},         {"group_columns", group_columns},
                   {"activation", "relu"}, {"kkt_low_rank", 1e-5}, {"stop_reason", "converged"}};
  return f;
}

/// ||Y - relu(W X + b)||^2 / ||Y||^2 by the definition, W written out, over the samples of some images.
inline double reference_error(const store::LayerFactors& f, bool from_original,
                              const std::function<bool(std::int64_t)>& counts_image) {
  double w[rows][cols], error = 0, norm = 0;
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < group_columns; ++j) {
      const auto at = static_cast<std::size_t>(i * group_columns + j);
      w[i][j] = double(f.u.values[static_cast<std::size_t>(i)]) * f.v.values[static_cast<std::size_t>(j)];
      w[i][group_columns + j] = f.b.values[at];
    }
  for (std::int64_t s = 0; s < samples; ++s) {
    if (!counts_image(s / positions)) continue;
    for (std::int64_t i = 0; i < rows; ++i) {
      double z = f.bias[static_cast<std::size_t>(i)];
      for (std::int64_t j = 0; j < cols; ++j) z += w[i][j] * (from_original ? original_input(s, j) : input(s, j));
      const double y = output(s, i), d = y - std::max(0.0, z);
      error += d * d;
      norm += y * y;
    }
  }
  return error / norm;
}
inline double train_error(const store::LayerFactors& f, bool from_original = false) {
  return reference_error(f, from_original, [](std::int64_t image) { return image % 10 > 1; });
}
inline double heldout_error(const store::LayerFactors& f, bool from_original = false) {
  return reference_error(f, from_original, [](std::int64_t image) { return image % 10 == 0; });
}

inline graph::Model make_model() {
  graph::Model model;
  model.ir_version = 7;
  model.opsets[""] = 13;
  model.producer = "the test";
  model.inputs.push_back({"x", graph::ElementType::float32, {-1, 3, 6, 6}, {"batch", "", "", ""}});
  std::vector<float> weights(std::size_t(4) * 3 * 3 * 3);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = number(static_cast<std::int64_t>(i));
  model.initializers["w"] = graph::Tensor::of_floats({4, 3, 3, 3}, weights);
  model.initializers["b"] = graph::Tensor::of_floats({4}, std::vector<float>(4, 0.5F));
  model.nodes.push_back({"conv1", "Conv", "", {"x", "w", "b"}, {"z"}, {}});
  model.nodes.push_back({"relu1", "Relu", "", {"z"}, {"y"}, {}});
  model.outputs.push_back({"y", graph::ElementType::float32, {}, {}});
  model.outputs.back().has_shape = false;
  return model;
}

/// The output folder of a finished run, with whatever the test wants to be wrong about it.
struct FinishedRun {
  fs::path folder;
  store::LayerFactors factors = make_factors();
  double stored_train = train_error(factors), stored_heldout = heldout_error(factors);
  double reported_train = stored_train, reported_heldout = stored_heldout;
  std::int64_t parameters_off = 0;
  bool has_fitted_inputs = true;

  void write_shard(const fs::path& file, std::int64_t index, bool is_fitted) const {
    store::ShardWriter writer(file, {sha256("model"), sha256("config"), index, 2});
    writer.begin_layer({layer_name, cols, rows, positions, {1, 2}, {1, 1}, {0, 0, 0, 0}, {1, 1}, "relu", {}});
    std::vector<float> x0, x, y;
    std::vector<std::int64_t> numbers;
    for (std::int64_t s = index * samples / 2; s < (index + 1) * samples / 2; ++s) {
      for (std::int64_t j = 0; j < cols; ++j) {
        x0.push_back(original_input(s, j));
        x.push_back(input(s, j));
      }
      for (std::int64_t i = 0; i < rows; ++i) y.push_back(output(s, i));
      numbers.push_back(s);
    }
    if (is_fitted) {
      writer.append(layer_name, store::Quantity::inputs, x);
    } else {
      writer.append(layer_name, store::Quantity::original_inputs, x0);
      writer.append(layer_name, store::Quantity::outputs, y);
    }
    writer.append_samples(layer_name, numbers);
    writer.commit();
  }

  void write_data() const {
    const auto features = folder / "features";
    for (std::int64_t index = 0; index < 2; ++index) {
      write_shard(store::shard_file(features, index, 2), index, false);
      if (has_fitted_inputs)
        write_shard(store::shard_file(store::inputs_folder(features, layer_name), index, 2), index, true);
    }
    graph::write_model(make_model(), folder / "compressed.onnx");
    write_file_atomically(folder.parent_path() / "input.bin", "an input");
    store::FactorsWriter writer(folder / "factors.h5", {{"model_sha256", sha256("model")}});
    auto stored = factors;
    stored.certificate["error_train"] = stored_train;
    stored.certificate["error_heldout"] = stored_heldout;
    writer.write(stored);
    writer.commit();
    const auto counts = graph::count(make_model());
    json report;
    report["model"] = {{"parameters_after", counts.parameters + parameters_off},
                       {"macs_after", counts.macs},
                       {"bytes_after", counts.bytes}};
    report["layers"] = {{{"name", layer_name},
                         {"rows", rows},
                         {"cols", cols},
                         {"rank", 1},
                         {"kept_groups", 1},
                         {"error_train", reported_train},
                         {"error_heldout", reported_heldout}},
                        {{"name", "dense one"}, {"rank", nullptr}, {"error_train", nullptr}}};
    report["run"] = {{"mpi_ranks", 2}, {"seconds", 1.5}};
    write_file_atomically(folder / "report.json", json_text(report));
  }

  [[nodiscard]] json make_manifest() const {
    json manifest;
    manifest["program"] = "slr_compress";
    manifest["configuration"] = {{"model", "vgg.onnx"}, {"budget", {{"parameters", 3.2}}}};
    const auto given = folder.parent_path() / "input.bin";
    manifest["inputs"] = {{given.string(), sha256_of_file(given)}};
    manifest["shards"] = json::object();
    for (const auto& entry : fs::recursive_directory_iterator(folder / "features"))
      if (entry.is_regular_file())
        manifest["shards"][fs::relative(entry.path(), folder).string()] = sha256_of_file(entry.path());
    for (const auto* name : {"compressed.onnx", "factors.h5"})
      manifest["outputs"][name] = sha256_of_file(folder / name);
    return manifest;
  }
  void write_manifest(const json& manifest) const {
    write_file_atomically(folder / "manifest.json", json_text(manifest));
  }
  void write() const {
    write_data();
    write_manifest(make_manifest());
  }
};

} // namespace slr::run
