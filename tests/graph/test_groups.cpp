// A grouped convolution is several ones side by side, and the same function again when they are joined.
#include "builder.hpp"
#include "factors.hpp"
#include "reference.hpp"
#include "slr/graph/count.hpp"
#include "slr/graph/groups.hpp"
#include "slr/graph/onnx_file.hpp"

#include <algorithm>

namespace slr::graph {
namespace {

using Ints = std::vector<std::int64_t>;

struct GroupCase {
  const char* name;
  std::int64_t opset, groups;
  bool has_bias, has_activation;
};
void PrintTo(const GroupCase& c, std::ostream* out) {
  *out << c.name;
}

Model network(const GroupCase& c) {
  Builder b(c.opset, {-1, 12, 6, 6});
  std::vector<std::string> inputs{"x", b.floats("w", {24, 12 / c.groups, 3, 3})};
  if (c.has_bias) inputs.push_back(b.floats("b", {24}));
  auto& node =
      b.node("Conv", inputs, {"a"}, {{"group", c.groups}, {"strides", Ints{2, 1}}, {"pads", Ints{1, 0, 0, 1}}});
  node.name = "conv";
  if (c.has_activation) b.node("LeakyRelu", {"a"}, {"r"}, {{"alpha", 0.25F}});
  b.node("Conv", {c.has_activation ? "r" : "a", b.floats("v", {5, 24, 1, 1})}, {"y"});
  b.output("y");
  return b.model;
}

reference::Array output(const Model& model) {
  return reference::run(parse_model(serialize_model(model), ".", "groups"),
                        {{"x", reference::random_array({2, 12, 6, 6}, 3)}})
      .at("y");
}

class Groups : public testing::TestWithParam<GroupCase> {};

TEST_P(Groups, AreLayersOfTheirOwnAndJoinAgain) {
  const auto& c = GetParam();
  const auto model = network(c);
  auto split = model;
  split_groups(split);
  EXPECT_EQ(count(split).parameters, count(model).parameters);
  EXPECT_EQ(count(split).macs, count(model).macs);
  EXPECT_EQ(reference::relative_difference(output(model), output(split)), 0);
  const auto layers = find_layers(split);
  ASSERT_EQ(layers.size(), static_cast<std::size_t>(c.groups) + 1);
  for (std::size_t g = 0; g + 1 < layers.size(); ++g) {
    EXPECT_EQ(layers[g].name, "conv/group" + std::to_string(g + 1));
    EXPECT_EQ(layers[g].groups, 1);
    EXPECT_EQ(layers[g].activation.kind, c.has_activation ? ActivationKind::leaky_relu : ActivationKind::identity);
  }
  auto joined = split;
  join_groups(joined);
  EXPECT_EQ(reference::relative_difference(output(model), output(joined)), 0);
  EXPECT_EQ(joined.nodes.size(), model.nodes.size());
  const auto* convolution = find_node(joined, "Conv");
  EXPECT_EQ(convolution->name, "conv");
  EXPECT_EQ(convolution->int_or("group", 1), c.groups);

  replace_layer(split, layers[1], random_factors(layers[1], 2, {}, 1));
  auto unchanged = split;
  join_groups(unchanged);
  EXPECT_EQ(serialize_model(unchanged), serialize_model(split)); // one group has another form now
}

INSTANTIATE_TEST_SUITE_P(Table, Groups,
                         testing::Values(GroupCase{"two", 13, 2, true, true}, GroupCase{"three", 11, 3, false, true},
                                         GroupCase{"four", 18, 4, true, false}, GroupCase{"plain", 9, 2, false, false}),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(GroupsThatStay, AreDepthwiseManyOrShared) {
  Builder b(13, {-1, 16, 6, 6});
  b.node("Conv", {"x", b.floats("d", {16, 1, 3, 3})}, {"a"}, {{"group", std::int64_t(16)}});
  b.node("Conv", {"a", b.floats("m", {16, 2, 3, 3})}, {"c"}, {{"group", std::int64_t(8)}});
  b.node("Conv", {"c", b.floats("s", {16, 8, 1, 1})}, {"e"}, {{"group", std::int64_t(2)}});
  b.node("Conv", {"e", "s"}, {"y"}, {{"group", std::int64_t(2)}});
  b.output("y");
  auto model = b.model;
  split_groups(model);
  EXPECT_EQ(serialize_model(model), serialize_model(b.model));
}

} // namespace
} // namespace slr::graph
