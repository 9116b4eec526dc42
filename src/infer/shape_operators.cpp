#include "array_kernels.hpp"
#include "operators.hpp"

#include <algorithm>
#include <cmath>

namespace slr::infer {

namespace {

/// Axes as an attribute or, since opset 13, as input number 1.
std::vector<std::int64_t> axes_of(Builder& b, const graph::Node& node) {
  return Builder::has_input(node, 1) ? b.known_ints(node, 1, "axes") : node.ints_or("axes", {});
}

/// What a Reshape's numbers mean: 0 copies a dimension (unless allowzero), -1 is what remains. Empty if they do not
/// fit.
std::optional<Dims> resolved_shape(const Dims& from, const std::vector<std::int64_t>& shape, bool zero_copies) {
  Dims dims = shape;
  std::optional<std::size_t> open;
  std::int64_t product = 1;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] == 0 && zero_copies) {
      if (i >= from.size()) return std::nullopt;
      dims[i] = from[i];
    }
    if (dims[i] == -1) {
      if (open) return std::nullopt;
      open = i;
      continue;
    }
    if (dims[i] < 0 || __builtin_mul_overflow(product, dims[i], &product)) return std::nullopt;
  }
  const std::int64_t count = graph::element_count(from);
  if (open) {
    if (product == 0 || count % product != 0) return std::nullopt;
    dims[*open] = count / product;
    product = count;
  }
  if (product != count) return std::nullopt;
  return dims;
}

View plain_alias(Builder& b, const View& view, const Dims& dims) {
  return Builder::alias(b.plain(view), dims);
}

View converted(Builder& b, const View& x, Kind kind) {
  if (x.kind == kind) return x;
  const View from = b.plain(x), y = b.make(x.dims, kind, x.runtime);
  b.add_host({from}, {y}, [kind, count = graph::element_count(x.dims)](auto in, auto out) {
    const auto* reals = reinterpret_cast<const float*>(in[0]);
    const auto* integers = reinterpret_cast<const std::int64_t*>(in[0]);
    constexpr float limit = 9.2e18F;
    for (std::int64_t i = 0; i < count; ++i) {
      if (kind == Kind::real)
        reinterpret_cast<float*>(out[0])[i] = static_cast<float>(integers[i]);
      else if (!(std::abs(reals[i]) < limit))
        refuse("a number is too large for an integer");
      else
        reinterpret_cast<std::int64_t*>(out[0])[i] = static_cast<std::int64_t>(reals[i]);
    }
  });
  return y;
}

} // namespace

void plan_flatten(Builder& b, const graph::Node& node) {
  const View x = b.input(node, 0);
  const std::int64_t axis = node.int_or("axis", 1);
  const std::size_t split =
      axis == static_cast<std::int64_t>(x.dims.size()) ? x.dims.size() : checked_axis(axis, x.dims.size());
  const auto middle = x.dims.begin() + static_cast<std::ptrdiff_t>(split);
  b.define(node, 0,
           plain_alias(b, x,
                       {graph::element_count({x.dims.begin(), middle}), graph::element_count({middle, x.dims.end()})}));
}

void plan_reshape(Builder& b, const graph::Node& node) {
  const View x = b.input(node, 0);
  const std::vector<std::int64_t> shape =
      Builder::has_input(node, 1) ? b.known_ints(node, 1, "the shape") : node.ints_or("shape", {});
  const bool zero_copies = node.int_or("allowzero", 0) == 0;
  std::optional<Dims> dims = resolved_shape(x.dims, shape, zero_copies);
  // Networks exported for a fixed batch spell it out here; the batch is free, so its number is replaced.
  if (x.runtime && !shape.empty() && shape[0] >= 1 && (!dims || dims->empty() || dims->front() != b.block())) {
    std::vector<std::int64_t> free = shape;
    free[0] = b.block();
    dims = resolved_shape(x.dims, free, zero_copies);
  }
  if (!dims) refuse("the shape does not fit an input of " + std::to_string(graph::element_count(x.dims)) + " elements");
  b.define(node, 0, plain_alias(b, x, *dims));
}

