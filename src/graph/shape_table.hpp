#pragma once
/// \file
/// What is known of every value before anything runs: its dimensions and, of small integer tensors, its elements. Both
/// may stay symbolic, so that the free batch dimension survives the folding of shape arithmetic.
#include "slr/graph/model.hpp"

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace slr::graph {

/// A number that is known, equal to a named free dimension, or unknown.
class Extent {
public:
  Extent() = default; ///< unknown
  static Extent of(std::int64_t value) { return {Kind::known, value}; }
  static Extent symbol(std::int64_t id) { return {Kind::symbol, id}; }

  [[nodiscard]] bool is_known() const { return kind_ == Kind::known; }
  [[nodiscard]] bool is_symbol() const { return kind_ == Kind::symbol; }
  [[nodiscard]] bool is(std::int64_t value) const { return is_known() && value_ == value; }
  [[nodiscard]] std::int64_t value() const { return value_; } ///< the number, or the symbol's id
  /// Certainly the same number: unknown ones never are.
  [[nodiscard]] bool same_as(const Extent& other) const {
    return kind_ != Kind::unknown && kind_ == other.kind_ && value_ == other.value_;
  }

private:
  enum class Kind { unknown, known, symbol };
  Extent(Kind kind, std::int64_t value) : kind_(kind), value_(value) {}
  Kind kind_ = Kind::unknown;
  std::int64_t value_ = 0;
};

using Shape = std::vector<Extent>;

/// The dimensions, if all are known.
[[nodiscard]] std::optional<Dims> known_dims(const Shape& shape);
[[nodiscard]] Shape shape_of(const Dims& dims);

/// A small tensor of int64 or int32 (larger ones are not followed).
struct Integers {
  ElementType type = ElementType::int64;
  Dims dims; ///< a scalar or one dimension
  std::vector<Extent> values;

  [[nodiscard]] std::optional<std::vector<std::int64_t>> known() const;
};
inline constexpr std::int64_t most_integers = 4096;

/// Shapes and integers of a model's values by name; what is not known is absent.
class ShapeTable {
public:
  /// Follows the whole graph; `input_shape` says what to take for each input's dimensions. Local, linear in the nodes.
  /// \throws Error{bad_data} naming the node whose inputs contradict each other.
  ShapeTable(const Model& model, const std::function<std::optional<Shape>(const Value&)>& input_shape);

  [[nodiscard]] const Shape* shape(const std::string& value) const;
  [[nodiscard]] const Integers* integers(const std::string& value) const;
  [[nodiscard]] const std::map<std::string, Shape>& shapes() const { return shapes_; }

private:
  friend class NodeView;
  void follow(const Model& model, const Node& node);
  std::map<std::string, Shape> shapes_;
  std::map<std::string, Integers> integers_;
};

/// The table with one symbol per name of a free dimension, and one for every free dimension without a name. Local.
[[nodiscard]] ShapeTable symbolic_shapes(const Model& model);

/// One node as the rules below see it.
class NodeView {
public:
  NodeView(const Model& model, const Node& node, ShapeTable& table) : model_(model), node_(node), table_(table) {}

  [[nodiscard]] const Node& node() const { return node_; }
  [[nodiscard]] std::int64_t opset() const { return model_.opset(); }
  [[nodiscard]] bool has_input(std::size_t i) const { return i < node_.inputs.size() && !node_.inputs[i].empty(); }
  [[nodiscard]] const Shape* shape(std::size_t i) const;
  [[nodiscard]] const Integers* integers(std::size_t i) const;
  /// The elements of an integer input that are all known.
  [[nodiscard]] std::optional<std::vector<std::int64_t>> known_integers(std::size_t i) const;
  /// A list that is an attribute in older and input `i` in newer operator sets. None: not there. `is_known` becomes
  /// false where it is there but not known before the network runs.
  [[nodiscard]] std::optional<std::vector<std::int64_t>> list(const std::string& attribute, std::size_t i,
                                                              bool& is_known) const;
  /// The axis counted from the front. \throws Error{bad_data} unless -n <= axis < n.
  [[nodiscard]] std::size_t axis(std::int64_t axis, std::size_t n) const;

  void set_shape(std::size_t output, Shape shape);
  void set_integers(std::size_t output, Integers integers); ///< and the shape with it
  [[noreturn]] void fail(const std::string& sentence) const;

private:
  const Model& model_;
  const Node& node_;
  ShapeTable& table_;
};

/// What an operator makes of its inputs. A rule sets nothing where too little is known.
using Rule = void (*)(NodeView&);
/// By operator of ONNX's own domain. Each file of rules adds its own.
using Rules = std::map<std::string, Rule, std::less<>>;
void add_elementwise_rules(Rules& rules); ///< shape_rules.cpp: elementwise operators, products of matrices, reductions
void add_window_rules(Rules& rules);      ///< window_rules.cpp: convolutions and pooling
void add_reshape_rules(Rules& rules);     ///< reshape_rules.cpp: what moves elements
void add_integer_rules(Rules& rules);     ///< integer_rules.cpp: shape arithmetic

/// Product of extents: known numbers, and symbols in order. None where something is unknown or too large.
struct ExtentProduct {
  std::int64_t known = 1;
  std::vector<std::int64_t> symbols;
};
[[nodiscard]] std::optional<ExtentProduct> product_of(const Shape& shape, std::size_t first, std::size_t last);
/// The product as one extent: unknown unless it is a number or a single symbol.
[[nodiscard]] Extent extent_of(const std::optional<ExtentProduct>& product);

/// Two dimensions that must be equal, joined to what is known of them; NodeView::fail if they differ.
[[nodiscard]] Extent joined(const NodeView& view, const Extent& a, const Extent& b);
/// The shape to which all broadcast, as numpy does. \throws Error{bad_data} where they do not.
[[nodiscard]] Shape broadcast(const NodeView& view, const Shape& a, const Shape& b);

} // namespace slr::graph
