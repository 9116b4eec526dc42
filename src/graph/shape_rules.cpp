#include "shape_table.hpp"

#include <algorithm>

namespace slr::graph {
namespace {

void keep_shape(NodeView& view) {
  if (const auto* shape = view.shape(0)) view.set_shape(0, *shape);
}

/// Dropout and BatchNormalization: the second output of the one has the input's shape, those of the other are
/// training's.
void dropout(NodeView& view) {
  const auto* shape = view.shape(0);
  if (!shape) return;
  view.set_shape(0, *shape);
  view.set_shape(1, *shape);
}

void batch_normalization(NodeView& view) {
  const auto* x = view.shape(0);
  if (!x) return;
  Shape result = *x;
  if (result.size() < 2) view.fail("normalizes a value without channels");
  for (std::size_t i = 1; i < 5; ++i)
    if (const auto* parameter = view.shape(i)) {
      if (parameter->size() != 1) view.fail("has parameters that are not one number per channel");
      result[1] = joined(view, result[1], parameter->front());
    }
  view.set_shape(0, result);
}

/// Any number of inputs that broadcast to the output.
void broadcast_all(NodeView& view) {
  std::optional<Shape> result;
  for (std::size_t i = 0; i < view.node().inputs.size(); ++i) {
    const auto* shape = view.shape(i);
    if (!shape) return;
    result = result ? broadcast(view, *result, *shape) : *shape;
  }
  if (result) view.set_shape(0, *result);
}

void gemm(NodeView& view) {
  const auto *a = view.shape(0), *b = view.shape(1);
  if (!a || !b) return;
  if (a->size() != 2 || b->size() != 2) view.fail("multiplies values that are not matrices");
  const std::size_t ta = view.node().int_or("transA", 0) != 0 ? 1 : 0,
                    tb = view.node().int_or("transB", 0) != 0 ? 1 : 0;
  static_cast<void>(joined(view, (*a)[1 - ta], (*b)[tb]));
  Shape result{(*a)[ta], (*b)[1 - tb]};
  if (const auto* c = view.shape(2)) {
    const auto with_bias = broadcast(view, result, *c);
    if (with_bias.size() != 2 || (result[0].is(1) && !with_bias[0].is(1) && with_bias[0].is_known()) ||
        (result[1].is(1) && !with_bias[1].is(1)))
      view.fail("adds a bias that is larger than the product");
  }
  view.set_shape(0, result);
}

void matmul(NodeView& view) {
  const auto *a = view.shape(0), *b = view.shape(1);
  if (!a || !b) return;
  if (a->empty() || b->empty()) view.fail("multiplies a scalar as a matrix");
  Shape left = *a, right = *b;
  if (left.size() == 1) left.insert(left.begin(), Extent::of(1));
  if (right.size() == 1) right.push_back(Extent::of(1));
  static_cast<void>(joined(view, left.back(), right[right.size() - 2]));
  Shape result = broadcast(view, Shape(left.begin(), left.end() - 2), Shape(right.begin(), right.end() - 2));
  if (a->size() > 1) result.push_back(left[left.size() - 2]);
  if (b->size() > 1) result.push_back(right.back());
  view.set_shape(0, result);
}

void reduce(NodeView& view) {
  const auto* x = view.shape(0);
  bool is_known = true;
  const auto axes = view.list("axes", 1, is_known);
  if (!x || !is_known) return;
  if ((!axes || axes->empty()) && view.node().int_or("noop_with_empty_axes", 0) != 0) return keep_shape(view);
  std::vector<bool> is_reduced(x->size(), !axes || axes->empty());
  if (axes)
    for (const auto axis : *axes) is_reduced[view.axis(axis, x->size())] = true;
  const bool keeps = view.node().int_or("keepdims", 1) != 0;
  Shape result;
  for (std::size_t i = 0; i < x->size(); ++i) {
    if (!is_reduced[i])
      result.push_back((*x)[i]);
    else if (keeps)
      result.push_back(Extent::of(1));
  }
  view.set_shape(0, result);
}

void arg_of(NodeView& view) {
  const auto* x = view.shape(0);
  if (!x) return;
  const auto axis = view.axis(view.node().int_or("axis", 0), x->size());
  Shape result = *x;
  if (view.node().int_or("keepdims", 1) != 0)
    result[axis] = Extent::of(1);
  else
    result.erase(result.begin() + static_cast<std::ptrdiff_t>(axis));
  view.set_shape(0, result);
}

} // namespace

void add_elementwise_rules(Rules& rules) {
  for (const auto* op : {"Abs",
                         "Acos",
                         "Asin",
                         "Atan",
                         "Ceil",
                         "Celu",
                         "Clip",
                         "Cos",
                         "Elu",
                         "Erf",
                         "Exp",
                         "Floor",
                         "Gelu",
                         "HardSigmoid",
                         "HardSwish",
                         "Hardmax",
                         "IsNaN",
                         "LRN",
                         "LeakyRelu",
                         "Log",
                         "LogSoftmax",
                         "LpNormalization",
                         "Mish",
                         "Neg",
                         "Not",
                         "Reciprocal",
                         "Relu",
                         "Round",
                         "Selu",
                         "Shrink",
                         "Sigmoid",
                         "Sign",
                         "Sin",
                         "Softmax",
                         "Softplus",
                         "Softsign",
                         "Sqrt",
                         "Tan",
                         "Tanh",
                         "ThresholdedRelu",
                         "InstanceNormalization",
                         "LayerNormalization",
                         "GroupNormalization",
                         "MeanVarianceNormalization",
                         "PRelu",
                         "CumSum"})
    rules[op] = keep_shape;
  rules["Dropout"] = dropout;
  rules["BatchNormalization"] = batch_normalization;
  for (const auto* op : {"Pow", "Max", "Min", "Mean", "Sum", "And", "Or", "Xor", "Equal", "Greater", "Less",
                         "GreaterOrEqual", "LessOrEqual", "Where", "Mod"})
    rules[op] = broadcast_all;
  for (const auto* op : {"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
                         "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"})
    rules[op] = reduce;
  rules["ArgMax"] = rules["ArgMin"] = arg_of;
  rules["Gemm"] = gemm;
  rules["MatMul"] = matmul;
}

} // namespace slr::graph
