#pragma once
/// \file
/// Moving elements between row-major arrays.
#include "plan.hpp"

namespace slr::infer {

/// Strides, in elements, of a row-major array.
[[nodiscard]] Dims row_major_strides(const Dims& dims);

/// How the elements of a box lie in an array.
struct Lattice {
  std::int64_t offset = 0; ///< of the box's first element
  Dims strides;            ///< per dimension of the box; zero repeats, negative reverses
};

/// to[i] = from[i] for every index i of a box of these dimensions. Local. \pre the box lies inside both arrays
void copy_box(Kind kind, const Dims& box, const std::byte* from, const Lattice& source, std::byte* to,
              const Lattice& target);

/// The dimensions of a and b broadcast against each other, as ONNX (and numpy) do it.
/// \throws Error{bad_data} if they do not fit.
[[nodiscard]] Dims broadcast_dims(const Dims& a, const Dims& b);

/// Strides with which an array of dimensions `from` is read as one of dimensions `to`. \pre broadcast_dims gave `to`
[[nodiscard]] Dims broadcast_strides(const Dims& from, const Dims& to);

/// Calls f(index of the box's row in a, in b, number of the element in the box) for every element of the box, in
/// row-major order, with the lattices' positions. Local.
template <class F>
void for_each_pair(const Dims& box, const Dims& strides_a, const Dims& strides_b, F f) {
  std::vector<std::int64_t> index(box.size(), 0);
  const std::int64_t count = graph::element_count(box);
  std::int64_t a = 0, b = 0;
  for (std::int64_t n = 0; n < count; ++n) {
    f(a, b, n);
    for (std::size_t d = box.size(); d-- > 0;) {
      a += strides_a[d];
      b += strides_b[d];
      if (++index[d] < box[d]) break;
      a -= strides_a[d] * box[d];
      b -= strides_b[d] * box[d];
      index[d] = 0;
    }
  }
}

} // namespace slr::infer
