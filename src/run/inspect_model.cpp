// What is in an ONNX file.
#include "inspect_parts.hpp"

#include "slr/base/hash.hpp"
#include "slr/base/text.hpp"
#include "slr/graph/count.hpp"
#include "slr/graph/onnx_file.hpp"
#include "slr/graph/rewrite.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace slr::run {
namespace {

std::string words_for(const graph::Value& value) {
  std::string dims;
  for (std::size_t i = 0; i < value.dims.size(); ++i) {
    const bool has_name = i < value.dim_names.size() && !value.dim_names[i].empty();
    dims += (i == 0 ? "" : " x ") + (value.dims[i] >= 0 ? std::to_string(value.dims[i])
                                     : has_name         ? value.dim_names[i]
                                                        : std::string("?"));
  }
  return value.name + (!value.has_shape ? ", of unknown dimensions" : dims.empty() ? ", a scalar" : ", " + dims);
}

std::string words_for(const graph::Activation& activation) {
  switch (activation.kind) {
  case graph::ActivationKind::identity:
    return "identity";
  case graph::ActivationKind::relu:
    return "relu";
  case graph::ActivationKind::leaky_relu:
    return fmt::format("leaky_relu({:g})", activation.alpha);
  case graph::ActivationKind::clip:
    return fmt::format("clip({:g},{:g})", activation.low, activation.high);
  case graph::ActivationKind::sigmoid:
    return "sigmoid";
  case graph::ActivationKind::tanh:
    return "tanh";
  }
  return "";
}

std::string words_for_kind(const graph::Layer& layer) {
  if (layer.kind == graph::LayerKind::fully_connected) return "fully connected";
  return layer.is_depthwise() ? "depthwise" : layer.groups > 1 ? "grouped" : "convolution";
}

std::string layer_table(const graph::Model& folded) {
  TextTable table({"layer", "kind", "n x k", "groups", "kernel", "activation", "parameters"});
  for (const auto& layer : graph::find_layers(folded)) {
    std::int64_t parameters = 0; // the weight and the bias, where there is one
    for (const auto& input : folded.nodes[layer.node].inputs)
      if (const auto found = folded.initializers.find(input); found != folded.initializers.end())
        parameters += found->second.size();
    std::string names;
    for (const auto* use : layer.uses()) names += (names.empty() ? "" : ", ") + use->name;
    table.add({names, words_for_kind(layer), fmt::format("{} x {}", layer.rows, layer.cols),
               std::to_string(layer.groups), fmt::format("{} x {}", layer.window.kernel[0], layer.window.kernel[1]),
               words_for(layer.activation), std::to_string(parameters)});
  }
  return table.text();
}

void check_weights(const graph::Model& model, const std::filesystem::path& file) {
  for (const auto& [name, tensor] : model.initializers) {
    if (tensor.type != graph::ElementType::float32) continue;
    const auto values = tensor.floats();
    if (!std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); }))
      throw Error(ExitCode::bad_data,
                  file.string() + ": the initializer '" + name + "' has a value that is not finite: export it again");
  }
}

} // namespace

void inspect_model(const std::filesystem::path& file, bool verify, const Print& print) {
  const auto model = graph::read_model(file);
  std::string text = file.string() + ": ONNX model\n";
  text += fact("producer", model.producer.empty() ? "-" : model.producer);
  text += fact("version", fmt::format("IR {}, operator set {}", model.ir_version, model.opset()));
  for (const auto& [domain, version] : model.opsets)
    if (!domain.empty()) text += fact("", domain + " " + std::to_string(version));
  for (const auto& input : model.inputs) text += fact("input", words_for(input));
  for (const auto& output : model.outputs) text += fact("output", words_for(output));
  text += fact("nodes", std::to_string(model.nodes.size()));
  text += fact("SHA-256", sha256_of_file(file));
  print(text);
  if (verify) check_weights(model, file);

  const auto folded = graph::fold(model);
  print("\n" + layer_table(folded));
  const auto counts = graph::count(folded);
  print(fmt::format("\nafter folding ({} nodes)\n", folded.nodes.size()) +
        fact("parameters", std::to_string(counts.parameters)) + fact("MACs", std::to_string(counts.macs)) +
        fact("weights", words_for_bytes(static_cast<double>(counts.bytes))));
  if (!verify) return;
  const auto shapes = graph::infer_shapes(folded);
  print("\nverified: the weights are finite and the nodes fit together (dimensions of " +
        counted(static_cast<std::int64_t>(shapes.size()), "value") + ")\n");
}

} // namespace slr::run
