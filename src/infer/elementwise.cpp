#include "array_kernels.hpp"
#include "operators.hpp"

#include <cmath>
#include <limits>

namespace slr::infer {

namespace {

using dnnl::algorithm;

/// The bounds of a Clip: attributes before opset 11, optional inputs since. None if one is not known by
/// now, is not one number, or the lower is above the upper.
std::optional<std::pair<float, float>> clip_bounds(Builder& b, const graph::Node& node) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  float bounds[] = {node.float_or("min", -infinity), node.float_or("max", infinity)};
  for (const std::size_t i : {1U, 2U}) {
    if (!Builder::has_input(node, i)) continue;
    if (!b.is_known(node.inputs[i])) return std::nullopt;
    const View bound = b.known_input(node, i, "a bound");
    if (graph::element_count(bound.dims) != 1 || bound.kind != Kind::real) return std::nullopt;
    bounds[i - 1] = b.known_floats(bound)[0];
  }
  if (!(bounds[0] <= bounds[1])) return std::nullopt;
  return std::pair{bounds[0], bounds[1]};
}

struct BinaryOperator {
  algorithm real;
  bool is_commutative;
};
BinaryOperator operator_named(const std::string& op) {
  if (op == "Add") return {algorithm::binary_add, true};
  if (op == "Sub") return {algorithm::binary_sub, false};
  if (op == "Mul") return {algorithm::binary_mul, true};
  return {algorithm::binary_div, false};
}

template <class T>
T applied(algorithm op, T x, T y) {
  switch (op) {
  case algorithm::binary_add:
    return x + y;
  case algorithm::binary_sub:
    return x - y;
  case algorithm::binary_mul:
    return x * y;
  default:
    return x / y;
  }
}

template <>
std::int64_t applied(algorithm op, std::int64_t x, std::int64_t y) {
  std::int64_t result = 0;
  bool is_lost = false;
  switch (op) {
  case algorithm::binary_add:
    is_lost = __builtin_add_overflow(x, y, &result);
    break;
  case algorithm::binary_sub:
    is_lost = __builtin_sub_overflow(x, y, &result);
    break;
  case algorithm::binary_mul:
    is_lost = __builtin_mul_overflow(x, y, &result);
    break;
  default:
    is_lost = y == 0 || (x == std::numeric_limits<std::int64_t>::min() && y == -1);
    if (!is_lost) result = x / y;
  }
  if (is_lost) refuse("its integers divide by zero or overflow");
  return result;
}

template <class T>
void apply_everywhere(algorithm op, const Dims& dims, const Dims& strides_a, const Dims& strides_b,
                      std::span<const std::byte* const> from, std::byte* to) {
  const T* a = reinterpret_cast<const T*>(from[0]);
  const T* b = reinterpret_cast<const T*>(from[1]);
  T* result = reinterpret_cast<T*>(to);
  for_each_pair(dims, strides_a, strides_b,
                [&](std::int64_t i, std::int64_t j, std::int64_t n) { result[n] = applied(op, a[i], b[j]); });
}

View binary_on_host(Builder& b, algorithm op, const View& left, const View& right, const Dims& dims) {
  const View x = b.plain(left), y = b.plain(right), result = b.make(dims, left.kind, x.runtime || y.runtime);
  const Dims strides_x = broadcast_strides(x.dims, dims), strides_y = broadcast_strides(y.dims, dims);
  b.add_host({x, y}, {result}, [op, dims, strides_x, strides_y, kind = left.kind](auto from, auto to) {
    if (kind == Kind::real)
      apply_everywhere<float>(op, dims, strides_x, strides_y, from, to[0]);
    else
      apply_everywhere<std::int64_t>(op, dims, strides_x, strides_y, from, to[0]);
  });
  return result;
}

/// The smaller operand in a layout that goes with the larger one's.
View beside(Builder& b, const View& large, const View& small) {
  if (small.dims == large.dims) return b.in_layout(small, large.layout);
  Dims dims(large.dims.size() - small.dims.size(), 1);
  dims.insert(dims.end(), small.dims.begin(), small.dims.end());
  const View wide = dims == small.dims ? small : Builder::alias(b.plain(small), dims);
  return large.is_plain() ? b.plain(wide) : b.in_layout(wide, image_layout(dims));
}

View binary_on_images(Builder& b, algorithm op, View large, const View& small, const Tail& tail) {
  if (large.is_plain() && small.dims == large.dims) large = b.in_layout(large, small.layout);
  const View other = beside(b, large, small);
  const View result = b.make(large.dims, large.layout, large.runtime || other.runtime);
  dnnl::primitive_attr attr;
  attr.set_post_ops(tail.post_ops);
  const dnnl::binary::primitive_desc pd({op, large.layout, other.layout, result.layout}, attr, cpu_engine());
  b.add_primitive(dnnl::binary(pd), {{DNNL_ARG_SRC_0, large}, {DNNL_ARG_SRC_1, other}, {DNNL_ARG_DST, result}});
  return result;
}

/// The operands as oneDNN takes them, the first with all dimensions of the result; none if it cannot.
std::optional<std::pair<View, View>> ordered(const BinaryOperator& op, const View& a, const View& c, const Dims& dims) {
  if (a.kind != Kind::real || dims.empty()) return std::nullopt;
  if (a.dims == dims) return std::pair{a, c};
  if (op.is_commutative && c.dims == dims) return std::pair{c, a};
  return std::nullopt;
}

Dims checked_broadcast(const View& a, const View& c) {
  if (a.kind != c.kind) refuse("its operands have different types");
  const Dims dims = broadcast_dims(a.dims, c.dims);
  if (!a.runtime && !c.runtime) return dims;
  for (const View* view : {&a, &c}) {
    const bool keeps_images = view->dims.size() == dims.size() && (view->runtime || view->dims[0] == 1);
    if (!keeps_images && (view->runtime || view->dims.size() == dims.size()))
      refuse("an operand would not be the same for all images of a batch");
  }
  return dims;
}

} // namespace

