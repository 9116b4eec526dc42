// Channels that nobody reads go from the layers that make them, and orders move there: the function stays the same.
#include "builder.hpp"
#include "factors.hpp"
#include "reference.hpp"
#include "slr/graph/channels.hpp"
#include "slr/graph/count.hpp"
#include "slr/graph/onnx_file.hpp"

#include <algorithm>
#include <array>

namespace slr::graph {
namespace {

using Ints = std::vector<std::int64_t>;

Builder& conv(Builder& b, const std::string& from, const std::string& to, std::int64_t inputs, std::int64_t outputs,
              std::int64_t side = 3) {
  b.node("Conv", {from, b.floats(to + ".w", {outputs, inputs, side, side}), b.floats(to + ".b", {outputs})}, {to},
         {{"pads", Ints(4, side / 2)}});
  return b;
}

Layer layer_of(const Model& model, const std::string& value) {
  const auto layers = find_layers(model);
  return *std::ranges::find(layers, value, &Layer::linear);
}

void compress(Model& model, const std::string& value, std::int64_t target_rank, const Ints& kept) {
  const auto layer = layer_of(model, value);
  replace_layer(model, layer, random_factors(layer, target_rank, kept, 5));
}

std::vector<reference::Array> outputs(const Model& model) {
  auto dims = model.inputs[0].dims;
  dims[0] = 2;
  const auto values = reference::run(model, {{"x", reference::random_array(dims, 3)}});
  std::vector<reference::Array> result;
  for (const auto& output : model.outputs) result.push_back(values.at(output.name));
  return result;
}

void expect_same_function(const Model& before, const Model& after) {
  const auto a = outputs(before), b = outputs(parse_model(serialize_model(after), ".", "after"));
  // In double: sums of fewer than 10^4 terms in another order.
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_LE(reference::relative_difference(a[i], b[i]), 1e4 * 0x1p-53);
}

Model pruned(const Model& model) {
  auto result = model;
  remove_unread_channels(result);
  expect_same_function(model, result);
  return result;
}

Model ordered(const Model& model) {
  auto result = model;
  order_channels(result);
  expect_same_function(model, result);
  return result;
}

std::int64_t number_of(const Model& model, const std::string& op) {
  return std::ranges::count(model.nodes, op, &Node::op);
}
Dims dims_of(const Model& model, const std::string& initializer) {
  return model.initializers.at(initializer).dims;
}

TEST(UnreadChannels, LeaveTheLayerThatMakesThem) {
  Builder b;
  conv(b, "x", "a", 3, 10);
  b.batch_norm("a", "n", 10);
  b.node("Relu", {"n"}, {"r"});
  b.node("MaxPool", {"r"}, {"p"}, {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}});
  conv(b, "p", "y", 10, 8);
  b.output("y");
  compress(b.model, "y", 0, {1, 2, 7});
  const auto model = pruned(b.model);
  EXPECT_EQ(number_of(model, "Gather"), 0);
  EXPECT_EQ(dims_of(model, "a.w"), (Dims{3, 3, 3, 3}));
  // a: 3 x (27 + 1), its normalization 4 x 3, y: 8 x (3 * 9 + 1); no indices
  EXPECT_EQ(count(model).parameters, 3 * 28 + 4 * 3 + 8 * 28);
}

TEST(UnreadChannels, StayWhereOthersReadThem) {
  Builder b;
  conv(b, "x", "a", 3, 10);
  b.node("Relu", {"a"}, {"r"});
  conv(b, "r", "y", 10, 8);
  conv(b, "r", "z", 10, 8);
  b.output("y");
  b.output("z");
  auto model = b.model;
  compress(model, "y", 0, {1, 2, 7});
  EXPECT_EQ(dims_of(pruned(model), "a.w")[0], 10);
  compress(model, "z", 0, {0, 2});
  const auto both = pruned(model);
  EXPECT_EQ(dims_of(both, "a.w")[0], 4);
  EXPECT_EQ(number_of(both, "Gather"), 2); // each reads other ones of the four
  b.output("r");
  compress(b.model, "y", 0, {1, 2, 7});
  compress(b.model, "z", 0, {0, 2});
  EXPECT_EQ(dims_of(pruned(b.model), "a.w")[0], 10);
}

TEST(UnreadChannels, GoThroughSumsDepthwiseConvolutionsAndConcat) {
  Builder b;
  conv(b, "x", "a", 3, 6);
  conv(b, "x", "c", 3, 6);
  b.node("Add", {"a", "c"}, {"s"});
  b.node("Conv", {"s", b.floats("d.w", {6, 1, 3, 3}), b.floats("d.b", {6})}, {"d"}, {{"group", std::int64_t(6)}});
  conv(b, "x", "e", 3, 4);
  b.node("Conv", {"e", b.floats("f.w", {4, 4, 3, 3})}, {"f"});
  b.node("Concat", {"d", "f"}, {"j"}, {{"axis", std::int64_t(1)}});
  conv(b, "j", "y", 10, 8, 1);
  b.output("y");
  compress(b.model, "y", 0, {0, 4, 7, 9});
  const auto model = pruned(b.model);
  EXPECT_EQ(number_of(model, "Gather"), 0);
  for (const auto* name : {"a.w", "c.w", "d.w", "f.w"}) EXPECT_EQ(dims_of(model, name)[0], 2) << name;
  EXPECT_EQ(dims_of(model, "e.w")[0], 4); // f reads all of them
}

TEST(UnreadChannels, AllOfAMapMustBeUnreadBehindAFlatten) {
  Builder b(13, {-1, 3, 2, 2});
  conv(b, "x", "a", 3, 5);
  b.node("Flatten", {"a"}, {"f"});
  b.node("Gemm", {"f", b.floats("w", {20, 6})}, {"y"});
  b.output("y");
  compress(b.model, "y", 0, {0, 5, 6, 16, 17, 18, 19}); // of the channels 0, 1 and 4
  const auto model = pruned(b.model);
  EXPECT_EQ(dims_of(model, "a.w")[0], 3);
  EXPECT_EQ(number_of(model, "Gather"), 1);
}

TEST(UnreadChannels, UnknownOperatorsReadAll) {
  for (const bool is_shared : {false, true}) {
    Builder b(13, {-1, 4, 6, 6});
    conv(b, "x", "a", 4, 4);
    b.node("Transpose", {"a"}, {"t"}, {{"perm", Ints{0, 1, 3, 2}}});
    conv(b, is_shared ? "a" : "t", "y", 4, 8);
    if (is_shared) b.node("Conv", {"x", "a.w"}, {"z"});
    b.output("y");
    if (is_shared) b.output("z");
    compress(b.model, "y", 0, {1});
    EXPECT_EQ(dims_of(pruned(b.model), "a.w")[0], 4);
  }
}

TEST(UnreadChannels, OneAlwaysStays) {
  Builder b;
  conv(b, "x", "a", 3, 4);
  conv(b, "x", "c", 3, 4);
  b.node("Concat", {"a", "c"}, {"j"}, {{"axis", std::int64_t(1)}});
  conv(b, "j", "y", 8, 8);
  b.output("y");
  compress(b.model, "y", 0, {1, 2});
  EXPECT_EQ(dims_of(pruned(b.model), "c.w")[0], 1);
}

TEST(OrderedChannels, MoveIntoTheLayerThatMakesThem) {
  Builder b;
  conv(b, "x", "a", 3, 10);
  b.batch_norm("a", "n", 10);
  b.node("Relu", {"n"}, {"r"});
  conv(b, "r", "y", 10, 8);
  b.output("y");
  compress(b.model, "y", 2, {1, 2, 7});
  ASSERT_EQ(number_of(b.model, "Gather"), 1);
  const auto model = ordered(b.model);
  EXPECT_EQ(number_of(model, "Gather"), 0);
  EXPECT_EQ(count(model).parameters, count(b.model).parameters - 10);
  EXPECT_EQ(count(model).macs, count(b.model).macs);
}

TEST(OrderedChannels, OthersWhoReadThemAreAdapted) {
  Builder b(13, {-1, 3, 4, 4});
  conv(b, "x", "a", 3, 10);
  conv(b, "x", "c", 3, 10);
  b.node("Add", {"a", "c"}, {"s"});
  conv(b, "s", "y", 10, 12);
  conv(b, "s", "z", 10, 12);
  conv(b, "s", "v", 10, 10);
  b.node("Add", {"s", "v"}, {"t"}); // what v makes has the same order
  b.node("Flatten", {"t"}, {"f"});
  b.node("Gemm", {"f", b.floats("w", {160, 6})}, {"g"});
  for (const auto* name : {"y", "z", "g"}) b.output(name);
  compress(b.model, "y", 2, {1, 2, 7});
  compress(b.model, "z", 2, {0, 4});
  compress(b.model, "g", 2, {3, 9});
  ASSERT_EQ(number_of(b.model, "Gather"), 3);
  EXPECT_EQ(number_of(ordered(b.model), "Gather"), 2); // of three orders only one can be that of the sum
}

TEST(OrderedChannels, StayWhereTheyCannotMove) {
  Builder b;
  conv(b, "x", "a", 3, 4);
  conv(b, "x", "c", 3, 4);
  b.node("Concat", {"a", "c"}, {"j"}, {{"axis", std::int64_t(1)}});
  conv(b, "j", "y", 8, 12);
  b.output("y");
  compress(b.model, "y", 2, {1, 5});
  EXPECT_EQ(number_of(ordered(b.model), "Gather"), 1);
  Builder of_output;
  conv(of_output, "x", "a", 3, 8);
  conv(of_output, "a", "y", 8, 12);
  of_output.output("y");
  of_output.output("a");
  compress(of_output.model, "y", 2, {1, 5});
  EXPECT_EQ(number_of(ordered(of_output.model), "Gather"), 1);
}

TEST(Channels, OrdersOfKeptRowsMoveToTheReaders) {
  Builder b(13, {-1, 4, 6, 6});
  conv(b, "x", "a", 4, 40);
  b.node("Relu", {"a"}, {"r"});
  b.node("MaxPool", {"r"}, {"p"}, {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}});
  conv(b, "p", "c", 40, 6);
  b.node("Flatten", {"p"}, {"f"});
  b.node("Gemm", {"f", b.floats("w1", {360, 5}), b.floats("b1", {5})}, {"y"});
  b.output("c");
  b.output("y");
  auto layer = layer_of(b.model, "a");
  layer.grouping = Grouping::filter;
  replace_layer(b.model, layer, random_factors(layer, 2, {3, 5, 20}, 5));
  EXPECT_EQ(number_of(b.model, "Gather"), 1);
  EXPECT_EQ(number_of(ordered(b.model), "Gather"), 0);
}

