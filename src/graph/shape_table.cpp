#include "shape_table.hpp"

#include "words.hpp"

#include <algorithm>

namespace slr::graph {

std::optional<Dims> known_dims(const Shape& shape) {
  Dims dims;
  for (const auto& extent : shape) {
    if (!extent.is_known()) return std::nullopt;
    dims.push_back(extent.value());
  }
  return dims;
}

Shape shape_of(const Dims& dims) {
  Shape shape;
  for (const auto dim : dims) shape.push_back(Extent::of(dim));
  return shape;
}

std::optional<std::vector<std::int64_t>> Integers::known() const {
  std::vector<std::int64_t> numbers;
  for (const auto& value : values) {
    if (!value.is_known()) return std::nullopt;
    numbers.push_back(value.value());
  }
  return numbers;
}

namespace {

const Rules& rules() {
  static const Rules all = [] {
    Rules rules;
    add_elementwise_rules(rules);
    add_window_rules(rules);
    add_reshape_rules(rules);
    add_integer_rules(rules);
    return rules;
  }();
  return all;
}

} // namespace

ShapeTable::ShapeTable(const Model& model, const std::function<std::optional<Shape>(const Value&)>& input_shape) {
  for (const auto& input : model.inputs)
    if (auto shape = input_shape(input)) shapes_[input.name] = std::move(*shape);
  for (const auto& [name, tensor] : model.initializers) {
    shapes_[name] = shape_of(tensor.dims);
    const bool is_integer = tensor.type == ElementType::int64 || tensor.type == ElementType::int32;
    if (!is_integer || tensor.dims.size() > 1 || tensor.size() > most_integers) continue;
    Integers integers{tensor.type, tensor.dims, {}};
    for (const auto value : tensor.int64s()) integers.values.push_back(Extent::of(value));
    integers_[name] = std::move(integers);
  }
  for (const auto& node : model.nodes) follow(model, node);
}

void ShapeTable::follow(const Model& model, const Node& node) {
  if (!node.domain.empty()) return;
  const auto rule = rules().find(node.op);
  if (rule == rules().end()) return;
  NodeView view(model, node, *this);
  rule->second(view);
}

const Shape* ShapeTable::shape(const std::string& value) const {
  const auto found = shapes_.find(value);
  return found == shapes_.end() ? nullptr : &found->second;
}

const Integers* ShapeTable::integers(const std::string& value) const {
  const auto found = integers_.find(value);
  return found == integers_.end() ? nullptr : &found->second;
}

ShapeTable symbolic_shapes(const Model& model) {
  std::map<std::string, std::int64_t> ids;
  std::int64_t next = 0;
  return ShapeTable(model, [&](const Value& input) -> std::optional<Shape> {
    if (!input.has_shape) return std::nullopt;
    Shape shape;
    for (std::size_t i = 0; i < input.dims.size(); ++i) {
      if (input.dims[i] >= 0) {
        shape.push_back(Extent::of(input.dims[i]));
        continue;
      }
      const auto name = i < input.dim_names.size() ? input.dim_names[i] : std::string();
      const auto id = name.empty() ? next++ : ids.contains(name) ? ids[name] : (ids[name] = next++);
      shape.push_back(Extent::symbol(id));
    }
    return shape;
  });
}

const Shape* NodeView::shape(std::size_t i) const {
  return has_input(i) ? table_.shape(node_.inputs[i]) : nullptr;
}

const Integers* NodeView::integers(std::size_t i) const {
  return has_input(i) ? table_.integers(node_.inputs[i]) : nullptr;
}

std::optional<std::vector<std::int64_t>> NodeView::known_integers(std::size_t i) const {
  const auto* found = integers(i);
  return found ? found->known() : std::nullopt;
}

std::optional<std::vector<std::int64_t>> NodeView::list(const std::string& attribute, std::size_t i,
                                                        bool& is_known) const {
  if (node_.attributes.contains(attribute)) return node_.ints_or(attribute, {});
  if (!has_input(i)) return std::nullopt;
  auto values = known_integers(i);
  if (!values) is_known = false;
  return values;
}

std::size_t NodeView::axis(std::int64_t axis, std::size_t n) const {
  const auto count = static_cast<std::int64_t>(n);
  if (axis < -count || axis >= count)
    fail("has axis " + std::to_string(axis) + " on " + std::to_string(n) + " dimensions");
  return static_cast<std::size_t>(axis < 0 ? axis + count : axis);
}

void NodeView::set_shape(std::size_t output, Shape shape) {
  if (output >= node_.outputs.size() || node_.outputs[output].empty()) return;
  if (const auto dims = known_dims(shape)) {
    for (const auto dim : *dims)
      if (dim < 0) fail("makes a value of dimensions " + words_for(*dims) + ": its inputs contradict each other");
    try {
      static_cast<void>(element_count(*dims));
    } catch (const Error&) {
      fail("makes a value of absurd dimensions " + words_for(*dims));
    }
  }
  table_.shapes_[node_.outputs[output]] = std::move(shape);
}

void NodeView::set_integers(std::size_t output, Integers integers) {
  if (output >= node_.outputs.size() || node_.outputs[output].empty()) return;
  set_shape(output, shape_of(integers.dims));
  if (static_cast<std::int64_t>(integers.values.size()) <= most_integers)
    table_.integers_[node_.outputs[output]] = std::move(integers);
}

void NodeView::fail(const std::string& sentence) const {
  throw bad_data("in the model " + in_quotes(model_.name) + " the " + words_for(node_) + " " + sentence);
}

std::optional<ExtentProduct> product_of(const Shape& shape, std::size_t first, std::size_t last) {
  ExtentProduct product;
  for (std::size_t i = first; i < last; ++i) {
    if (shape[i].is_symbol())
      product.symbols.push_back(shape[i].value());
    else if (!shape[i].is_known() || __builtin_mul_overflow(product.known, shape[i].value(), &product.known))
      return std::nullopt;
  }
  std::ranges::sort(product.symbols);
  return product;
}

Extent extent_of(const std::optional<ExtentProduct>& product) {
  if (!product) return {};
  if (product->symbols.empty() || product->known == 0) return Extent::of(product->known);
  if (product->symbols.size() == 1 && product->known == 1) return Extent::symbol(product->symbols.front());
  return {};
}

Extent joined(const NodeView& view, const Extent& a, const Extent& b) {
  if (a.is_known() && b.is_known() && a.value() != b.value())
    view.fail("joins dimensions " + std::to_string(a.value()) + " and " + std::to_string(b.value()) +
              ", which must be equal");
  if (a.is_known()) return a;
  if (b.is_known()) return b;
  return a.same_as(b) ? a : Extent();
}

Shape broadcast(const NodeView& view, const Shape& a, const Shape& b) {
  const std::size_t n = std::max(a.size(), b.size());
  Shape result(n);
  for (std::size_t i = 0; i < n; ++i) {
    const Extent one = Extent::of(1);
    const auto& x = i + a.size() < n ? one : a[i + a.size() - n];
    const auto& y = i + b.size() < n ? one : b[i + b.size() - n];
    if (x.is(1))
      result[i] = y;
    else if (y.is(1))
      result[i] = x;
    else
      result[i] = joined(view, x, y);
  }
  return result;
}

} // namespace slr::graph
