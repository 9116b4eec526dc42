#include "channel_node.hpp"
#include "slr/graph/channels.hpp"
#include "slr/graph/rewrite.hpp"

#include <algorithm>
#include <map>

namespace slr::graph {
namespace {

using Kind = ChannelNode::Kind;
using Indices = std::vector<std::int64_t>;

/// Every channel of every value is an element; those that can only go together are one set.
class ChannelSets {
public:
  ChannelSets(const Model& model, const Channels& channels) {
    const auto add = [&](const std::string& value) {
      const auto count = channels.count(value);
      if (!count || !first_.try_emplace(value, parent_.size()).second) return;
      count_[value] = static_cast<std::size_t>(*count);
      for (std::int64_t c = 0; c < *count; ++c) parent_.push_back(parent_.size());
    };
    for (const auto& input : model.inputs) add(input.name);
    for (const auto& node : model.nodes)
      for (const auto& output : node.outputs) add(output);
    stays_.resize(parent_.size(), false);
  }

  [[nodiscard]] std::size_t count(const std::string& value) const { return count_.at(value); }
  void join(const std::string& a, std::size_t i, const std::string& b, std::size_t j) {
    const auto x = root(first_.at(a) + i), y = root(first_.at(b) + j);
    parent_[x] = y;
    stays_[y] = stays_[y] || stays_[x];
  }
  void keep(const std::string& value, std::size_t i) { stays_[root(first_.at(value) + i)] = true; }
  void keep_all(const std::string& value) {
    for (std::size_t i = 0; i < count(value); ++i) keep(value, i);
  }
  /// The channels of the value that stay, increasing.
  [[nodiscard]] Indices kept(const std::string& value) {
    Indices result;
    for (std::size_t i = 0; i < count(value); ++i)
      if (stays_[root(first_.at(value) + i)]) result.push_back(static_cast<std::int64_t>(i));
    return result;
  }
  /// No value may be left without channels.
  void keep_one_of_each() {
    for (const auto& [value, count] : count_)
      if (count > 0 && kept(value).empty()) keep(value, 0);
  }

private:
  std::size_t root(std::size_t i) {
    while (parent_[i] != i) i = parent_[i] = parent_[parent_[i]];
    return i;
  }
  std::map<std::string, std::size_t> first_, count_;
  std::vector<std::size_t> parent_;
  std::vector<bool> stays_; ///< of roots
};

void join_channels(const ChannelNode& node, ChannelSets& sets) {
  switch (node.kind) {
  case Kind::opaque:
    for (const auto& value : node.inputs) sets.keep_all(value);
    for (const auto& value : node.outputs) sets.keep_all(value);
    return;
  case Kind::linear:
    sets.keep_all(node.inputs[0]);
    return;
  case Kind::channelwise:
    for (const auto& value : node.inputs)
      for (std::size_t c = 0; c < sets.count(value); ++c) sets.join(value, c, node.outputs[0], c);
    return;
  case Kind::concat:
  case Kind::split: {
    const bool joins = node.kind == Kind::concat;
    const auto& whole = joins ? node.outputs[0] : node.inputs[0];
    std::size_t at = 0;
    for (const auto& part : joins ? node.inputs : node.outputs)
      for (std::size_t c = 0; c < sets.count(part); ++c) sets.join(part, c, whole, at++);
    return;
  }
  case Kind::gather:
    for (std::size_t c = 0; c < node.indices.size(); ++c)
      sets.join(node.outputs[0], c, node.inputs[0], static_cast<std::size_t>(node.indices[c]));
    return;
  case Kind::flatten:
    if (node.has_fixed_count) sets.keep_all(node.inputs[0]);
    for (std::size_t c = 0; c < sets.count(node.outputs[0]); ++c)
      sets.join(node.outputs[0], c, node.inputs[0], c / static_cast<std::size_t>(node.factor));
    return;
  }
}

/// Positions of the gathered channels among those that are left of the input.
void shrink_gather(Model& model, Node& node, const ChannelNode& channels, ChannelSets& sets) {
  const auto left = sets.kept(channels.inputs[0]);
  Indices indices;
  for (const auto c : sets.kept(channels.outputs[0]))
    indices.push_back(std::ranges::lower_bound(left, channels.indices[static_cast<std::size_t>(c)]) - left.begin());
  if (indices != channels.indices) set_integers(model, node, 1, indices);
}

void shrink_split(Model& model, Node& node, const ChannelNode& channels, ChannelSets& sets) {
  Indices sizes;
  for (const auto& part : channels.outputs) sizes.push_back(std::ssize(sets.kept(part)));
  if (node.attributes.contains("split"))
    node.attributes["split"] = sizes;
  else
    set_integers(model, node, 1, sizes);
}

void shrink(Model& model, Node& node, const ChannelNode& channels, ChannelSets& sets) {
  if (channels.kind == Kind::opaque || channels.outputs.empty()) return;
  if (channels.kind == Kind::gather) return shrink_gather(model, node, channels, sets);
  if (channels.kind == Kind::split) return shrink_split(model, node, channels, sets);
  const auto left = sets.kept(channels.outputs[0]);
  if (left.size() == sets.count(channels.outputs[0])) return;
  for (const auto& constant : channels.constants) take_constant(model, node, constant, left);
  if (channels.kind == Kind::channelwise && node.op == "Conv") node.attributes["group"] = std::ssize(left);
}

} // namespace

void remove_unread_channels(Model& model) {
  remove_dead(model);
  const Channels channels(model);
  std::vector<ChannelNode> nodes;
  for (const auto& node : model.nodes) nodes.push_back(channels.classify(node));
  ChannelSets sets(model, channels);
  for (const auto& node : nodes) join_channels(node, sets);
  for (const auto* ends : {&model.inputs, &model.outputs})
    for (const auto& value : *ends)
      if (channels.count(value.name)) sets.keep_all(value.name);
  sets.keep_one_of_each();
  for (std::size_t i = 0; i < nodes.size(); ++i) shrink(model, model.nodes[i], nodes[i], sets);
  drop_idle_gathers(model);
}

} // namespace slr::graph
