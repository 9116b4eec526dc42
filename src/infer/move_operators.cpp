#include "move.hpp"

#include "array_kernels.hpp"
#include "operators.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

namespace slr::infer {

namespace {

/// Numbers that were attributes in old opsets and are inputs in new ones.
std::vector<std::int64_t> attribute_or_input(Builder& b, const graph::Node& node, const std::string& key,
                                             std::size_t index, std::vector<std::int64_t> otherwise) {
  return Builder::has_input(node, index) ? b.known_ints(node, index, key) : node.ints_or(key, std::move(otherwise));
}

std::vector<std::int64_t> first_axes(std::size_t count) {
  std::vector<std::int64_t> axes(count);
  std::iota(axes.begin(), axes.end(), 0);
  return axes;
}

Box whole(const Dims& dims) {
  return {Dims(dims.size(), 0), Dims(dims.size(), 1), dims};
}

/// Elements start, start + step, ... before end of a dimension, as ONNX bounds them.
void slice_dimension(Box& box, std::size_t d, std::int64_t size, std::int64_t start, std::int64_t end,
                     std::int64_t step) {
  constexpr std::int64_t largest = std::int64_t(1) << 40;
  if (step == 0) refuse("a step of zero");
  step = std::clamp(step, -largest, largest);
  const auto bounded = [size](std::int64_t i, std::int64_t low, std::int64_t high) {
    return std::clamp(i < 0 ? i + size : i, low, high);
  };
  const bool forward = step > 0;
  start = bounded(start, 0, forward ? size : size - 1);
  end = bounded(end, forward ? 0 : -1, forward ? size : size - 1);
  const std::int64_t span = forward ? end - start : start - end;
  const std::int64_t stride = forward ? step : -step;
  box.first[d] = start;
  box.step[d] = step;
  box.count[d] = span <= 0 ? 0 : (span + stride - 1) / stride;
}

float padding_value(Builder& b, const graph::Node& node) {
  if (!Builder::has_input(node, 2)) return node.float_or("value", 0.0F);
  const View value = b.known_input(node, 2, "the padding's value");
  if (graph::element_count(value.dims) != 1) refuse("the padding's value must be one number");
  return b.known_floats(value)[0];
}

template <class T>
void gather(const Table& table, const std::vector<std::int64_t>& indices, const std::byte* from, std::byte* to) {
  const T* part = reinterpret_cast<const T*>(from);
  T* next = reinterpret_cast<T*>(to);
  for (std::int64_t o = 0; o < table.outer; ++o, part += table.size * table.run) {
    if (table.run == 1) {
      for (const std::int64_t i : indices) *next++ = part[i];
    } else {
      for (const std::int64_t i : indices) next = std::copy_n(part + i * table.run, table.run, next);
    }
  }
}

} // namespace

View make_like(Builder& b, const View& x, const Dims& dims, bool runtime) {
  if (x.is_plain() || dims.size() != x.dims.size()) return b.make(dims, x.kind, runtime);
  return b.make(dims, image_layout(dims), runtime);
}

View extracted(Builder& b, const View& x, const Box& box) {
  if (x.runtime && (box.first[0] != 0 || box.step[0] != 1 || box.count[0] != x.dims[0]))
    refuse("taking a part of the first dimension would mix images");
  const View y = make_like(b, x, box.count, x.runtime);
  const Dims own = x.strides();
  Lattice source{0, Dims(own.size())};
  for (std::size_t d = 0; d < own.size(); ++d) {
    source.offset += box.first[d] * own[d];
    source.strides[d] = box.step[d] * own[d];
  }
  b.add_host({x}, {y}, [kind = x.kind, dims = y.dims, source, strides = y.strides()](auto from, auto to) {
    copy_box(kind, dims, from[0], source, to[0], {0, strides});
  });
  return y;
}

bool is_runtime(const std::vector<View>& values) {
  return std::any_of(values.begin(), values.end(), [](const View& view) { return view.runtime; });
}

View joined(Builder& b, const std::vector<View>& inputs, std::size_t axis, const Dims& dims) {
  const View y = make_like(b, inputs[0], dims, is_runtime(inputs));
  std::vector<Dims> boxes, strides;
  for (const View& x : inputs) {
    boxes.push_back(x.dims);
    strides.push_back(x.strides());
  }
  b.add_host(inputs, {y}, [kind = y.kind, to_strides = y.strides(), boxes, strides, axis](auto from, auto to) {
    std::int64_t offset = 0;
    for (std::size_t i = 0; i < boxes.size(); ++i) {
      copy_box(kind, boxes[i], from[i], {0, strides[i]}, to[0], {offset, to_strides});
      offset += boxes[i][axis] * to_strides[axis];
    }
  });
  return y;
}

Box slice_box(Builder& b, const graph::Node& node) {
  const View x = b.input(node, 0);
  const auto starts = attribute_or_input(b, node, "starts", 1, {});
  const auto ends = attribute_or_input(b, node, "ends", 2, {});
  const auto axes = attribute_or_input(b, node, "axes", 3, first_axes(starts.size()));
  const auto steps = attribute_or_input(b, node, "steps", 4, std::vector<std::int64_t>(starts.size(), 1));
  if (ends.size() != starts.size() || axes.size() != starts.size() || steps.size() != starts.size())
    refuse("starts, ends, axes and steps differ in length");
  Box box = whole(x.dims);
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const std::size_t d = checked_axis(axes[i], x.dims.size());
    slice_dimension(box, d, x.dims[d], starts[i], ends[i], steps[i]);
  }
  return box;
}

