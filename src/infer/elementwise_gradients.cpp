#include "array_kernels.hpp"
#include "backward.hpp"
#include "operators.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace slr::infer {

namespace {

/// The value of f at x, in x's layout.
View applied(Builder& b, const Eltwise& f, const View& x) {
  const View y = b.make(x.dims, x.layout, x.runtime);
  const dnnl::eltwise_forward::desc desc(dnnl::prop_kind::forward_inference, f.algorithm, x.layout, f.alpha, f.beta);
  b.add_primitive(dnnl::eltwise_forward({desc, cpu_engine()}), {{DNNL_ARG_SRC, x}, {DNNL_ARG_DST, y}});
  return y;
}

/// gradient * f'(x); `by_value`: of a function whose derivative follows from its value, x is that value.
View through(Builder& b, const Eltwise& f, bool by_value, const View& x, const View& given) {
  const auto algorithm = by_value ? dnnl::algorithm::eltwise_relu_use_dst_for_bwd : f.algorithm;
  const View gradient = b.in_layout(given, x.layout);
  const View result = b.make(x.dims, x.layout, true);
  const dnnl::eltwise_forward::primitive_desc forward(
      {dnnl::prop_kind::forward_training, algorithm, x.layout, f.alpha, f.beta}, cpu_engine());
  const dnnl::eltwise_backward::primitive_desc pd({algorithm, x.layout, x.layout, f.alpha, f.beta}, cpu_engine(),
                                                  forward);
  b.add_primitive(
      dnnl::eltwise_backward(pd),
      {{by_value ? DNNL_ARG_DST : DNNL_ARG_SRC, x}, {DNNL_ARG_DIFF_DST, gradient}, {DNNL_ARG_DIFF_SRC, result}});
  return result;
}

/// The gradient of an operand that was broadcast: summed, in double, over everything that read the same element.
View summed_to(Builder& b, const View& gradient, const Dims& dims) {
  if (gradient.dims == dims) return gradient;
  const View from = b.plain(gradient), to = b.make(dims, Kind::real, true);
  const Dims strides = row_major_strides(from.dims), target = broadcast_strides(dims, from.dims);
  b.add_host({from}, {to}, [box = from.dims, strides, target, count = graph::element_count(dims)](auto in, auto out) {
    std::vector<double> sums(static_cast<std::size_t>(count), 0.0);
    const auto* values = reinterpret_cast<const float*>(in[0]);
    for_each_pair(box, strides, target, [&](std::int64_t i, std::int64_t j, std::int64_t) {
      sums[static_cast<std::size_t>(j)] += static_cast<double>(values[i]);
    });
    std::transform(sums.begin(), sums.end(), reinterpret_cast<float*>(out[0]),
                   [](double sum) { return static_cast<float>(sum); });
  });
  return to;
}

View negated(Builder& b, const View& view) {
  return applied(b, {dnnl::algorithm::eltwise_linear, -1.0F, 0.0F}, view);
}

} // namespace

void eltwise_gradient(Backward& back, const graph::Node& node) {
  Builder& b = back.builder();
  const std::vector<Eltwise> functions = fusable_functions(b, node);
  View gradient = *back.of_output(node, 0);
  if (has_derivative_by_value(functions)) // what goes in may have been fused away
    return back.add(node, 0, through(b, functions[0], true, b.value(node.outputs[0]), gradient));
  std::vector<View> arguments{b.input(node, 0)};
  for (std::size_t i = 0; i + 1 < functions.size(); ++i)
    arguments.push_back(applied(b, functions[i], arguments.back()));
  for (std::size_t i = functions.size(); i-- > 0;) gradient = through(b, functions[i], false, arguments[i], gradient);
  back.add(node, 0, gradient);
}

void erf_gradient(Backward& back, const graph::Node& node) {
  Builder& b = back.builder();
  const View x = b.plain(b.input(node, 0)), gradient = b.plain(*back.of_output(node, 0));
  const View result = b.make(x.dims, Kind::real, true);
  b.add_host({x, gradient}, {result}, [count = graph::element_count(x.dims)](auto in, auto out) {
    const auto *at = reinterpret_cast<const float*>(in[0]), *g = reinterpret_cast<const float*>(in[1]);
    constexpr float factor = 2 * std::numbers::inv_sqrtpi_v<float>;
    for (std::int64_t i = 0; i < count; ++i)
      reinterpret_cast<float*>(out[0])[i] = g[i] * factor * std::exp(-at[i] * at[i]);
  });
  back.add(node, 0, result);
}

void binary_gradient(Backward& back, const graph::Node& node) {
  Builder& b = back.builder();
  const View left = b.input(node, 0), right = b.input(node, 1), gradient = *back.of_output(node, 0);
  const bool is_sum = node.op == "Add" || node.op == "Sub";
  if (back.wants(node, 0)) {
    const View g = is_sum ? gradient : binary(b, node.op, gradient, right);
    back.add(node, 0, summed_to(b, g, left.dims));
  }
  if (!back.wants(node, 1)) return;
  View g = gradient;
  if (node.op == "Sub") g = negated(b, gradient);
  if (node.op == "Mul") g = binary(b, "Mul", gradient, left);
  if (node.op == "Div") { // d(x / y) / dy = -(x / y) / y
    const View quotient = binary(b, "Div", left, right);
    g = negated(b, binary(b, "Div", binary(b, "Mul", gradient, quotient), right));
  }
  back.add(node, 1, summed_to(b, g, right.dims));
}

} // namespace slr::infer
