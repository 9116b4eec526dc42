#include "linear_node.hpp"
#include "shape_table.hpp"
#include "words.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace slr::graph {
namespace {

/// Whether the tensor is one whose elements are followed.
bool is_followed(const Tensor& tensor) {
  return (tensor.type == ElementType::int64 || tensor.type == ElementType::int32) && tensor.dims.size() <= 1 &&
         tensor.size() <= most_integers;
}

void set_tensor(NodeView& view, const Tensor& tensor) {
  if (!is_followed(tensor)) return view.set_shape(0, shape_of(tensor.dims));
  Integers integers{tensor.type, tensor.dims, {}};
  for (const auto value : tensor.int64s()) integers.values.push_back(Extent::of(value));
  view.set_integers(0, std::move(integers));
}

void constant(NodeView& view) {
  if (const auto tensor = constant_value(view.node())) set_tensor(view, *tensor);
}

void constant_of_shape(NodeView& view) {
  const auto* target = view.integers(0);
  if (!target) return;
  view.set_shape(0, target->values);
  const auto dims = known_dims(target->values);
  const auto found = view.node().attributes.find("value");
  const auto* fill = found == view.node().attributes.end() ? nullptr : std::get_if<Tensor>(&found->second);
  if (!fill || !dims || dims->size() > 1 || element_count(*dims) > most_integers) return;
  if (!is_followed(*fill) || fill->size() != 1) return;
  const auto value = Extent::of(fill->int64s().front());
  view.set_integers(0, {fill->type, *dims, Shape(static_cast<std::size_t>(element_count(*dims)), value)});
}

void shape(NodeView& view) {
  const auto* x = view.shape(0);
  if (!x) return;
  const auto n = static_cast<std::int64_t>(x->size());
  const auto placed = [&](std::int64_t at) { return std::clamp(at < 0 ? at + n : at, std::int64_t(0), n); };
  const auto start = placed(view.node().int_or("start", 0)), end = placed(view.node().int_or("end", n));
  Shape part;
  for (auto i = start; i < end; ++i) part.push_back((*x)[static_cast<std::size_t>(i)]);
  const Dims dims{static_cast<std::int64_t>(part.size())};
  view.set_integers(0, {ElementType::int64, dims, std::move(part)});
}

void size(NodeView& view) {
  if (const auto* x = view.shape(0))
    view.set_integers(0, {ElementType::int64, {}, {extent_of(product_of(*x, 0, x->size()))}});
}

void cast(NodeView& view) {
  const auto* x = view.shape(0);
  if (!x) return;
  view.set_shape(0, *x);
  const auto* integers = view.integers(0);
  if (!integers) return;
  const auto to = static_cast<ElementType>(view.node().int_or("to", 0));
  if (to != ElementType::int64 && to != ElementType::int32) return;
  Integers result = *integers;
  result.type = to;
  // A number that does not fit is not ours to wrap.
  for (auto& value : result.values)
    if (to == ElementType::int32 && value.is_known() && !std::in_range<std::int32_t>(value.value())) value = Extent();
  view.set_integers(0, std::move(result));
}

void identity(NodeView& view) {
  if (const auto* integers = view.integers(0)) return view.set_integers(0, *integers);
  if (const auto* x = view.shape(0)) view.set_shape(0, *x);
}

enum class Arithmetic { add, subtract, multiply, divide };

std::optional<std::int64_t> computed(Arithmetic operation, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  bool overflows = false;
  switch (operation) {
  case Arithmetic::add:
    overflows = __builtin_add_overflow(a, b, &result);
    break;
  case Arithmetic::subtract:
    overflows = __builtin_sub_overflow(a, b, &result);
    break;
  case Arithmetic::multiply:
    overflows = __builtin_mul_overflow(a, b, &result);
    break;
  case Arithmetic::divide:
    overflows = b == 0 || (b == -1 && a == std::numeric_limits<std::int64_t>::min());
    if (!overflows) result = a / b;
  }
  return overflows ? std::nullopt : std::optional(result);
}

Extent computed(Arithmetic operation, const Extent& a, const Extent& b) {
  if (a.is_known() && b.is_known()) {
    const auto result = computed(operation, a.value(), b.value());
    return result ? Extent::of(*result) : Extent();
  }
  // What leaves a free dimension as it is.
  const bool is_product = operation == Arithmetic::multiply || operation == Arithmetic::divide;
  if (b.is(is_product ? 1 : 0)) return a;
  if (operation == Arithmetic::multiply && a.is(1)) return b;
  if (operation == Arithmetic::add && a.is(0)) return b;
  return {};
}

template <Arithmetic operation>
void arithmetic(NodeView& view) {
  const auto *x = view.shape(0), *y = view.shape(1);
  if (!x || !y) return;
  const auto result_shape = broadcast(view, *x, *y);
  view.set_shape(0, result_shape);
  const auto *a = view.integers(0), *b = view.integers(1);
  const auto dims = known_dims(result_shape);
  if (!a || !b || !dims || a->type != b->type) return;
  Integers result{a->type, *dims, {}};
  const auto n = static_cast<std::size_t>(element_count(*dims));
  for (std::size_t i = 0; i < n; ++i) {
    auto value =
        computed(operation, a->values[a->values.size() == 1 ? 0 : i], b->values[b->values.size() == 1 ? 0 : i]);
    const bool fits = a->type == ElementType::int64 || !value.is_known() || std::in_range<std::int32_t>(value.value());
    result.values.push_back(fits ? value : Extent());
  }
  view.set_integers(0, std::move(result));
}

} // namespace

void add_integer_rules(Rules& rules) {
  rules["Constant"] = constant;
  rules["ConstantOfShape"] = constant_of_shape;
  rules["Shape"] = shape;
  rules["Size"] = size;
  rules["Cast"] = cast;
  rules["Identity"] = identity;
  rules["Add"] = arithmetic<Arithmetic::add>;
  rules["Sub"] = arithmetic<Arithmetic::subtract>;
  rules["Mul"] = arithmetic<Arithmetic::multiply>;
  rules["Div"] = arithmetic<Arithmetic::divide>;
}

} // namespace slr::graph