std::vector<std::int64_t> split_sizes(Builder& b, const graph::Node& node, std::int64_t size) {
  const auto parts = static_cast<std::int64_t>(node.outputs.size());
  if (parts == 0) refuse("it has no outputs");
  // Equal parts, the last one smaller where the size does not divide.
  const std::int64_t part = (size + parts - 1) / parts;
  std::vector<std::int64_t> equal(node.outputs.size(), part);
  equal.back() = size - part * (parts - 1);
  const std::vector<std::int64_t> sizes = attribute_or_input(b, node, "split", 1, equal);
  std::int64_t sum = 0;
  for (const std::int64_t s : sizes) {
    if (s < 0 || s > size) refuse("a part of " + std::to_string(s) + " does not fit into " + std::to_string(size));
    sum += s;
  }
  if (sum != size || sizes.size() != node.outputs.size())
    refuse("its parts do not add up to the dimension of " + std::to_string(size));
  return sizes;
}

Padding padding_of(Builder& b, const graph::Node& node, std::size_t rank) {
  constexpr std::int64_t largest = std::int64_t(1) << 24;
  const std::vector<std::int64_t> pads = attribute_or_input(b, node, "pads", 1, {});
  const std::vector<std::int64_t> axes = Builder::has_input(node, 3) ? b.known_ints(node, 3, "axes") : first_axes(rank);
  if (pads.size() != 2 * axes.size()) refuse("pads must have two numbers per dimension");
  Padding padding{Dims(rank, 0), Dims(rank, 0)};
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::size_t d = checked_axis(axes[i], rank);
    padding.begin[d] = pads[i];
    padding.end[d] = pads[axes.size() + i];
    if (std::max(std::abs(pads[i]), std::abs(pads[axes.size() + i])) > largest) refuse("a padding is out of range");
  }
  return padding;
}

std::vector<std::int64_t> permutation_of(const graph::Node& node, std::size_t rank) {
  std::vector<std::int64_t> reversed = first_axes(rank);
  std::reverse(reversed.begin(), reversed.end());
  const std::vector<std::int64_t> perm = node.ints_or("perm", reversed);
  std::vector<std::int64_t> sorted = perm;
  std::sort(sorted.begin(), sorted.end());
  if (sorted != first_axes(rank)) refuse("perm is not a permutation of the dimensions");
  return perm;
}

void plan_concat(Builder& b, const graph::Node& node) {
  std::vector<View> inputs;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) inputs.push_back(b.input(node, i));
  if (inputs.empty()) refuse("it has no inputs");
  Dims dims = inputs[0].dims;
  const std::size_t axis = checked_axis(node.int_or("axis", 1), dims.size());
  dims[axis] = 0;
  for (const View& x : inputs) {
    Dims expected = dims;
    if (x.dims.size() == dims.size()) expected[axis] = x.dims[axis];
    if (x.dims != expected || x.kind != inputs[0].kind) refuse("its inputs differ in type or in another dimension");
    dims[axis] += x.dims[axis];
  }
  if (is_runtime(inputs) && axis == 0) refuse("joining along the first dimension would mix images");
  b.define(node, 0, joined(b, inputs, axis, dims));
}

void plan_slice(Builder& b, const graph::Node& node) {
  const View x = b.input(node, 0);
  const Box box = slice_box(b, node);
  b.define(node, 0, extracted(b, x, box));
}

void plan_split(Builder& b, const graph::Node& node) {
  const View x = b.input(node, 0);
  const std::size_t axis = checked_axis(node.int_or("axis", 0), x.dims.size());
  const std::vector<std::int64_t> sizes = split_sizes(b, node, x.dims[axis]);
  Box box = whole(x.dims);
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    box.count[axis] = sizes[i];
    b.define(node, i, extracted(b, x, box));
    box.first[axis] += sizes[i];
  }
}

