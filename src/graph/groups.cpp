#include "slr/graph/groups.hpp"

#include "channel_node.hpp"
#include "edit.hpp"
#include "slr/graph/layers.hpp"
#include "slr/graph/rewrite.hpp"
#include "words.hpp"

#include <algorithm>
#include <iterator>
#include <numeric>

namespace slr::graph {
namespace {

constexpr std::int64_t split_sizes_are_an_input = 13; ///< operator set from which Split takes them so

std::string group_name(const std::string& node, std::int64_t group) {
  return node + "/group" + std::to_string(group + 1);
}

/// Rows first to first + count of a tensor under a new name.
std::string rows_of(Model& model, const std::string& from, std::int64_t first, std::int64_t count,
                    const std::string& wanted) {
  std::vector<std::int64_t> rows(static_cast<std::size_t>(count));
  std::iota(rows.begin(), rows.end(), first);
  const auto name = unused_value_name(model, wanted);
  model.initializers[name] = taken(model.initializers.at(from), 0, rows);
  return name;
}

/// The nodes that take the place of one grouped convolution and of the activation behind it.
std::vector<Node> nodes_of_groups(Model& model, const Layer& layer, const Node& convolution, const Node* activation) {
  const auto rows = layer.rows / layer.groups, channels = layer.cols / layer.window_area();
  Node split{unused_node_name(model, layer.name + "/split"), "Split", "", {layer.input}, {}, {}};
  Node join{unused_node_name(model, layer.name + "/join"), "Concat", "", {}, {layer.output}, {}};
  split.attributes["axis"] = join.attributes["axis"] = std::int64_t(1);
  const std::vector<std::int64_t> sizes(static_cast<std::size_t>(layer.groups), channels);
  if (model.opset() < split_sizes_are_an_input) {
    split.attributes["split"] = sizes;
  } else {
    split.inputs.push_back(unused_value_name(model, split.name + ".sizes"));
    model.initializers[split.inputs.back()] = Tensor::of_int64s({layer.groups}, sizes);
  }
  std::vector<Node> groups;
  for (std::int64_t g = 0; g < layer.groups; ++g) {
    const auto name = group_name(layer.name, g);
    Node group = convolution;
    group.name = unused_node_name(model, name);
    group.is_named = true;
    group.attributes.erase("group");
    split.outputs.push_back(unused_value_name(model, name + "/in"));
    group.inputs[0] = split.outputs.back();
    group.inputs[1] = rows_of(model, layer.weight, g * rows, rows, name + ".weight");
    if (!layer.bias_name.empty()) group.inputs[2] = rows_of(model, layer.bias_name, g * rows, rows, name + ".bias");
    group.outputs = {unused_value_name(model, name + "/out")};
    join.inputs.push_back(group.outputs[0]);
    groups.push_back(group);
    if (!activation) continue;
    Node function = *activation;
    function.name = unused_node_name(model, name + "/activation");
    function.inputs[0] = group.outputs[0];
    function.outputs = {join.inputs.back() = unused_value_name(model, name + "/activated")};
    groups.push_back(function);
  }
  groups.insert(groups.begin(), split);
  groups.push_back(join);
  return groups;
}

/// One tensor of several, along the first dimension.
Tensor stacked(const std::vector<const Tensor*>& parts) {
  auto dims = parts.front()->dims;
  dims[0] = 0;
  std::vector<float> values;
  for (const auto* part : parts) {
    dims[0] += part->dims[0];
    std::ranges::copy(part->floats(), std::back_inserter(values));
  }
  return Tensor::of_floats(dims, values);
}

/// The nodes NODE/group1 ... behind a Concat NODE/join, none if one of them is not as split_groups made it.
std::vector<std::size_t> groups_behind(const Model& model, const Node& join) {
  constexpr std::string_view ending = "/join";
  if (!is_op(join, "Concat") || !join.name.ends_with(ending)) return {};
  const auto name = join.name.substr(0, join.name.size() - ending.size());
  std::vector<std::size_t> groups;
  for (std::size_t g = 0; g < join.inputs.size(); ++g) {
    auto at = model.producer_of(join.inputs[g]);
    const auto wanted = group_name(name, static_cast<std::int64_t>(g));
    if (at && model.nodes[*at].name == wanted + "/activation") at = model.producer_of(model.nodes[*at].inputs[0]);
    if (!at || model.nodes[*at].name != wanted || !is_op(model.nodes[*at], "Conv")) return {};
    groups.push_back(*at);
  }
  const auto split = model.producer_of(model.nodes[groups.front()].inputs[0]);
  if (!split || model.nodes[*split].name != name + "/split") return {};
  for (const auto group : groups)
    if (model.nodes[group].inputs.size() != model.nodes[groups.front()].inputs.size() ||
        model.initializers.at(model.nodes[group].inputs[1]).dims !=
            model.initializers.at(model.nodes[groups.front()].inputs[1]).dims)
      return {};
  return groups;
}

void join_at(Model& model, std::size_t at, const std::vector<std::size_t>& groups) {
  const auto join = model.nodes[at];
  auto whole = model.nodes[groups.front()];
  const auto split = model.nodes[model.producer_of(whole.inputs[0]).value()];
  whole.name = split.name.substr(0, split.name.rfind('/'));
  whole.inputs[0] = split.inputs[0];
  whole.attributes["group"] = std::ssize(groups);
  for (std::size_t i = 1; i < whole.inputs.size(); ++i) {
    std::vector<const Tensor*> parts;
    for (const auto group : groups) parts.push_back(&model.initializers.at(model.nodes[group].inputs[i]));
    whole.inputs[i] = unused_value_name(model, whole.name + (i == 1 ? ".weight" : ".bias"));
    model.initializers[whole.inputs[i]] = stacked(parts);
  }
  std::vector<Node> nodes{whole};
  if (join.inputs[0] != whole.outputs[0]) {
    auto function = model.nodes[model.producer_of(join.inputs[0]).value()];
    function.name = unused_node_name(model, whole.name + "/activation");
    nodes[0].outputs = {unused_value_name(model, whole.name + "/out")};
    function.inputs[0] = nodes[0].outputs[0];
    nodes.push_back(function);
  }
  nodes.back().outputs = join.outputs;
  model.nodes.erase(model.nodes.begin() + static_cast<std::ptrdiff_t>(at));
  model.nodes.insert(model.nodes.begin() + static_cast<std::ptrdiff_t>(at), nodes.begin(), nodes.end());
}

} // namespace

void split_groups(Model& model) {
  for (const auto& layer : find_layers(model)) {
    if (layer.groups < 2 || layer.groups > most_split_groups || layer.is_depthwise()) continue;
    if (uses_of(model, layer.weight) > 1) continue;
    const auto at = model.producer_of(layer.linear).value();
    const auto convolution = model.nodes[at];
    std::vector<bool> is_erased(model.nodes.size(), false);
    is_erased[at] = true;
    std::optional<Node> activation;
    if (layer.output != layer.linear) {
      const auto function = model.producer_of(layer.output).value();
      activation = model.nodes[function];
      is_erased[function] = true;
    }
    auto nodes = nodes_of_groups(model, layer, convolution, activation ? &*activation : nullptr);
    // A bound of the activation may be made between the two: the new nodes stand where the last of them was.
    const auto last = std::ranges::find(is_erased.rbegin(), is_erased.rend(), true).base() - is_erased.begin();
    const auto place = last - std::ranges::count(is_erased.begin(), is_erased.begin() + last, true);
    erase_nodes(model, is_erased);
    model.nodes.insert(model.nodes.begin() + place, std::move_iterator(nodes.begin()), std::move_iterator(nodes.end()));
  }
  remove_dead(model);
}

void join_groups(Model& model) {
  for (std::size_t i = 0; i < model.nodes.size(); ++i)
    if (const auto groups = groups_behind(model, model.nodes[i]); !groups.empty()) join_at(model, i, groups);
  remove_dead(model);
}

} // namespace slr::graph
