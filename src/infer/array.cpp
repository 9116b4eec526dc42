#include "slr/infer/array.hpp"

#include "array_kernels.hpp"
#include "slr/base/error.hpp"

namespace slr::infer {

StridedView::StridedView(const ArrayView& array)
    : dims(array.dims), strides(row_major_strides(array.dims)), data(array.data.data()) {
  if (graph::element_count(dims) != std::ssize(array.data))
    throw Error(ExitCode::bad_data, "an array's dimensions do not fit its numbers");
}

} // namespace slr::infer
