#include "topology.hpp"

#include "words.hpp"

#include <functional>
#include <queue>
#include <unordered_map>
#include <unordered_set>

namespace slr::graph {
namespace {

/// Node that makes each value; `outside` for graph inputs and initializers.
using Origins = std::unordered_map<std::string, std::size_t>;
constexpr std::size_t outside = std::size_t(-1);

Origins find_origins(const Model& model, const std::string& what) {
  Origins origins;
  const auto add = [&](const std::string& value, std::size_t node) {
    if (!origins.emplace(value, node).second)
      throw bad_data(what + ": the value " + in_quotes(value) + " is defined twice" +
                     (node == outside ? std::string() : ", the second time by " + words_for(model.nodes[node])));
  };
  for (const auto& input : model.inputs) add(input.name, outside);
  for (const auto& [name, tensor] : model.initializers) add(name, outside);
  for (std::size_t i = 0; i < model.nodes.size(); ++i)
    for (const auto& output : model.nodes[i].outputs)
      if (!output.empty()) add(output, i);
  return origins;
}

/// Follows unfinished predecessors until one repeats: that one is on a cycle.
std::size_t node_on_cycle(const Model& model, const Origins& origins, const std::vector<std::size_t>& waiting_for,
                          std::size_t start) {
  std::unordered_set<std::size_t> seen;
  std::size_t node = start;
  while (seen.insert(node).second) {
    for (const auto& input : model.nodes[node].inputs) {
      const auto origin = input.empty() ? outside : origins.at(input);
      if (origin != outside && waiting_for[origin] > 0) {
        node = origin;
        break;
      }
    }
  }
  return node;
}

/// Kahn's algorithm that always takes the ready node of smallest index.
std::vector<std::size_t> sorted_order(const Model& model, const Origins& origins, const std::string& what) {
  const std::size_t n = model.nodes.size();
  std::vector<std::size_t> waiting_for(n, 0);
  std::vector<std::vector<std::size_t>> readers(n);
  for (std::size_t i = 0; i < n; ++i)
    for (const auto& input : model.nodes[i].inputs) {
      if (input.empty()) continue;
      const auto origin = origins.find(input);
      if (origin == origins.end())
        throw bad_data(what + ": " + words_for(model.nodes[i]) + " reads " + in_quotes(input) +
                       ", which is no input, initializer or output of a node");
      if (origin->second == outside) continue;
      readers[origin->second].push_back(i);
      ++waiting_for[i];
    }
  std::priority_queue<std::size_t, std::vector<std::size_t>, std::greater<>> ready;
  for (std::size_t i = 0; i < n; ++i)
    if (waiting_for[i] == 0) ready.push(i);
  std::vector<std::size_t> order;
  while (!ready.empty()) {
    const auto i = ready.top();
    ready.pop();
    order.push_back(i);
    for (const auto reader : readers[i])
      if (--waiting_for[reader] == 0) ready.push(reader);
  }
  if (order.size() == n) return order;
  std::size_t stuck = 0;
  while (waiting_for[stuck] == 0) ++stuck;
  const auto culprit = node_on_cycle(model, origins, waiting_for, stuck);
  throw bad_data(what + ": " + words_for(model.nodes[culprit]) + " depends on its own output (the graph has a cycle)");
}

void name_nodes(Model& model) {
  std::unordered_set<std::string> taken;
  const auto take = [&](Node& node) {
    const auto wanted = node.name;
    for (std::size_t k = 2; !taken.insert(node.name).second; ++k) node.name = wanted + "_" + std::to_string(k);
  };
  for (auto& node : model.nodes)
    if (node.is_named) take(node);
  for (auto& node : model.nodes) {
    if (node.is_named) continue;
    for (const auto& output : node.outputs)
      if (node.name.empty()) node.name = output;
    if (node.name.empty()) node.name = node.op;
    take(node);
  }
}

} // namespace

void establish_order(Model& model, const std::string& what) {
  name_nodes(model);
  const auto origins = find_origins(model, what);
  const auto order = sorted_order(model, origins, what);
  for (const auto& output : model.outputs)
    if (!origins.contains(output.name))
      throw bad_data(what + ": nothing makes the graph's output " + in_quotes(output.name));
  std::vector<Node> nodes;
  nodes.reserve(order.size());
  for (const auto i : order) nodes.push_back(std::move(model.nodes[i]));
  model.nodes = std::move(nodes);
}

} // namespace slr::graph
