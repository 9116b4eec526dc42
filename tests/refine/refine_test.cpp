// The refinement of a small network on synthetic images: exact sums, the same bits for every number of ranks, and what
// is refused.
#include "slr/refine/refine.hpp"

#include "slr/infer/executor.hpp"
#include "slr/refine/objective.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

namespace slr::refine {
namespace {

using graph::Dims;
using Ints = std::vector<std::int64_t>;

std::vector<float> numbers(std::int64_t count, std::uint32_t seed, float scale = 1) {
  std::vector<float> values(static_cast<std::size_t>(count));
  std::uint32_t state = seed * 2654435761U + 12345U;
  for (float& value : values) {
    state = state * 1664525U + 1013904223U;
    value = scale * (static_cast<float>(state >> 8) * 0x1p-23F - 1.0F);
  }
  return values;
}

const Dims image_dims{2, 8, 8};
const std::vector<std::string> all_weights{"v", "u", "ub", "kept", "w", "b"};

/// Low rank and kept channels behind a convolution, then a fully connected layer: 5 classes. `noise` spoils the
/// weights.
graph::Model network(float noise) {
  graph::Model m;
  m.opsets[""] = 13;
  m.inputs.push_back({"x", graph::ElementType::float32, {-1, 2, 8, 8}, std::vector<std::string>(4)});
  m.outputs.push_back({"y", graph::ElementType::float32, {}, {}});
  std::uint32_t seed = 1;
  const auto weight = [&](const std::string& name, const Dims& dims, float scale) {
    auto values = numbers(graph::element_count(dims), seed++, scale);
    const auto spoil = numbers(graph::element_count(dims), seed++, scale * noise);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] += spoil[i];
    m.initializers[name] = graph::Tensor::of_floats(dims, values);
  };
  m.initializers["first"] = graph::Tensor::of_floats({6, 2, 3, 3}, numbers(108, 99, 0.4F));
  m.initializers["order"] = graph::Tensor::of_int64s({6}, Ints{4, 1, 0, 2, 3, 5});
  m.initializers["sizes"] = graph::Tensor::of_int64s({2}, Ints{2, 4});
  weight("v", {3, 4, 3, 3}, 0.4F);
  weight("u", {8, 3, 1, 1}, 0.6F);
  weight("ub", {8}, 0.2F);
  weight("kept", {8, 2, 3, 3}, 0.4F);
  weight("w", {5, 128}, 0.3F);
  weight("b", {5}, 0.2F);
  const std::map<std::string, graph::Attribute> same{{"pads", Ints{1, 1, 1, 1}}};
  const auto node = [&](const std::string& op, const std::vector<std::string>& in, const std::vector<std::string>& out,
                        const std::map<std::string, graph::Attribute>& attributes = {}) {
    m.nodes.push_back({op + "_" + out[0], op, "", in, out, attributes});
  };
  node("Conv", {"x", "first"}, {"c"}, same);
  node("Relu", {"c"}, {"r"});
  node("Gather", {"r", "order"}, {"g"}, {{"axis", std::int64_t(1)}});
  node("Split", {"g", "sizes"}, {"gk", "gr"}, {{"axis", std::int64_t(1)}});
  node("Conv", {"gk", "kept"}, {"k"}, same);
  node("Conv", {"gr", "v"}, {"vr"}, same);
  node("Conv", {"vr", "u", "ub"}, {"uvr"});
  node("Add", {"k", "uvr"}, {"s"});
  node("Relu", {"s"}, {"a"});
  node("MaxPool", {"a"}, {"p"}, {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}});
  node("Flatten", {"p"}, {"f"});
  node("Gemm", {"f", "w", "b"}, {"y"}, {{"transB", std::int64_t(1)}});
  return m;
}

/// Image i depends on i alone.
Examples::Source source(std::int64_t images, std::uint32_t seed) {
  Examples::Source result;
  result.images = images;
  result.read = [seed](std::int64_t first, std::int64_t count) {
    infer::Array all{{count, 2, 8, 8}, {}};
    for (std::int64_t i = first; i < first + count; ++i) {
      const auto image = numbers(128, seed + static_cast<std::uint32_t>(i));
      all.data.insert(all.data.end(), image.begin(), image.end());
    }
    return all;
  };
  return result;
}

struct Setting {
  Communicator comm;
  graph::Model original = network(0), start = network(0.2F);
  Examples fit, selection;
  explicit Setting(MPI_Comm world, std::int64_t images = 83)
      : comm(world), fit(comm, source(images, 1000), {original, "x", "y"}, true),
        selection(comm, source(21, 5000), {original, "x", "y"}) {}
  [[nodiscard]] Problem problem() const { return {start, "x", "y", image_dims, all_weights}; }
};

