#include "edit.hpp"

#include "slr/graph/rewrite.hpp"

#include <algorithm>
#include <unordered_set>

namespace slr::graph {
namespace {

bool value_exists(const Model& model, const std::string& name) {
  return model.initializers.contains(name) || model.is_output(name) || model.producer_of(name).has_value() ||
         std::ranges::any_of(model.inputs, [&](const Value& input) { return input.name == name; });
}

template <class Exists>
std::string unused_name(const std::string& wanted, Exists&& exists) {
  auto name = wanted;
  for (int k = 2; exists(name); ++k) name = wanted + "_" + std::to_string(k);
  return name;
}

} // namespace

std::string unused_value_name(const Model& model, const std::string& wanted) {
  return unused_name(wanted, [&](const std::string& name) { return value_exists(model, name); });
}

std::string unused_node_name(const Model& model, const std::string& wanted) {
  return unused_name(wanted, [&](const std::string& name) {
    return std::ranges::any_of(model.nodes, [&](const Node& node) { return node.name == name; });
  });
}

std::size_t uses_of(const Model& model, const std::string& value) {
  std::size_t uses = model.is_output(value) ? 1 : 0;
  for (const auto& node : model.nodes) uses += static_cast<std::size_t>(std::ranges::count(node.inputs, value));
  return uses;
}

void redirect_reads(Model& model, const std::string& from, const std::string& to) {
  for (auto& node : model.nodes) std::ranges::replace(node.inputs, from, to);
}

void erase_nodes(Model& model, const std::vector<bool>& is_erased) {
  std::vector<Node> rest;
  for (std::size_t i = 0; i < model.nodes.size(); ++i)
    if (!is_erased[i]) rest.push_back(std::move(model.nodes[i]));
  model.nodes = std::move(rest);
}

void remove_dead(Model& model) {
  std::unordered_set<std::string> read;
  for (const auto& output : model.outputs) read.insert(output.name);
  std::vector<bool> is_dead(model.nodes.size(), true);
  for (std::size_t i = model.nodes.size(); i-- > 0;) {
    const auto& node = model.nodes[i];
    for (const auto& output : node.outputs)
      if (!output.empty() && read.contains(output)) is_dead[i] = false;
    if (!is_dead[i]) read.insert(node.inputs.begin(), node.inputs.end());
  }
  erase_nodes(model, is_dead);
  std::erase_if(model.initializers, [&](const auto& entry) { return !read.contains(entry.first); });
}

} // namespace slr::graph
