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

} // namespace slr::infer