std::vector<float> weights_of(const graph::Model& model) {
  std::vector<float> all;
  for (const auto& name : all_weights) {
    const auto values = model.initializers.at(name).floats();
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

std::vector<std::int64_t> all_blocks(const Examples& examples) {
  std::vector<std::int64_t> blocks(static_cast<std::size_t>(examples.blocks()));
  std::iota(blocks.begin(), blocks.end(), 0);
  return blocks;
}

TEST(Examples, EveryRankHasAllTargets) {
  const Setting all(MPI_COMM_WORLD, 19), alone(MPI_COMM_SELF, 19); // three blocks: fewer than ranks
  ASSERT_EQ(all.fit.blocks(), 3);
  EXPECT_EQ(all.fit.images_of(2), 3);
  for (std::int64_t b = 0; b < 3; ++b) {
    const auto a = all.fit.block(b), e = alone.fit.block(b);
    EXPECT_EQ(a.images->data, e.images->data);
    EXPECT_TRUE(std::equal(a.targets.data.begin(), a.targets.data.end(), e.targets.data.begin(), e.targets.data.end()));
    EXPECT_EQ(a.targets.dims, (Dims{all.fit.images_of(b), 5}));
  }
}

TEST(Examples, MixturesFollowFromTheSeed) {
  const Communicator comm(MPI_COMM_WORLD), self(MPI_COMM_SELF);
  const auto original = network(0);
  const Examples examples(comm, source(19, 1000), {original, "x", "y"}, true); // the last block has three images
  infer::Executor executor(original, {images_per_block, 1});
  for (const std::int64_t b : {0, 2}) {
    const auto plain = examples.block(b), mixed = examples.mixed(b, 7), again = examples.mixed(b, 7);
    EXPECT_EQ(mixed.images->data, again.images->data);
    EXPECT_NE(mixed.images->data, examples.mixed(b, 8).images->data);
    ASSERT_EQ(mixed.images->dims, plain.images->dims);
    // The targets are the original's outputs of the mixtures.
    const auto outputs = executor.run_one("x", *mixed.images, "y");
    EXPECT_TRUE(
        std::equal(outputs.data.begin(), outputs.data.end(), mixed.targets.data.begin(), mixed.targets.data.end()));
    EXPECT_EQ(mixed.targets.dims, (Dims{examples.images_of(b), 5}));
    // Each lies on the line between its image and one other: x - a = l (b - a).
    for (std::int64_t i = 0; i < examples.images_of(b); ++i) {
      const float* a = plain.images->data.data() + i * 128;
      const float* x = mixed.images->data.data() + i * 128;
      double nearest = 1;
      for (std::int64_t other = 0; other < examples.blocks(); ++other) {
        const auto with = examples.block(other);
        for (std::int64_t j = 0; j < examples.images_of(other); ++j) {
          const float* c = with.images->data.data() + j * 128;
          double along = 0, length = 0, off = 0;
          for (int p = 0; p < 128; ++p) {
            along += (double(x[p]) - double(a[p])) * (double(c[p]) - double(a[p]));
            length += (double(c[p]) - double(a[p])) * (double(c[p]) - double(a[p]));
          }
          const double share = length > 0 ? along / length : 0;
          for (int p = 0; p < 128; ++p)
            off = std::max(off, std::abs(double(x[p]) - double(a[p]) - share * (double(c[p]) - double(a[p]))));
          if (share >= 0 && share < 1) nearest = std::min(nearest, off);
        }
      }
      // Of values up to 1, the difference, its product and the sum are rounded: together 2.5 units of 2^-24. The share
      // that is found from them is off by that over a typical difference, sqrt(2/3), of values that differ by up to 2.
      EXPECT_LT(nearest, (2.5 + 2 * 2.5 / std::sqrt(2.0 / 3)) * 0x1p-24);
    }
  }
}

TEST(Objective, IsTheSumOverTheBlocks) {
  const Setting s(MPI_COMM_WORLD);
  auto tape = tape_of(s.problem());
  Objective objective(s.comm, tape, s.fit);
  const auto blocks = all_blocks(s.fit);
  const auto value = objective.gradient(blocks);
  std::vector<double> sum(static_cast<std::size_t>(tape.size()), 0.0);
  std::vector<float> gradient(sum.size());
  double loss = 0, largest = 0;
  for (const auto b : blocks) {
    const auto block = s.fit.block(b);
    for (const double l : tape.losses(*block.images, block.targets, gradient)) loss += l;
    for (std::size_t i = 0; i < sum.size(); ++i) {
      sum[i] += static_cast<double>(gradient[i]);
      largest = std::max(largest, std::abs(static_cast<double>(gradient[i])));
    }
  }
  EXPECT_NEAR(value.loss, loss / 83, 1e-14 * loss);
  EXPECT_NEAR(objective.loss(), loss / 83, 1e-14 * loss);
  // Eleven blocks, each rounded to a grid of 49 bits that reaches 256 times the largest entry.
  for (std::size_t i = 0; i < sum.size(); ++i)
    ASSERT_NEAR(value.gradient[i], sum[i] / 83, 11 * std::ldexp(largest, 9 - 49) / 83) << i;
}

TEST(Objective, HasTheSameBitsInMessagesOfAnyLength) {
  const Setting s(MPI_COMM_WORLD);
  const auto blocks = all_blocks(s.fit);
  std::optional<Objective::Value> first;
  for (const std::size_t least : {std::size_t(1), std::size_t(100), Objective::least_message}) {
    auto tape = tape_of(s.problem());
    Objective objective(s.comm, tape, s.fit, least);
    const auto value = objective.gradient(blocks);
    if (!first) first = value;
    EXPECT_EQ(value.loss, first->loss);
    EXPECT_EQ(value.gradient, first->gradient);
  }
}

class OfMessages : public testing::TestWithParam<std::size_t> {};
INSTANTIATE_TEST_SUITE_P(OfLength, OfMessages, testing::Values(std::size_t(1), Objective::least_message));

TEST_P(OfMessages, FailsOnAllRanksTogether) {
  const Communicator comm(MPI_COMM_WORLD);
  const auto original = network(0);
  auto images = source(40, 1000);
  const Examples examples(comm, images, {original, "x", "y"});
  const Problem problem{original, "x", "y", image_dims, all_weights};
  auto tape = tape_of(problem);
  auto spoiled = tape.weights();
  spoiled.back() = std::numeric_limits<float>::infinity();
  Objective objective(comm, tape, examples, GetParam());
  (void)objective.gradient(all_blocks(examples));
  tape.set_weights(spoiled);
  try {
    (void)objective.gradient(std::vector<std::int64_t>{2}); // only one rank meets it
    FAIL() << "nothing was refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::numerical);
  }
}

class OfOptimizer : public testing::TestWithParam<Optimizer> {};

TEST_P(OfOptimizer, GivesTheSameBitsForEveryNumberOfRanks) {
  Settings settings;
  settings.optimizer = GetParam();
  settings.epochs = GetParam() == Optimizer::lmvm ? 20 : 4;
  settings.batch_blocks = 5;
  settings.peak_rate = 2e-2;
  settings.proximal = 1e-3;
  settings.mixes = GetParam() == Optimizer::white_adam;
  const Setting all(MPI_COMM_WORLD), alone(MPI_COMM_SELF);
  const auto here = refine(all.comm, all.problem(), all.fit, all.selection, settings);
  const auto there = refine(alone.comm, alone.problem(), alone.fit, alone.selection, settings);
  EXPECT_TRUE(here.is_better);
  EXPECT_LT(here.selection_loss_after, 0.7 * here.selection_loss_before);
  EXPECT_EQ(here.selection_loss_after, there.selection_loss_after);
  EXPECT_EQ(here.best_epoch, there.best_epoch);
  ASSERT_EQ(here.epochs.size(), there.epochs.size());
  for (std::size_t i = 0; i < here.epochs.size(); ++i) {
    EXPECT_EQ(here.epochs[i].fit_loss, there.epochs[i].fit_loss);
    EXPECT_EQ(here.epochs[i].selection_loss, there.epochs[i].selection_loss);
  }
  EXPECT_EQ(weights_of(here.model), weights_of(there.model));
}

TEST_P(OfOptimizer, RefusesWhatHarms) {
  // The selection images ask for the start itself: nothing can be better.
  const Setting s(MPI_COMM_WORLD);
  const Examples selection(s.comm, source(21, 5000), {s.start, "x", "y"});
  Settings settings;
  settings.optimizer = GetParam();
  settings.epochs = 6;
  settings.patience = 2;
  const auto result = refine(s.comm, s.problem(), s.fit, selection, settings);
  EXPECT_FALSE(result.is_better);
  EXPECT_EQ(result.best_epoch, 0);
  EXPECT_EQ(result.epochs.size(), 2U);
  EXPECT_EQ(result.stop_reason, StopReason::no_improvement);
  EXPECT_EQ(weights_of(result.model), weights_of(s.start));
}

INSTANTIATE_TEST_SUITE_P(Each, OfOptimizer, testing::Values(Optimizer::adam, Optimizer::white_adam, Optimizer::lmvm),
                         [](const auto& test) {
                           return std::string(test.param == Optimizer::lmvm   ? "lmvm"
                                              : test.param == Optimizer::adam ? "adam"
                                                                              : "white_adam");
                         });

TEST(Refine, StaysFiniteWhereItDiverges) {
  const Setting s(MPI_COMM_WORLD);
  Settings settings;
  settings.optimizer = Optimizer::adam;
  settings.peak_rate = 1e30;
  const auto result = refine(s.comm, s.problem(), s.fit, s.selection, settings);
  EXPECT_EQ(result.stop_reason, StopReason::diverged);
  EXPECT_FALSE(result.is_better);
  EXPECT_EQ(weights_of(result.model), weights_of(s.start));
}

TEST(Refine, LeavesOtherWeightsAlone) {
  const Setting s(MPI_COMM_WORLD);
  Settings settings;
  settings.epochs = 1;
  auto problem = s.problem();
  problem.trained = {"u", "kept"};
  const auto result = refine(s.comm, problem, s.fit, s.selection, settings);
  for (const auto& [name, tensor] : result.model.initializers) {
    const bool is_same = std::ranges::equal(tensor.data.bytes(), s.start.initializers.at(name).data.bytes());
    EXPECT_EQ(is_same, name != "u" && name != "kept") << name;
  }
}

} // namespace
} // namespace slr::refine
