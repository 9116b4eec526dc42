// What of a network stays dense, what it is counted for, and what the rest of it needs of a cut.
#include "configuration_support.hpp"

#include "slr/graph/count.hpp"
#include "slr/run/features.hpp"
#include "slr/run/solver_options.hpp"

#include <gmock/gmock.h>

namespace slr::run::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

void initializer(graph::Model& model, const std::string& name, const graph::Dims& dims) {
  const std::vector<float> values(static_cast<std::size_t>(graph::element_count(dims)), 0.5F);
  model.initializers[name] = graph::Tensor::of_floats(dims, values);
}

void node(graph::Model& model, const std::string& op, std::vector<std::string> inputs, const std::string& output,
          std::map<std::string, graph::Attribute> attributes = {}) {
  model.nodes.push_back({output, op, "", std::move(inputs), {output}, std::move(attributes)});
}

/// A layer of two nodes, a third node with its weight but no bias, a depthwise and a grouped one, and a last one behind
/// which nothing can be run.
Network network() {
  Network result;
  auto& model = result.model;
  model.opsets[""] = 13;
  model.inputs.push_back({"x", graph::ElementType::float32, {-1, 4, 5, 5}, {"N", "", "", ""}});
  initializer(model, "w", {4, 4, 1, 1});
  initializer(model, "bias", {4});
  initializer(model, "d", {4, 1, 1, 1});
  initializer(model, "g", {6, 2, 1, 1});
  initializer(model, "v", {3, 6, 1, 1});
  node(model, "Conv", {"x", "w", "bias"}, "first");
  node(model, "Conv", {"first", "w", "bias"}, "second");
  node(model, "Mystery", {"first"}, "aside");
  node(model, "Conv", {"second", "w"}, "third");
  node(model, "Conv", {"third", "d"}, "depthwise", {{"group", std::int64_t(4)}});
  node(model, "Conv", {"depthwise", "g"}, "grouped", {{"group", std::int64_t(2)}});
  node(model, "Conv", {"grouped", "v"}, "last");
  node(model, "TopK", {"last", "aside"}, "y");
  model.outputs.push_back({"y", graph::ElementType::float32, {}, {}});
  result.input = "x";
  result.layers = graph::find_layers(model);
  return result;
}

TEST(Network, SaysWhyLayersStayDense) {
  const auto config = parse("model: m.onnx\ndata: {calibration: c.h5}\nmethod: {kind: relaxed}\noutput: o\n");
  EXPECT_THAT(dense_reasons(network(), config), ElementsAre("shared", "shared", "depthwise", "grouped", ""));
  auto alike = network();
  auto& third = alike.model.nodes[3];
  ASSERT_EQ(third.name, "third");
  third.inputs.emplace_back("bias");
  alike.layers = graph::find_layers(alike.model);
  EXPECT_THAT(dense_reasons(alike, config), ElementsAre("", "depthwise", "grouped", ""));
  const auto second =
      parse("model: m.onnx\ndata: {calibration: c.h5}\nmethod: {kind: relaxed}\nbudget: {keep: [second]}\noutput: o\n");
  EXPECT_EQ(dense_reasons(alike, second).front(), "kept");
  const auto kept =
      parse("model: m.onnx\ndata: {calibration: c.h5}\nmethod: {kind: relaxed}\nbudget: {keep: [last]}\noutput: o\n");
  EXPECT_EQ(dense_reasons(network(), kept).back(), "kept");
}

TEST(Network, RefusesStructuresThatALayerCannotHave) {
  const auto message = [](const std::string& fixed) {
    const auto config =
        parse("model: m.onnx\ndata: {calibration: c.h5}\nbudget: {layers: {" + fixed + "}}\noutput: o\n");
    try {
      (void)dense_reasons(network(), config);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::configuration);
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(message("last: {rank: 3, groups: 6}"), "");
  EXPECT_THAT(message("last: {rank: 4}"), HasSubstr("budget.layers.last has rank 4, expected 0 to 3"));
  EXPECT_THAT(message("last: {groups: 7}"), HasSubstr("budget.layers.last has groups 7, expected 0 to 6"));
  EXPECT_THAT(message("last: {rank: 0}"), HasSubstr("budget.layers.last leaves nothing of the layer"));
  EXPECT_THAT(message("first: {rank: 1}"), HasSubstr("stays dense (shared)"));
  EXPECT_THAT(message("lst: {rank: 1}"), HasSubstr("did you mean 'last'?"));
}

TEST(Network, BatchesAreBoundedByMemory) {
  auto n = network();
  EXPECT_EQ(batch_images(n, 64), 64);
  // 500 x 500 pixels: the values x, first, second, third, depthwise of 4 channels, grouped of 6, last of 3 take 29 MB.
  n.model.inputs.front().dims = {-1, 4, 500, 500};
  EXPECT_EQ(batch_images(n, 64), 16);
  n.model.inputs.front().dims = {-1, 4, 4000, 4000};
  EXPECT_EQ(batch_images(n, 64), 8);
}

TEST(Network, CountsWhatGoesWithALayer) {
  const auto n = network();
  EXPECT_EQ(dense_parameters(n, n.layers[0]), 20); // with the bias, which nobody else reads
  EXPECT_EQ(dense_parameters(n, n.layers[1]), 16);
  EXPECT_EQ(dense_parameters(n, n.layers[4]), 18);
}

TEST(Network, TheRestNeedsOnlyWhatLeadsToLayersAndLogits) {
  const auto n = network();
  EXPECT_THAT(live_before(n.model, n.layers[0].others[0].node), ElementsAre("first"));
  EXPECT_THAT(live_before(n.model, n.layers[4].node), ElementsAre("grouped")); // not what the mystery made
  EXPECT_THAT(live_before(n.model, n.model.nodes.size()), ElementsAre("last"));
}

} // namespace
} // namespace slr::run::test
