#include "slr/infer/metrics.hpp"

#include "operators.hpp"
#include "slr/base/error.hpp"

#include <algorithm>
#include <cmath>
#include <set>

namespace slr::infer {

namespace {

using Row = std::span<const float>;

/// Numbers per image. \throws Error{bad_data} if the dimensions are not N x classes (x 1 x 1).
std::int64_t checked_classes(const ArrayView& logits) {
  bool fits = logits.dims.size() >= 2 && logits.dims[1] >= 1 &&
              graph::element_count(logits.dims) == static_cast<std::int64_t>(logits.data.size());
  for (std::size_t d = 2; fits && d < logits.dims.size(); ++d) fits = logits.dims[d] == 1;
  if (!fits) throw Error(ExitCode::bad_data, "the network's output is not one vector of logits per image");
  return logits.dims[1];
}

Row row_of(const ArrayView& logits, std::int64_t image) {
  const auto classes = static_cast<std::size_t>(logits.dims[1]);
  const Row row = logits.data.subspan(static_cast<std::size_t>(image) * classes, classes);
  for (const float logit : row)
    if (!std::isfinite(logit))
      throw Error(ExitCode::numerical,
                  "the network's output is not finite for image " + std::to_string(image) + " of a batch");
  return row;
}

/// How many classes come before this one: those with a larger logit, and equal ones with a smaller index.
std::int64_t place(Row row, std::size_t label) {
  std::int64_t before = 0;
  for (std::size_t i = 0; i < row.size(); ++i)
    if (row[i] > row[label] || (row[i] == row[label] && i < label)) ++before;
  return before;
}

std::size_t argmax(Row row) {
  return static_cast<std::size_t>(std::max_element(row.begin(), row.end()) - row.begin()); // the first of equal ones
}

/// Logarithms of the softmax, in double.
std::vector<double> log_probabilities(Row row) {
  const auto largest = static_cast<double>(*std::max_element(row.begin(), row.end()));
  double sum = 0;
  for (const float logit : row) sum += std::exp(static_cast<double>(logit) - largest);
  std::vector<double> result;
  for (const float logit : row) result.push_back(static_cast<double>(logit) - largest - std::log(sum));
  return result;
}

double divergence(Row reference, Row candidate) {
  const std::vector<double> p = log_probabilities(reference), q = log_probabilities(candidate);
  double sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i) sum += std::exp(p[i]) * (p[i] - q[i]);
  return sum;
}

bool is_linear(const graph::Node& node) {
  return node.op == "Conv" || node.op == "Gemm" || node.op == "MatMul";
}

/// The first node in the order of the network that the value depends on and that cannot be run.
const graph::Node* first_obstacle(const graph::Model& model, const std::string& value) {
  std::set<std::string> wanted{value};
  const graph::Node* obstacle = nullptr;
  for (std::size_t i = model.nodes.size(); i-- > 0;) {
    const graph::Node& node = model.nodes[i];
    if (std::none_of(node.outputs.begin(), node.outputs.end(), [&](const auto& o) { return wanted.contains(o); }))
      continue;
    wanted.insert(node.inputs.begin(), node.inputs.end());
    if (!is_supported(node)) obstacle = &node;
  }
  return obstacle;
}

} // namespace

std::string runnable_output(const graph::Model& model) {
  if (model.outputs.empty()) throw Error(ExitCode::bad_data, "the network has no output");
  std::string value = model.outputs[0].name;
  while (const graph::Node* obstacle = first_obstacle(model, value)) {
    const graph::Node& node = model.nodes[model.producer_of(value).value()];
    const auto input = std::find_if(node.inputs.begin(), node.inputs.end(), [&](const std::string& name) {
      return !name.empty() && !model.initializers.contains(name);
    });
    if (is_linear(node) || input == node.inputs.end())
      throw Error(ExitCode::bad_data, "node '" + obstacle->name + "' (" + obstacle->op +
                                          "): the operator is not supported, and layers of the network depend on it");
    value = *input;
  }
  return value;
}

std::string logits_value(const graph::Model& model) {
  static const std::set<std::string> passes_on{"Identity", "Dropout", "Flatten", "Reshape", "Squeeze", "Unsqueeze"};
  const std::string output = runnable_output(model);
  std::string value = output;
  while (const auto producer = model.producer_of(value)) {
    const graph::Node& node = model.nodes[*producer];
    if (node.inputs.empty()) break;
    if (node.op == "Softmax" || node.op == "LogSoftmax") return node.inputs[0];
    if (!passes_on.contains(node.op)) break;
    value = node.inputs[0];
  }
  return output;
}

Hits hits(const ArrayView& logits, std::span<const std::int32_t> labels) {
  constexpr std::int64_t counted = 5;
  const std::int64_t classes = checked_classes(logits), images = logits.images();
  if (static_cast<std::int64_t>(labels.size()) != images)
    throw Error(ExitCode::bad_data,
                std::to_string(labels.size()) + " labels were given for " + std::to_string(images) + " images");
  Hits result;
  for (std::int64_t n = 0; n < images; ++n) {
    const std::int64_t label = labels[static_cast<std::size_t>(n)];
    if (label < 0 || label >= classes)
      throw Error(ExitCode::bad_data, "a label is " + std::to_string(label) + ", but the network has " +
                                          std::to_string(classes) + " classes");
    const std::int64_t before = place(row_of(logits, n), static_cast<std::size_t>(label));
    result.top1.push_back(before == 0 ? 1 : 0);
    result.top5.push_back(before < counted ? 1 : 0);
  }
  return result;
}

Comparison compare(const ArrayView& reference, const ArrayView& candidate) {
  const std::int64_t classes = checked_classes(reference);
  if (checked_classes(candidate) != classes || reference.images() != candidate.images())
    throw Error(ExitCode::bad_data, "two networks with " + std::to_string(classes) + " and " +
                                        std::to_string(checked_classes(candidate)) +
                                        " classes, or on different images, cannot be compared");
  Comparison result;
  for (std::int64_t n = 0; n < reference.images(); ++n) {
    const Row p = row_of(reference, n), q = row_of(candidate, n);
    result.kl.push_back(divergence(p, q));
    result.agreement.push_back(argmax(p) == argmax(q) ? 1 : 0);
  }
  return result;
}

} // namespace slr::infer
