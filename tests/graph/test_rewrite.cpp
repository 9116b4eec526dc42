// The compressed layer computes B x_S + U (V x_R) + b in the network, and costs what cheapest_form said.
#include "builder.hpp"
#include "factors.hpp"
#include "reference.hpp"
#include "slr/graph/count.hpp"
#include "slr/graph/onnx_file.hpp"
#include "slr/graph/rewrite.hpp"

#include <algorithm>
#include <set>

namespace slr::graph {
namespace {

using Ints = std::vector<std::int64_t>;

/// The matrix that the factors stand for, row-major, rounded to float as the network must store it.
std::vector<float> merged(const Layer& layer, const CompressedLayer& c) {
  const auto sizes = layer.factor_sizes(std::ssize(c.kept_groups));
  const auto is_kept = [&](std::int64_t i, std::int64_t j) {
    return std::ranges::count(c.kept_groups, c.grouping == Grouping::filter ? i : j / layer.group_columns()) > 0;
  };
  std::vector<float> whole(static_cast<std::size_t>(layer.rows * layer.cols));
  std::int64_t rows_kept = 0, rows_left = 0;
  for (std::int64_t i = 0; i < layer.rows; ++i) {
    std::int64_t in_kept = 0, in_rest = 0;
    for (std::int64_t j = 0; j < layer.cols; ++j) {
      double value = 0;
      if (is_kept(i, j)) {
        value = c.B[static_cast<std::size_t>((sizes.b_rows < layer.rows ? rows_kept : i) * sizes.b_cols + in_kept++)];
      } else {
        for (std::int64_t k = 0; k < c.rank; ++k)
          value += double(c.U[static_cast<std::size_t>((sizes.u_rows < layer.rows ? rows_left : i) * c.rank + k)]) *
                   c.V[static_cast<std::size_t>(k * sizes.v_cols + in_rest)];
        ++in_rest;
      }
      whole[static_cast<std::size_t>(i * layer.cols + j)] = static_cast<float>(value);
    }
    ++(is_kept(i, 0) ? rows_kept : rows_left);
  }
  return whole;
}

/// One network per kind of linear node, whose input is an output too, with something after the layer.
Model network(const std::string& kind, std::int64_t opset) {
  const bool is_convolution = kind.starts_with("Conv");
  Builder b(opset, is_convolution ? Dims{-1, 6, 7, 7} : kind == "MatMul3" ? Dims{-1, 4, 6} : Dims{-1, 6});
  b.node("Relu", {"x"}, {"in"});
  if (kind == "Conv") {
    b.node("Conv", {"in", b.floats("w", {5, 6, 3, 2}), b.floats("b", {5})}, {"lin"},
           {{"strides", Ints{2, 1}}, {"pads", Ints{1, 0, 1, 1}}, {"dilations", Ints{1, 2}}});
  } else if (kind == "ConvSame") {
    b.node("Conv", {"in", b.floats("w", {5, 6, 3, 3})}, {"lin"},
           {{"auto_pad", std::string("SAME_UPPER")}, {"strides", Ints{2, 2}}});
  } else if (kind == "Conv1x1") {
    b.node("Conv", {"in", b.floats("w", {9, 6, 1, 1}), b.floats("b", {9})}, {"lin"});
  } else if (kind == "Gemm") {
    b.node("Gemm", {"in", b.floats("w", {6, 9}), b.floats("b", {9})}, {"lin"}, {{"alpha", 0.5F}, {"beta", 2.0F}});
  } else {
    b.node("MatMul", {"in", b.floats("w", {6, 9})}, {kind == "MatMul" ? "lin" : "product"});
    if (kind != "MatMul") b.node("Add", {b.floats("b", {9}), "product"}, {"lin"});
  }
  b.node("Relu", {"lin"}, {"out"});
  b.output("out");
  b.output("in");
  return b.model;
}

const std::vector<std::string> kinds{"Conv", "ConvSame", "Conv1x1", "Gemm", "MatMul", "MatMulAdd", "MatMul3"};
const std::vector<Ints> kept_sets{
    {}, {0}, {5}, {0, 1}, {2, 4}, {4, 5}, {1, 2, 3}, {0, 1, 2, 3, 4}, {1, 2, 3, 4, 5}, {0, 1, 2, 3, 4, 5}};

/// The value `lin` as the factors define it, computed by the original node with their matrix and bias.
reference::Array expected(Model model, const Layer& layer, const CompressedLayer& c, const reference::Array& x) {
  const auto w = merged(layer, c);
  auto& node = model.nodes[1];
  if (node.op == "Conv") {
    model.initializers["w"] = Tensor::of_floats(model.initializers.at("w").dims, w);
    node.inputs.resize(3);
    node.inputs[2] = "bias";
    model.initializers["bias"] = Tensor::of_floats({layer.rows}, c.bias);
    return reference::run(model, {{"x", x}}).at("lin");
  }
  const auto in = reference::run(model, {{"x", x}}).at("in");
  reference::Array y{in.dims, {}};
  y.dims.back() = layer.rows;
  for (std::size_t n = 0; n < in.values.size(); n += static_cast<std::size_t>(layer.cols))
    for (std::size_t i = 0; i < c.bias.size(); ++i) {
      double sum = c.bias[i];
      for (std::size_t j = 0; j < static_cast<std::size_t>(layer.cols); ++j)
        sum += double(w[i * static_cast<std::size_t>(layer.cols) + j]) * in.values[n + j];
      y.values.push_back(sum);
    }
  return y;
}

std::int64_t positions_of(const Model& model, const Layer& layer) {
  return element_count(infer_shapes(model).at("lin")) / layer.rows;
}

class Rewrite : public testing::TestWithParam<std::tuple<std::string, std::int64_t>> {};

/// Writes random factors, holds the network against them and its counts against the promise; the form.
Form expect_as_said(const Model& model, const Layer& layer, std::int64_t target_rank, const Ints& kept) {
  const bool has_bias = !layer.bias_name.empty();
  auto untouched = count(model); // without the layer's own numbers
  untouched.parameters -= layer.rows * layer.cols + (has_bias ? layer.rows : 0);
  untouched.macs -= layer.rows * layer.cols * positions_of(model, layer);
  const auto c = random_factors(layer, target_rank, kept, 11);
  auto rewritten = model;
  const auto form = replace_layer(rewritten, layer, c);
  const auto cost = cheapest_form(layer, target_rank, kept);
  EXPECT_EQ(form, cost.form);

  // What the file holds is what was promised.
  const auto read = parse_model(serialize_model(rewritten), ".", "rewritten");
  const auto counts = count(read);
  EXPECT_EQ(counts.parameters - untouched.parameters, cost.parameters);
  EXPECT_EQ(layer_parameters(read, layer.name), cost.parameters);
  EXPECT_EQ(counts.macs - untouched.macs, cost.macs * positions_of(model, layer));
  EXPECT_LE(counts.parameters, count(model).parameters + layer.rows); // dense is always a choice
  EXPECT_GE(cheapest_form(layer, target_rank, static_cast<std::int64_t>(kept.size())).parameters, cost.parameters);

  for (const std::int64_t batch : {1, 3}) {
    auto dims = model.inputs[0].dims;
    dims[0] = batch;
    const auto x = reference::random_array(dims, 3);
    const auto values = reference::run(read, {{"x", x}});
    // merged() rounds each weight once to float: relative 2^-24 per term of sums of at most 54 + 1 terms, each a
    // sum of up to 6 products.
    EXPECT_LE(reference::relative_difference(expected(model, layer, c, x), values.at("lin")), 55 * 6 * 0x1p-24);
    const auto shapes = infer_shapes(read, batch);
    for (const auto& node : read.nodes)
      for (const auto& output : node.outputs) EXPECT_EQ(shapes.at(output), values.at(output).dims) << output;
  }
  return form;
}

TEST_P(Rewrite, ComputesTheFactorsAndCostsWhatWasSaid) {
  const auto& [kind, opset] = GetParam();
  const auto model = network(kind, opset);
  const auto layer = find_layers(model).at(0);
  std::set<Form> forms;
  for (const auto& kept : kept_sets)
    for (std::int64_t target_rank = 0; target_rank <= 6; ++target_rank) {
      SCOPED_TRACE(kind + ", rank " + std::to_string(target_rank) + ", kept " + std::to_string(kept.size()));
      forms.insert(expect_as_said(model, layer, target_rank, kept));
    }
  EXPECT_TRUE(forms.contains(Form::dense) && forms.contains(Form::low_rank) && forms.contains(Form::kept) &&
              forms.contains(Form::bias_only));
  // With 9 outputs of 6 inputs the indices of a mixed form cost more than it saves, except where none are needed.
  EXPECT_TRUE(forms.contains(Form::mixed));
}

TEST_P(Rewrite, KeepsRows) {
  const auto& [kind, opset] = GetParam();
  const auto model = network(kind, opset);
  auto layer = find_layers(model).at(0);
  layer.grouping = Grouping::filter;
  std::set<Form> forms;
  for (const Ints& kept : {Ints{0}, Ints{layer.rows - 1}, Ints{1, 3}, Ints{0, 1}, Ints{0, 1, 2, 4}})
    for (std::int64_t target_rank = 0; target_rank <= std::min<std::int64_t>(3, layer.largest_rank(4)); ++target_rank) {
      SCOPED_TRACE(kind + ", rank " + std::to_string(target_rank) + ", kept " + std::to_string(kept.size()));
      forms.insert(expect_as_said(model, layer, target_rank, kept));
    }
  EXPECT_TRUE(forms.contains(Form::filters));
}

TEST_P(Rewrite, KeepsColumns) {
  const auto& [kind, opset] = GetParam();
  const auto model = network(kind, opset);
  auto layer = find_layers(model).at(0);
  if (layer.window_area() == 1) return; // columns are channels
  layer.grouping = Grouping::column;
  const auto area = layer.window_area();
  Ints scattered, corner, channel;
  for (std::int64_t j = 0; j < layer.cols; j += 5) scattered.push_back(j);
  for (std::int64_t j = 0; j < layer.cols; j += area) corner.push_back(j);
  for (std::int64_t j = 2 * area; j < 3 * area; ++j) channel.push_back(j);
  std::set<Form> forms;
  for (const Ints& kept : {Ints{0}, Ints{layer.cols - 1}, Ints{1, 7, 8}, scattered, corner, channel})
    for (std::int64_t target_rank = 0; target_rank <= 3; ++target_rank) {
      SCOPED_TRACE(kind + ", rank " + std::to_string(target_rank) + ", kept " + std::to_string(kept.size()));
      forms.insert(expect_as_said(model, layer, target_rank, kept));
    }
  // Padding that depends on the size of the input cannot be written as a shift.
  EXPECT_EQ(forms.contains(Form::columns), kind != "ConvSame");
  EXPECT_EQ(cheapest_form(layer, 0, channel).form, Form::kept); // the whole channel is no dearer
}

INSTANTIATE_TEST_SUITE_P(EveryKind, Rewrite,
                         testing::Combine(testing::ValuesIn(kinds), testing::Values(7, 10, 11, 13, 18)),
                         [](const auto& p) {
                           return std::get<0>(p.param) + "_" + std::to_string(std::get<1>(p.param));
                         });

TEST(RewriteForms, NamesAreThoseOfTheHeader) {
  const auto names = [](const Model& model) {
    std::vector<std::string> all;
    for (const auto& node : model.nodes)
      if (node.name.starts_with("y_node")) all.push_back(node.name + ":" + node.op);
    return all;
  };
  Builder b(13, {-1, 40, 6, 6});
  b.node("Conv", {"x", b.floats("w", {64, 40, 3, 3}), b.floats("b", {64})}, {"y"}, {{"pads", Ints{1, 1, 1, 1}}});
  b.output("y");
  const auto layer = find_layers(b.model).at(0);
  const auto rewritten = [&](std::int64_t target_rank, const Ints& kept) {
    auto model = b.model;
    replace_layer(model, layer, random_factors(layer, target_rank, kept, 1));
    return model;
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(names(rewritten(64, {})), (Names{"y_node:Conv"}));
  EXPECT_EQ(names(rewritten(4, {})), (Names{"y_node/lowrank_v:Conv", "y_node/lowrank_u:Conv"}));
  EXPECT_EQ(names(rewritten(0, {3, 7})), (Names{"y_node/order:Gather", "y_node/kept:Conv"}));
  EXPECT_EQ(names(rewritten(4, {3, 7})), (Names{"y_node/order:Gather", "y_node/split:Split", "y_node/kept:Conv",
                                                "y_node/lowrank_v:Conv", "y_node/lowrank_u:Conv", "y_node/add:Add"}));
  EXPECT_EQ(names(rewritten(4, {0, 1})), (Names{"y_node/split:Split", "y_node/kept:Conv", "y_node/lowrank_v:Conv",
                                                "y_node/lowrank_u:Conv", "y_node/add:Add"}));
  EXPECT_EQ(names(rewritten(4, {38, 39})), names(rewritten(4, {0, 1})));
  EXPECT_EQ(names(rewritten(0, {})), (Names{"y_node/order:Gather", "y_node/zero:Conv", "y_node/add:Add"}));
  const auto mixed = rewritten(4, {3, 7});
  for (const auto* name : {"y_node/order.indices", "y_node/split.sizes", "y_node/kept.weight", "y_node/kept.bias",
                           "y_node/lowrank_v.weight", "y_node/lowrank_u.weight"})
    EXPECT_TRUE(mixed.initializers.contains(name)) << name;
  EXPECT_EQ(mixed.initializers.size(), 6U);
  EXPECT_EQ(mixed.initializers.at("y_node/lowrank_v.weight").dims, (Dims{4, 38, 3, 3}));
  EXPECT_EQ(mixed.initializers.at("y_node/lowrank_u.weight").dims, (Dims{64, 4, 1, 1}));
}

TEST(RewriteForms, NamesOfColumnsAndRows) {
  Builder b(13, {-1, 40, 6, 6});
  b.node("Conv", {"x", b.floats("w", {64, 40, 3, 3}), b.floats("b", {64})}, {"y"}, {{"pads", Ints{1, 1, 1, 1}}});
  b.output("y");
  auto layer = find_layers(b.model).at(0);
  const auto nodes = [&](Grouping grouping, std::int64_t target_rank, const Ints& kept) {
    auto model = b.model;
    layer.grouping = grouping;
    replace_layer(model, layer, random_factors(layer, target_rank, kept, 1));
    std::vector<std::string> all;
    for (const auto& node : model.nodes) all.push_back(node.name.substr(std::string("y_node").size()) + ":" + node.op);
    return all;
  };
  using Names = std::vector<std::string>;
  // Of channel 3 the middle of the kernel, of channel 7 the upper left corner.
  EXPECT_EQ(nodes(Grouping::column, 4, {31, 63}),
            (Names{"/order_0:Gather", "/shift_0:Pad", "/order_4:Gather", "/columns:Concat", "/kept:Conv",
                   "/lowrank_v:Conv", "/lowrank_u:Conv", "/add:Add"}));
  EXPECT_EQ(nodes(Grouping::column, 0, {31}), (Names{"/order_4:Gather", "/kept:Conv"}));
  EXPECT_EQ(nodes(Grouping::filter, 4, {3, 7}),
            (Names{"/kept:Conv", "/lowrank_v:Conv", "/lowrank_u:Conv", "/join:Concat", "/order:Gather"}));
  EXPECT_EQ(nodes(Grouping::filter, 4, {62, 63}),
            (Names{"/kept:Conv", "/lowrank_v:Conv", "/lowrank_u:Conv", "/join:Concat"}));
}

TEST(RewriteForms, ASingleChannelNeedsNoGather) {
  Builder b(13, {-1, 1, 6, 6});
  b.node("Conv", {"x", b.floats("w", {4, 1, 3, 3})}, {"y"});
  b.output("y");
  auto model = b.model;
  const auto layer = find_layers(model).at(0);
  const auto factors = random_factors(layer, 0, {}, 1);
  EXPECT_EQ(replace_layer(model, layer, factors), Form::bias_only);
  const auto counts = count(model);
  EXPECT_EQ(counts.parameters, 9 + 4);
  EXPECT_EQ(cheapest_form(layer, 0, 0).parameters, counts.parameters);
  EXPECT_EQ(cheapest_form(layer, 0, 0).macs * 16, counts.macs);
  const auto y = reference::run(model, {{"x", reference::random_array({2, 1, 6, 6}, 1)}}).at("y");
  ASSERT_EQ(y.dims, (Dims{2, 4, 4, 4}));
  for (std::size_t i = 0; i < y.values.size(); ++i)
    EXPECT_EQ(y.values[i], static_cast<double>(factors.bias[i / 16 % 4]));
}

TEST(RewriteForms, ListsOfLayersStayGoodWhileOthersAreReplaced) {
  Builder b(13, {-1, 8, 6, 6});
  b.node("Conv", {"x", b.floats("w1", {12, 8, 3, 3})}, {"a"});
  b.node("Relu", {"a"}, {"r"});
  b.node("Conv", {"r", b.floats("w2", {10, 12, 3, 3})}, {"c"});
  b.node("Flatten", {"c"}, {"f"});
  b.node("MatMul", {"f", b.floats("w3", {40, 7})}, {"p"});
  b.node("Add", {"p", b.floats("b3", {7})}, {"y"});
  b.output("y");
  auto model = b.model;
  const auto layers = find_layers(model);
  ASSERT_EQ(layers.size(), 3U);
  for (const auto& layer : layers)
    EXPECT_EQ(replace_layer(model, layer, random_factors(layer, 2, {0, 1}, 2)), Form::mixed);
  EXPECT_EQ(find_layers(model).size(), 9U);
  for (const auto* old : {"w1", "w2", "w3", "b3"}) EXPECT_FALSE(model.initializers.contains(old)) << old;
  EXPECT_EQ(infer_shapes(model, 4).at("y"), (Dims{4, 7}));
}

TEST(RewriteForms, ADenseLayerIsFoundAgainUnderItsName) {
  Builder b;
  b.floats("shared", {3, 3, 1, 1});
  b.node("Conv", {"x", "shared"}, {"a"}).is_named = false;
  b.node("Conv", {"a", "shared"}, {"y"}).is_named = false;
  b.output("y");
  auto model = b.model;
  const auto layers = find_layers(model);
  ASSERT_EQ(layers.size(), 1U);
  replace_layer(model, layers[0], random_factors(layers[0], 3, {0, 1}, 3));
  const auto again = find_layers(model);
  ASSERT_EQ(again.size(), 1U);
  ASSERT_EQ(again[0].others.size(), 1U);
  EXPECT_EQ(again[0].name, layers[0].name);
  EXPECT_EQ(again[0].others[0].name, layers[0].others[0].name);
}

/// Every form of a layer of two nodes: both read the same numbers, which are counted once, and compute what they would
/// with numbers of their own.
TEST(RewriteForms, NodesOfOneLayerShareTheNumbersOfItsForm) {
  for (const std::string op : {"Conv", "Gemm", "MatMul"})
    for (const auto& [rank, kept] : std::vector<std::pair<std::int64_t, std::vector<std::int64_t>>>{
             {2, {}}, {0, {0, 3}}, {2, {1, 3}}, {2, {0, 1}}, {0, {}}, {6, {0, 1, 2, 3, 4, 5}}}) {
      const bool is_convolution = op == "Conv";
      Builder b(13, is_convolution ? Dims{-1, 6, 5, 5} : Dims{-1, 6});
      const auto apply = [&](const std::string& from, const std::string& to, const std::string& own) {
        const auto w = "w" + own, bias = "bias" + own;
        if (op != "MatMul") {
          b.node(op, {from, w, bias}, {to}).name = "node_" + to;
        } else {
          b.node(op, {from, w}, {to + "_product"}).name = "node_" + to;
          b.node("Add", {to + "_product", bias}, {to});
        }
      };
      const Dims dims = is_convolution ? Dims{6, 6, 1, 1} : Dims{6, 6};
      for (const std::string own : {"", "2"}) {
        b.floats("w" + own, dims);
        b.floats("bias" + own, {6});
      }
      apply("x", "a", "");
      b.node("Sigmoid", {"a"}, {"s"});
      apply("s", "y", "");
      b.node("Sigmoid", {"y"}, {"z"});
      b.output("z");
      auto shared = b.model, apart = b.model;
      for (auto& node : apart.nodes)
        if (node.name == "node_y" || node.outputs[0] == "y")
          for (auto& input : node.inputs)
            if (input == "w" || input == "bias") input += "2";
      const auto layers = find_layers(shared), two = find_layers(apart);
      ASSERT_EQ(layers.size(), 1U);
      ASSERT_EQ(two.size(), 2U);
      const auto factors = random_factors(layers[0], rank, kept, 5);
      const auto form = replace_layer(shared, layers[0], factors);
      for (const auto& layer : two) EXPECT_EQ(replace_layer(apart, layer, factors), form);
      const auto x = reference::random_array(is_convolution ? Dims{2, 6, 5, 5} : Dims{2, 6}, 3);
      EXPECT_EQ(reference::run(shared, {{"x", x}}).at("z").values, reference::run(apart, {{"x", x}}).at("z").values)
          << op << rank;
      EXPECT_EQ(count(shared).parameters * 2, count(apart).parameters) << op << rank;
      EXPECT_EQ(count(shared).macs, count(apart).macs);
      EXPECT_EQ(layer_parameters(shared, "node_a"), cheapest_form(layers[0], rank, kept).parameters);
    }
}

TEST(RewriteForms, ContradictoryFactorsAreABug) {
  auto model = network("Conv", 13);
  const auto layer = find_layers(model).at(0);
  const auto refuse = [&](const Layer& l, CompressedLayer c) {
    EXPECT_EQ(error_of([&] { replace_layer(model, l, c); }).first, ExitCode::bug);
  };
  auto c = random_factors(layer, 2, {1}, 1);
  c.U.pop_back();
  refuse(layer, c);
  c = random_factors(layer, 2, {1, 2}, 1);
  c.kept_groups = {2, 1};
  refuse(layer, c);
  c.kept_groups = {1, 6};
  refuse(layer, c);
  auto elsewhere = layer;
  elsewhere.linear = "nowhere";
  refuse(elsewhere, random_factors(layer, 1, {}, 1));
  auto grouped = layer;
  grouped.groups = 2;
  refuse(grouped, random_factors(layer, 1, {}, 1));
}

} // namespace
} // namespace slr::graph