/// Branches, a residual sum, a depthwise convolution, a Concat and a Flatten, with every layer in a random form.
Model random_network(unsigned seed, std::int64_t opset) {
  Builder b(opset, {-1, 3, 6, 6});
  conv(b, "x", "a", 3, 12);
  b.node("Relu", {"a"}, {"ra"});
  conv(b, "ra", "c", 12, 12);
  b.node("Add", {"c", "ra"}, {"s"});
  b.node("Relu", {"s"}, {"rs"});
  b.node("Conv", {"rs", b.floats("d.w", {12, 1, 3, 3})}, {"d"}, {{"group", std::int64_t(12)}});
  b.batch_norm("d", "n", 12);
  conv(b, "n", "e", 12, 9, 1);
  conv(b, "n", "g", 12, 7);
  b.node("Concat", {"e", "g"}, {"j"}, {{"axis", std::int64_t(1)}});
  conv(b, "j", "h", 16, 10);
  b.node("AveragePool", {"h"}, {"p"}, {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}});
  b.node("Flatten", {"p"}, {"f"});
  b.node("Gemm", {"f", b.floats("w1", {40, 14}), b.floats("b1", {14})}, {"u"});
  b.node("MatMul", {"u", b.floats("w2", {14, 6})}, {"q"});
  b.node("Add", {"q", b.floats("b2", {6})}, {"y"});
  b.output("y");
  std::mt19937 engine(seed);
  const std::array groupings{Grouping::channel, Grouping::channel, Grouping::column, Grouping::filter};
  for (const auto* value : {"c", "e", "g", "h", "u", "y"}) {
    auto layer = layer_of(b.model, value);
    layer.grouping = groupings[engine() % groupings.size()];
    Ints kept;
    for (std::int64_t c = 0; c < layer.group_count(); ++c)
      if (engine() % 3 == 0) kept.push_back(c);
    replace_layer(b.model, layer, random_factors(layer, engine() % 2 == 0 ? 0 : 2, kept, seed));
  }
  return b.model;
}

TEST(Channels, KeepTheFunctionOfRandomNetworks) {
  for (unsigned seed = 0; seed < 30; ++seed) {
    SCOPED_TRACE(seed);
    const auto model = random_network(seed, seed % 2 == 0 ? 11 : 13);
    const auto left = pruned(model), moved = ordered(left);
    EXPECT_LE(count(left).parameters, count(model).parameters);
    EXPECT_LE(count(moved).parameters, count(left).parameters);
    EXPECT_LE(count(moved).macs, count(model).macs);
    EXPECT_EQ(serialize_model(pruned(moved)), serialize_model(moved)); // nothing changes any more
  }
}

} // namespace
} // namespace slr::graph
