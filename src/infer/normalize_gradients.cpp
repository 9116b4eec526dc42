#include "array_kernels.hpp"
#include "backward.hpp"
#include "normalize.hpp"
#include "operators.hpp"

#include <algorithm>
#include <cmath>

namespace slr::infer {

namespace {

/// The gradient of LRN over any number of channels, from y_i = x_i s_i^-beta, s_i = bias + alpha / size sum_k x_k^2:
/// g_i s_i^-beta - 2 alpha beta / size x_i sum over windows k that hold i of g_k x_k s_k^(-beta - 1). NC.. row-major.
void lrn_backward(const Dims& dims, const LocalResponse& lrn, const float* x, const float* gradient, float* result) {
  const std::int64_t channels = dims[1], area = graph::element_count(Dims(dims.begin() + 2, dims.end()));
  const std::int64_t before = (lrn.size - 1) / 2, behind = lrn.size / 2;
  const double share = static_cast<double>(lrn.alpha) / static_cast<double>(lrn.size);
  const auto beta = static_cast<double>(lrn.beta);
  std::vector<double> sum(static_cast<std::size_t>(channels)), weighted(sum.size());
  for (std::int64_t n = 0; n < dims[0]; ++n)
    for (std::int64_t i = 0; i < area; ++i) {
      const auto at = [&](const float* values, std::int64_t c) {
        return static_cast<double>(values[(n * channels + c) * area + i]);
      };
      for (std::int64_t c = 0; c < channels; ++c) {
        double squares = 0;
        for (std::int64_t k = std::max<std::int64_t>(0, c - before); k <= std::min(channels - 1, c + behind); ++k)
          squares += at(x, k) * at(x, k);
        const auto index = static_cast<std::size_t>(c);
        sum[index] = static_cast<double>(lrn.bias) + share * squares;
        weighted[index] = at(gradient, c) * at(x, c) * std::pow(sum[index], -beta - 1);
      }
      for (std::int64_t c = 0; c < channels; ++c) {
        double through_sums = 0;
        for (std::int64_t k = std::max<std::int64_t>(0, c - behind); k <= std::min(channels - 1, c + before); ++k)
          through_sums += weighted[static_cast<std::size_t>(k)];
        const double direct = at(gradient, c) * std::pow(sum[static_cast<std::size_t>(c)], -beta);
        result[(n * channels + c) * area + i] = static_cast<float>(direct - 2 * share * beta * at(x, c) * through_sums);
      }
    }
}

/// The same by oneDNN, which wants the forward pass' notes.
View lrn_backward_of_images(Builder& b, const LocalResponse& lrn, const View& input, const View& given) {
  constexpr auto across = dnnl::algorithm::lrn_across_channels;
  const View x = b.in_layout(input, image_layout(input.dims)), gradient = b.in_layout(given, x.layout);
  const dnnl::lrn_forward::primitive_desc forward(
      {dnnl::prop_kind::forward_training, across, x.layout, lrn.size, lrn.alpha, lrn.beta, lrn.bias}, cpu_engine());
  const dnnl::lrn_backward::primitive_desc pd({across, x.layout, x.layout, lrn.size, lrn.alpha, lrn.beta, lrn.bias},
                                              cpu_engine(), forward);
  const View result = b.make(x.dims, x.layout, true);
  Builder::Arguments arguments{{DNNL_ARG_SRC, x}, {DNNL_ARG_DIFF_DST, gradient}, {DNNL_ARG_DIFF_SRC, result}};
  if (forward.workspace_desc().get_size() > 0) {
    const View again = b.make(x.dims, x.layout, true), notes = b.make(x.dims, forward.workspace_desc(), true);
    b.add_primitive(dnnl::lrn_forward(forward),
                    {{DNNL_ARG_SRC, x}, {DNNL_ARG_DST, again}, {DNNL_ARG_WORKSPACE, notes}});
    arguments.emplace_back(DNNL_ARG_WORKSPACE, notes);
  }
  b.add_primitive(dnnl::lrn_backward(pd), arguments);
  return result;
}

} // namespace

void batch_normalization_gradient(Backward& back, const graph::Node& node) {
  Builder& b = back.builder();
  const View gradient = *back.of_output(node, 0);
  const auto scale = b.known_floats(b.known_input(node, 1, "the scale"));
  const auto variance = b.known_floats(b.known_input(node, 4, "the variance"));
  const float epsilon = node.float_or("epsilon", 1e-5F);
  std::vector<float> factor(scale.size());
  for (std::size_t c = 0; c < factor.size(); ++c) factor[c] = scale[c] / std::sqrt(variance[c] + epsilon);
  Dims dims(gradient.dims.size(), 1);
  dims[1] = gradient.dims[1];
  back.add(node, 0, binary(b, "Mul", gradient, b.known_value(dims, std::span<const float>(factor))));
}

void lrn_gradient(Backward& back, const graph::Node& node) {
  Builder& b = back.builder();
  const View input = b.input(node, 0);
  const LocalResponse lrn = local_response_of(node);
  if (has_lrn_primitive(lrn, input.dims))
    return back.add(node, 0, lrn_backward_of_images(b, lrn, input, *back.of_output(node, 0)));
  const View x = b.plain(input), gradient = b.plain(*back.of_output(node, 0));
  const View result = b.make(x.dims, Kind::real, true);
  b.add_host({x, gradient}, {result}, [dims = x.dims, lrn](auto in, auto out) {
    lrn_backward(dims, lrn, reinterpret_cast<const float*>(in[0]), reinterpret_cast<const float*>(in[1]),
                 reinterpret_cast<float*>(out[0]));
  });
  back.add(node, 0, result);
}

void softmax_gradient(Backward& back, const graph::Node& node) {
  Builder& b = back.builder();
  const View y = b.plain(b.value(node.outputs[0]));
  const SoftmaxRows rows = softmax_rows(b, node, y.dims);
  const View value = Builder::alias(y, rows.dims);
  const View gradient = Builder::alias(b.plain(*back.of_output(node, 0)), rows.dims);
  const View result = b.make(rows.dims, Kind::real, true);
  const Builder::Arguments arguments{{DNNL_ARG_DST, value}, {DNNL_ARG_DIFF_DST, gradient}, {DNNL_ARG_DIFF_SRC, result}};
  const auto kind = dnnl::prop_kind::forward_training;
  if (node.op == "Softmax") {
    const dnnl::softmax_forward::primitive_desc forward({kind, value.layout, rows.axis}, cpu_engine());
    const dnnl::softmax_backward::primitive_desc pd({gradient.layout, value.layout, rows.axis}, cpu_engine(), forward);
    b.add_primitive(dnnl::softmax_backward(pd), arguments);
  } else {
    const dnnl::logsoftmax_forward::primitive_desc forward({kind, value.layout, rows.axis}, cpu_engine());
    const dnnl::logsoftmax_backward::primitive_desc pd({gradient.layout, value.layout, rows.axis}, cpu_engine(),
                                                       forward);
    b.add_primitive(dnnl::logsoftmax_backward(pd), arguments);
  }
  back.add(node, 0, Builder::alias(result, y.dims));
}

void reduce_mean_gradient(Backward& back, const graph::Node& node) {
  Builder& b = back.builder();
  const View x = b.input(node, 0);
  const std::vector<bool> reduced = reduced_axes(b, node, x.dims.size());
  Dims kept = x.dims;
  for (std::size_t d = 0; d < reduced.size(); ++d)
    if (reduced[d]) kept[d] = 1;
  const View gradient = Builder::alias(b.plain(*back.of_output(node, 0)), kept);
  const View result = b.make(x.dims, Kind::real, true);
  const float share = static_cast<float>(graph::element_count(kept)) / static_cast<float>(graph::element_count(x.dims));
  const Dims from = broadcast_strides(kept, x.dims), to = row_major_strides(x.dims);
  b.add_host({gradient}, {result}, [dims = x.dims, from, to, share](auto in, auto out) {
    for_each_pair(dims, from, to, [&](std::int64_t i, std::int64_t j, std::int64_t) {
      reinterpret_cast<float*>(out[0])[j] = share * reinterpret_cast<const float*>(in[0])[i];
    });
  });
  back.add(node, 0, result);
}

} // namespace slr::infer