void plan_squeeze(Builder& b, const graph::Node& node) {
  const View x = b.input(node, 0);
  const std::vector<std::int64_t> axes = axes_of(b, node);
  std::vector<bool> goes(x.dims.size());
  for (const std::int64_t axis : axes) goes[checked_axis(axis, x.dims.size())] = true;
  Dims dims;
  for (std::size_t d = 0; d < x.dims.size(); ++d) {
    // Without axes all ones go, but never the batch, which only happens to be one.
    const bool drop = axes.empty() ? x.dims[d] == 1 && !(x.runtime && d == 0) : goes[d];
    if (drop && x.dims[d] != 1) refuse("a dimension of " + std::to_string(x.dims[d]) + " cannot be squeezed");
    if (!drop) dims.push_back(x.dims[d]);
  }
  b.define(node, 0, plain_alias(b, x, dims));
}

void plan_unsqueeze(Builder& b, const graph::Node& node) {
  const View x = b.input(node, 0);
  const std::vector<std::int64_t> axes = axes_of(b, node);
  const std::size_t rank = x.dims.size() + axes.size();
  std::vector<bool> is_new(rank);
  for (const std::int64_t axis : axes) is_new[checked_axis(axis, rank)] = true;
  if (std::count(is_new.begin(), is_new.end(), true) != static_cast<std::ptrdiff_t>(axes.size()))
    refuse("an axis is named twice");
  Dims dims;
  for (std::size_t d = 0, from = 0; d < rank; ++d) dims.push_back(is_new[d] ? 1 : x.dims[from++]);
  b.define(node, 0, plain_alias(b, x, dims));
}

void plan_identity(Builder& b, const graph::Node& node) {
  b.define(node, 0, b.input(node, 0));
}

void plan_cast(Builder& b, const graph::Node& node) {
  using graph::ElementType;
  const auto to = static_cast<ElementType>(node.int_or("to", 0));
  const bool is_real = to == ElementType::float32 || to == ElementType::float64;
  if (!is_real && to != ElementType::int32 && to != ElementType::int64)
    refuse("a cast to element type " + std::to_string(node.int_or("to", 0)) + " is not supported");
  b.define(node, 0, converted(b, b.input(node, 0), is_real ? Kind::real : Kind::integer));
}

void plan_shape(Builder& b, const graph::Node& node) {
  const Dims dims = b.input(node, 0).dims;
  const auto rank = static_cast<std::int64_t>(dims.size());
  const auto bound = [rank](std::int64_t i) { return std::clamp<std::int64_t>(i < 0 ? i + rank : i, 0, rank); };
  const std::int64_t first = bound(node.int_or("start", 0));
  const std::int64_t last = std::max(first, bound(node.int_or("end", rank)));
  const Dims part(dims.begin() + first, dims.begin() + last);
  b.define(node, 0, b.known_value({last - first}, std::span<const std::int64_t>(part)));
}

void plan_constant(Builder& b, const graph::Node& node) {
  using Floats = std::span<const float>;
  using Integers = std::span<const std::int64_t>;
  for (const auto& [key, attribute] : node.attributes) {
    if (key.rfind("value", 0) != 0) continue;
    if (const auto* tensor = std::get_if<graph::Tensor>(&attribute)) return b.define(node, 0, b.known_value(*tensor));
    if (const auto* f = std::get_if<float>(&attribute)) return b.define(node, 0, b.known_value({}, Floats(f, 1)));
    if (const auto* i = std::get_if<std::int64_t>(&attribute))
      return b.define(node, 0, b.known_value({}, Integers(i, 1)));
    if (const auto* fs = std::get_if<std::vector<float>>(&attribute))
      return b.define(node, 0, b.known_value({static_cast<std::int64_t>(fs->size())}, Floats(*fs)));
    if (const auto* is = std::get_if<std::vector<std::int64_t>>(&attribute))
      return b.define(node, 0, b.known_value({static_cast<std::int64_t>(is->size())}, Integers(*is)));
  }
  refuse("its value is neither a tensor nor numbers");
}

void plan_constant_of_shape(Builder& b, const graph::Node& node) {
  const std::vector<std::int64_t> shape = b.known_ints(node, 0, "the shape");
  const auto value = node.attributes.find("value");
  const graph::Tensor* tensor = value == node.attributes.end() ? nullptr : std::get_if<graph::Tensor>(&value->second);
  constexpr float zero = 0;
  const View element = tensor ? b.known_value(*tensor) : b.known_value({1}, std::span<const float>(&zero, 1));
  if (graph::element_count(element.dims) != 1) refuse("its value must be one number");
  const View y = b.make(shape, element.kind, false);
  b.add_host({element}, {y}, [kind = element.kind, shape](auto from, auto to) {
    copy_box(kind, shape, from[0], {0, Dims(shape.size(), 0)}, to[0], {0, row_major_strides(shape)});
  });
  b.define(node, 0, y);
}

} // namespace slr::infer
