#include "array_kernels.hpp"

#include "slr/base/error.hpp"

#include <algorithm>
#include <cstring>

namespace slr::infer {

namespace {

template <class T>
void copy_line(std::int64_t count, const T* from, std::int64_t from_stride, T* to, std::int64_t to_stride) {
  if (from_stride == 1 && to_stride == 1) {
    std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(T));
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) to[i * to_stride] = from[i * from_stride];
}

template <class T>
void copy_dimension(std::size_t d, const Dims& box, const T* from, const Dims& from_strides, T* to,
                    const Dims& to_strides) {
  if (d + 1 == box.size()) return copy_line(box[d], from, from_strides[d], to, to_strides[d]);
  for (std::int64_t i = 0; i < box[d]; ++i)
    copy_dimension(d + 1, box, from + i * from_strides[d], from_strides, to + i * to_strides[d], to_strides);
}

/// The same box with its dimensions in the target's order, the innermost last, and neighbours joined where both arrays
/// run through them in one stride.
struct Joined {
  Dims box, from, to;
};
Joined join(const Dims& box, const Dims& from, const Dims& to) {
  std::vector<std::size_t> order;
  for (std::size_t d = 0; d < box.size(); ++d)
    if (box[d] != 1) order.push_back(d);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return to[a] > to[b]; });
  Joined joined;
  for (const std::size_t d : order) {
    if (!joined.box.empty() && joined.from.back() == from[d] * box[d] && joined.to.back() == to[d] * box[d]) {
      joined.box.back() *= box[d];
      joined.from.back() = from[d];
      joined.to.back() = to[d];
    } else {
      joined.box.push_back(box[d]);
      joined.from.push_back(from[d]);
      joined.to.push_back(to[d]);
    }
  }
  if (joined.box.empty()) joined = {{1}, {1}, {1}};
  return joined;
}

template <class T>
void copy_elements(const Joined& j, const std::byte* from, std::int64_t from_offset, std::byte* to,
                   std::int64_t to_offset) {
  copy_dimension(0, j.box, reinterpret_cast<const T*>(from) + from_offset, j.from, reinterpret_cast<T*>(to) + to_offset,
                 j.to);
}

} // namespace

Dims row_major_strides(const Dims& dims) {
  Dims strides(dims.size(), 1);
  for (std::size_t i = dims.size(); i-- > 1;) strides[i - 1] = strides[i] * dims[i];
  return strides;
}

void copy_box(Kind kind, const Dims& box, const std::byte* from, const Lattice& source, std::byte* to,
              const Lattice& target) {
  if (graph::element_count(box) == 0) return;
  const Joined joined = join(box, source.strides, target.strides);
  if (kind == Kind::real)
    copy_elements<float>(joined, from, source.offset, to, target.offset);
  else
    copy_elements<std::int64_t>(joined, from, source.offset, to, target.offset);
}

Dims broadcast_dims(const Dims& a, const Dims& b) {
  Dims result(std::max(a.size(), b.size()));
  for (std::size_t i = 0; i < result.size(); ++i) {
    const std::int64_t da = i < a.size() ? a[a.size() - 1 - i] : 1;
    const std::int64_t db = i < b.size() ? b[b.size() - 1 - i] : 1;
    if (da != db && da != 1 && db != 1)
      throw Error(ExitCode::bad_data, "dimensions of " + std::to_string(da) + " and " + std::to_string(db) +
                                          " cannot be broadcast against each other");
    result[result.size() - 1 - i] = da == 1 ? db : da;
  }
  return result;
}

Dims broadcast_strides(const Dims& from, const Dims& to) {
  const Dims own = row_major_strides(from);
  Dims strides(to.size(), 0);
  const std::size_t shift = to.size() - from.size();
  for (std::size_t i = 0; i < from.size(); ++i) strides[shift + i] = from[i] == 1 ? 0 : own[i];
  return strides;
}

} // namespace slr::infer
