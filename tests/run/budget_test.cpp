// What structures cost against what the rewritten network counts, and what curves predict between their points.
#include "slr/run/budget.hpp"

#include "graph/builder.hpp"
#include "graph/factors.hpp"
#include "slr/graph/channels.hpp"
#include "slr/graph/count.hpp"
#include "slr/graph/onnx_file.hpp"
#include "slr/graph/rewrite.hpp"
#include "slr/run/curves.hpp"
#include "slr/run/layer_work.hpp"
#include "slr/run/sweep.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <numeric>
#include <random>

namespace slr::run {
namespace {

Network network_of(graph::Model model) {
  Network network;
  network.model = std::move(model);
  network.layers = graph::find_layers(network.model);
  return network;
}

Network example() {
  return network_of(graph::fold(graph::read_model(SLR_EXAMPLE)));
}

graph::CompressedLayer zeros(const graph::Layer& layer, Split split) {
  graph::CompressedLayer c;
  const auto channels = layer.cols / layer.window_area(), kept = split.groups * layer.window_area();
  for (std::int64_t g = 0; g < split.groups; ++g) // neither the first nor the last ones
    c.kept_groups.push_back(1 + g * (channels - 2) / std::max<std::int64_t>(1, split.groups));
  c.rank = split.rank;
  c.U.resize(static_cast<std::size_t>(layer.rows * split.rank));
  c.V.resize(static_cast<std::size_t>(split.rank * (layer.cols - kept)));
  c.B.resize(static_cast<std::size_t>(layer.rows * kept));
  c.bias.resize(static_cast<std::size_t>(layer.rows));
  return c;
}

TEST(LayerCosts, AreWhatTheRewrittenNetworkCounts) {
  const auto network = example();
  const LayerCosts costs(network);
  for (std::size_t i = 0; i < network.layers.size(); ++i)
    for (const Split split : {Split{0, 1}, Split{0, 4}, Split{3, 0}, Split{3, 2}, Split{5, 5}}) {
      const auto& layer = network.layers[i];
      if (split.groups > layer.cols / layer.window_area() - 2) continue;
      auto model = network.model;
      (void)graph::replace_layer(model, layer, zeros(layer, split));
      const auto counts = graph::count(model);
      const auto expected = [&](std::size_t r) { return costs.whole()[r] - costs.dense(i)[r] + costs.of(i, split)[r]; };
      const auto what = layer.name + " groups " + std::to_string(split.groups) + " rank " + std::to_string(split.rank);
      EXPECT_EQ(counts.parameters, expected(0)) << what;
      EXPECT_EQ(counts.macs, expected(1)) << what;
      // Before operator set 13 the sizes of a Split are an attribute; a form may share constants that are there.
      EXPECT_LE(counts.bytes, expected(2)) << what;
      EXPECT_GE(counts.bytes, expected(2) - 16) << what;
    }
}

/// One 3 x 3 convolution of as many input as output channels on a square map.
Network convolution(std::int64_t channels, std::int64_t side) {
  graph::Builder b(13, {-1, channels, side, side});
  b.node("Conv", {"x", b.floats("weight", {channels, channels, 3, 3}), b.floats("bias", {channels})}, {"y"},
         {{"pads", std::vector<std::int64_t>{1, 1, 1, 1}}});
  b.output("y");
  return network_of(b.model);
}

// Sixteen channels at once: a rank of 5 takes as long as one of 16.
TEST(LayerCosts, TellWhatIsFasterFromWhatHasFewerProducts) {
  const auto narrow = convolution(16, 32), wide = convolution(128, 14);
  for (const Split split : {Split{0, 2}, Split{0, 5}, Split{1, 4}, Split{8, 2}})
    EXPECT_FALSE(LayerCosts(narrow).is_faster(0, split)) << split.groups << " groups, rank " << split.rank;
  for (const Split split : {Split{0, 16}, Split{0, 80}, Split{32, 32}, Split{64, 0}})
    EXPECT_TRUE(LayerCosts(wide).is_faster(0, split)) << split.groups << " groups, rank " << split.rank;
  EXPECT_FALSE(LayerCosts(wide).is_faster(0, {0, 118}));
  // A rank of 113 takes what 128 take, 50,000 products for one more node, and 24 for each of 128 x 196 elements.
  const double dense = 128 * 1152 * 196.0, rank_128 = 128 * (1152 + 128) * 196.0, node = 50'000 + 24 * 128 * 196.0;
  const double more = (rank_128 + node - dense) / dense;
  EXPECT_FALSE(LayerCosts(wide).is_faster(0, {0, 113}, 0.99 * more));
  EXPECT_TRUE(LayerCosts(wide).is_faster(0, {0, 113}, 1.01 * more));
  const auto time = [&](std::int64_t rank) {
    return graph::products_of_time(wide.layers[0], graph::Form::low_rank, rank, 0, 196);
  };
  EXPECT_EQ(time(1), time(16));
  EXPECT_LT(time(16), time(17));
}

/// Two convolutions that read the same 16 channels, side by side as in a fire module.
Network siblings() {
  graph::Builder b;
  const auto conv = [&](const std::string& from, const std::string& to, std::int64_t inputs, std::int64_t outputs,
                        std::int64_t kernel) {
    const std::int64_t pad = kernel / 2;
    b.node("Conv",
           {from, b.floats(to + ".weight", {outputs, inputs, kernel, kernel}), b.floats(to + ".bias", {outputs})},
           {to + ".sum"}, {{"pads", std::vector<std::int64_t>{pad, pad, pad, pad}}});
    b.node("Relu", {to + ".sum"}, {to});
  };
  conv("x", "squeezed", 3, 16, 1);
  conv("squeezed", "left", 16, 24, 1);
  conv("squeezed", "right", 16, 32, 3);
  b.node("Concat", {"left", "right"}, {"y"}, {{"axis", std::int64_t(1)}});
  b.output("y");
  return network_of(b.model);
}

TEST(CostAsWritten, IsNotBelowWhatSiblingsAreWrittenAs) {
  const auto network = siblings();
  ASSERT_EQ(network.layers.size(), std::size_t(3));
  const Split left{4, 2}, right{4, 3};
  const auto expected = cost_as_written(network, {std::nullopt, left, right});
  std::mt19937 engine(1);
  std::vector<std::int64_t> channels(16);
  std::iota(channels.begin(), channels.end(), 0);
  const auto some = [&](std::int64_t count) {
    std::vector<std::int64_t> kept;
    std::sample(channels.begin(), channels.end(), std::back_inserter(kept), count, engine);
    return kept;
  };
  std::int64_t largest = 0;
  for (unsigned seed = 1; seed <= 50; ++seed) {
    auto model = network.model;
    (void)graph::replace_layer(model, network.layers[1],
                               graph::random_factors(network.layers[1], left.rank, some(left.groups), seed));
    (void)graph::replace_layer(model, network.layers[2],
                               graph::random_factors(network.layers[2], right.rank, some(right.groups), seed + 100));
    graph::remove_unread_channels(model);
    graph::order_channels(model);
    const auto counts = graph::count(model);
    EXPECT_LE(counts.parameters, expected[0]) << "seed " << seed;
    EXPECT_LE(counts.bytes, expected[2]) << "seed " << seed;
    largest = std::max(largest, counts.parameters);
  }
  EXPECT_EQ(largest, expected[0]); // and it is reached
}

TEST(BudgetPoints, TakeListsTogether) {
  const auto network = example();
  const std::vector<std::string> all(network.layers.size());
  Configuration config;
  config.budget.parameters = {{2.0, {}}, {4.9, {}}};
  config.budget.macs = {{3.0, {}}};
  const auto points = budget_points(network, all, config);
  ASSERT_EQ(points.size(), std::size_t(2));
  EXPECT_EQ(points[0].name, "parameters-2");
  EXPECT_EQ(points[1].name, "parameters-4.9");
  EXPECT_EQ(points[1].limit_of(Resource::parameters), graph::count(network.model).parameters * 10 / 49);
  EXPECT_EQ(points[1].limit_of(Resource::macs), points[0].limit_of(Resource::macs));
  config.budget.macs = {{3.0, {}}, {4.0, {}}, {5.0, {}}};
  EXPECT_THROW((void)budget_points(network, all, config), Error);
}

TEST(BudgetPoints, RefuseWhatCannotBeMet) {
  const auto network = example();
  Configuration config;
  config.budget.parameters = {{1e5, {}}};
  try {
    (void)budget_points(network, std::vector<std::string>(network.layers.size()), config);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::configuration);
    EXPECT_THAT(error.what(), testing::HasSubstr("the largest factor that can be met is"));
  }
}

LayerCurve made_up() {
  // error = 0.5^rank / (1 + groups), KL = 3 error^2
  LayerCurve curve;
  curve.pull = 0.01;
  for (const std::int64_t groups : {0, 4}) {
    CurveRow row;
    for (const std::int64_t rank : {16, 8, 4, 2, 1}) {
      const double error = std::pow(0.5, rank) / static_cast<double>(1 + groups);
      row.push_back({{groups, rank}, error, std::nullopt, std::nullopt});
      if (rank == 8 || rank == 2) row.back().kl = 3 * error * error;
    }
    curve.rows.push_back(row);
  }
  return curve;
}

TEST(Predict, FillsInRanksAndGroups) {
  const auto points = predict(made_up());
  // 16 ranks in two rows, and three numbers of groups between them.
  EXPECT_EQ(points.size(), std::size_t(16 * 5));
  for (const auto& p : points) {
    if (p.split.groups != 0 && p.split.groups != 4) continue;
    const double error = std::pow(0.5, p.split.rank) / static_cast<double>(1 + p.split.groups);
    EXPECT_NEAR(p.error, error, 1e-9 * error) << p.split.groups << " " << p.split.rank; // log-linear: exact here
    EXPECT_NEAR(p.kl, 3 * error * error, 1e-9 * error * error);
  }
  for (const auto& p : points)
    if (p.split == Split{2, 5}) {
      EXPECT_NEAR(p.error, std::pow(0.5, 5) / std::sqrt(5.0), 1e-9);
    }
}

TEST(Predict, GoesThroughThreeMeasuredPoints) {
  LayerCurve curve;
  curve.rows.push_back(
      {{{0, 8}, 0.01, 0.001, {}}, {{0, 4}, 0.1, 0.004, {}}, {{0, 2}, 0.3, std::nullopt, {}}, {{0, 1}, 0.5, 0.6, {}}});
  // On lines through the logarithms: 4 times per decade, then 150 times within a factor of five.
  std::map<std::int64_t, PredictedPoint> by_rank;
  for (const auto& point : predict(curve)) by_rank[point.split.rank] = point;
  EXPECT_NEAR(by_rank[8].kl, 0.001, 1e-15);
  EXPECT_NEAR(by_rank[6].kl, 0.001 * std::pow(4, std::log10(by_rank[6].error / 0.01)), 1e-12);
  EXPECT_NEAR(by_rank[4].kl, 0.004, 1e-15);
  EXPECT_NEAR(by_rank[2].kl, 0.004 * std::pow(150, std::log(by_rank[2].error / 0.1) / std::log(5)), 1e-9);
  EXPECT_NEAR(by_rank[1].kl, 0.6, 1e-12);
}

TEST(Curves, SurviveTheirFile) {
  const Curves curves{0.25, {made_up(), {}}};
  const auto again = curves_from_text(curves_text(curves));
  ASSERT_EQ(again.layers.size(), curves.layers.size());
  EXPECT_EQ(again.network_latency, curves.network_latency);
  EXPECT_EQ(curves_text(again), curves_text(curves));
  EXPECT_EQ(again.layers[0].rows[1][3].error_selection, curves.layers[0].rows[1][3].error_selection);
  EXPECT_THROW((void)curves_from_text("{}"), Error);
  EXPECT_THROW((void)curves_from_text("[1"), Error);
}

// What the network takes beside its layers shrinks with them: 2 ms at half the time, of 6 as it was.
TEST(Allot, ReckonsWithWhatIsMeasuredBesideTheLayers) {
  const auto network = convolution(128, 14);
  Curves curves{10e-3, {{0.01, 4e-3, {}, {}}}, {}};
  curves.layers[0].rows.push_back({{{0, 64}, 0.1, 0.01, 3e-3}, {{0, 32}, 0.2, 0.02, 2e-3}, {{0, 16}, 0.4, 0.04, 1e-3}});
  const BudgetPoint point{"", {{Resource::latency, 0, 2}}};
  Configuration config;
  config.budget.latency = {{2.0, std::nullopt}};
  EXPECT_THROW((void)allot(network, {""}, curves, point, config), Error);
  curves.latency_beside[""] = 2e-3;
  EXPECT_EQ(allot(network, {""}, curves, point, config).splits[0], (Split{0, 64}));
  curves.latency_beside[""] = 3.5e-3;
  EXPECT_EQ(allot(network, {""}, curves, point, config).splits[0],
            (Split{0, 28})); // 1.5 ms are left, on a line through 3 and 1
  EXPECT_EQ(curves_from_text(curves_text(curves)).latency_beside, curves.latency_beside);
}

/// Groups that trace the example's layers on so many ranks of one node, where each of them may hold `memory` bytes.
int groups_of(int ranks, std::int64_t memory, std::vector<std::string> reasons = {}) {
  const auto network = example();
  reasons.resize(network.layers.size());
  const std::vector<int> node_of_rank(static_cast<std::size_t>(ranks), 0);
  return choose_curve_groups(network, reasons, Configuration(), node_of_rank, memory);
}

// The layers' times differ: two groups are not always better than one, but never more than there are layers.
TEST(CurveGroups, AreAsManyAsHelpAndFit) {
  constexpr std::int64_t plenty = std::int64_t(1) << 40;
  EXPECT_EQ(groups_of(1, plenty), 1);
  EXPECT_EQ(groups_of(2, plenty), 2);
  EXPECT_GT(groups_of(8, plenty), 1);
  EXPECT_EQ(groups_of(8, 1), 1); // what all ranks share has to fit in any case
  const auto count = example().layers.size();
  std::vector<std::string> all_but_one(count, "dense");
  all_but_one.back().clear();
  EXPECT_EQ(groups_of(8, plenty, all_but_one), 1);
  EXPECT_EQ(groups_of(8, plenty, std::vector<std::string>(count, "dense")), 1);
}

} // namespace
} // namespace slr::run
