#include "window.hpp"

#include "slr/base/error.hpp"

#include <algorithm>

namespace slr::infer {

namespace {

/// Far above every real window, so that sums and products below stay inside 64 bits.
constexpr std::int64_t largest = std::int64_t(1) << 24;

Dims checked(const Dims& values, std::size_t count, std::int64_t least, const std::string& what) {
  if (values.size() != count)
    throw Error(ExitCode::bad_data,
                what + " has " + std::to_string(values.size()) + " numbers, needed are " + std::to_string(count));
  for (const std::int64_t value : values)
    if (value < least || value > largest)
      throw Error(ExitCode::bad_data, what + " of " + std::to_string(value) + " is out of range");
  return values;
}

/// SAME: as many outputs as strides fit in, the padding split evenly, an odd cell at the end (UPPER) or begin (LOWER).
void pad_same(ResolvedWindow& w, std::size_t d, std::int64_t size, bool upper) {
  const std::int64_t extent = w.dilations[d] * (w.kernel[d] - 1) + 1;
  const std::int64_t outputs = (size + w.strides[d] - 1) / w.strides[d];
  const std::int64_t total = std::max<std::int64_t>((outputs - 1) * w.strides[d] + extent - size, 0);
  w.pads_begin[d] = upper ? total / 2 : total - total / 2;
  w.pads_end[d] = total - w.pads_begin[d];
}

void count_outputs(ResolvedWindow& w, std::size_t d, std::int64_t size, bool ceil_mode) {
  const std::int64_t extent = w.dilations[d] * (w.kernel[d] - 1) + 1;
  const std::int64_t padded = size + w.pads_begin[d] + w.pads_end[d];
  if (padded < extent || size < 1)
    throw Error(ExitCode::bad_data, "a window of " + std::to_string(extent) + " does not fit into an input of " +
                                        std::to_string(padded) + " cells with its padding");
  std::int64_t steps = (padded - extent) / w.strides[d];
  if (ceil_mode) {
    steps = (padded - extent + w.strides[d] - 1) / w.strides[d];
    // A window that would start behind the input, in the padding at the end, is left out.
    if (steps * w.strides[d] >= size + w.pads_begin[d]) --steps;
  }
  w.output[d] = steps + 1;
  w.overhang[d] = std::max<std::int64_t>(steps * w.strides[d] + extent - padded, 0);
}

} // namespace

ResolvedWindow resolve_window(const graph::Node& node, const Dims& spatial, const Dims& kernel) {
  const std::size_t n = spatial.size();
  ResolvedWindow w;
  w.kernel = checked(kernel, n, 1, "kernel_shape");
  w.strides = checked(node.ints_or("strides", Dims(n, 1)), n, 1, "strides");
  w.dilations = checked(node.ints_or("dilations", Dims(n, 1)), n, 1, "dilations");
  const Dims pads = checked(node.ints_or("pads", Dims(2 * n, 0)), 2 * n, 0, "pads");
  checked(spatial, n, 0, "the input's size");
  const std::string mode = node.string_or("auto_pad", "NOTSET");
  if (mode != "NOTSET" && mode != "VALID" && mode != "SAME_UPPER" && mode != "SAME_LOWER")
    throw Error(ExitCode::bad_data, "auto_pad '" + mode + "' is unknown");

  w.pads_begin = w.pads_end = w.overhang = w.output = Dims(n, 0);
  const bool ceil_mode = node.int_or("ceil_mode", 0) != 0;
  for (std::size_t d = 0; d < n; ++d) {
    if (mode == "NOTSET") {
      w.pads_begin[d] = pads[d];
      w.pads_end[d] = pads[n + d];
    } else if (mode != "VALID") {
      pad_same(w, d, spatial[d], mode == "SAME_UPPER");
    }
    count_outputs(w, d, spatial[d], ceil_mode);
  }
  return w;
}

} // namespace slr::infer
