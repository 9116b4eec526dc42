#pragma once
// Small networks for the tests.
#include "slr/base/error.hpp"
#include "slr/graph/model.hpp"

#include <gtest/gtest.h>
#include <random>
#include <string>
#include <vector>

namespace slr::graph {

struct Builder {
  Model model;

  explicit Builder(std::int64_t opset = 13, Dims input = {-1, 3, 8, 8}) {
    model.ir_version = 7;
    model.opsets[""] = opset;
    model.name = "test";
    Value x{"x", ElementType::float32, std::move(input), {}};
    for (const auto dim : x.dims) x.dim_names.push_back(dim < 0 ? "batch" : "");
    model.inputs.push_back(x);
  }

  Node& node(const std::string& op, std::vector<std::string> inputs, std::vector<std::string> outputs,
             std::map<std::string, Attribute> attributes = {}) {
    model.nodes.push_back(
        {outputs.front() + "_node", op, "", std::move(inputs), std::move(outputs), std::move(attributes)});
    return model.nodes.back();
  }

  /// Numbers in [low, high].
  std::string floats(const std::string& name, const Dims& dims, float low = -1, float high = 1) {
    std::vector<float> values(static_cast<std::size_t>(element_count(dims)));
    for (auto& value : values) value = low + (high - low) * static_cast<float>(engine_()) / float(std::mt19937::max());
    model.initializers[name] = Tensor::of_floats(dims, values);
    return name;
  }

  std::string ints(const std::string& name, const std::vector<std::int64_t>& values) {
    model.initializers[name] = Tensor::of_int64s({static_cast<std::int64_t>(values.size())}, values);
    return name;
  }

  std::string scalar(const std::string& name, std::int64_t value) {
    model.initializers[name] = Tensor::of_int64s({}, std::span(&value, 1));
    return name;
  }

  /// A BatchNormalization with statistics unlike the identity.
  void batch_norm(const std::string& input, const std::string& output, std::int64_t channels) {
    node("BatchNormalization",
         {input, floats(output + ".scale", {channels}, -2, 2), floats(output + ".shift", {channels}),
          floats(output + ".mean", {channels}), floats(output + ".var", {channels}, 0.1F, 3)},
         {output}, {{"epsilon", 1e-3F}});
  }

  void output(const std::string& name, Dims dims = {}) {
    Value value{name, ElementType::float32, std::move(dims), {}};
    value.has_shape = !value.dims.empty();
    for (const auto dim : value.dims) value.dim_names.push_back(dim < 0 ? "batch" : "");
    model.outputs.push_back(value);
  }

private:
  std::mt19937 engine_{7};
};

/// Runs the action; the exit code and sentence of the slr::Error that it must throw.
template <class Action>
std::pair<ExitCode, std::string> error_of(Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  ADD_FAILURE() << "no error was thrown";
  return {ExitCode::done, ""};
}

inline const Node* find_node(const Model& model, const std::string& op) {
  for (const auto& node : model.nodes)
    if (node.op == op) return &node;
  return nullptr;
}

} // namespace slr::graph
