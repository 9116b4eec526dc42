// infer_shapes against the dimensions that a plain interpreter produces, and against what ONNX forbids.
#include "builder.hpp"
#include "reference.hpp"
#include "slr/graph/count.hpp"

namespace slr::graph {
namespace {

using Ints = std::vector<std::int64_t>;

/// Every value of the network has the dimensions that computing it gives.
void expect_shapes_as_computed(const Model& model) {
  for (const std::int64_t batch : {1, 3}) {
    auto dims = model.inputs[0].dims;
    if (dims[0] < 0) dims[0] = batch;
    const auto computed = reference::run(model, {{"x", reference::random_array(dims, 1)}});
    const auto shapes = infer_shapes(model, batch);
    for (const auto& node : model.nodes)
      for (const auto& output : node.outputs) {
        ASSERT_TRUE(shapes.contains(output)) << output;
        EXPECT_EQ(shapes.at(output), computed.at(output).dims) << output << " of " << node.op;
      }
  }
}

struct WindowCase {
  Ints kernel, strides, dilations, pads;
  std::string auto_pad = "NOTSET";
  std::int64_t ceil_mode = 0;
};

TEST(Shapes, WindowsSlideAsComputed) {
  const std::vector<WindowCase> cases{
      {{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}},     {{3, 2}, {2, 3}, {1, 1}, {0, 1, 2, 0}},
      {{2, 3}, {1, 2}, {2, 2}, {2, 0, 0, 2}},     {{1, 1}, {3, 3}, {1, 1}, {0, 0, 0, 0}},
      {{3, 3}, {2, 2}, {1, 1}, {}, "SAME_UPPER"}, {{4, 2}, {3, 1}, {1, 2}, {}, "SAME_LOWER"},
      {{3, 5}, {2, 2}, {1, 1}, {}, "VALID"},      {{11, 13}, {1, 1}, {1, 1}, {0, 0, 0, 0}},
  };
  for (const auto& c : cases) {
    Builder b(13, {-1, 4, 11, 13});
    std::map<std::string, Attribute> attributes{{"strides", c.strides}, {"dilations", c.dilations}};
    if (c.auto_pad == "NOTSET")
      attributes["pads"] = c.pads;
    else
      attributes["auto_pad"] = c.auto_pad;
    b.node("Conv", {"x", b.floats("w", {6, 2, c.kernel[0], c.kernel[1]})}, {"y"}, attributes).attributes["group"] =
        std::int64_t(2);
    expect_shapes_as_computed(b.model);
  }
}

TEST(Shapes, PoolingSlidesAsComputedAlsoWhenRoundingUp) {
  for (const std::int64_t size : {5, 6, 7, 8, 9})
    for (const std::int64_t kernel : {1, 2, 3})
      for (const std::int64_t stride : {1, 2, 3, 4})
        for (const std::int64_t ceil_mode : {0, 1}) {
          Builder b(13, {2, 3, size, size + 1});
          const Ints pads = kernel == 3 ? Ints{1, 0, 1, 1} : Ints{0, 0, 0, 0};
          b.node("MaxPool", {"x"}, {"m"},
                 {{"kernel_shape", Ints{kernel, kernel}},
                  {"strides", Ints{stride, stride}},
                  {"pads", pads},
                  {"ceil_mode", ceil_mode}});
          b.node("AveragePool", {"x"}, {"a"},
                 {{"kernel_shape", Ints{kernel, 2}}, {"strides", Ints{stride, 1}}, {"ceil_mode", ceil_mode}});
          expect_shapes_as_computed(b.model);
        }
}

TEST(Shapes, OperatorsThatMoveElements) {
  Builder b(13, {-1, 4, 6, 6});
  b.node("Transpose", {"x"}, {"t"}, {{"perm", Ints{0, 2, 3, 1}}});
  b.node("Slice", {"x", b.ints("s", {1, -3}), b.ints("e", {100, -1}), b.ints("a", {1, -1}), b.ints("st", {2, 1})},
         {"sl"});
  b.node("Pad", {"x", b.ints("p", {0, 1, 0, 2, 0, 3, 0, -1})}, {"pa"});
  b.node("Split", {"x", b.ints("sizes", {1, 3})}, {"s1", "s2"}, {{"axis", std::int64_t(1)}});
  b.node("Split", {"x"}, {"h1", "h2"}, {{"axis", std::int64_t(-1)}});
  b.node("Concat", {"s2", "x", "s1"}, {"c"}, {{"axis", std::int64_t(1)}});
  b.node("Gather", {"x", b.ints("g", {3, 0, -1, 2, 2})}, {"ga"}, {{"axis", std::int64_t(1)}});
  b.node("Gather", {"x", b.scalar("one", 1)}, {"gs"}, {{"axis", std::int64_t(2)}});
  b.node("Unsqueeze", {"x", b.ints("ua", {0, -1})}, {"u"});
  b.node("Squeeze", {"u", b.ints("sa", {0, -1})}, {"sq"});
  b.node("Reshape", {"x", b.ints("r1", {0, -1})}, {"ra"});
  b.node("Reshape", {"x", b.ints("r2", {-1, 8, 6, 3})}, {"rb"});
  b.node("Flatten", {"x"}, {"f"}, {{"axis", std::int64_t(2)}});
  b.node("GlobalAveragePool", {"x"}, {"gap"});
  b.node("Add", {"x", b.floats("bias", {4, 1, 1})}, {"add"});
  b.node("MatMul", {"x", b.floats("w", {6, 9})}, {"mm"});
  b.node("Gemm", {"ra", b.floats("gw", {5, 144}), b.floats("gb", {5})}, {"ge"}, {{"transB", std::int64_t(1)}});
  b.node("Shape", {"x"}, {"sh"});
  b.node("Gather", {"sh", b.scalar("zero", 0)}, {"n"});
  b.node("Unsqueeze", {"n", b.ints("ax0", {0})}, {"n1"});
  b.node("Concat", {"n1", b.ints("open", {-1})}, {"target"}, {{"axis", std::int64_t(0)}});
  b.node("Reshape", {"x", "target"}, {"rc"});
  b.node("ConstantOfShape", {"sh"}, {"zeros"});
  expect_shapes_as_computed(b.model);
}

TEST(Shapes, OldOperatorSetsKeepTheirListsInAttributes) {
  Builder b(9, {-1, 4, 6, 6});
  b.node("Slice", {"x"}, {"s"}, {{"starts", Ints{1}}, {"ends", Ints{3}}, {"axes", Ints{1}}});
  b.node("Pad", {"s"}, {"p"}, {{"pads", Ints{0, 1, 0, 0, 0, 1, 0, 0}}});
  b.node("Unsqueeze", {"p"}, {"u"}, {{"axes", Ints{1}}});
  b.node("Squeeze", {"u"}, {"q"}, {{"axes", Ints{1}}});
  b.node("Split", {"q"}, {"a", "b"}, {{"axis", std::int64_t(1)}, {"split", Ints{1, 3}}});
  expect_shapes_as_computed(b.model);
}

TEST(Shapes, ReductionsAndUnknownOperators) {
  Builder b(13, {-1, 4, 6, 6});
  b.node("ReduceMean", {"x"}, {"m"}, {{"axes", Ints{2, 3}}, {"keepdims", std::int64_t(0)}});
  b.node("ArgMax", {"m"}, {"i"}, {{"axis", std::int64_t(1)}, {"keepdims", std::int64_t(0)}});
  b.node("Unheard", {"x"}, {"u"});
  b.node("Relu", {"u"}, {"after"});
  const auto shapes = infer_shapes(b.model, 5);
  EXPECT_EQ(shapes.at("m"), (Dims{5, 4}));
  EXPECT_EQ(shapes.at("i"), (Dims{5}));
  EXPECT_FALSE(shapes.contains("u"));
  EXPECT_FALSE(shapes.contains("after"));
}

TEST(Shapes, ContradictionsNameTheNode) {
  const auto refused = [](auto&& build) {
    Builder b(13, {-1, 4, 6, 6});
    build(b);
    const auto [code, sentence] = error_of([&] { static_cast<void>(infer_shapes(b.model)); });
    EXPECT_EQ(code, ExitCode::bad_data);
    EXPECT_NE(sentence.find("bad_node"), std::string::npos) << sentence;
  };
  refused([](Builder& b) { b.node("Conv", {"x", b.floats("w", {2, 3, 1, 1})}, {"bad"}); });
  refused([](Builder& b) { b.node("Conv", {"x", b.floats("w", {2, 4, 9, 9})}, {"bad"}); });
  refused([](Builder& b) { b.node("Conv", {"x", b.floats("w", {2, 4, 1})}, {"bad"}); });
  refused([](Builder& b) { b.node("Conv", {"x", b.floats("w", {2, 4, 1, 1}), b.floats("b", {3})}, {"bad"}); });
  refused([](Builder& b) { b.node("Conv", {"x", b.floats("w", {2, 4, 1, 1})}, {"bad"}, {{"strides", Ints{0, 1}}}); });
  refused([](Builder& b) { b.node("Conv", {"x", b.floats("w", {2, 4, 1, 1})}, {"bad"}, {{"strides", 1.0F}}); });
  refused([](Builder& b) { b.node("MaxPool", {"x"}, {"bad"}, {{"kernel_shape", Ints{2}}}); });
  refused([](Builder& b) { b.node("Add", {"x", b.floats("w", {5, 1, 1})}, {"bad"}); });
  refused([](Builder& b) { b.node("Reshape", {"x", b.ints("s", {-1, 7})}, {"bad"}); });
  refused([](Builder& b) { b.node("Reshape", {"x", b.ints("s", {-1, -1})}, {"bad"}); });
  refused([](Builder& b) {
    b.node("Concat", {"x", b.floats("w", {1, 4, 6, 7})}, {"bad"}, {{"axis", std::int64_t(1)}});
  });
  refused([](Builder& b) { b.node("Gather", {"x", b.ints("i", {4})}, {"bad"}, {{"axis", std::int64_t(1)}}); });
  refused([](Builder& b) { b.node("Split", {"x", b.ints("i", {1, 4})}, {"bad", "z"}, {{"axis", std::int64_t(1)}}); });
  refused([](Builder& b) { b.node("Transpose", {"x"}, {"bad"}, {{"perm", Ints{0, 0, 1, 2}}}); });
  refused([](Builder& b) { b.node("Pad", {"x", b.ints("p", {0, 0, -9, 0, 0, 0, 0, 0})}, {"bad"}); });
  refused([](Builder& b) { b.node("MatMul", {"x", b.floats("w", {5, 2})}, {"bad"}); });
  refused([](Builder& b) { b.node("Gemm", {"x", b.floats("w", {5, 2})}, {"bad"}); });
}

TEST(Shapes, OnlyTheBatchMayBeFree) {
  Builder b(13, {-1, 3, -1, 8});
  const auto [code, sentence] = error_of([&] { static_cast<void>(infer_shapes(b.model)); });
  EXPECT_EQ(code, ExitCode::bad_data);
  EXPECT_NE(sentence.find("dimension 2"), std::string::npos) << sentence;
  Builder silent;
  silent.model.inputs[0].has_shape = false;
  EXPECT_EQ(error_of([&] { static_cast<void>(infer_shapes(silent.model)); }).first, ExitCode::bad_data);
}

TEST(Count, ProductsAndParametersInClosedForm) {
  Builder b(13, {-1, 4, 9, 9});
  b.node("Conv", {"x", b.floats("w1", {6, 2, 3, 3}), b.floats("b1", {6})}, {"c"}, {{"group", std::int64_t(2)}});
  b.node("Gather", {"c", b.ints("i", {5, 1})}, {"g"}, {{"axis", std::int64_t(1)}});
  b.node("Flatten", {"g"}, {"f"});
  b.node("Gemm", {"f", b.floats("w2", {98, 5}), b.floats("b2", {5})}, {"y"});
  b.node("MatMul", {"y", b.floats("w3", {5, 7})}, {"z"});
  const float one = 1;
  b.node("Constant", {}, {"k"}, {{"value", Tensor::of_floats({1}, std::span(&one, 1))}});
  b.node("Mul", {"z", "k"}, {"out"});
  b.ints("ignored", {1, 2, 3});
  const auto counts = count(b.model);
  EXPECT_EQ(counts.macs, 6 * 7 * 7 * (2 * 9) + 98 * 5 + 5 * 7);
  EXPECT_EQ(counts.parameters, (6 * 2 * 9 + 6) + 2 + (98 * 5 + 5) + 5 * 7 + 1);
  EXPECT_EQ(counts.bytes, 4 * ((6 * 2 * 9 + 6) + (98 * 5 + 5) + 5 * 7) + 8 * (2 + 3));
}

TEST(Count, RefusesToGuess) {
  Builder b;
  b.node("Unheard", {"x"}, {"u"});
  b.node("Conv", {"u", b.floats("w", {2, 3, 1, 1})}, {"bad"});
  const auto [code, sentence] = error_of([&] { static_cast<void>(count(b.model)); });
  EXPECT_EQ(code, ExitCode::bad_data);
  EXPECT_NE(sentence.find("bad_node"), std::string::npos);
}

TEST(Count, SizesOfAbsurdDimensionsAreRefused) {
  EXPECT_EQ(element_count({}), 1);
  EXPECT_EQ(element_count({3, 0, std::int64_t(1) << 62}), 0);
  EXPECT_EQ(error_of([] {
              static_cast<void>(element_count({std::int64_t(1) << 40, std::int64_t(1) << 40}));
            }).first,
            ExitCode::bad_data);
  EXPECT_EQ(error_of([] { static_cast<void>(element_count({-1, 0})); }).first, ExitCode::bad_data);
}

} // namespace
} // namespace slr::graph
