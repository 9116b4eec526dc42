#include "edit.hpp"
#include "fold.hpp"
#include "linear_node.hpp"
#include "shape_table.hpp"
#include "words.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <tuple>

namespace slr::graph {
namespace {

/// y = factor * x + offset per channel.
struct Affine {
  std::vector<double> factor, offset;
};

/// What a BatchNormalization does outside training; none if it is not constant, or not one factor per channel.
std::optional<Affine> affine_of(const Model& model, const Node& node, std::int64_t channels) {
  if (!is_op(node, "BatchNormalization") || node.inputs.size() != 5) return std::nullopt;
  if (node.int_or("training_mode", 0) != 0 || node.int_or("spatial", 1) == 0) return std::nullopt;
  for (std::size_t i = 1; i < node.outputs.size(); ++i)
    if (!node.outputs[i].empty()) return std::nullopt;
  std::array<std::span<const float>, 4> parameters; // scale, bias, mean, variance
  for (std::size_t i = 0; i < 4; ++i) {
    const auto found = model.initializers.find(node.inputs[i + 1]);
    if (found == model.initializers.end() || found->second.type != ElementType::float32 ||
        found->second.dims != Dims{channels})
      return std::nullopt;
    parameters[i] = found->second.floats();
  }
  const double epsilon = node.float_or("epsilon", 1e-5F);
  Affine affine;
  for (std::size_t i = 0; i < static_cast<std::size_t>(channels); ++i) {
    const double factor = parameters[0][i] / std::sqrt(double(parameters[3][i]) + epsilon);
    if (!std::isfinite(factor)) return std::nullopt; // a damaged variance stays visible where it is
    affine.factor.push_back(factor);
    affine.offset.push_back(parameters[1][i] - factor * parameters[2][i]);
  }
  return affine;
}

/// New tensors in the place of those that several nodes read: nodes that share weight, bias and normalization go on
/// sharing. A tensor that a single node reads is changed under its own name instead.
class Folded {
public:
  using Key = std::tuple<std::string, std::string, bool, double, std::vector<double>, std::vector<double>>;

  /// Whether nobody else reads the initializer, now or when it is found here later.
  [[nodiscard]] bool is_free(const Model& model, const std::string& name) const {
    return !name.empty() && uses_of(model, name) == 1 && !given_.contains(name);
  }
  [[nodiscard]] std::optional<std::string> find(const Key& key) const {
    const auto found = names_.find(key);
    return found == names_.end() ? std::nullopt : std::optional(found->second);
  }
  void remember(const Key& key, const std::string& name) {
    names_.emplace(key, name);
    given_.insert(name);
  }

private:
  std::map<Key, std::string> names_;
  std::set<std::string> given_;
};

void scale_weight(Model& model, const LinearNode& linear, const Affine& affine, Folded& done) {
  auto& node = model.nodes[linear.node];
  const Folded::Key key{linear.weight, "", linear.is_transposed, 1, affine.factor, {}};
  if (const auto known = done.find(key)) {
    node.inputs[1] = *known;
    return;
  }
  if (done.is_free(model, linear.weight)) {
    model.initializers[linear.weight] = linear.scaled_tensor(model, affine.factor);
    return;
  }
  auto tensor = linear.scaled_tensor(model, affine.factor);
  node.inputs[1] = unused_value_name(model, linear.weight + "/" + node.name);
  model.initializers[node.inputs[1]] = std::move(tensor);
  done.remember(key, node.inputs[1]);
}

/// The name of the new bias.
std::string store_bias(Model& model, const LinearNode& linear, const Affine& affine, Folded& done) {
  const bool is_alone = done.is_free(model, linear.weight);
  const Folded::Key key{linear.weight,     linear.bias_name, linear.bias_add.has_value(),
                        linear.bias_scale, affine.factor,    affine.offset};
  if (const auto known = done.find(key)) return *known;
  const auto bias = linear.bias(model);
  std::vector<float> values(bias.size());
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(affine.factor[i] * bias[i] + affine.offset[i]);
  Dims dims{linear.rows};
  if (linear.bias_add) dims = model.initializers.at(linear.bias_name).dims; // its number of dimensions may matter
  const auto name = done.is_free(model, linear.bias_name)
                        ? linear.bias_name
                        : unused_value_name(model, model.nodes[linear.node].name + "/bias");
  model.initializers[name] = Tensor::of_floats(dims, values);
  if (!is_alone) done.remember(key, name);
  return name;
}

/// Moves the normalization into the linear node. True if its own node is to go.
bool absorb(Model& model, const LinearNode& linear, std::size_t norm, const Affine& affine, Folded& done) {
  const auto bias = store_bias(model, linear, affine, done);
  scale_weight(model, linear, affine, done);
  auto& node = model.nodes[linear.node];
  auto& normalization = model.nodes[norm];
  if (is_op(node, "MatMul") && !linear.bias_add) {
    normalization.op = "Add";
    normalization.attributes.clear();
    normalization.inputs = {node.outputs[0], bias};
    normalization.outputs.resize(1);
    return false;
  }
  if (linear.bias_add) {
    std::ranges::replace(model.nodes[*linear.bias_add].inputs, linear.bias_name, bias);
  } else {
    node.inputs.resize(3);
    node.inputs[2] = bias;
    node.attributes.erase("beta");
  }
  model.nodes[linear.bias_add.value_or(linear.node)].outputs[0] = normalization.outputs[0];
  normalization.outputs[0].clear();
  return true;
}

} // namespace

void fold_batch_norms(Model& model) {
  const auto table = symbolic_shapes(model);
  std::vector<bool> is_erased(model.nodes.size(), false);
  Folded done;
  for (std::size_t i = 0; i < model.nodes.size(); ++i) {
    // The next one may normalize what this one just did.
    for (auto linear = linear_node(model, i); linear; linear = linear_node(model, i)) {
      const auto output = linear->output(model);
      const auto readers = model.consumers_of(output);
      if (readers.size() != 1 || model.is_output(output) || is_erased[readers.front()]) break;
      const auto& norm = model.nodes[readers.front()];
      if (norm.inputs[0] != output || std::ranges::count(norm.inputs, output) != 1) break;
      // Channels are dimension 1, which is the last one, W's rows, only of a matrix.
      const auto* shape = table.shape(output);
      if (is_op(model.nodes[i], "MatMul") && (!shape || shape->size() != 2)) break;
      const auto affine = affine_of(model, norm, linear->rows);
      if (!affine) break;
      is_erased[readers.front()] = absorb(model, *linear, readers.front(), *affine, done);
    }
  }
  erase_nodes(model, is_erased);
}

} // namespace slr::graph
