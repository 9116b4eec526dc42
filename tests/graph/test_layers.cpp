// What find_layers sees of the ways in which exporters write linear layers.
#include "builder.hpp"
#include "slr/graph/layers.hpp"

#include <limits>

namespace slr::graph {
namespace {

using Ints = std::vector<std::int64_t>;
constexpr double infinity = std::numeric_limits<double>::infinity();

TEST(Layers, ConvolutionWithItsSurroundings) {
  Builder b;
  b.node("Conv", {"x", b.floats("w", {5, 3, 3, 2}), b.floats("bias", {5})}, {"y"},
         {{"strides", Ints{2, 1}}, {"pads", Ints{1, 0, 2, 1}}, {"dilations", Ints{1, 3}}});
  b.node("Relu", {"y"}, {"z"});
  b.output("z");
  const auto layers = find_layers(b.model);
  ASSERT_EQ(layers.size(), 1U);
  const auto& layer = layers[0];
  EXPECT_EQ(layer.name, "y_node");
  EXPECT_EQ(layer.kind, LayerKind::convolution);
  EXPECT_EQ(layer.rows, 5);
  EXPECT_EQ(layer.cols, 18);
  EXPECT_EQ(layer.window_area(), 6);
  EXPECT_EQ(layer.window.strides, (std::array<std::int64_t, 2>{2, 1}));
  EXPECT_EQ(layer.window.pads, (std::array<std::int64_t, 4>{1, 0, 2, 1}));
  EXPECT_EQ(layer.window.dilations, (std::array<std::int64_t, 2>{1, 3}));
  EXPECT_EQ(layer.input, "x");
  EXPECT_EQ(layer.linear, "y");
  EXPECT_EQ(layer.output, "z");
  EXPECT_EQ(layer.activation.kind, ActivationKind::relu);
  const auto w = b.model.initializers.at("w").floats(), bias = b.model.initializers.at("bias").floats();
  EXPECT_EQ(weight_matrix(b.model, layer), std::vector<float>(w.begin(), w.end()));
  EXPECT_EQ(layer.bias, std::vector<float>(bias.begin(), bias.end()));
}

TEST(Layers, GroupsAndDepth) {
  Builder b(13, {-1, 4, 8, 8});
  b.node("Conv", {"x", b.floats("w1", {4, 1, 3, 3})}, {"a"}, {{"group", std::int64_t(4)}});
  b.node("Conv", {"a", b.floats("w2", {6, 2, 1, 1})}, {"b"}, {{"group", std::int64_t(2)}});
  const auto layers = find_layers(b.model);
  ASSERT_EQ(layers.size(), 2U);
  EXPECT_TRUE(layers[0].is_depthwise());
  EXPECT_EQ(layers[1].groups, 2);
  EXPECT_EQ(layers[1].cols, 2);
  EXPECT_FALSE(layers[1].is_depthwise());
  EXPECT_EQ(layers[1].bias, std::vector<float>(6, 0.0F));
}

TEST(Layers, GemmEitherWayRoundWithItsFactors) {
  const float w[] = {1, 2, 3, 4, 5, 6}, c[] = {10, 20};
  for (const bool transposed : {false, true}) {
    Builder b(13, {-1, 3});
    b.model.initializers["w"] = Tensor::of_floats(transposed ? Dims{2, 3} : Dims{3, 2}, w);
    b.model.initializers["c"] = Tensor::of_floats({1, 2}, c);
    b.node("Gemm", {"x", "w", "c"}, {"y"}, {{"transB", std::int64_t(transposed)}, {"alpha", 2.0F}, {"beta", 0.5F}});
    const auto layers = find_layers(b.model);
    ASSERT_EQ(layers.size(), 1U);
    EXPECT_EQ(layers[0].rows, 2);
    EXPECT_EQ(layers[0].cols, 3);
    EXPECT_EQ(weight_matrix(b.model, layers[0]),
              transposed ? (std::vector<float>{2, 4, 6, 8, 10, 12}) : (std::vector<float>{2, 6, 10, 4, 8, 12}));
    EXPECT_EQ(layers[0].bias, (std::vector<float>{5, 10}));
  }
}

TEST(Layers, MatMulWithAnAddIsOne) {
  const float w[] = {1, 2, 3, 4, 5, 6};
  for (const bool constant_first : {false, true}) {
    Builder b(13, {-1, 7, 3});
    b.model.initializers["w"] = Tensor::of_floats({3, 2}, w);
    b.floats("c", {2});
    b.node("MatMul", {"x", "w"}, {"p"});
    b.node("Add", constant_first ? std::vector<std::string>{"c", "p"} : std::vector<std::string>{"p", "c"}, {"y"});
    b.node("Tanh", {"y"}, {"z"});
    const auto layers = find_layers(b.model);
    ASSERT_EQ(layers.size(), 1U);
    EXPECT_EQ(layers[0].linear, "y");
    EXPECT_EQ(layers[0].output, "z");
    EXPECT_EQ(layers[0].node, 0U);
    EXPECT_EQ(weight_matrix(b.model, layers[0]), (std::vector<float>{1, 3, 5, 2, 4, 6}));
    const auto c = b.model.initializers.at("c").floats();
    EXPECT_EQ(layers[0].bias, std::vector<float>(c.begin(), c.end()));
  }
}

TEST(Layers, AnAddThatIsNoBiasStaysOutside) {
  Builder residual(13, {-1, 3});
  residual.node("MatMul", {"x", residual.floats("w", {3, 3})}, {"p"});
  residual.node("Add", {"p", "x"}, {"y"});
  residual.node("Relu", {"y"}, {"z"});
  auto layers = find_layers(residual.model);
  ASSERT_EQ(layers.size(), 1U);
  EXPECT_EQ(layers[0].linear, "p");
  EXPECT_EQ(layers[0].output, "p");
  EXPECT_EQ(layers[0].activation.kind, ActivationKind::identity);

  Builder wide(13, {-1, 3});
  wide.node("MatMul", {"x", wide.floats("w", {3, 3})}, {"p"});
  wide.node("Add", {"p", wide.floats("c", {4, 1, 3})}, {"y"});
  layers = find_layers(wide.model);
  ASSERT_EQ(layers.size(), 1U);
  EXPECT_EQ(layers[0].linear, "p");
}

TEST(Layers, ActivationsAndTheirParameters) {
  const auto activation = [](std::int64_t opset, const std::string& op, std::map<std::string, Attribute> attributes,
                             const std::vector<std::pair<std::string, float>>& constants = {}) {
    Builder b(opset);
    b.node("Conv", {"x", b.floats("w", {2, 3, 1, 1})}, {"y"});
    std::vector<std::string> inputs{"y"};
    for (const auto& [name, value] : constants) {
      inputs.push_back(name);
      if (!name.empty()) b.model.initializers[name] = Tensor::of_floats({}, std::span(&value, 1));
    }
    b.node(op, inputs, {"z"}, std::move(attributes));
    return find_layers(b.model).at(0).activation;
  };
  EXPECT_EQ(activation(13, "Sigmoid", {}).kind, ActivationKind::sigmoid);
  EXPECT_EQ(activation(13, "Tanh", {}).kind, ActivationKind::tanh);
  EXPECT_EQ(activation(13, "Elu", {}).kind, ActivationKind::identity);
  EXPECT_EQ(activation(13, "LeakyRelu", {}).alpha, static_cast<double>(0.01F));
  EXPECT_EQ(activation(13, "LeakyRelu", {{"alpha", 0.25F}}).alpha, 0.25);
  const auto relu6 = activation(13, "Clip", {}, {{"low", 0.0F}, {"high", 6.0F}});
  EXPECT_EQ(relu6.kind, ActivationKind::clip);
  EXPECT_EQ(relu6.low, 0);
  EXPECT_EQ(relu6.high, 6);
  const auto old = activation(9, "Clip", {{"min", -1.0F}});
  EXPECT_EQ(old.low, -1);
  EXPECT_EQ(old.high, infinity);
  const auto upper = activation(13, "Clip", {}, {{"", 0.0F}, {"high", 2.0F}});
  EXPECT_EQ(upper.low, -infinity);
  EXPECT_EQ(upper.high, 2);
  const auto written_out = activation(9, "Clip", {{"min", std::numeric_limits<float>::lowest()}, {"max", 3.0F}});
  EXPECT_EQ(written_out.low, -infinity);
}

TEST(Layers, AValueThatGoesElsewhereHasNoActivation) {
  Builder twice;
  twice.node("Conv", {"x", twice.floats("w", {3, 3, 1, 1})}, {"y"});
  twice.node("Relu", {"y"}, {"z"});
  twice.node("Add", {"y", "z"}, {"s"});
  EXPECT_EQ(find_layers(twice.model).at(0).activation.kind, ActivationKind::identity);
  Builder output;
  output.node("Conv", {"x", output.floats("w", {3, 3, 1, 1})}, {"y"});
  output.node("Relu", {"y"}, {"z"});
  output.output("y");
  EXPECT_EQ(find_layers(output.model).at(0).activation.kind, ActivationKind::identity);
  EXPECT_EQ(find_layers(output.model).at(0).output, "y");
}

TEST(Layers, WhatIsNoLayer) {
  Builder b(13, {4, 4});
  b.node("Gemm", {"x", b.floats("w1", {4, 4})}, {"a"}, {{"transA", std::int64_t(1)}});
  b.node("Gemm", {"x", b.floats("w2", {4, 4}), b.floats("c2", {4, 4})}, {"b"});
  b.node("MatMul", {b.floats("w3", {4, 4}), "x"}, {"c"});
  b.node("MatMul", {"x", "a"}, {"d"});
  b.node("Conv", {"x", b.floats("w4", {4, 4, 1})}, {"e"});
  b.node("Conv", {"x", b.floats("w5", {4, 4, 1, 1, 1})}, {"f"});
  b.node("Conv", {"x", b.ints("w6", {1})}, {"g"});
  b.node("Conv", {"x", b.floats("w7", {4, 4, 1, 1})}, {"h"}).domain = "elsewhere";
  EXPECT_TRUE(find_layers(b.model).empty());
}

TEST(Layers, NamesComeFromTheNodeElseFromTheWeightAndAreUnique) {
  Builder b;
  b.floats("shared", {3, 3, 1, 1});
  b.node("Conv", {"x", "shared"}, {"a"});
  b.node("Relu", {"a"}, {"r"});
  b.node("Conv", {"r", "shared"}, {"b"}).is_named = false;
  b.node("Conv", {"b", "shared"}, {"c"}).is_named = false;
  b.node("Tanh", {"c"}, {"y"});
  const auto layers = find_layers(b.model);
  ASSERT_EQ(layers.size(), 3U); // each followed by something else
  EXPECT_EQ(layers[0].name, "a_node");
  EXPECT_EQ(layers[1].name, "shared");
  EXPECT_EQ(layers[2].name, "shared_2");
}

TEST(Layers, NodesWithTheSameWeightBiasAndActivationAreOneLayer) {
  Builder b;
  b.floats("w", {3, 3, 3, 3});
  b.floats("bias", {3});
  const auto conv = [&](const std::string& from, const std::string& to, const std::string& bias, std::int64_t stride) {
    b.node("Conv", bias.empty() ? std::vector<std::string>{from, "w"} : std::vector<std::string>{from, "w", bias},
           {to + "_linear"}, {{"strides", Ints{stride, stride}}, {"pads", Ints{1, 1, 1, 1}}});
    b.node("Relu", {to + "_linear"}, {to});
  };
  conv("x", "a", "bias", 1);
  conv("a", "b", "bias", 2);
  conv("b", "c", "", 1);                          // another bias
  conv("c", "d", b.floats("bias2", {3}), 1);      // another one
  b.node("Conv", {"d", "w", "bias"}, {"linear"}); // no activation
  b.output("linear");
  const auto layers = find_layers(b.model);
  ASSERT_EQ(layers.size(), 4U);
  ASSERT_EQ(layers[0].others.size(), 1U);
  EXPECT_EQ(layers[0].name, "a_linear_node");
  EXPECT_EQ(layers[0].others[0].name, "b_linear_node");
  EXPECT_EQ(layers[0].others[0].input, "a");
  EXPECT_EQ(layers[0].others[0].output, "b");
  EXPECT_EQ(layers[0].others[0].window.strides, (std::array<std::int64_t, 2>{2, 2}));
  EXPECT_EQ(layers[0].uses().size(), 2U);
  for (std::size_t i = 1; i < 4; ++i) EXPECT_TRUE(layers[i].others.empty()) << i;
}

TEST(Layers, AttributesOfTheWrongKindAreBadData) {
  for (const auto& [key, value] : std::map<std::string, Attribute>{{"strides", Ints{1}},
                                                                   {"pads", Ints{0, 0, -1, 0}},
                                                                   {"dilations", 1.0F},
                                                                   {"auto_pad", std::int64_t(1)},
                                                                   {"kernel_shape", Ints{3, 3}},
                                                                   {"group", std::string("2")}}) {
    Builder b;
    b.node("Conv", {"x", b.floats("w", {2, 3, 1, 1})}, {"bad"}, {{key, value}});
    const auto [code, sentence] = error_of([&] { static_cast<void>(find_layers(b.model)); });
    EXPECT_EQ(code, ExitCode::bad_data);
    EXPECT_NE(sentence.find("bad_node"), std::string::npos) << sentence;
  }
}

} // namespace
} // namespace slr::graph
