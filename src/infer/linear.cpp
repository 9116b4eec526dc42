#include "linear.hpp"

#include "array_kernels.hpp"
#include "operators.hpp"

#include <algorithm>

namespace slr::infer {

using dnnl::memory;

memory::desc any_layout(const Dims& dims) {
  return {dims, memory::data_type::f32, memory::format_tag::any};
}

Dims lowered_by_one(Dims dims) {
  for (std::int64_t& d : dims) --d;
  return dims;
}

Dims weight_dims(const View& weight, std::int64_t groups) {
  Dims dims = weight.dims;
  if (groups == 1) return dims;
  dims[0] /= groups;
  dims.insert(dims.begin(), groups);
  return dims;
}

namespace {

dnnl::primitive_attr attributes(const Tail& tail) {
  dnnl::primitive_attr attr;
  attr.set_post_ops(tail.post_ops);
  return attr;
}

/// The bias of a Conv: a known vector of `channels` numbers.
std::optional<View> bias_of(Builder& b, const graph::Node& node, std::int64_t channels) {
  if (!Builder::has_input(node, 2)) return std::nullopt;
  const View bias = b.known_input(node, 2, "the bias");
  if (bias.dims != Dims{channels}) refuse("the bias does not have one number per output channel");
  return bias;
}

/// y = x W^T + bias, x with `inputs` numbers per row. The result is row-major, rows x outputs.
View inner_product(Builder& b, const View& x, const Matrix& w, const std::optional<View>& bias, const Tail& tail) {
  const Dims w_dims{w.outputs, w.inputs};
  const memory::desc stored(w_dims, memory::data_type::f32, w.strides);
  const auto prepare = [&](std::int64_t rows) {
    using Inner = dnnl::inner_product_forward;
    const auto kind = dnnl::prop_kind::forward_inference;
    const memory::desc from = plain_layout({rows, w.inputs}), to = plain_layout({rows, w.outputs});
    const auto desc = bias ? Inner::desc(kind, from, any_layout(w_dims), bias->layout, to)
                           : Inner::desc(kind, from, any_layout(w_dims), to);
    const Inner::primitive_desc pd(desc, attributes(tail), cpu_engine());
    ImagePrimitive made{Inner(pd), from, to, {{DNNL_ARG_WEIGHTS, b.weights(w.values, stored, pd.weights_desc())}}};
    if (bias) made.fixed.emplace(DNNL_ARG_BIAS, b.weights(*bias, bias->layout, bias->layout));
    return made;
  };
  const View result = b.make({x.dims[0], w.outputs}, Kind::real, x.runtime);
  b.add_image_primitive(tail.output, b.plain(x), result, prepare);
  return result;
}

/// beta * c of a Gemm as a vector with one known number per column, if c is such a vector or a number.
std::optional<View> row_bias(Builder& b, const View& c, std::int64_t columns, float beta) {
  const std::int64_t count = graph::element_count(c.dims);
  const bool one_per_column = count == columns && !c.dims.empty() && c.dims.back() == columns;
  if (c.runtime || c.kind != Kind::real || (count != 1 && !one_per_column)) return std::nullopt;
  if (one_per_column && beta == 1.0F) return Builder::alias(b.plain(c), {columns});
  const std::span<const float> values = b.known_floats(b.plain(c));
  std::vector<float> bias(static_cast<std::size_t>(columns));
  for (std::size_t i = 0; i < bias.size(); ++i) bias[i] = beta * values[count == 1 ? 0 : i];
  return b.known_value({columns}, std::span<const float>(bias));
}

View scaled(Builder& b, const View& view, float factor) {
  if (factor == 1.0F) return view;
  const View number = b.known_value({1}, std::span<const float>(&factor, 1));
  return binary(b, "Mul", view, number);
}

View transposed(Builder& b, const View& matrix) {
  const View result = b.make({matrix.dims[1], matrix.dims[0]}, Kind::real, matrix.runtime);
  const Dims box = result.dims;
  b.add_host({matrix}, {result}, [box](auto from, auto to) {
    copy_box(Kind::real, box, from[0], {0, {1, box[0]}}, to[0], {0, {box[1], 1}});
  });
  return result;
}

/// a (.. x M x K) times b (.. x K x N) for values of which none need be known.
View general_product(Builder& b, View left, View right, const Tail& tail) {
  const std::size_t rank = std::max(left.dims.size(), right.dims.size());
  const auto widened = [rank](const View& view) {
    Dims dims(rank - view.dims.size(), 1);
    dims.insert(dims.end(), view.dims.begin(), view.dims.end());
    return Builder::alias(view, dims);
  };
  left = widened(left);
  right = widened(right);
  Dims dims =
      broadcast_dims(Dims(left.dims.begin(), left.dims.end() - 2), Dims(right.dims.begin(), right.dims.end() - 2));
  dims.push_back(left.dims[rank - 2]);
  dims.push_back(right.dims[rank - 1]);
  const View result = b.make(dims, Kind::real, left.runtime || right.runtime);
  const dnnl::matmul::desc desc(left.layout, right.layout, result.layout);
  const dnnl::matmul::primitive_desc pd(desc, attributes(tail), cpu_engine());
  b.add_primitive(dnnl::matmul(pd), {{DNNL_ARG_SRC, left}, {DNNL_ARG_WEIGHTS, right}, {DNNL_ARG_DST, result}});
  return result;
}

void check_runtime_rank(const View& left, const View& right) {
  const std::size_t rank = std::max(left.dims.size(), right.dims.size());
  const bool left_fits = !left.runtime || (left.dims.size() == rank && left.dims.size() >= 2);
  const bool right_fits = !right.runtime || (right.dims.size() == rank && rank >= 3);
  if (!left_fits || !right_fits) refuse("it would multiply across the images of a batch");
}

ImagePrimitive convolution(Builder& b, Convolution c, std::int64_t images, const std::optional<View>& bias,
                           const Tail& tail) {
  using Conv = dnnl::convolution_forward;
  c.input[0] = c.output[0] = images;
  const View& w = c.weight;
  const Dims w_dims = weight_dims(w, c.groups), dilations = lowered_by_one(c.window.dilations);
  const memory::desc from = image_layout(c.input), to = image_layout(c.output), any = any_layout(w_dims);
  const auto kind = dnnl::prop_kind::forward_inference;
  const auto direct = dnnl::algorithm::convolution_direct;
  const ResolvedWindow& v = c.window;
  const auto desc =
      bias ? Conv::desc(kind, direct, from, any, bias->layout, to, v.strides, dilations, v.pads_begin, v.pads_end)
           : Conv::desc(kind, direct, from, any, to, v.strides, dilations, v.pads_begin, v.pads_end);
  const Conv::primitive_desc pd(desc, attributes(tail), cpu_engine());
  ImagePrimitive made{Conv(pd), from, to, {{DNNL_ARG_WEIGHTS, b.weights(w, plain_layout(w_dims), pd.weights_desc())}}};
  if (bias) made.fixed.emplace(DNNL_ARG_BIAS, b.weights(*bias, bias->layout, bias->layout));
  return made;
}

} // namespace

Convolution convolution_of(Builder& b, const graph::Node& node) {
  const View x = b.input(node, 0);
  const View w = b.known_input(node, 1, "the weight");
  const std::int64_t groups = node.int_or("group", 1);
  const std::size_t rank = x.dims.size();
  if (rank < 3 || rank > 5 || w.dims.size() != rank || x.kind != Kind::real || w.kind != Kind::real)
    refuse("input and weight must be float32 with 3, 4 or 5 dimensions");
  if (groups < 1 || w.dims[0] < 1 || w.dims[0] % groups != 0 || x.dims[1] % groups != 0 ||
      x.dims[1] / groups != w.dims[1])
    refuse("an input of " + std::to_string(x.dims[1]) + " channels does not fit a weight of " +
           std::to_string(w.dims[0]) + " x " + std::to_string(w.dims[1]) + " channels in " + std::to_string(groups) +
           " groups");
  const Dims spatial(x.dims.begin() + 2, x.dims.end());
  const ResolvedWindow window = resolve_window(node, spatial, Dims(w.dims.begin() + 2, w.dims.end()));
  Dims out{x.dims[0], w.dims[0]};
  out.insert(out.end(), window.output.begin(), window.output.end());
  return {x.dims, out, window, groups, w};
}

void plan_conv(Builder& b, const graph::Node& node) {
  const View x = b.input(node, 0);
  const Convolution c = convolution_of(b, node);
  const std::optional<View> bias = bias_of(b, node, c.output[1]);
  const Tail tail = b.fuse_tail(node);
  const View result = b.make(c.output, image_layout(c.output), x.runtime);
  b.add_image_primitive(tail.output, b.in_layout(x, image_layout(x.dims)), result,
                        [&](std::int64_t images) { return convolution(b, c, images, bias, tail); });
  b.define(tail.output, result);
}

FullyConnected fully_connected_of_gemm(Builder& b, const graph::Node& node) {
  View x = b.plain(b.input(node, 0));
  const View w = b.input(node, 1);
  if (x.dims.size() != 2 || w.dims.size() != 2 || x.kind != Kind::real || w.kind != Kind::real)
    refuse("both factors must be float32 matrices");
  if (w.runtime || (x.runtime && node.int_or("transA", 0) != 0))
    refuse("it would multiply across the images of a batch");
  if (node.int_or("transA", 0) != 0) x = transposed(b, x);
  const bool is_transposed = node.int_or("transB", 0) != 0;
  Matrix matrix{scaled(b, b.plain(w), node.float_or("alpha", 1.0F)),
                w.dims[is_transposed ? 0 : 1],
                w.dims[is_transposed ? 1 : 0],
                {}};
  matrix.strides = is_transposed ? Dims{matrix.inputs, 1} : Dims{1, matrix.outputs};
  if (x.dims[1] != matrix.inputs)
    refuse("an input of " + std::to_string(x.dims[1]) + " columns does not fit a weight for " +
           std::to_string(matrix.inputs));
  return {x, matrix};
}

void plan_gemm(Builder& b, const graph::Node& node) {
  const auto [x, matrix] = fully_connected_of_gemm(b, node);
  const float beta = node.float_or("beta", 1.0F);
  std::optional<View> bias;
  if (Builder::has_input(node, 2)) bias = row_bias(b, b.input(node, 2), matrix.outputs, beta);
  if (bias || !Builder::has_input(node, 2)) {
    const Tail tail = b.fuse_tail(node);
    return b.define(tail.output, inner_product(b, x, matrix, bias, tail));
  }
  const View product = inner_product(b, x, matrix, std::nullopt, {node.outputs[0], {}});
  b.define(node, 0, binary(b, "Add", product, scaled(b, b.plain(b.input(node, 2)), beta)));
}

std::optional<FullyConnected> fully_connected_of_matmul(Builder& b, const graph::Node& node) {
  const View x = b.plain(b.input(node, 0));
  View w = b.plain(b.input(node, 1));
  if (x.kind != Kind::real || w.kind != Kind::real) refuse("both factors must be float32");
  if (x.dims.size() < 2 || w.dims.size() < 2) refuse("factors of one dimension are not supported");
  check_runtime_rank(x, w);
  if (x.dims.back() != w.dims[w.dims.size() - 2])
    refuse("factors with " + std::to_string(x.dims.back()) + " columns and " +
           std::to_string(w.dims[w.dims.size() - 2]) + " rows do not fit");
  const Dims of_matrix(w.dims.end() - 2, w.dims.end());
  if (!w.runtime && x.dims.size() >= w.dims.size() && graph::element_count(w.dims) == graph::element_count(of_matrix))
    w = Builder::alias(w, of_matrix);
  if (w.runtime || w.dims.size() > 2) return std::nullopt;
  const Matrix matrix{w, w.dims[1], w.dims[0], {1, w.dims[1]}};
  const std::int64_t rows = graph::element_count(Dims(x.dims.begin(), x.dims.end() - 1));
  return FullyConnected{Builder::alias(x, {rows, matrix.inputs}), matrix};
}

void plan_matmul(Builder& b, const graph::Node& node) {
  const auto layer = fully_connected_of_matmul(b, node);
  const Tail tail = b.fuse_tail(node);
  const View x = b.plain(b.input(node, 0));
  if (!layer) return b.define(tail.output, general_product(b, x, b.plain(b.input(node, 1)), tail));
  Dims out = x.dims;
  out.back() = layer->matrix.outputs;
  b.define(tail.output, Builder::alias(inner_product(b, layer->x, layer->matrix, std::nullopt, tail), out));
}

} // namespace slr::infer