void plan_pad(Builder& b, const graph::Node& node) {
  const View x = b.input(node, 0);
  if (x.kind != Kind::real) refuse("the input must be float32");
  if (node.string_or("mode", "constant") != "constant") refuse("only constant padding is supported");
  const Padding padding = padding_of(b, node, x.dims.size());
  const float value = padding_value(b, node);
  Dims dims = x.dims, box = x.dims;
  const Dims own = x.strides();
  Lattice source{0, own}, target{0, {}};
  for (std::size_t d = 0; d < dims.size(); ++d) {
    const std::int64_t begin = padding.begin[d], end = padding.end[d];
    dims[d] += begin + end;
    // Negative padding cuts.
    box[d] = std::max<std::int64_t>(x.dims[d] + std::min<std::int64_t>(begin, 0) + std::min<std::int64_t>(end, 0), 0);
    if (dims[d] < 0) refuse("it cuts away more than there is");
    source.offset += std::max<std::int64_t>(-begin, 0) * own[d];
  }
  if (x.runtime && (padding.begin[0] != 0 || padding.end[0] != 0))
    refuse("padding the first dimension would add images");
  const View y = make_like(b, x, dims, x.runtime);
  target.strides = y.strides();
  for (std::size_t d = 0; d < dims.size(); ++d)
    target.offset += std::max<std::int64_t>(padding.begin[d], 0) * target.strides[d];
  b.add_host({x}, {y}, [box, source, target, value, count = graph::element_count(dims)](auto from, auto to) {
    std::fill_n(reinterpret_cast<float*>(to[0]), count, value);
    copy_box(Kind::real, box, from[0], source, to[0], target);
  });
  b.define(node, 0, y);
}

void plan_transpose(Builder& b, const graph::Node& node) {
  const View x = b.input(node, 0);
  const std::size_t rank = x.dims.size();
  const std::vector<std::int64_t> perm = permutation_of(node, rank);
  if (x.runtime && perm[0] != 0) refuse("moving the first dimension would mix images");
  const Dims own = x.strides();
  Dims dims(rank), strides(rank);
  for (std::size_t d = 0; d < rank; ++d) {
    dims[d] = x.dims[static_cast<std::size_t>(perm[d])];
    strides[d] = own[static_cast<std::size_t>(perm[d])];
  }
  const View y = b.make(dims, x.kind, x.runtime);
  b.add_host({x}, {y}, [kind = x.kind, dims, strides](auto from, auto to) {
    copy_box(kind, dims, from[0], {0, strides}, to[0], {0, row_major_strides(dims)});
  });
  b.define(node, 0, y);
}

Gathering gathering_of(Builder& b, const graph::Node& node) {
  const View x = b.input(node, 0);
  const std::size_t axis = checked_axis(node.int_or("axis", 0), x.dims.size());
  if (x.runtime && axis == 0) refuse("gathering along the first dimension would mix images");
  const Dims index_dims = b.known_input(node, 1, "the indices").dims;
  std::vector<std::int64_t> indices = b.known_ints(node, 1, "the indices");
  for (std::int64_t& i : indices) {
    if (i < -x.dims[axis] || i >= x.dims[axis]) refuse("index " + std::to_string(i) + " is out of range");
    if (i < 0) i += x.dims[axis];
  }
  const auto at = x.dims.begin() + static_cast<std::ptrdiff_t>(axis);
  Gathering g{Dims(x.dims.begin(), at), {}, std::move(indices), false};
  g.dims.insert(g.dims.end(), index_dims.begin(), index_dims.end());
  g.dims.insert(g.dims.end(), at + 1, x.dims.end());
  g.table = {graph::element_count({x.dims.begin(), at}), x.dims[axis], graph::element_count({at + 1, x.dims.end()})};
  // Channels that lie last are gathered pixel by pixel.
  g.is_channel = axis == 1 && index_dims.size() == 1 && !x.is_plain();
  if (g.is_channel) g.table = {g.table.outer * g.table.run, g.table.size, 1};
  return g;
}

void plan_gather(Builder& b, const graph::Node& node) {
  const Gathering g = gathering_of(b, node);
  const View given = b.input(node, 0), x = g.is_channel ? given : b.plain(given);
  const View y = g.is_channel ? make_like(b, x, g.dims, x.runtime) : b.make(g.dims, x.kind, x.runtime);
  b.add_host({x}, {y}, [table = g.table, indices = g.indices, kind = x.kind](auto from, auto to) {
    if (kind == Kind::real)
      gather<float>(table, indices, from[0], to[0]);
    else
      gather<std::int64_t>(table, indices, from[0], to[0]);
  });
  b.define(node, 0, y);
}

} // namespace slr::infer
