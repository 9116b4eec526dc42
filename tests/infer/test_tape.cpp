// A tape's weights, its bits, and what it refuses.
#include "trained_network.hpp"

#include <cmath>

namespace slr::test {
namespace {

using infer::Loss;
using infer::Tape;

TEST(Tape, GivesTheModelWithItsWeights) {
  Network network({3, 6, 6});
  convolution(convolution(network, "x", "c", 3, 4, 2), "c", "y", 4, 5, 4);
  Tape tape(network.model(), {"x", {3, 6, 6}, "y", {"bc", "wy"}, Loss::squared_error, 4});
  ASSERT_EQ(tape.trained().size(), 2U);
  EXPECT_EQ(tape.trained()[1].offset, 4);
  EXPECT_EQ(tape.size(), 4 + 5 * 4 * 9);
  auto weights = numbers(tape.size(), 55);
  tape.set_weights(weights);
  EXPECT_EQ(tape.weights(), weights);
  // What the tape computes with them is what its model computes.
  const Array x = array({4, 3, 6, 6}, 1);
  const Array y = infer::Executor(tape.model()).run_one("x", x, "y");
  const auto losses = tape.losses(x, y);
  for (const double loss : losses) EXPECT_LT(loss, 1e-10);
}

TEST(Tape, TellsOfEveryGradientWhenItIsFinished) {
  // Two layers with shared weights between two others: what both readers add to is finished behind the first of them.
  Network network({3, 6, 6});
  convolution(convolution(network, "x", "a", 3, 3, 2), "a", "b", 3, 3, 4);
  network.node("Conv", {"b", "wb", "bb"}, {"c"}, {{"pads", Ints{1, 1, 1, 1}}});
  convolution(network, "c", "y", 3, 2, 6);
  Tape tape(network.model(), {"x", {3, 6, 6}, "y", {"wa", "wb", "ba", "wy"}, Loss::squared_error, 4});
  const std::vector<std::size_t> order = tape.gradient_order();
  EXPECT_EQ(order.front(), 3U);
  EXPECT_EQ(order.at(1), 1U);
  std::vector<float> gradient(static_cast<std::size_t>(tape.size())), told(gradient.size());
  std::vector<std::size_t> heard;
  (void)tape.losses(array({4, 3, 6, 6}, 1), array({4, 2, 6, 6}, 3), gradient, [&](std::size_t tensor) {
    heard.push_back(tensor);
    const auto& t = tape.trained()[tensor];
    std::copy_n(gradient.begin() + t.offset, t.size, told.begin() + t.offset);
  });
  EXPECT_EQ(heard, order);
  EXPECT_EQ(told, gradient);
}

TEST(Tape, RepeatsItsBits) {
  Network network({3, 6, 6});
  flat_gemm(1)(network);
  Tape tape(network.model(), {"x", {3, 6, 6}, "y", {"wc", "w_gemm", "b_gemm"}, Loss::kullback_leibler, 8});
  const Array x = array({8, 3, 6, 6}, 1), other = array({8, 3, 6, 6}, 2), target = array({8, 5}, 3);
  std::vector<float> first(static_cast<std::size_t>(tape.size())), again(first.size());
  const auto losses = tape.losses(x, target, first);
  (void)tape.losses(other, target, again);
  EXPECT_EQ(tape.losses(x, target, again), losses);
  EXPECT_EQ(first, again);
}

TEST(Tape, CountsOnlyTheImagesThatAreThere) {
  Network network({3, 6, 6});
  flat_gemm(0)(network);
  Tape tape(network.model(), {"x", {3, 6, 6}, "y", {"wc"}, Loss::squared_error, 8});
  const Array all = array({8, 3, 6, 6}, 1), target = array({8, 5}, 3);
  std::vector<float> sum(static_cast<std::size_t>(tape.size())), part(sum.size());
  (void)tape.losses(all, target, sum);
  std::vector<double> parts(sum.size(), 0.0);
  for (const std::int64_t first : {0, 3}) {
    const std::int64_t count = first == 0 ? 3 : 5;
    const auto images = std::span(all.data).subspan(static_cast<std::size_t>(first * 108));
    const auto targets = std::span(target.data).subspan(static_cast<std::size_t>(first * 5));
    (void)tape.losses(infer::ArrayView({count, 3, 6, 6}, images.first(static_cast<std::size_t>(count * 108))),
                      infer::ArrayView({count, 5}, targets.first(static_cast<std::size_t>(count * 5))), part);
    for (std::size_t i = 0; i < parts.size(); ++i) parts[i] += static_cast<double>(part[i]);
  }
  double largest = 0;
  for (const double value : parts) largest = std::max(largest, std::abs(value));
  // Eight images of 36 positions, summed in another order.
  for (std::size_t i = 0; i < parts.size(); ++i)
    EXPECT_NEAR(static_cast<double>(sum[i]), parts[i], 8 * 36 * unit_roundoff * largest);
}

TEST(Tape, NamesWhatItCannotDo) {
  const auto tape_of = [](const Network& network, const std::string& weight) {
    return [&network, weight] {
      return Tape(network.model(), {"x", {3, 6, 6}, "y", {weight}, Loss::squared_error, 4});
    };
  };
  Network rows({3, 6, 6});
  convolution(rows, "x", "c", 3, 3, 2).node("MatMul", {"c", "x"}, {"y"});
  EXPECT_NE(refusal(tape_of(rows, "wc")).find("node 'MatMul_y' (MatMul): a product of two values"), std::string::npos);
  Network plain({3, 6, 6});
  convolution(plain, "x", "y", 3, 3, 2).constant("unread", {1}, {0.0F});
  EXPECT_NE(refusal(tape_of(plain, "unread")).find("does not depend on the weight 'unread'"), std::string::npos);
  EXPECT_NE(refusal(tape_of(plain, "missing")).find("no float32 weight 'missing'"), std::string::npos);
  Network scaled({3, 6, 6});
  scaled.node("Flatten", {"x"}, {"f"}).constant("w", array({108, 5}, 8));
  scaled.node("Gemm", {"f", "w"}, {"y"}, {{"alpha", 2.0F}});
  EXPECT_NE(refusal(tape_of(scaled, "w")).find("node 'Gemm_y' (Gemm)"), std::string::npos);
}

} // namespace
} // namespace slr::test
