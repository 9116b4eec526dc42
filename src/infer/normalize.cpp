#include "normalize.hpp"

#include "array_kernels.hpp"
#include "operators.hpp"

#include <algorithm>
#include <cmath>

namespace slr::infer {

namespace {

const float* floats(const std::byte* bytes) {
  return reinterpret_cast<const float*>(bytes);
}
float* floats(std::byte* bytes) {
  return reinterpret_cast<float*>(bytes);
}

View real_input(Builder& b, const graph::Node& node) {
  const View x = b.input(node, 0);
  if (x.kind != Kind::real || x.dims.size() < 2) refuse("the input must be float32 with at least two dimensions");
  return x;
}

/// LRN over an even number of channels, which oneDNN centres differently. NC.. row-major.
void lrn_even(const Dims& dims, const LocalResponse& lrn, const float* x, float* y) {
  const auto [size, alpha, beta, bias] = lrn;
  const std::int64_t images = dims[0], channels = dims[1];
  const std::int64_t area = graph::element_count(Dims(dims.begin() + 2, dims.end()));
  for (std::int64_t n = 0; n < images; ++n)
    for (std::int64_t c = 0; c < channels; ++c)
      for (std::int64_t i = 0; i < area; ++i) {
        const std::int64_t first = std::max<std::int64_t>(0, c - (size - 1) / 2);
        const std::int64_t last = std::min(channels - 1, c + size / 2);
        float sum = 0;
        for (std::int64_t k = first; k <= last; ++k) {
          const float value = x[(n * channels + k) * area + i];
          sum += value * value;
        }
        const std::int64_t at = (n * channels + c) * area + i;
        y[at] = x[at] / std::pow(bias + alpha / static_cast<float>(size) * sum, beta);
      }
}

/// Sums in double over the reduced dimensions, then divides.
View mean_over(Builder& b, const View& x, const std::vector<bool>& reduced) {
  Dims kept_dims = x.dims;
  for (std::size_t d = 0; d < reduced.size(); ++d)
    if (reduced[d]) kept_dims[d] = 1;
  const View y = b.make(kept_dims, Kind::real, x.runtime);
  const Dims to = broadcast_strides(kept_dims, x.dims), from = row_major_strides(x.dims);
  b.add_host({x}, {y}, [dims = x.dims, kept_dims, from, to](auto in, auto out) {
    std::vector<double> sums(static_cast<std::size_t>(graph::element_count(kept_dims)), 0.0);
    const float* values = floats(in[0]);
    for_each_pair(dims, from, to, [&](std::int64_t i, std::int64_t j, std::int64_t) {
      sums[static_cast<std::size_t>(j)] += static_cast<double>(values[i]);
    });
    const auto terms = static_cast<double>(graph::element_count(dims)) / static_cast<double>(sums.size());
    for (std::size_t j = 0; j < sums.size(); ++j) floats(out[0])[j] = static_cast<float>(sums[j] / terms);
  });
  return y;
}

} // namespace

std::vector<bool> reduced_axes(Builder& b, const graph::Node& node, std::size_t rank) {
  std::vector<std::int64_t> axes = node.ints_or("axes", {});
  if (Builder::has_input(node, 1)) axes = b.known_ints(node, 1, "axes");
  std::vector<bool> reduced(rank, axes.empty() && node.int_or("noop_with_empty_axes", 0) == 0);
  for (const std::int64_t axis : axes) reduced[checked_axis(axis, rank)] = true;
  return reduced;
}

LocalResponse local_response_of(const graph::Node& node) {
  const LocalResponse lrn{node.int_or("size", 0), node.float_or("alpha", 1e-4F), node.float_or("beta", 0.75F),
                          node.float_or("bias", 1.0F)};
  if (lrn.size < 1 || lrn.size > (std::int64_t(1) << 20)) refuse("size must be a positive number of channels");
  return lrn;
}

bool has_lrn_primitive(const LocalResponse& lrn, const Dims& dims) {
  return lrn.size % 2 == 1 && dims.size() == 4;
}

SoftmaxRows softmax_rows(Builder& b, const graph::Node& node, const Dims& dims) {
  constexpr std::int64_t opset_of_single_axis = 13;
  const bool is_single_axis = b.model().opset() >= opset_of_single_axis;
  const std::size_t axis = checked_axis(node.int_or("axis", is_single_axis ? -1 : 1), dims.size());
  if (is_single_axis) return {dims, static_cast<int>(axis)};
  const auto split = dims.begin() + static_cast<std::ptrdiff_t>(axis);
  return {{graph::element_count({dims.begin(), split}), graph::element_count({split, dims.end()})}, 1};
}

void plan_batch_normalization(Builder& b, const graph::Node& node) {
  const View input = real_input(b, node);
  if (node.int_or("training_mode", 0) != 0) refuse("batch normalization in training mode would mix images");
  std::array<View, 4> statistics; // scale, shift, mean, variance
  for (std::size_t i = 0; i < statistics.size(); ++i) {
    statistics[i] = b.known_input(node, i + 1, "every parameter of a batch normalization");
    if (statistics[i].dims != Dims{input.dims[1]} || statistics[i].kind != Kind::real)
      refuse("its parameters must be float32 with one number per channel");
  }
  const View x = b.in_layout(input, image_layout(input.dims));
  using Flags = dnnl::normalization_flags;
  const dnnl::batch_normalization_forward::desc desc(dnnl::prop_kind::forward_inference, x.layout,
                                                     node.float_or("epsilon", 1e-5F),
                                                     Flags::use_global_stats | Flags::use_scale | Flags::use_shift);
  const dnnl::batch_normalization_forward::primitive_desc pd(desc, cpu_engine());
  const View y = b.make(x.dims, x.layout, x.runtime);
  b.add_primitive(dnnl::batch_normalization_forward(pd), {{DNNL_ARG_SRC, x},
                                                          {DNNL_ARG_SCALE, statistics[0]},
                                                          {DNNL_ARG_SHIFT, statistics[1]},
                                                          {DNNL_ARG_MEAN, statistics[2]},
                                                          {DNNL_ARG_VARIANCE, statistics[3]},
                                                          {DNNL_ARG_DST, y}});
  b.define(node, 0, y);
}

void plan_lrn(Builder& b, const graph::Node& node) {
  const View input = real_input(b, node);
  const LocalResponse lrn = local_response_of(node);
  if (!has_lrn_primitive(lrn, input.dims)) {
    const View x = b.plain(input), y = b.make(input.dims, Kind::real, x.runtime);
    b.add_host({x}, {y},
               [dims = x.dims, lrn](auto from, auto to) { lrn_even(dims, lrn, floats(from[0]), floats(to[0])); });
    return b.define(node, 0, y);
  }
  const View x = b.in_layout(input, image_layout(input.dims));
  const dnnl::lrn_forward::desc desc(dnnl::prop_kind::forward_inference, dnnl::algorithm::lrn_across_channels, x.layout,
                                     lrn.size, lrn.alpha, lrn.beta, lrn.bias);
  const View y = b.make(x.dims, x.layout, x.runtime);
  b.add_primitive(dnnl::lrn_forward(dnnl::lrn_forward::primitive_desc(desc, cpu_engine())),
                  {{DNNL_ARG_SRC, x}, {DNNL_ARG_DST, y}});
  b.define(node, 0, y);
}

void plan_softmax(Builder& b, const graph::Node& node) {
  const View x = b.plain(real_input(b, node));
  const auto [dims, over] = softmax_rows(b, node, x.dims);
  if (x.runtime && (over == 0 || dims[0] != x.dims[0])) refuse("a softmax over the first dimension would mix images");
  const View rows = Builder::alias(x, dims);
  const View y = b.make(dims, Kind::real, x.runtime);
  const auto kind = dnnl::prop_kind::forward_inference;
  if (node.op == "Softmax") {
    const dnnl::softmax_forward::desc desc(kind, rows.layout, over);
    const dnnl::softmax_forward::primitive_desc pd(desc, cpu_engine());
    b.add_primitive(dnnl::softmax_forward(pd), {{DNNL_ARG_SRC, rows}, {DNNL_ARG_DST, y}});
  } else {
    const dnnl::logsoftmax_forward::desc desc(kind, rows.layout, over);
    const dnnl::logsoftmax_forward::primitive_desc pd(desc, cpu_engine());
    b.add_primitive(dnnl::logsoftmax_forward(pd), {{DNNL_ARG_SRC, rows}, {DNNL_ARG_DST, y}});
  }
  b.define(node, 0, Builder::alias(y, x.dims));
}

void plan_reduce_mean(Builder& b, const graph::Node& node) {
  const View x = real_input(b, node);
  const std::vector<bool> reduced = reduced_axes(b, node, x.dims.size());
  if (x.runtime && reduced[0]) refuse("a mean over the first dimension would mix images");
  if (graph::element_count(x.dims) == 0) refuse("the input is empty");
  bool is_spatial = x.dims.size() >= 3 && x.dims.size() <= 5;
  for (std::size_t d = 0; is_spatial && d < reduced.size(); ++d) is_spatial = reduced[d] == (d >= 2);
  const View mean = is_spatial ? spatial_mean(b, x) : mean_over(b, b.plain(x), reduced);
  if (node.int_or("keepdims", 1) != 0) return b.define(node, 0, mean);
  Dims left;
  for (std::size_t d = 0; d < reduced.size(); ++d)
    if (!reduced[d]) left.push_back(x.dims[d]);
  b.define(node, 0, Builder::alias(b.plain(mean), left));
}

} // namespace slr::infer
