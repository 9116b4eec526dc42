// What is written, judged by ONNX's own checker (python3-onnx), and the example network of the project.
#include "files.hpp"
#include "reference.hpp"
#include "slr/graph/count.hpp"
#include "slr/graph/onnx_file.hpp"
#include "slr/graph/rewrite.hpp"

#include <cstdlib>
#include <sys/wait.h>

namespace slr::graph {
namespace {

/// Collects files and judges them in one go, because starting Python takes longer than all the rest.
class Checker {
public:
  Checker& file(const std::filesystem::path& path) {
    arguments_ += " '" + path.string() + "'";
    return *this;
  }
  /// Both compute the same, to the bit.
  Checker& same(const std::filesystem::path& a, const std::filesystem::path& b) {
    arguments_ += " --same";
    return file(a).file(b);
  }
  /// False if Python or its onnx is not here.
  [[nodiscard]] bool judge() const {
    const auto status = std::system(("/usr/bin/python3 '" SLR_CHECKER "'" + arguments_).c_str());
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (code == 77 || code == 127) return false;
    EXPECT_EQ(code, 0) << arguments_;
    return true;
  }

private:
  std::string arguments_;
};

/// The network with each layer compressed in one way or another.
Model some_compression(const Model& folded) {
  auto compressed = folded;
  std::size_t k = 0;
  for (const auto& layer : find_layers(folded)) {
    const auto area = layer.window_area(), channels = layer.cols / area;
    CompressedLayer c;
    c.rank = k % 4 == 1 ? 0 : 2;
    for (std::int64_t channel = k % 3 == 0 ? channels : 1; channel < channels; channel += 7)
      c.kept_groups.push_back(channel);
    const auto kept_cols = static_cast<std::int64_t>(c.kept_groups.size()) * area;
    const auto zeros = [](std::int64_t n) { return std::vector<float>(static_cast<std::size_t>(n), 0.0F); };
    c.U = zeros(layer.rows * c.rank);
    c.V = zeros(c.rank * (layer.cols - kept_cols));
    c.B = zeros(layer.rows * kept_cols);
    c.bias = layer.bias;
    replace_layer(compressed, layer, c);
    ++k;
  }
  return compressed;
}

/// Writes the network as it is, folded and compressed, for the checker.
void submit(Checker& checker, const std::filesystem::path& file, const Folder& folder, const std::string& name) {
  const auto model = read_model(file);
  const auto folded = fold(model);
  write_model(model, folder / (name + ".same.onnx"));
  write_model(folded, folder / (name + ".folded.onnx"));
  write_model(some_compression(folded), folder / (name + ".compressed.onnx"));
  for (const auto* kind : {".same.onnx", ".folded.onnx", ".compressed.onnx"}) checker.file(folder / (name + kind));
  checker.same(file, folder / (name + ".same.onnx"));
}

TEST(Checker, AcceptsEveryOperatorSetThatItKnows) {
  const Folder folder;
  Checker checker;
  for (const int opset : {7, 9, 10, 11, 12, 13, 15, 17}) {
    auto proto = small_message();
    proto.mutable_opset_import(0)->set_version(opset);
    const auto file = folder / (std::to_string(opset) + ".onnx");
    write_bytes(file, proto.SerializeAsString());
    submit(checker, file, folder, std::to_string(opset));
  }
  if (!checker.judge()) GTEST_SKIP() << "python3-onnx is not installed";
}

TEST(Checker, AcceptsOldFilesAndExternalData) {
  const Folder folder;
  Checker checker;
  auto proto = small_message();
  proto.set_ir_version(3);
  proto.mutable_opset_import(0)->set_version(8);
  auto& graph = *proto.mutable_graph();
  for (const auto& tensor : graph.initializer()) {
    auto& input = *graph.add_input();
    add_value(input, tensor.name(), {tensor.dims().begin(), tensor.dims().end()});
    input.mutable_type()->mutable_tensor_type()->set_elem_type(tensor.data_type());
  }
  write_bytes(folder / "old.onnx", proto.SerializeAsString());
  submit(checker, folder / "old.onnx", folder, "old");

  Builder b(13, {-1, 300});
  b.node("MatMul", {"x", b.floats("w1", {300, 301})}, {"h"});
  b.node("MatMul", {"h", b.floats("w2", {301, 5})}, {"p"});
  b.node("Add", {"p", b.floats("b", {5})}, {"y"});
  b.output("y", {-1, 5});
  write_model(b.model, folder / "inside.onnx");
  write_model(b.model, folder / "outside.onnx", 0);
  checker.file(folder / "outside.onnx").same(folder / "inside.onnx", folder / "outside.onnx");
  if (!checker.judge()) GTEST_SKIP() << "python3-onnx is not installed";
}

/// Six convolutions with normalization and two fully connected layers, from jobs/fashion_mnist.
TEST(ExampleNetwork, IsFoldedCountedAndWritten) {
  if (!std::filesystem::exists(SLR_NETWORK)) GTEST_SKIP() << "jobs/fashion_mnist has no network";
  const auto model = read_model(SLR_NETWORK);
  const auto folded = fold(model);
  EXPECT_EQ(find_node(folded, "BatchNormalization"), nullptr);
  const auto layers = find_layers(folded);
  ASSERT_EQ(layers.size(), 8U);
  std::int64_t parameters = 0;
  for (const auto& layer : layers) parameters += layer.rows * layer.cols + layer.rows;
  const auto counts = count(folded);
  EXPECT_EQ(counts.parameters, parameters); // nothing else is left
  const std::int64_t macs = 28 * 28 * (32 * 9 + 32 * 32 * 9) + 14 * 14 * (32 * 64 * 9 + 64 * 64 * 9) +
                            7 * 7 * (64 * 128 * 9 + 128 * 128 * 9) + 1152 * 256 + 256 * 10;
  EXPECT_EQ(counts.macs, macs);
  for (const auto& layer : layers)
    EXPECT_EQ(layer.activation.kind, &layer == &layers.back() ? ActivationKind::identity : ActivationKind::relu);
  const auto& input = model.inputs[0].name;
  const auto& output = model.outputs[0].name;
  const auto x = reference::random_array({1, 1, 28, 28}, 1);
  const auto before = reference::run(model, {{input, x}}).at(output);
  const auto after = reference::run(folded, {{input, x}}).at(output);
  // Each of 8 layers rounds its weights once, by 2^-24 relative; sums of up to 1152 such terms err like their root, 34.
  EXPECT_LE(reference::relative_difference(before, after), 8 * 34 * 0x1p-24);
  const Folder folder;
  Checker checker;
  submit(checker, SLR_NETWORK, folder, "network");
  if (!checker.judge()) GTEST_SKIP() << "python3-onnx is not installed";
}

} // namespace
} // namespace slr::graph
