#include "operators.hpp"

#include <map>
#include <string_view>

namespace slr::infer {

namespace {

const std::map<std::string_view, Operator>& table() {
  static const std::map<std::string_view, Operator> operators{
      {"Add", plan_binary},
      {"AveragePool", plan_average_pool},
      {"BatchNormalization", plan_batch_normalization},
      {"Cast", plan_cast},
      {"Clip", plan_eltwise},
      {"Concat", plan_concat},
      {"Constant", plan_constant},
      {"ConstantOfShape", plan_constant_of_shape},
      {"Conv", plan_conv},
      {"Div", plan_binary},
      {"Dropout", plan_identity},
      {"Erf", plan_erf},
      {"Flatten", plan_flatten},
      {"Gather", plan_gather},
      {"Gelu", plan_eltwise},
      {"Gemm", plan_gemm},
      {"GlobalAveragePool", plan_global_average_pool},
      {"GlobalMaxPool", plan_global_max_pool},
      {"HardSigmoid", plan_eltwise},
      {"HardSwish", plan_eltwise},
      {"Identity", plan_identity},
      {"LRN", plan_lrn},
      {"LeakyRelu", plan_eltwise},
      {"LogSoftmax", plan_softmax},
      {"MatMul", plan_matmul},
      {"MaxPool", plan_max_pool},
      {"Mul", plan_binary},
      {"Pad", plan_pad},
      {"ReduceMean", plan_reduce_mean},
      {"Relu", plan_eltwise},
      {"Reshape", plan_reshape},
      {"Shape", plan_shape},
      {"Sigmoid", plan_eltwise},
      {"Slice", plan_slice},
      {"Softmax", plan_softmax},
      {"Split", plan_split},
      {"Squeeze", plan_squeeze},
      {"Sub", plan_binary},
      {"Tanh", plan_eltwise},
      {"Transpose", plan_transpose},
      {"Unsqueeze", plan_unsqueeze},
  };
  return operators;
}

bool is_standard(const graph::Node& node) {
  return node.domain.empty() || node.domain == "ai.onnx";
}

} // namespace

bool is_supported(const graph::Node& node) {
  return is_standard(node) && table().contains(node.op);
}

Operator operator_of(const graph::Node& node) {
  if (!is_supported(node))
    refuse("the operator '" + (is_standard(node) ? "" : node.domain + ".") + node.op + "' is not supported");
  return table().at(node.op);
}

std::size_t checked_axis(std::int64_t axis, std::size_t rank) {
  const auto dims = static_cast<std::int64_t>(rank);
  if (axis < -dims || axis >= dims)
    refuse("axis " + std::to_string(axis) + " is outside of " + std::to_string(rank) + " dimensions");
  return static_cast<std::size_t>(axis < 0 ? axis + dims : axis);
}

} // namespace slr::infer
