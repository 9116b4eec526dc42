// Any bytes as an ONNX model: read, folded, its layers found and replaced, written.
#include "slr/graph/channels.hpp"
#include "slr/graph/count.hpp"
#include "slr/graph/groups.hpp"
#include "slr/graph/onnx_file.hpp"
#include "slr/graph/rewrite.hpp"
#include "target.hpp"

namespace {

using namespace slr::graph;

/// A layer becomes rank 1 plus its first channel, as if the solver had said so.
void replace(Model& model, const Layer& layer) {
  const auto area = layer.window_area();
  const bool has_rest = layer.cols > area;
  CompressedLayer compressed;
  compressed.kept_groups = {0};
  compressed.rank = has_rest ? 1 : 0;
  compressed.U.assign(static_cast<std::size_t>(has_rest ? layer.rows : 0), 1.0F);
  compressed.V.assign(static_cast<std::size_t>(has_rest ? layer.cols - area : 0), 1.0F);
  compressed.B.assign(static_cast<std::size_t>(layer.rows * area), 1.0F);
  compressed.bias = layer.bias;
  static_cast<void>(replace_layer(model, layer, compressed));
}

void use(const Model& read) {
  static_cast<void>(infer_shapes(read));
  static_cast<void>(count(read));
  auto model = fold(read);
  split_groups(model);
  const auto layers = find_layers(model);
  for (const auto& layer : layers) static_cast<void>(weight_matrix(model, layer));
  static_cast<void>(infer_shapes(model));
  for (const auto& layer : layers)
    if (layer.groups == 1) replace(model, layer);
  remove_unread_channels(model);
  order_channels(model);
  join_groups(model);
  static_cast<void>(count(model));
  const auto bytes = serialize_model(model);
  // What was accepted and written can be read again.
  slr::fuzz::expect(slr::fuzz::answers([&] { static_cast<void>(parse_model(bytes, "/nonexistent", "written.onnx")); }),
                    "a written model cannot be read");
}

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  slr::fuzz::answers([&] { use(parse_model(slr::fuzz::text_of(data, size), "/nonexistent", "model.onnx")); });
  return 0;
}
