#pragma once
/// \file
/// Sliding windows of convolutions and pooling.
#include "slr/graph/model.hpp"

namespace slr::infer {

using graph::Dims;

/// A window with everything decided, one number per spatial dimension.
struct ResolvedWindow {
  Dims kernel, strides, dilations;
  Dims pads_begin, pads_end;
  Dims overhang; ///< cells behind the padded input that the last window reaches into (ceil_mode)
  Dims output;
};

/// The window of a Conv or pooling node over an input of these spatial dimensions: attributes strides, dilations, pads,
/// auto_pad, and ceil_mode. Local. \throws Error{bad_data} if an attribute is out of range or nothing is left.
[[nodiscard]] ResolvedWindow resolve_window(const graph::Node& node, const Dims& spatial, const Dims& kernel);

} // namespace slr::infer
