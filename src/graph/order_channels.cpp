#include "channel_node.hpp"
#include "slr/graph/channels.hpp"

#include <algorithm>
#include <map>
#include <numeric>

namespace slr::graph {
namespace {

using Kind = ChannelNode::Kind;
using Indices = std::vector<std::int64_t>;

/// Values whose channels have one order in common, and the nodes that make and read them.
struct Bundle {
  bool is_movable = true;
  std::int64_t channels = 0;            ///< of the values that are not flattened
  std::vector<std::size_t> makers;      ///< linear nodes that make one of the values
  std::vector<std::size_t> readers;     ///< linear nodes that read one
  std::vector<std::size_t> channelwise; ///< nodes between them
  std::vector<std::size_t> gathers;     ///< that read one
  std::vector<std::size_t> sources;     ///< Gathers that make one
};

class Bundles {
public:
  Bundles(const Model& model, const Channels& channels) : channels_(channels) {
    for (const auto& node : model.nodes) nodes_.push_back(channels.classify(node));
    for (const auto& node : nodes_) connect(node);
    for (std::size_t i = 0; i < nodes_.size(); ++i) enter(i);
    for (const auto* ends : {&model.inputs, &model.outputs})
      for (const auto& value : *ends) fix(value.name);
  }

  [[nodiscard]] const ChannelNode& node(std::size_t i) const { return nodes_[i]; }
  [[nodiscard]] const std::map<std::string, Bundle>& all() const { return bundles_; }
  /// Channels of the value that stand for one channel of its bundle: more than one behind a Flatten.
  [[nodiscard]] std::int64_t factor(const std::string& value, const Bundle& bundle) const {
    return *channels_.count(value) / bundle.channels;
  }

private:
  std::string root(std::string value) const {
    for (auto up = parent_.find(value); up != parent_.end(); up = parent_.find(value)) value = up->second;
    return value;
  }
  void connect(const ChannelNode& node) {
    if (node.kind != Kind::channelwise && node.kind != Kind::flatten) return;
    for (const auto& input : node.inputs)
      if (const auto a = root(input), b = root(node.outputs[0]); a != b) parent_[a] = b;
  }
  Bundle& bundle(const std::string& value) {
    auto& result = bundles_[root(value)];
    const auto count = *channels_.count(value);
    result.channels = result.channels == 0 ? count : std::min(result.channels, count);
    return result;
  }
  void fix(const std::string& value) {
    if (channels_.count(value)) bundle(value).is_movable = false;
  }
  void enter(std::size_t i) {
    const auto& node = nodes_[i];
    switch (node.kind) {
    case Kind::opaque:
    case Kind::concat:
    case Kind::split:
      for (const auto& value : node.inputs) fix(value);
      for (const auto& value : node.outputs) fix(value);
      return;
    case Kind::linear:
      bundle(node.inputs[0]).readers.push_back(i);
      bundle(node.outputs[0]).makers.push_back(i);
      return;
    case Kind::channelwise:
    case Kind::flatten:
      for (const auto& value : node.inputs) (void)bundle(value);
      bundle(node.outputs[0]).channelwise.push_back(i);
      return;
    case Kind::gather:
      bundle(node.inputs[0]).gathers.push_back(i);
      bundle(node.outputs[0]).sources.push_back(i);
      return;
    }
  }

  const Channels& channels_;
  std::vector<ChannelNode> nodes_;
  std::map<std::string, std::string> parent_;
  std::map<std::string, Bundle> bundles_;
};

/// The order on all channels of a value that stand `factor` for one.
Indices widened(const Indices& order, std::int64_t factor) {
  Indices result;
  for (const auto channel : order)
    for (std::int64_t i = 0; i < factor; ++i) result.push_back(channel * factor + i);
  return result;
}

/// The order that the first Gather of all channels asks for, if it differs from the one there is; else the one in which
/// the first Gather that makes the bundle would change nothing.
std::optional<Indices> wanted_order(const Bundles& bundles, const Bundle& bundle) {
  Indices all(static_cast<std::size_t>(bundle.channels));
  std::iota(all.begin(), all.end(), 0);
  const auto is_permutation = [&](Indices indices) {
    if (indices == all) return false;
    std::ranges::sort(indices);
    return indices == all;
  };
  for (const auto i : bundle.gathers)
    if (const auto& indices = bundles.node(i).indices; is_permutation(indices)) return indices;
  for (const auto i : bundle.sources)
    if (const auto& indices = bundles.node(i).indices; is_permutation(indices)) {
      Indices order(indices.size());
      for (std::size_t c = 0; c < indices.size(); ++c)
        order[static_cast<std::size_t>(indices[c])] = static_cast<std::int64_t>(c);
      return order;
    }
  return std::nullopt;
}

/// Channel order[c] becomes channel c of all values of the bundle.
void reorder(Model& model, const Bundles& bundles, const Bundle& bundle, const Indices& order) {
  const auto take = [&](std::size_t i, const ChannelConstant& constant, const std::string& value) {
    take_constant(model, model.nodes[i], constant, widened(order, bundles.factor(value, bundle)));
  };
  for (const auto* nodes : {&bundle.makers, &bundle.channelwise})
    for (const auto i : *nodes)
      for (const auto& constant : bundles.node(i).constants) take(i, constant, bundles.node(i).outputs[0]);
  for (const auto i : bundle.readers) take(i, *bundles.node(i).columns, bundles.node(i).inputs[0]);
  for (const auto i : bundle.sources) take(i, {1, 0}, bundles.node(i).outputs[0]);
  for (const auto i : bundle.gathers) {
    const auto wide = widened(order, bundles.factor(bundles.node(i).inputs[0], bundle));
    Indices place(wide.size());
    for (std::size_t c = 0; c < wide.size(); ++c)
      place[static_cast<std::size_t>(wide[c])] = static_cast<std::int64_t>(c);
    Indices indices;
    for (const auto channel : bundles.node(i).indices) indices.push_back(place[static_cast<std::size_t>(channel)]);
    set_integers(model, model.nodes[i], 1, indices);
  }
}

} // namespace

void order_channels(Model& model) {
  {
    const Channels channels(model);
    const Bundles bundles(model, channels);
    for (const auto& [root, bundle] : bundles.all()) {
      if (!bundle.is_movable || (bundle.makers.empty() && bundle.sources.empty())) continue;
      if (const auto order = wanted_order(bundles, bundle)) reorder(model, bundles, bundle, *order);
    }
  }
  drop_idle_gathers(model);
}

} // namespace slr::graph
