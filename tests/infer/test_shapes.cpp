// Operators that only move elements: the results are exact.
#include "network.hpp"

#include <cstdint>
#include <functional>
#include <numeric>

namespace slr::test {
namespace {

/// 0, 1, 2, ...
Array counted(const Dims& dims) {
  Array x{dims, std::vector<float>(static_cast<std::size_t>(graph::element_count(dims)))};
  std::iota(x.data.begin(), x.data.end(), 0.0F);
  return x;
}

/// A pointwise convolution by the identity: the same numbers, but in the order in which convolutions leave them.
Network behind_convolution(const Dims& dims) {
  const std::int64_t c = dims[0];
  std::vector<float> identity(static_cast<std::size_t>(c * c));
  for (std::int64_t i = 0; i < c; ++i) identity[static_cast<std::size_t>(i * c + i)] = 1;
  Network network(dims);
  network.constant("identity", {c, c, 1, 1}, identity).node("Conv", {"x", "identity"}, {"image"});
  return network;
}

/// The operator on the fed value and on the same value as a convolution leaves it.
void expect_moved(const Array& x, const std::string& op, const std::vector<std::string>& more_inputs,
                  const std::map<std::string, graph::Attribute>& attributes, const Dims& dims,
                  const std::vector<float>& values, const std::function<void(Network&)>& prepare = {}) {
  const Dims image(x.dims.begin() + 1, x.dims.end());
  for (const bool is_image : {false, true}) {
    Network network = is_image ? behind_convolution(image) : Network(image);
    if (prepare) prepare(network);
    std::vector<std::string> inputs{is_image ? "image" : "x"};
    inputs.insert(inputs.end(), more_inputs.begin(), more_inputs.end());
    network.node(op, inputs, {"y"}, attributes);
    expect_equal(network.run(x), dims, values);
  }
}

const Array image = counted({2, 3, 2, 4}); // element (n, c, h, w) = 24 n + 8 c + 4 h + w

/// f(n, c, h, w) over a box.
template <class F>
std::vector<float> listed(const Dims& dims, F f) {
  std::vector<float> values;
  for (std::int64_t n = 0; n < dims[0]; ++n)
    for (std::int64_t c = 0; c < dims[1]; ++c)
      for (std::int64_t h = 0; h < dims[2]; ++h)
        for (std::int64_t w = 0; w < dims[3]; ++w) values.push_back(static_cast<float>(f(n, c, h, w)));
  return values;
}
std::int64_t element(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) {
  return 24 * n + 8 * c + 4 * h + w;
}

TEST(Shapes, FlattenReshapeSqueezeUnsqueeze) {
  expect_moved(image, "Flatten", {}, {}, {2, 24}, image.data);
  const auto shape = [](const Ints& s) { return [s](Network& network) { network.integers("s", s); }; };
  expect_moved(image, "Reshape", {"s"}, {}, {2, 6, 4}, image.data, shape({0, -1, 4}));
  expect_moved(image, "Reshape", {"s"}, {}, {2, 24}, image.data, shape({-1, 24}));
  expect_moved(image, "Reshape", {"s"}, {}, {2, 24}, image.data, shape({1, -1})); // exported for one image
  expect_moved(image, "Reshape", {"s"}, {}, {2, 24}, image.data, shape({1, 24}));
  expect_moved(image, "Unsqueeze", {"s"}, {}, {2, 1, 3, 2, 4, 1}, image.data, shape({1, -1}));
  const Array thin = counted({2, 3, 1, 1});
  expect_moved(thin, "Squeeze", {"s"}, {}, {2, 3, 1}, thin.data, shape({-1}));
  expect_moved(thin, "Squeeze", {}, {}, {2, 3}, thin.data);
  expect_moved(thin, "Squeeze", {}, {{"axes", Ints{2, 3}}}, {2, 3}, thin.data);
}

TEST(Shapes, ReshapeByAShapeComputedFromTheInput) {
  // What PyTorch writes for x.view(x.size(0), -1).
  Network network({3, 2, 4});
  network.node("Shape", {"x"}, {"shape"}).integers("zero", {0}).integers("rest", {-1});
  network.node("Gather", {"shape", "zero"}, {"batch"}, {{"axis", std::int64_t(0)}});
  network.node("Concat", {"batch", "rest"}, {"wanted"}, {{"axis", std::int64_t(0)}});
  network.node("Reshape", {"x", "wanted"}, {"y"});
  expect_equal(network.run(image), {2, 24}, image.data);
}

TEST(Shapes, ArithmeticOfShapes) {
  // (3 channels * 6 - 6) / 3 + 0 = 4 columns, by integers only.
  Network network({3, 2, 4});
  network.integers("zero", {0})
      .integers("one", {1})
      .integers("two", {2})
      .integers("six", {6})
      .integers("rest", {0, -1});
  network.node("Shape", {"x"}, {"all"}).node("Slice", {"all", "one", "two"}, {"sliced"});
  network.node("Squeeze", {"sliced"}, {"scalar"}).node("Unsqueeze", {"scalar", "zero"}, {"channels"});
  network.node("Mul", {"channels", "six"}, {"eighteen"}).node("Sub", {"eighteen", "six"}, {"twelve"});
  network.node("Div", {"twelve", "channels"}, {"four"});
  network.node("ConstantOfShape", {"one"}, {"nothing"}, {{"value", graph::Tensor::of_int64s({1}, Ints{0})}});
  network.node("Add", {"four", "nothing"}, {"sum"}).node("Cast", {"sum"}, {"columns"}, {{"to", std::int64_t(7)}});
  network.node("Concat", {"rest", "columns"}, {"wanted"}, {{"axis", std::int64_t(0)}});
  network.node("Reshape", {"x", "wanted"}, {"y"});
  expect_equal(network.run(image), {2, 6, 4}, image.data);
}

TEST(Shapes, TransposeAndIdentity) {
  expect_moved(image, "Transpose", {}, {{"perm", Ints{0, 3, 1, 2}}}, {2, 4, 3, 2},
               listed({2, 4, 3, 2}, [](auto n, auto w, auto c, auto h) { return element(n, c, h, w); }));
  expect_moved(image, "Identity", {}, {}, image.dims, image.data);
  expect_moved(image, "Dropout", {}, {}, image.dims, image.data);
  EXPECT_NE(refusal([] {
              return Network({3, 2, 4}).node("Transpose", {"x"}, {"y"}).run(image);
            }).find("images"),
            std::string::npos);
}

TEST(Shapes, SliceWithStepsNegativeOnesAndAsAttributes) {
  const auto inputs = [](const Ints& starts, const Ints& ends, const Ints& axes, const Ints& steps) {
    return [=](Network& n) { n.integers("s", starts).integers("e", ends).integers("a", axes).integers("t", steps); };
  };
  const std::vector<std::string> all{"s", "e", "a", "t"};
  expect_moved(image, "Slice", all, {}, {2, 3, 1, 2},
               listed({2, 3, 1, 2}, [](auto n, auto c, auto h, auto w) { return element(n, c, 2 * h, 2 * w); }),
               inputs({0, 0}, {INT64_MAX, INT64_MAX}, {2, 3}, {2, 2}));
  expect_moved(image, "Slice", all, {}, {2, 2, 2, 4},
               listed({2, 2, 2, 4}, [](auto n, auto c, auto h, auto w) { return element(n, 2 - c, h, 3 - w); }),
               inputs({-1, -1}, {0, INT64_MIN}, {1, -1}, {-1, -1}));
  expect_moved(image, "Slice", {}, {{"starts", Ints{1}}, {"ends", Ints{3}}, {"axes", Ints{1}}}, {2, 2, 2, 4},
               listed({2, 2, 2, 4}, [](auto n, auto c, auto h, auto w) { return element(n, c + 1, h, w); }));
}

TEST(Shapes, SplitIntoEqualOrNamedParts) {
  for (const bool is_named : {false, true}) {
    Network network = behind_convolution({3, 2, 4});
    if (is_named) network.integers("sizes", {1, 0, 2});
    std::vector<std::string> inputs{"image"};
    if (is_named) inputs.push_back("sizes");
    network.node("Split", inputs, {"a", "b", "y"}, {{"axis", std::int64_t(1)}});
    const std::int64_t first = is_named ? 1 : 2, count = is_named ? 2 : 1;
    expect_equal(network.run(image), {2, count, 2, 4},
                 listed({2, count, 2, 4}, [&](auto n, auto c, auto h, auto w) { return element(n, first + c, h, w); }));
  }
}

TEST(Shapes, ConcatOfImagesAndOfFedValues) {
  for (const std::int64_t axis : {1, 2, -1}) {
    Network network = behind_convolution({3, 2, 4});
    network.node("Concat", {"image", "x", "image"}, {"y"}, {{"axis", axis}});
    Dims dims = image.dims;
    const auto along = static_cast<std::size_t>(axis < 0 ? axis + 4 : axis);
    dims[along] *= 3;
    expect_equal(network.run(image), dims,
                 listed(dims, [&](auto n, auto c, auto h, auto w) { return element(n, c % 3, h % 2, w % 4); }));
  }
}

TEST(Shapes, DimensionsOfZeroAddNothing) {
  Network network = behind_convolution({3, 2, 4});
  network.integers("from", {2}).integers("to", {2}).integers("axes", {1});
  network.node("Slice", {"image", "from", "to", "axes"}, {"none"}).node("Relu", {"none"}, {"still_none"});
  network.node("Concat", {"still_none", "image", "none"}, {"y"}, {{"axis", std::int64_t(1)}});
  EXPECT_EQ(network.run(image, "still_none").dims, (Dims{2, 0, 2, 4}));
  expect_equal(network.run(image), image.dims, listed(image.dims, element));
}

TEST(Shapes, GatherOfChannelsAndOfColumns) {
  const auto indices = [](const Ints& i) { return [i](Network& network) { network.integers("i", i); }; };
  expect_moved(image, "Gather", {"i"}, {{"axis", std::int64_t(1)}}, {2, 4, 2, 4},
               listed({2, 4, 2, 4},
                      [](auto n, auto c, auto h, auto w) {
                        return element(n, std::vector{2, 0, 0, 2}[static_cast<std::size_t>(c)], h, w);
                      }),
               indices({2, 0, 0, -1}));
  expect_moved(image, "Gather", {"i"}, {{"axis", std::int64_t(3)}}, {2, 3, 2, 1},
               listed({2, 3, 2, 1}, [](auto n, auto c, auto h, auto) { return element(n, c, h, 3); }), indices({3}));
  EXPECT_NE(refusal([] {
              return Network({3, 2, 4})
                  .integers("i", {3})
                  .node("Gather", {"x", "i"}, {"y"}, {{"axis", std::int64_t(1)}})
                  .run(image);
            }).find("out of range"),
            std::string::npos);
}

TEST(Shapes, PadAsInputOrAttributeAndNegative) {
  const auto padded = [](auto n, auto c, auto h, auto w) {
    return c == 0 || w == 0 ? -1 : element(n, c - 1, h, w - 1);
  };
  // One channel in front, one column left, minus two columns right.
  const Ints pads{0, 1, 0, 1, 0, 0, 0, -2};
  const auto values = listed({2, 4, 2, 3}, padded);
  expect_moved(image, "Pad", {"p", "v"}, {}, {2, 4, 2, 3}, values,
               [&](Network& network) { network.integers("p", pads).constant("v", {}, {-1.0F}); });
  expect_moved(image, "Pad", {}, {{"pads", pads}, {"value", -1.0F}}, {2, 4, 2, 3}, values);
  EXPECT_NE(
      refusal([] {
        return Network({3, 2, 4}).integers("p", {1, 0, 0, 0, 0, 0, 0, 0}).node("Pad", {"x", "p"}, {"y"}).run(image);
      }).find("images"),
      std::string::npos);
}

TEST(Shapes, ConstantsOfEveryKindAndConstantExpressions) {
  Network network({2});
  network.node("Constant", {}, {"tensor"}, {{"value", graph::Tensor::of_floats({2}, std::vector<float>{1, 2})}});
  network.node("Constant", {}, {"floats"}, {{"value_floats", std::vector<float>{10, 20}}});
  network.node("Constant", {}, {"number"}, {{"value_int", std::int64_t(3)}});
  network.node("Cast", {"number"}, {"three"}, {{"to", std::int64_t(1)}});
  network.node("Mul", {"floats", "three"}, {"thirties"}).node("Add", {"thirties", "tensor"}, {"sum"});
  network.node("Add", {"x", "sum"}, {"y"});
  expect_equal(network.run({{1, 2}, {0.5F, 0.5F}}), {1, 2}, {31.5F, 62.5F});
}

} // namespace
} // namespace slr::test
