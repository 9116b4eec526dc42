#pragma once
/// \file
/// What a node does to the channels (dimension 1) of the values it reads and makes.
#include "shape_table.hpp"
#include "slr/graph/model.hpp"

#include <optional>
#include <span>
#include <string>
#include <vector>

namespace slr::graph {

/// A constant input with one slice per channel along an axis.
struct ChannelConstant {
  std::size_t input = 0, axis = 0;
};

struct ChannelNode {
  enum class Kind {
    opaque,      ///< may do anything: its values keep their channels as they are
    channelwise, ///< channel c of the output depends on channel c of every input
    linear,      ///< every output channel on all input channels, with weights that nobody else reads
    concat,      ///< joins the channels of its inputs
    split,       ///< cuts the channels into parts
    gather,      ///< output channel j is input channel indices[j]
    flatten      ///< input channel c becomes the output channels c * factor to (c + 1) * factor - 1
  };
  Kind kind = Kind::opaque;
  std::vector<std::string> inputs, outputs; ///< values with channels, without the constants
  std::vector<ChannelConstant> constants;   ///< channelwise, linear: per output channel
  std::optional<ChannelConstant> columns;   ///< linear: weights per input channel
  std::vector<std::int64_t> indices;        ///< gather
  std::int64_t factor = 1;                  ///< flatten
  bool has_fixed_count = false;             ///< flatten: the number of output channels is written in the node
};

/// Channels of values, none where they are not known or the value has no dimension 1.
class Channels {
public:
  explicit Channels(const Model& model) : model_(model), table_(symbolic_shapes(model)) {}
  [[nodiscard]] std::optional<std::int64_t> count(const std::string& value) const;
  [[nodiscard]] ChannelNode classify(const Node& node) const;

private:
  [[nodiscard]] bool is_constant(const std::string& value) const { return model_.initializers.contains(value); }
  [[nodiscard]] std::optional<ChannelNode> channelwise(const Node& node) const;
  [[nodiscard]] std::optional<ChannelNode> arithmetic(const Node& node) const;
  [[nodiscard]] std::optional<ChannelNode> linear(const Node& node) const;
  [[nodiscard]] std::optional<ChannelNode> moving(const Node& node) const;
  [[nodiscard]] std::optional<ChannelNode> flattening(const Node& node) const;
  const Model& model_;
  ShapeTable table_;
};

/// Slices `indices` of the tensor along an axis, in their order. Local.
[[nodiscard]] Tensor taken(const Tensor& tensor, std::size_t axis, std::span<const std::int64_t> indices);

/// The node reads those slices of its constant from now on: under the old name if nobody else reads that. Local.
void take_constant(Model& model, Node& node, const ChannelConstant& constant, std::span<const std::int64_t> indices);

/// The node reads these integers there from now on: under the old name if nobody else reads that. Local.
void set_integers(Model& model, Node& node, std::size_t input, std::span<const std::int64_t> values);

/// Gathers along dimension 1 that change nothing go, and what nobody reads then. Local.
void drop_idle_gathers(Model& model);

} // namespace slr::graph