std::vector<Eltwise> fusable_functions(Builder& b, const graph::Node& node) {
  if (node.inputs.empty() || !node.domain.empty()) return {};
  if (node.op == "Relu") return {{algorithm::eltwise_relu}};
  if (node.op == "LeakyRelu") return {{algorithm::eltwise_relu, node.float_or("alpha", 0.01F)}};
  if (node.op == "Sigmoid") return {{algorithm::eltwise_logistic}};
  if (node.op == "Tanh") return {{algorithm::eltwise_tanh}};
  if (node.op == "HardSwish") return {{algorithm::eltwise_hardswish}};
  if (node.op == "HardSigmoid")
    return {{algorithm::eltwise_linear, node.float_or("alpha", 0.2F), node.float_or("beta", 0.5F)},
            {algorithm::eltwise_clip, 0.0F, 1.0F}};
  if (node.op == "Gelu") {
    const bool is_tanh = node.string_or("approximate", "none") == "tanh";
    return {{is_tanh ? algorithm::eltwise_gelu_tanh : algorithm::eltwise_gelu_erf}};
  }
  if (node.op == "Clip")
    if (const auto bounds = clip_bounds(b, node)) return {{algorithm::eltwise_clip, bounds->first, bounds->second}};
  return {};
}

bool has_derivative_by_value(const std::vector<Eltwise>& functions) {
  return functions.size() == 1 && functions[0].algorithm == algorithm::eltwise_relu && functions[0].alpha == 0;
}

void plan_eltwise(Builder& b, const graph::Node& node) {
  View x = b.input(node, 0);
  if (x.kind != Kind::real) refuse("the input must be float32");
  const std::vector<Eltwise> functions = fusable_functions(b, node);
  if (functions.empty()) refuse("its bounds must be constant float32 numbers, the lower not above the upper one");
  for (const Eltwise& f : functions) {
    const View y = b.make(x.dims, x.layout, x.runtime);
    const dnnl::eltwise_forward::desc desc(dnnl::prop_kind::forward_inference, f.algorithm, x.layout, f.alpha, f.beta);
    b.add_primitive(dnnl::eltwise_forward(dnnl::eltwise_forward::primitive_desc(desc, cpu_engine())),
                    {{DNNL_ARG_SRC, x}, {DNNL_ARG_DST, y}});
    x = y;
  }
  b.define(node, 0, x);
}

void plan_erf(Builder& b, const graph::Node& node) {
  const View x = b.input(node, 0);
  if (x.kind != Kind::real) refuse("the input must be float32");
  const View from = b.plain(x), y = b.make(x.dims, Kind::real, x.runtime);
  b.add_host({from}, {y}, [count = graph::element_count(x.dims)](auto in, auto out) {
    const auto* values = reinterpret_cast<const float*>(in[0]);
    for (std::int64_t i = 0; i < count; ++i) reinterpret_cast<float*>(out[0])[i] = std::erf(values[i]);
  });
  b.define(node, 0, y);
}

View binary(Builder& b, const std::string& op, const View& a, const View& c) {
  const Dims dims = checked_broadcast(a, c);
  const BinaryOperator operation = operator_named(op);
  if (const auto operands = ordered(operation, a, c, dims))
    return binary_on_images(b, operation.real, operands->first, operands->second, {});
  return binary_on_host(b, operation.real, a, c, dims);
}

void plan_binary(Builder& b, const graph::Node& node) {
  const View a = b.input(node, 0), c = b.input(node, 1);
  const BinaryOperator operation = operator_named(node.op);
  const auto operands = ordered(operation, a, c, checked_broadcast(a, c));
  if (!operands) return b.define(node, 0, binary(b, node.op, a, c));
  const Tail tail = b.fuse_tail(node);
  b.define(tail.output, binary_on_images(b, operation.real, operands->first, operands->second, tail));
}

} // namespace slr::infer
