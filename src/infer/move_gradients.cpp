#include "array_kernels.hpp"
#include "backward.hpp"
#include "move.hpp"
#include "operators.hpp"

#include <algorithm>

namespace slr::infer {

namespace {

/// Zeros like x except in a box, which holds the value. \pre the box lies inside x
View inserted(Builder& b, const View& value, const Box& box, const View& x) {
  const View result = make_like(b, x, x.dims, true);
  const Dims own = result.strides();
  Lattice target{0, Dims(own.size())};
  for (std::size_t d = 0; d < own.size(); ++d) {
    target.offset += box.first[d] * own[d];
    target.strides[d] = box.step[d] * own[d];
  }
  b.add_host({value}, {result},
             [dims = value.dims, from_strides = value.strides(), target, bytes = result.bytes()](auto from, auto to) {
               std::fill_n(to[0], bytes, std::byte(0));
               copy_box(Kind::real, dims, from[0], {0, from_strides}, to[0], target);
             });
  return result;
}

View zeros(Builder& b, const Dims& dims) {
  return b.known_value(
      dims, std::span<const float>(std::vector<float>(static_cast<std::size_t>(graph::element_count(dims)), 0.0F)));
}

void scatter(const Table& table, const std::vector<std::int64_t>& indices, const float* from, float* to) {
  std::fill_n(to, table.outer * table.size * table.run, 0.0F);
  for (std::int64_t o = 0; o < table.outer; ++o, to += table.size * table.run)
    for (const std::int64_t i : indices)
      for (std::int64_t r = 0; r < table.run; ++r) to[i * table.run + r] += *from++;
}

} // namespace

void identity_gradient(Backward& back, const graph::Node& node) {
  if (back.builder().input(node, 0).kind != Kind::real) refuse("integers cannot be differentiated");
  back.add(node, 0, *back.of_output(node, 0));
}

void reshape_gradient(Backward& back, const graph::Node& node) {
  Builder& b = back.builder();
  back.add(node, 0, Builder::alias(b.plain(*back.of_output(node, 0)), b.input(node, 0).dims));
}

void concat_gradient(Backward& back, const graph::Node& node) {
  Builder& b = back.builder();
  const View gradient = *back.of_output(node, 0);
  const std::size_t axis = checked_axis(node.int_or("axis", 1), gradient.dims.size());
  Box box{Dims(gradient.dims.size(), 0), Dims(gradient.dims.size(), 1), gradient.dims};
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    box.count[axis] = b.input(node, i).dims[axis];
    if (back.wants(node, i)) back.add(node, i, extracted(b, gradient, box));
    box.first[axis] += box.count[axis];
  }
}

void slice_gradient(Backward& back, const graph::Node& node) {
  Builder& b = back.builder();
  back.add(node, 0, inserted(b, *back.of_output(node, 0), slice_box(b, node), b.input(node, 0)));
}

void split_gradient(Backward& back, const graph::Node& node) {
  Builder& b = back.builder();
  const View x = b.input(node, 0);
  const std::size_t axis = checked_axis(node.int_or("axis", 0), x.dims.size());
  const std::vector<std::int64_t> sizes = split_sizes(b, node, x.dims[axis]);
  std::vector<View> parts;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    Dims dims = x.dims;
    dims[axis] = sizes[i];
    const auto gradient = back.of_output(node, i);
    parts.push_back(gradient ? *gradient : zeros(b, dims));
  }
  back.add(node, 0, joined(b, parts, axis, x.dims));
}

void pad_gradient(Backward& back, const graph::Node& node) {
  Builder& b = back.builder();
  const View x = b.input(node, 0), gradient = *back.of_output(node, 0);
  const Padding padding = padding_of(b, node, x.dims.size());
  // What the padding left of the input, as a part of the result and as a part of the input.
  Box there{Dims(x.dims.size(), 0), Dims(x.dims.size(), 1), x.dims}, here = there;
  for (std::size_t d = 0; d < x.dims.size(); ++d) {
    const std::int64_t begin = padding.begin[d], end = padding.end[d];
    there.first[d] = std::max<std::int64_t>(begin, 0);
    here.first[d] = std::max<std::int64_t>(-begin, 0);
    there.count[d] =
        std::max<std::int64_t>(x.dims[d] + std::min<std::int64_t>(begin, 0) + std::min<std::int64_t>(end, 0), 0);
  }
  back.add(node, 0, inserted(b, extracted(b, gradient, there), here, x));
}

void transpose_gradient(Backward& back, const graph::Node& node) {
  Builder& b = back.builder();
  const View x = b.input(node, 0), gradient = *back.of_output(node, 0);
  const std::vector<std::int64_t> perm = permutation_of(node, x.dims.size());
  const View result = b.make(x.dims, Kind::real, true);
  const Dims own = result.strides();
  Dims strides(own.size());
  for (std::size_t d = 0; d < own.size(); ++d) strides[d] = own[static_cast<std::size_t>(perm[d])];
  b.add_host({gradient}, {result},
             [dims = gradient.dims, from_strides = gradient.strides(), strides](auto from, auto to) {
               copy_box(Kind::real, dims, from[0], {0, from_strides}, to[0], {0, strides});
             });
  back.add(node, 0, result);
}

void gather_gradient(Backward& back, const graph::Node& node) {
  Builder& b = back.builder();
  const View x = b.input(node, 0), given = *back.of_output(node, 0);
  const Gathering g = gathering_of(b, node);
  const View gradient = g.is_channel ? b.in_layout(given, image_layout(given.dims)) : b.plain(given);
  const View result = g.is_channel ? make_like(b, x, x.dims, true) : b.make(x.dims, Kind::real, true);
  b.add_host({gradient}, {result}, [table = g.table, indices = g.indices](auto from, auto to) {
    scatter(table, indices, reinterpret_cast<const float*>(from[0]), reinterpret_cast<float*>(to[0]));
  });
  back.add(node, 0, result);
}

} // namespace slr::infer
