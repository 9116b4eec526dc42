// Preprocessing, metrics and latency.
#include "network.hpp"
#include "slr/infer/latency.hpp"
#include "slr/infer/metrics.hpp"
#include "slr/infer/preprocess.hpp"

#include <cmath>
#include <numeric>

namespace slr::test {
namespace {

using infer::ChannelOrder;
using infer::Preprocess;

std::vector<std::uint8_t> counted_pixels(std::size_t count) {
  std::vector<std::uint8_t> pixels(count);
  std::iota(pixels.begin(), pixels.end(), std::uint8_t(0));
  return pixels;
}

TEST(Preprocess, ScalesThenShiftsThenDividesPerChannelInTheNamedOrder) {
  const auto pixels = counted_pixels(2 * 3 * 2 * 2);
  for (const ChannelOrder order : {ChannelOrder::rgb, ChannelOrder::bgr}) {
    const Preprocess settings{.scale = 0.5, .mean = {1, 2, 3}, .std = {2, 4, 8}, .channels = order};
    const Array x = infer::preprocess(settings, pixels, {2, 3, 2, 2}, {3, 2, 2});
    ASSERT_EQ(x.dims, (Dims{2, 3, 2, 2}));
    for (std::size_t i = 0; i < x.data.size(); ++i) {
      const std::size_t n = i / 12, c = i / 4 % 3, p = i % 4;
      const std::size_t stored = order == ChannelOrder::rgb ? c : 2 - c;
      const double pixel = pixels[n * 12 + stored * 4 + p];
      EXPECT_EQ(x.data[i], static_cast<float>((pixel * 0.5 - settings.mean[c]) / settings.std[c]));
    }
  }
}

TEST(Preprocess, CutsInTheCentreRoundedDownAndReplicatesGrey) {
  const auto pixels = counted_pixels(5 * 6);
  const Array x = infer::preprocess({}, pixels, {1, 1, 5, 6}, {3, 2, 3}); // offsets (5 - 2) / 2 = 1, (6 - 3) / 2 = 1
  const std::vector<float> plane{7, 8, 9, 13, 14, 15};
  ASSERT_EQ(x.dims, (Dims{1, 3, 2, 3}));
  for (std::size_t i = 0; i < x.data.size(); ++i) EXPECT_EQ(x.data[i], plane[i % 6]);
}

TEST(Preprocess, RefusesWhatDoesNotFit) {
  const auto pixels = counted_pixels(27);
  EXPECT_NE(refusal([&] {
              return infer::preprocess({}, pixels, {1, 3, 3, 3}, {3, 4, 3});
            }).find("smaller"),
            std::string::npos);
  EXPECT_NE(refusal([&] {
              return infer::preprocess({}, pixels, {1, 3, 3, 3}, {1, 3, 3});
            }).find("channels"),
            std::string::npos);
  EXPECT_NE(refusal([&] {
              return infer::preprocess({}, pixels, {2, 3, 3, 3}, {3, 3, 3});
            }).find("pixels"),
            std::string::npos);
  for (const Preprocess& settings : {Preprocess{.mean = {1, 2}}, Preprocess{.std = {0}}}) {
    try {
      (void)infer::preprocess(settings, pixels, {1, 3, 3, 3}, {3, 3, 3});
      ADD_FAILURE();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::configuration);
    }
  }
}

TEST(Preprocess, InputShapeIsThatOfTheOnlyInput) {
  const auto shape = infer::input_shape(Network({3, 5, 7}).model());
  EXPECT_EQ((Dims{shape.channels, shape.height, shape.width}), (Dims{3, 5, 7}));
  EXPECT_THROW((void)infer::input_shape(Network({3, -1, 7}).model()), Error);
  EXPECT_THROW((void)infer::input_shape(Network({30}).model()), Error);
}

TEST(Metrics, HitsCountTiesForTheSmallerIndex) {
  const Array logits{{3, 7}, {1, 5, 5, 0, 0, 0, 0, /**/ 9, 8, 7, 6, 5, 5, 4, /**/ 0, 0, 0, 0, 0, 0, 0}};
  const auto first = infer::hits(logits, std::vector<std::int32_t>{1, 4, 4});
  EXPECT_EQ(first.top1, (std::vector<std::uint8_t>{1, 0, 0}));
  EXPECT_EQ(first.top5, (std::vector<std::uint8_t>{1, 1, 1}));
  const auto second = infer::hits(logits, std::vector<std::int32_t>{2, 5, 5});
  EXPECT_EQ(second.top1, (std::vector<std::uint8_t>{0, 0, 0}));
  EXPECT_EQ(second.top5, (std::vector<std::uint8_t>{1, 0, 0}));
}

TEST(Metrics, WithFourClassesEveryLabelIsAmongTheFirstFive) {
  const auto all = infer::hits(Array{{1, 4, 1, 1}, {4, 3, 2, 1}}, std::vector<std::int32_t>{3});
  EXPECT_EQ(all.top1[0], 0);
  EXPECT_EQ(all.top5[0], 1);
}

TEST(Metrics, DivergenceOfTwoClassesHasAClosedForm) {
  // p = (1/2, 1/2), q = (1/4, 3/4): KL = log(2) / 2 + log(2/3) / 2 = log(4/3) / 2. A large offset changes nothing.
  const auto log3 = static_cast<float>(std::log(3.0));
  const Array reference{{2, 2}, {0, 0, 512, 512}}, candidate{{2, 2}, {0, log3, 0, log3}};
  const auto c = infer::compare(reference, candidate);
  for (const double kl : c.kl) EXPECT_NEAR(kl, std::log(4.0 / 3.0) / 2, unit_roundoff * std::log(3.0));
  EXPECT_EQ(c.agreement, (std::vector<std::uint8_t>{0, 0}));
  const auto same = infer::compare(candidate, candidate);
  EXPECT_EQ(same.kl[0], 0.0);
  EXPECT_EQ(same.agreement[0], 1);
}

TEST(Metrics, RefusesWrongLabelsAndNumbersThatAreNotFinite) {
  const Array logits{{1, 2}, {0, 1}}, broken{{1, 2}, {0, std::numeric_limits<float>::quiet_NaN()}};
  EXPECT_NE(refusal([&] { return infer::hits(logits, std::vector<std::int32_t>{2}); }).find("label"),
            std::string::npos);
  EXPECT_NE(refusal([&] { return infer::hits(logits, std::vector<std::int32_t>{}); }).find("labels"),
            std::string::npos);
  EXPECT_NE(refusal([&] {
              return infer::compare(logits, Array{{1, 3}, {0, 1, 2}});
            }).find("classes"),
            std::string::npos);
  try {
    (void)infer::compare(logits, broken);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::numerical);
  }
}

