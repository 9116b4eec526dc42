#include "backward.hpp"
#include "operators.hpp"
#include "window.hpp"

#include <algorithm>

namespace slr::infer {

namespace {

Dims spatial_dims(const View& x) {
  if (x.kind != Kind::real || x.dims.size() < 3 || x.dims.size() > 5)
    refuse("the input must be float32 with 3, 4 or 5 dimensions");
  return {x.dims.begin() + 2, x.dims.end()};
}

Dims with_spatial(const View& x, const Dims& spatial) {
  Dims dims{x.dims[0], x.dims[1]};
  dims.insert(dims.end(), spatial.begin(), spatial.end());
  return dims;
}

Dims padded_ends(const ResolvedWindow& w) {
  Dims ends = w.pads_end;
  for (std::size_t d = 0; d < ends.size(); ++d) ends[d] += w.overhang[d];
  return ends;
}

bool is_dilated(const ResolvedWindow& w) {
  return std::any_of(w.dilations.begin(), w.dilations.end(), [](std::int64_t d) { return d != 1; });
}

Dims spaces(const ResolvedWindow& w) { // oneDNN counts a dilation of one as zero
  Dims dilations = w.dilations;
  for (std::int64_t& d : dilations) --d;
  return dilations;
}

dnnl::pooling_forward::primitive_desc plain_pooling(dnnl::prop_kind kind, dnnl::algorithm algorithm, const View& x,
                                                    const View& y, const ResolvedWindow& w) {
  return {{kind, algorithm, x.layout, y.layout, w.strides, w.kernel, w.pads_begin, padded_ends(w)}, cpu_engine()};
}

dnnl::pooling_v2_forward::primitive_desc dilated_pooling(dnnl::prop_kind kind, dnnl::algorithm algorithm, const View& x,
                                                         const View& y, const ResolvedWindow& w) {
  return {{kind, algorithm, x.layout, y.layout, w.strides, w.kernel, spaces(w), w.pads_begin, padded_ends(w)},
          cpu_engine()};
}

dnnl::primitive pooling(dnnl::algorithm algorithm, const View& x, const View& y, const ResolvedWindow& w) {
  const auto kind = dnnl::prop_kind::forward_inference;
  if (is_dilated(w)) return dnnl::pooling_v2_forward(dilated_pooling(kind, algorithm, x, y, w));
  return dnnl::pooling_forward(plain_pooling(kind, algorithm, x, y, w));
}

/// Where the maxima lay: the forward pass again, this time with oneDNN's notes.
View notes_of_maxima(Builder& b, const dnnl::primitive& forward, const dnnl::memory::desc& layout, const View& x,
                     const View& y) {
  const View again = b.make(y.dims, y.layout, true), notes = b.make(y.dims, layout, true);
  b.add_primitive(forward, {{DNNL_ARG_SRC, x}, {DNNL_ARG_DST, again}, {DNNL_ARG_WORKSPACE, notes}});
  return notes;
}

/// The gradient of what was pooled from that of the result.
View unpool(Builder& b, const View& input, const View& given, dnnl::algorithm algorithm, const ResolvedWindow& w) {
  const View x = b.in_layout(input, image_layout(input.dims)), y = b.in_layout(given, image_layout(given.dims));
  const View result = b.make(x.dims, x.layout, true);
  Builder::Arguments arguments{{DNNL_ARG_DIFF_DST, y}, {DNNL_ARG_DIFF_SRC, result}};
  const bool is_max = algorithm == dnnl::algorithm::pooling_max;
  const auto kind = dnnl::prop_kind::forward_training;
  if (is_dilated(w)) {
    const auto forward = dilated_pooling(kind, algorithm, x, y, w);
    if (is_max)
      arguments.emplace_back(DNNL_ARG_WORKSPACE,
                             notes_of_maxima(b, dnnl::pooling_v2_forward(forward), forward.workspace_desc(), x, y));
    const dnnl::pooling_v2_backward::primitive_desc pd(
        {algorithm, x.layout, y.layout, w.strides, w.kernel, spaces(w), w.pads_begin, padded_ends(w)}, cpu_engine(),
        forward);
    b.add_primitive(dnnl::pooling_v2_backward(pd), arguments);
    return result;
  }
  const auto forward = plain_pooling(kind, algorithm, x, y, w);
  if (is_max)
    arguments.emplace_back(DNNL_ARG_WORKSPACE,
                           notes_of_maxima(b, dnnl::pooling_forward(forward), forward.workspace_desc(), x, y));
  const dnnl::pooling_backward::primitive_desc pd(
      {algorithm, x.layout, y.layout, w.strides, w.kernel, w.pads_begin, padded_ends(w)}, cpu_engine(), forward);
  b.add_primitive(dnnl::pooling_backward(pd), arguments);
  return result;
}

View pool(Builder& b, const View& input, dnnl::algorithm algorithm, const ResolvedWindow& window) {
  const View x = b.in_layout(input, image_layout(input.dims));
  const Dims out = with_spatial(x, window.output);
  const View y = b.make(out, image_layout(out), x.runtime);
  b.add_primitive(pooling(algorithm, x, y, window), {{DNNL_ARG_SRC, x}, {DNNL_ARG_DST, y}});
  return y;
}

ResolvedWindow whole_map(const Dims& spatial) {
  const Dims ones(spatial.size(), 1), zeros(spatial.size(), 0);
  return {spatial, ones, ones, zeros, zeros, zeros, ones};
}

/// Along one dimension: kernel cells of the output's window that lie in the padded input, without the overhang.
std::int64_t counted_cells(const ResolvedWindow& w, std::size_t d, std::int64_t size, std::int64_t output) {
  const std::int64_t first = output * w.strides[d] - w.pads_begin[d];
  std::int64_t cells = 0;
  for (std::int64_t k = 0; k < w.kernel[d]; ++k)
    if (first + k * w.dilations[d] < size + w.pads_end[d]) ++cells;
  return cells;
}

/// oneDNN divides by the whole kernel; ONNX leaves out the cells behind the padding. The ratio per output position.
View overhang_correction(Builder& b, const ResolvedWindow& w, const Dims& spatial) {
  Dims dims{1, 1};
  dims.insert(dims.end(), w.output.begin(), w.output.end());
  std::vector<float> ratio(static_cast<std::size_t>(graph::element_count(w.output)));
  for (std::size_t i = 0; i < ratio.size(); ++i) {
    double factor = 1;
    auto rest = static_cast<std::int64_t>(i);
    for (std::size_t d = w.output.size(); d-- > 0;) {
      const std::int64_t position = rest % w.output[d];
      rest /= w.output[d];
      factor *= static_cast<double>(w.kernel[d]) / static_cast<double>(counted_cells(w, d, spatial[d], position));
    }
    ratio[i] = static_cast<float>(factor);
  }
  return b.known_value(dims, std::span<const float>(ratio));
}

} // namespace

void plan_max_pool(Builder& b, const graph::Node& node) {
  const View x = b.input(node, 0);
  const Dims spatial = spatial_dims(x);
  if (node.outputs.size() > 1 && !node.outputs[1].empty()) refuse("its second output (indices) is not supported");
  const ResolvedWindow window = resolve_window(node, spatial, node.ints_or("kernel_shape", {}));
  b.define(node, 0, pool(b, x, dnnl::algorithm::pooling_max, window));
}

void plan_average_pool(Builder& b, const graph::Node& node) {
  const View x = b.input(node, 0);
  const Dims spatial = spatial_dims(x);
  const ResolvedWindow window = resolve_window(node, spatial, node.ints_or("kernel_shape", {}));
  if (node.int_or("count_include_pad", 0) == 0)
    return b.define(node, 0, pool(b, x, dnnl::algorithm::pooling_avg_exclude_padding, window));
  const View mean = pool(b, x, dnnl::algorithm::pooling_avg_include_padding, window);
  const bool is_exact =
      std::all_of(window.overhang.begin(), window.overhang.end(), [](std::int64_t o) { return o == 0; });
  b.define(node, 0, is_exact ? mean : binary(b, "Mul", mean, overhang_correction(b, window, spatial)));
}

View spatial_mean(Builder& b, const View& input) {
  return pool(b, input, dnnl::algorithm::pooling_avg_include_padding, whole_map(spatial_dims(input)));
}

void plan_global_average_pool(Builder& b, const graph::Node& node) {
  b.define(node, 0, spatial_mean(b, b.input(node, 0)));
}

void plan_global_max_pool(Builder& b, const graph::Node& node) {
  const View x = b.input(node, 0);
  b.define(node, 0, pool(b, x, dnnl::algorithm::pooling_max, whole_map(spatial_dims(x))));
}

void max_pool_gradient(Backward& back, const graph::Node& node) {
  Builder& b = back.builder();
  const View x = b.input(node, 0);
  const ResolvedWindow window = resolve_window(node, spatial_dims(x), node.ints_or("kernel_shape", {}));
  back.add(node, 0, unpool(b, x, *back.of_output(node, 0), dnnl::algorithm::pooling_max, window));
}

void average_pool_gradient(Backward& back, const graph::Node& node) {
  Builder& b = back.builder();
  const View x = b.input(node, 0);
  const Dims spatial = spatial_dims(x);
  const ResolvedWindow window = resolve_window(node, spatial, node.ints_or("kernel_shape", {}));
  View gradient = *back.of_output(node, 0);
  if (node.int_or("count_include_pad", 0) == 0)
    return back.add(node, 0, unpool(b, x, gradient, dnnl::algorithm::pooling_avg_exclude_padding, window));
  const bool is_exact =
      std::all_of(window.overhang.begin(), window.overhang.end(), [](std::int64_t o) { return o == 0; });
  if (!is_exact) gradient = binary(b, "Mul", gradient, overhang_correction(b, window, spatial));
  back.add(node, 0, unpool(b, x, gradient, dnnl::algorithm::pooling_avg_include_padding, window));
}

void global_average_pool_gradient(Backward& back, const graph::Node& node) {
  Builder& b = back.builder();
  const View x = b.input(node, 0);
  back.add(
      node, 0,
      unpool(b, x, *back.of_output(node, 0), dnnl::algorithm::pooling_avg_include_padding, whole_map(spatial_dims(x))));
}

void global_max_pool_gradient(Backward& back, const graph::Node& node) {
  Builder& b = back.builder();
  const View x = b.input(node, 0);
  back.add(node, 0, unpool(b, x, *back.of_output(node, 0), dnnl::algorithm::pooling_max, whole_map(spatial_dims(x))));
}

} // namespace slr::infer
