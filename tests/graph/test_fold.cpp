// Folding keeps the function: checked against the unfolded network in double precision.
#include "builder.hpp"
#include "reference.hpp"
#include "slr/graph/count.hpp"
#include "slr/graph/onnx_file.hpp"
#include "slr/graph/rewrite.hpp"

#include <cmath>

namespace slr::graph {
namespace {

using Ints = std::vector<std::int64_t>;

/// Folded weights and biases are rounded once to float, so a sum of n products of comparable size moves by at most
/// about n * 2^-24 of its terms; the networks here have n < 100, little cancellation and at most three layers.
constexpr double tolerance = 3 * 100 * 0x1p-24;

/// Both compute the same for two batch sizes; returns the folded network.
Model expect_same_function(const Model& model) {
  const auto folded = fold(model);
  for (const std::int64_t batch : {1, 3}) {
    auto dims = model.inputs[0].dims;
    if (dims[0] < 0) dims[0] = batch;
    const auto x = reference::random_array(dims, 5);
    const auto before = reference::run(model, {{"x", x}}), after = reference::run(folded, {{"x", x}});
    for (const auto& output : model.outputs)
      EXPECT_LE(reference::relative_difference(before.at(output.name), after.at(output.name)), tolerance)
          << output.name;
    const auto shapes = infer_shapes(folded, batch);
    for (const auto& node : folded.nodes)
      for (const auto& output : node.outputs) EXPECT_EQ(shapes.at(output), after.at(output).dims) << output;
  }
  // What is folded once has nothing left to fold.
  EXPECT_EQ(serialize_model(fold(folded)), serialize_model(folded));
  return folded;
}

TEST(Fold, BatchNormalizationMovesIntoConvolutions) {
  Builder b(13, {-1, 4, 7, 7});
  b.node("Conv", {"x", b.floats("w1", {6, 4, 3, 3}), b.floats("b1", {6})}, {"c1"});
  b.batch_norm("c1", "n1", 6);
  b.node("Relu", {"n1"}, {"r1"});
  b.node("Conv", {"r1", b.floats("w2", {6, 2, 1, 1})}, {"c2"}, {{"group", std::int64_t(3)}});
  b.batch_norm("c2", "n2", 6);
  b.batch_norm("n2", "n3", 6); // one after the other, too
  b.output("n3");
  const auto folded = expect_same_function(b.model);
  EXPECT_EQ(folded.nodes.size(), 3U);
  EXPECT_EQ(find_node(folded, "BatchNormalization"), nullptr);
  EXPECT_EQ(folded.initializers.size(), 4U); // two weights, two biases: the statistics are gone
}

TEST(Fold, BatchNormalizationMovesIntoGemmWithItsFactors) {
  for (const bool has_bias : {false, true}) {
    Builder b(13, {-1, 9});
    std::vector<std::string> inputs{"x", b.floats("w", {9, 5})};
    if (has_bias) inputs.push_back(b.floats("c", {1}));
    b.node("Gemm", inputs, {"g"}, {{"alpha", 0.5F}, {"beta", 3.0F}});
    b.batch_norm("g", "n", 5);
    b.output("n");
    EXPECT_EQ(expect_same_function(b.model).nodes.size(), 1U);
  }
}

TEST(Fold, BatchNormalizationMovesIntoMatMulOfMatricesOnly) {
  for (const bool has_bias : {false, true}) {
    Builder b(13, {-1, 9});
    b.node("MatMul", {"x", b.floats("w", {9, 5})}, {"p"});
    if (has_bias) b.node("Add", {b.floats("c", {1, 5}), "p"}, {"q"});
    b.batch_norm(has_bias ? "q" : "p", "n", 5);
    b.output("n");
    const auto folded = expect_same_function(b.model);
    EXPECT_EQ(find_node(folded, "BatchNormalization"), nullptr);
    EXPECT_EQ(folded.nodes.size(), 2U);
    EXPECT_EQ(find_layers(folded).at(0).linear, "n");
  }
  Builder tokens(13, {-1, 5, 5}); // here the channels of the normalization are not the columns of the product
  tokens.node("MatMul", {"x", tokens.floats("w", {5, 5})}, {"p"});
  tokens.batch_norm("p", "n", 5);
  tokens.output("n");
  EXPECT_NE(find_node(expect_same_function(tokens.model), "BatchNormalization"), nullptr);
}

TEST(Fold, ANormalizationStaysWhereOthersReadItsInput) {
  Builder b;
  b.node("Conv", {"x", b.floats("w", {3, 3, 1, 1})}, {"c"});
  b.batch_norm("c", "n", 3);
  b.node("Add", {"c", "n"}, {"s"});
  b.output("s");
  EXPECT_NE(find_node(expect_same_function(b.model), "BatchNormalization"), nullptr);
  Builder output;
  output.node("Conv", {"x", output.floats("w", {3, 3, 1, 1})}, {"c"});
  output.batch_norm("c", "n", 3);
  output.output("n");
  output.output("c");
  EXPECT_NE(find_node(expect_same_function(output.model), "BatchNormalization"), nullptr);
}

TEST(Fold, ADamagedVarianceStaysVisible) {
  Builder b;
  b.node("Conv", {"x", b.floats("w", {3, 3, 1, 1})}, {"c"});
  b.batch_norm("c", "n", 3);
  b.floats("n.var", {3}, -5, -4);
  b.output("n");
  EXPECT_NE(find_node(fold(b.model), "BatchNormalization"), nullptr);
}

TEST(Fold, SharedWeightsAreFoldedOncePerNormalization) {
  Builder b;
  b.floats("w", {3, 3, 1, 1});
  b.node("Conv", {"x", "w"}, {"c1"});
  b.batch_norm("c1", "n1", 3);
  b.node("Conv", {"n1", "w"}, {"c2"});
  b.batch_norm("c2", "n2", 3);
  b.node("Conv", {"n2", "w"}, {"c3"}); // as it is
  b.output("c3");
  const auto folded = expect_same_function(b.model);
  EXPECT_EQ(folded.nodes.size(), 3U);
  EXPECT_EQ(folded.initializers.size(), 3U + 2U);

  Builder same; // weight and normalization shared: still one weight
  same.floats("w", {3, 3, 1, 1});
  same.node("Conv", {"x", "w"}, {"c1"});
  same.batch_norm("c1", "n1", 3);
  same.node("Conv", {"n1", "w"}, {"c2"});
  auto again = *find_node(same.model, "BatchNormalization");
  again.name = "n2_node";
  again.inputs[0] = "c2";
  again.outputs = {"n2"};
  same.model.nodes.push_back(again);
  same.output("n2");
  const auto once = expect_same_function(same.model);
  ASSERT_EQ(once.nodes.size(), 2U);
  EXPECT_EQ(once.nodes[0].inputs[1], once.nodes[1].inputs[1]);
}

TEST(Fold, SharedBiasesAreNotOverwritten) {
  Builder b;
  b.floats("bias", {3});
  b.node("Conv", {"x", b.floats("w1", {3, 3, 1, 1}), "bias"}, {"c1"});
  b.batch_norm("c1", "n1", 3);
  b.node("Conv", {"n1", b.floats("w2", {3, 3, 1, 1}), "bias"}, {"c2"});
  b.output("c2");
  expect_same_function(b.model);
}

/// x -> Shape -> Gather -> Unsqueeze -> Concat -> Reshape, as exporters write x.view(x.size(0), -1).
Model written_out_flatten(const std::vector<std::int64_t>& tail, std::int64_t opset, bool through_cast) {
  Builder b(opset, {-1, 3, 4, 4});
  b.node("Conv", {"x", b.floats("w", {5, 3, 3, 3})}, {"c"});
  b.node("Shape", {"c"}, {"s"});
  std::string shape = "s";
  if (through_cast) {
    b.node("Cast", {"s"}, {"s32"}, {{"to", std::int64_t(6)}});
    b.node("Cast", {"s32"}, {"s64"}, {{"to", std::int64_t(7)}});
    shape = "s64";
  }
  const std::int64_t zero = 0;
  b.node("Constant", {}, {"zero"}, {{"value", Tensor::of_int64s({}, std::span(&zero, 1))}});
  b.node("Gather", {shape, "zero"}, {"n"}, {{"axis", std::int64_t(0)}});
  if (opset >= 13)
    b.node("Unsqueeze", {"n", b.ints("axes", {0})}, {"n1"});
  else
    b.node("Unsqueeze", {"n"}, {"n1"}, {{"axes", Ints{0}}});
  b.node("Concat", {"n1", b.ints("tail", tail)}, {"target"}, {{"axis", std::int64_t(0)}});
  b.node("Reshape", {"c", "target"}, {"flat"});
  b.node("Gemm", {"flat", b.floats("v", {20, 2}), b.floats("d", {2})}, {"y"});
  b.output("y");
  return b.model;
}

TEST(Fold, TheFreeBatchSurvivesAFlattenThatIsWrittenOut) {
  for (const auto opset : {9, 11, 13, 18})
    for (const bool through_cast : {false, true})
      for (const auto tail : {-1, 20}) {
        const auto folded = expect_same_function(written_out_flatten({tail}, opset, through_cast));
        ASSERT_EQ(folded.nodes.size(), 3U);
        EXPECT_EQ(folded.nodes[1].op, "Reshape");
        EXPECT_EQ(folded.initializers.at(folded.nodes[1].inputs[1]).int64s(), (Ints{0, tail}));
      }
}

TEST(Fold, ABatchInAnotherPlaceIsInferred) {
  Builder b(13, {-1, 4});
  b.node("Shape", {"x"}, {"s"});
  b.node("Slice", {"s", b.ints("from", {0}), b.ints("to", {1})}, {"n"});
  b.node("Concat", {b.ints("two", {2}), "n", b.ints("rest", {2})}, {"target"}, {{"axis", std::int64_t(0)}});
  b.node("Reshape", {"x", "target"}, {"y"}, {{"allowzero", std::int64_t(1)}});
  b.output("y");
  const auto folded = expect_same_function(b.model);
  ASSERT_EQ(folded.nodes.size(), 1U);
  EXPECT_EQ(folded.initializers.at(folded.nodes[0].inputs[1]).int64s(), (Ints{2, -1, 2}));
}

TEST(Fold, ArithmeticOfStaticDimensionsBecomesAConstant) {
  Builder b(13, {-1, 6, 4, 4});
  b.node("Shape", {"x"}, {"s"});
  b.node("Gather", {"s", b.ints("which", {1, 3})}, {"channels_width"});
  b.node("Mul", {"channels_width", b.ints("m", {2, 3})}, {"product"}); // 12, 12
  b.node("Sub", {"product", b.ints("k", {8})}, {"difference"});        // 4, 4
  b.node("Add", {"difference", b.ints("l", {0, 20})}, {"sum"});        // 4, 24
  b.node("Concat", {b.ints("open", {-1}), "sum"}, {"target"}, {{"axis", std::int64_t(0)}});
  b.node("Reshape", {"x", "target"}, {"y"});
  b.output("y");
  const auto folded = expect_same_function(b.model);
  ASSERT_EQ(folded.nodes.size(), 1U);
  EXPECT_EQ(folded.initializers.at("target").int64s(), (Ints{-1, 4, 24}));
}

TEST(Fold, IdentityAndDropoutGo) {
  Builder b(13);
  b.floats("w", {3, 3, 1, 1});
  b.node("Identity", {"w"}, {"w_again"});
  b.node("Identity", {"x"}, {"x1"});
  b.node("Dropout", {"x1"}, {"x2", "mask"});
  b.node("Conv", {"x2", "w_again"}, {"c"});
  b.node("Dropout", {"c"}, {"d"});
  b.batch_norm("d", "n", 3);
  b.node("Identity", {"n"}, {"i"});
  b.node("Identity", {"i"}, {"out"});
  b.node("Relu", {"i"}, {"r"});
  b.output("out");
  b.output("r");
  const auto folded = expect_same_function(b.model);
  ASSERT_EQ(folded.nodes.size(), 2U);
  EXPECT_EQ(folded.nodes[0].outputs[0], "out");
  EXPECT_EQ(folded.nodes[1].inputs[0], "out");
}

TEST(Fold, AnIdentityThatTheOutputsNeedStays) {
  Builder b(13);
  b.node("Identity", {"x"}, {"copy"}); // an output must not become an input
  b.node("Relu", {"x"}, {"r"});
  b.node("Identity", {"r"}, {"r2"}); // both are outputs
  b.output("copy");
  b.output("r");
  b.output("r2");
  EXPECT_EQ(expect_same_function(b.model).nodes.size(), 3U);
}

TEST(Fold, DropoutThatTrainsOrWhoseMaskIsReadStays) {
  Builder mask(13);
  mask.node("Dropout", {"x"}, {"d", "mask"});
  mask.output("d");
  mask.output("mask");
  EXPECT_NE(find_node(fold(mask.model), "Dropout"), nullptr);
  for (const bool trains : {false, true}) {
    Builder b(13);
    b.model.initializers["t"] = Tensor{ElementType::boolean, {}, Buffer(std::vector<std::byte>{std::byte(trains)})};
    b.node("Dropout", {"x", "", "t"}, {"d"});
    b.node("Relu", {"d"}, {"y"});
    b.output("y");
    EXPECT_EQ(find_node(fold(b.model), "Dropout") != nullptr, trains);
  }
}

TEST(Fold, WeightsThatAreTransposedOnTheWayBecomeLayers) {
  Builder b(13, {-1, 6});
  b.node("Transpose", {b.floats("w", {4, 6})}, {"wt"});
  b.node("MatMul", {"x", "wt"}, {"p"});
  b.node("Reshape", {b.floats("raw", {8}), b.ints("shape", {4, 2})}, {"v"});
  b.node("MatMul", {"p", "v"}, {"y"});
  b.output("y");
  EXPECT_TRUE(find_layers(b.model).empty());
  const auto folded = expect_same_function(b.model);
  EXPECT_EQ(folded.nodes.size(), 2U);
  EXPECT_EQ(find_layers(folded).size(), 2U);
}

TEST(Fold, DeadPartsGo) {
  Builder b;
  b.node("Conv", {"x", b.floats("w", {3, 3, 1, 1})}, {"dead"});
  b.node("Relu", {"dead"}, {"dead_too"});
  b.node("Relu", {"x"}, {"y"});
  b.floats("unread", {100});
  b.output("y");
  const auto folded = fold(b.model);
  EXPECT_EQ(folded.nodes.size(), 1U);
  EXPECT_TRUE(folded.initializers.empty());
}

} // namespace
} // namespace slr::graph