TEST(Metrics, LogitsAreWhatGoesIntoAFinalSoftmax) {
  Network network({4});
  network.node("Tanh", {"x"}, {"a"});
  EXPECT_EQ(infer::logits_value(network.model("a")), "a");
  network.node("Softmax", {"a"}, {"p"});
  EXPECT_EQ(infer::logits_value(network.model("p")), "a");
  network.node("Flatten", {"p"}, {"f"}).node("Identity", {"f"}, {"y"});
  EXPECT_EQ(infer::logits_value(network.model("y")), "a");
  network.node("Relu", {"p"}, {"r"});
  EXPECT_EQ(infer::logits_value(network.model("r")), "r");
}

TEST(Logits, AreBeforeAnOperatorThatCannotBeRun) {
  Network network({8});
  network.constant("w", array({8, 4})).node("Gemm", {"x", "w"}, {"a"}).node("Relu", {"a"}, {"b"});
  network.node("Mystery", {"b"}, {"m"}).node("Relu", {"m"}, {"r"});
  EXPECT_EQ(infer::logits_value(network.model("r")), "b");
  EXPECT_EQ(infer::logits_value(network.model("b")), "b");
  network.constant("v", array({4, 4})).node("Gemm", {"r", "v"}, {"y"});
  const auto message = refusal([&] { return infer::logits_value(network.model("y")); });
  EXPECT_NE(message.find("'Mystery_m' (Mystery)"), std::string::npos) << message;
  EXPECT_NE(message.find("layers of the network depend on it"), std::string::npos) << message;
}

TEST(Latency, IsMeasuredOnOneImage) {
  const Network network = Network({3, 8, 8}).node("Tanh", {"x"}, {"y"});
  const auto latency = infer::measure_latency(network.model(), {.warm_up = 1, .repeats = 4, .threads = 1});
  EXPECT_EQ(latency.repeats, 4);
  EXPECT_GT(latency.minimum_seconds, 0);
  EXPECT_LE(latency.minimum_seconds, latency.median_seconds);
  EXPECT_LE(latency.median_seconds, latency.maximum_seconds);
  EXPECT_THROW((void)infer::measure_latency(Network({-1, 8}).node("Tanh", {"x"}, {"y"}).model()), Error);
}

} // namespace
} // namespace slr::test
