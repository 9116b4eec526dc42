#pragma once
/// \file
/// Activations of a batch of images.
#include "slr/graph/model.hpp"

#include <span>
#include <vector>

namespace slr::infer {

using graph::Dims;

/// Row-major floats; the first dimension is the batch (NCHW for images).
struct Array {
  Dims dims;
  std::vector<float> data;

  [[nodiscard]] std::int64_t images() const { return dims.empty() ? 0 : dims.front(); }
};

/// The same without ownership; a caller can hand over a part of a larger array without a copy.
struct ArrayView {
  Dims dims;
  std::span<const float> data;

  ArrayView() = default;
  ArrayView(Dims d, std::span<const float> values) : dims(std::move(d)), data(values) {}
  ArrayView(const Array& array) : dims(array.dims), data(array.data) {} // NOLINT: meant to be implicit
  [[nodiscard]] std::int64_t images() const { return dims.empty() ? 0 : dims.front(); }
};

/// Numbers of a batch where they lie, in any order of the dimensions: element (i, j, ..) is at data[i strides[0] + j
/// strides[1] + ..].
struct StridedView {
  Dims dims, strides;
  const float* data = nullptr;

  StridedView(Dims d, Dims s, const float* values) : dims(std::move(d)), strides(std::move(s)), data(values) {}
  /// Row-major. \throws Error{bad_data} if the dimensions do not fit the numbers
  StridedView(const ArrayView& array);                               // NOLINT: meant to be implicit
  StridedView(const Array& array) : StridedView(ArrayView(array)) {} // NOLINT: likewise
  [[nodiscard]] std::int64_t images() const { return dims.empty() ? 0 : dims.front(); }
};

} // namespace slr::infer
