// What holds for every network: independence of the batch, cuts, liveness, fusion, clear refusals.
#include "network.hpp"

#include <cstring>

namespace slr::test {
namespace {

using infer::ArrayView;
using infer::Executor;

/// Convolutions of several kinds, pooling, branches, a residual, normalization, fully connected layers.
Network varied() {
  Network n({3, 16, 16});
  n.constant("w1", array({24, 3, 3, 3}, 2)).constant("b1", array({24}, 3));
  n.node("Conv", {"x", "w1", "b1"}, {"c1"}, {{"pads", Ints{1, 1, 1, 1}}}).node("Relu", {"c1"}, {"r1"});
  n.node("MaxPool", {"r1"}, {"p1"},
         {{"kernel_shape", Ints{3, 3}}, {"strides", Ints{2, 2}}, {"ceil_mode", std::int64_t(1)}});
  n.node("LRN", {"p1"}, {"l1"}, {{"size", std::int64_t(5)}});
  n.constant("w2", array({16, 24, 1, 1}, 4))
      .constant("w3", array({24, 24, 3, 3}, 5))
      .constant("w4", array({40, 1, 3, 3}, 6));
  n.node("Conv", {"l1", "w2"}, {"c2"}).node("Sigmoid", {"c2"}, {"s2"});
  n.node("Conv", {"l1", "w3"}, {"c3"}, {{"pads", Ints{1, 1, 1, 1}}}).node("Add", {"c3", "l1"}, {"a3"});
  n.node("Relu", {"a3"}, {"r3"}).node("Concat", {"s2", "r3"}, {"joined"}, {{"axis", std::int64_t(1)}});
  n.node("Conv", {"joined", "w4"}, {"c4"},
         {{"group", std::int64_t(40)}, {"pads", Ints{1, 1, 1, 1}}, {"strides", Ints{2, 2}}});
  n.node("AveragePool", {"c4"}, {"p4"}, {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}})
      .node("Flatten", {"p4"}, {"flat"});
  n.constant("w5", array({160, 50}, 7)).constant("b5", array({50}, 8)).constant("w6", array({10, 50}, 9));
  n.node("Gemm", {"flat", "w5", "b5"}, {"f5"}).node("Tanh", {"f5"}, {"t5"});
  n.node("Gemm", {"t5", "w6"}, {"logits"}, {{"transB", std::int64_t(1)}}).node("Softmax", {"logits"}, {"y"});
  return n;
}

Array part(const Array& x, std::int64_t first, std::int64_t count) {
  Array result;
  result.dims = x.dims;
  result.dims[0] = count;
  const auto size = static_cast<std::ptrdiff_t>(graph::element_count(x.dims) / x.dims[0]);
  result.data.assign(x.data.begin() + first * size, x.data.begin() + (first + count) * size);
  return result;
}

bool same_bits(const Array& a, const Array& b) {
  return a.dims == b.dims && std::memcmp(a.data.data(), b.data.data(), a.data.size() * sizeof(float)) == 0;
}

TEST(Executor, AnImageHasTheSameBitsInEveryBatchAndPosition) {
  const Array images = array({25, 3, 16, 16});
  Executor executor(varied().model());
  const std::vector<std::string> fetches{"c1", "s2", "r3", "c4", "f5", "logits", "y"};
  const auto all = executor.run({{"x", images}}, fetches);
  for (std::int64_t count = 1; count <= 9; ++count)
    for (const std::int64_t first : {0, 3, 16}) {
      const Array some = part(images, first, count);
      for (const auto& [name, values] : executor.run({{"x", some}}, fetches))
        EXPECT_TRUE(same_bits(values, part(all.at(name), first, count))) << name << ", " << count << " from " << first;
    }
}

TEST(Executor, ShowsTheValuesThatItWouldFetch) {
  const Array images = array({19, 3, 16, 16}); // two blocks and a part of a third one
  Executor executor(varied().model());
  const std::vector<std::string> names{"x", "c1", "s2", "r3", "flat", "c4", "f5", "y"};
  const auto fetched = executor.run({{"x", images}}, names);
  std::map<std::string, std::int64_t> seen;
  executor.show({{"x", images}}, names,
                [&](const std::string& name, const infer::StridedView& view, std::int64_t first) {
                  EXPECT_EQ(first, seen[name]) << name;
                  seen[name] += view.images();
                  const Array expected = part(fetched.at(name), first, view.images());
                  ASSERT_EQ(view.dims, expected.dims) << name;
                  std::vector<float> values;
                  for (std::int64_t i = 0; i < graph::element_count(view.dims); ++i) {
                    std::int64_t rest = i, at = 0;
                    for (std::size_t d = view.dims.size(); d-- > 0; rest /= view.dims[d])
                      at += rest % view.dims[d] * view.strides[d];
                    values.push_back(view.data[at]);
                  }
                  EXPECT_EQ(values, expected.data) << name;
                });
  for (const auto& name : names) EXPECT_EQ(seen[name], 19) << name;
}

TEST(Executor, WhatElseIsInTheBatchDoesNotMatter) {
  Array images = array({8, 3, 16, 16});
  Executor executor(varied().model());
  const Array before = executor.run_one("x", images, "y");
  for (std::size_t i = 3 * 16 * 16; i < images.data.size(); ++i) images.data[i] *= 1000.0F; // all but image 0
  EXPECT_TRUE(same_bits(part(executor.run_one("x", images, "y"), 0, 1), part(before, 0, 1)));
}

TEST(Executor, ContinuesFromEveryCutWithTheSameBits) {
  const Array images = array({11, 3, 16, 16});
  Executor executor(varied().model());
  const std::vector<std::vector<std::string>> cuts{
      {"c1"}, {"r1"}, {"p1"},   {"l1"}, {"s2", "r3"}, {"c2", "c3", "l1"}, {"joined"},
      {"c4"}, {"p4"}, {"flat"}, {"f5"}, {"t5"},       {"logits"}};
  const Array whole = executor.run_one("x", images, "y");
  for (const auto& cut : cuts) {
    const auto stored = executor.run({{"x", images}}, cut);
    const std::map<std::string, ArrayView> feeds(stored.begin(), stored.end());
    EXPECT_TRUE(same_bits(executor.run(feeds, {"y"}).at("y"), whole)) << cut[0];
  }
}

TEST(Executor, AFetchOfAPreactivationPreventsItsFusionAndChangesNothing) {
  const Array images = array({3, 3, 16, 16});
  Executor executor(varied().model());
  const auto both = executor.run({{"x", images}}, {"c1", "r1"});
  EXPECT_TRUE(same_bits(executor.run_one("x", images, "r1"), both.at("r1")));
  Array expected = both.at("c1");
  for (float& value : expected.data) value = std::max(value, 0.0F);
  expect_equal(both.at("r1"), expected.dims, expected.data);
}

TEST(Executor, OtherBlocksAndThreadsAgreeUpToRounding) {
  const Array images = array({5, 3, 16, 16});
  const Array reference = Executor(varied().model()).run_one("x", images, "logits");
  for (const infer::ExecutorOptions options : {infer::ExecutorOptions{1, 1}, {3, 1}, {8, 2}}) {
    const Array other = Executor(varied().model(), options).run_one("x", images, "logits");
    ASSERT_EQ(other.dims, reference.dims);
    // Five layers of at most 24 * 9 terms; activations are of the order of ten, logits of fifty.
    for (std::size_t i = 0; i < other.data.size(); ++i)
      EXPECT_NEAR(other.data[i], reference.data[i], 5 * 216 * unit_roundoff * 50);
  }
}

TEST(Executor, IntermediateValuesAreFreed) {
  // A chain of 40 activations needs room for two of them, and the fed and the fetched one.
  Network chain({16, 32, 32});
  std::string last = "x";
  for (int i = 0; i < 40; ++i) {
    const std::string next = i == 39 ? "y" : "v" + std::to_string(i);
    chain.node("Tanh", {last}, {next});
    last = next;
  }
  Executor executor(chain.model());
  (void)executor.run_one("x", array({1, 16, 32, 32}), "y");
  const std::size_t one_value = 8 * 16 * 32 * 32 * sizeof(float);
  EXPECT_LE(executor.workspace_bytes(), 3 * one_value);
  EXPECT_GE(executor.workspace_bytes(), 2 * one_value);
}

TEST(Executor, ValuesThatAreStillNeededAreKept) {
  // "early" is read at the very end: nothing may be written over it.
  Network n({8, 4, 4});
  n.node("Tanh", {"x"}, {"early"}).node("Relu", {"early"}, {"a"}).node("Sigmoid", {"a"}, {"b"});
  n.node("Tanh", {"b"}, {"c"}).node("Sub", {"c", "c"}, {"zero"}).node("Add", {"zero", "early"}, {"y"});
  const Array x = array({9, 8, 4, 4});
  const auto got = Executor(n.model()).run({{"x", x}}, {"early", "y"});
  EXPECT_TRUE(same_bits(got.at("early"), got.at("y")));
}

TEST(Executor, WeightsAreReorderedOnceForAllPlans) {
  Executor executor(varied().model());
  (void)executor.run_one("x", array({2, 3, 16, 16}), "y");
  const std::size_t bytes = executor.reordered_weight_bytes();
  (void)executor.run({{"x", array({9, 3, 16, 16})}}, {"y", "c1", "f5"});
  EXPECT_EQ(executor.reordered_weight_bytes(), bytes);
}

TEST(Executor, NothingToComputeAndNoImages) {
  Executor executor(varied().model());
  const Array x = array({3, 3, 16, 16});
  EXPECT_TRUE(same_bits(executor.run_one("x", x, "x"), x));
  const Array none = executor.run_one("x", {{0, 3, 16, 16}, {}}, "y");
  EXPECT_EQ(none.dims, (Dims{0, 10}));
  EXPECT_TRUE(none.data.empty());
}

TEST(Executor, RunsAPartOfANetworkThatItCannotRunAsAWhole) {
  Network n({4});
  n.node("Relu", {"x"}, {"r"}).node("Mystery", {"r"}, {"m"}).node("Tanh", {"m"}, {"y"});
  const Array x = array({2, 4});
  Executor executor(n.model());
  EXPECT_EQ(executor.run_one("x", x, "r").data.size(), 8U);
  EXPECT_EQ(executor.run_one("m", x, "y").data.size(), 8U);
  const std::string message = refusal([&] { return executor.run_one("x", x, "y"); });
  EXPECT_NE(message.find("Mystery_m"), std::string::npos);
  EXPECT_NE(message.find("operator 'Mystery' is not supported"), std::string::npos);
  // A refusal leaves the executor usable.
  EXPECT_EQ(executor.run_one("x", x, "r").data.size(), 8U);
}

TEST(Executor, RefusesWhatDoesNotFit) {
  Executor executor(varied().model());
  const Array x = array({2, 3, 16, 16});
  EXPECT_NE(refusal([&] { return executor.run({}, {"y"}); }).find("input"), std::string::npos);
  EXPECT_NE(refusal([&] { return executor.run_one("x", array({2, 3, 16, 15}), "y"); }).find("'x'"), std::string::npos);
  EXPECT_NE(refusal([&] {
              return executor.run_one("x", ArrayView({2, 3, 16, 16}, {}), "y");
            }).find("numbers"),
            std::string::npos);
  EXPECT_NE(refusal([&] { return executor.run_one("x", x, "nowhere"); }).find("'nowhere'"), std::string::npos);
  EXPECT_NE(refusal([&] { return executor.run_one("x", x, "w1"); }).find("'w1'"), std::string::npos);
  EXPECT_NE(refusal([&] { return executor.run_one("c4", array({2, 40, 4, 4}), "r1"); }).find("'x'"), std::string::npos);
  EXPECT_NE(refusal([&] {
              return executor.run({{"s2", array({2, 16, 8, 8})}, {"r3", array({3, 24, 8, 8})}}, {"y"});
            }).find("number of images"),
            std::string::npos);
}

} // namespace
} // namespace slr::test
