#include "backward.hpp"
#include "linear.hpp"

namespace slr::infer {

namespace {

using dnnl::memory;
constexpr auto training = dnnl::prop_kind::forward_training;

/// Everything that oneDNN's descriptors of one convolution are made of.
struct ConvDescriptors {
  memory::desc source, weights, bias, target;
  Dims strides, dilations, begin, end;
  dnnl::convolution_forward::primitive_desc forward;

  explicit ConvDescriptors(const Convolution& c)
      : source(image_layout(c.input)), weights(any_layout(weight_dims(c.weight, c.groups))),
        bias(plain_layout({c.output[1]})), target(image_layout(c.output)), strides(c.window.strides),
        dilations(lowered_by_one(c.window.dilations)), begin(c.window.pads_begin), end(c.window.pads_end),
        forward({training, dnnl::algorithm::convolution_direct, source, weights, bias, target, strides, dilations,
                 begin, end},
                cpu_engine()) {}
};

View gradient_of_conv_source(Builder& b, const Convolution& c, const ConvDescriptors& d, const View& gradient) {
  using Conv = dnnl::convolution_backward_data;
  const Conv::primitive_desc pd(
      {dnnl::algorithm::convolution_direct, d.source, d.weights, d.target, d.strides, d.dilations, d.begin, d.end},
      cpu_engine(), d.forward);
  const View result = b.make(c.input, d.source, true);
  const memory weights = b.weights(c.weight, plain_layout(weight_dims(c.weight, c.groups)), pd.weights_desc());
  b.add_primitive(Conv(pd), {{DNNL_ARG_DIFF_DST, gradient}, {DNNL_ARG_DIFF_SRC, result}},
                  {{DNNL_ARG_WEIGHTS, weights}});
  return result;
}

struct LinearGradients {
  View weights, bias;
};

LinearGradients gradients_of_conv_weights(Builder& b, const Convolution& c, const ConvDescriptors& d, const View& x,
                                          const View& gradient) {
  using Conv = dnnl::convolution_backward_weights;
  const Conv::primitive_desc pd({dnnl::algorithm::convolution_direct, d.source, d.weights, d.bias, d.target, d.strides,
                                 d.dilations, d.begin, d.end},
                                cpu_engine(), d.forward);
  const Dims dims = weight_dims(c.weight, c.groups);
  const View weights = b.make(dims, pd.diff_weights_desc(), true), bias = b.make({c.output[1]}, d.bias, true);
  b.add_primitive(
      Conv(pd),
      {{DNNL_ARG_SRC, x}, {DNNL_ARG_DIFF_DST, gradient}, {DNNL_ARG_DIFF_WEIGHTS, weights}, {DNNL_ARG_DIFF_BIAS, bias}});
  return {Builder::alias(b.plain(weights), c.weight.dims), bias};
}

View gradient_of_rows(Builder& b, const FullyConnected& layer, const View& gradient) {
  using Inner = dnnl::inner_product_backward_data;
  const Matrix& w = layer.matrix;
  const Dims w_dims{w.outputs, w.inputs};
  const dnnl::inner_product_forward::primitive_desc forward(
      {training, layer.x.layout, any_layout(w_dims), gradient.layout}, cpu_engine());
  const Inner::primitive_desc pd({layer.x.layout, any_layout(w_dims), gradient.layout}, cpu_engine(), forward);
  const View result = b.make(layer.x.dims, Kind::real, true);
  const memory weights = b.weights(w.values, {w_dims, memory::data_type::f32, w.strides}, pd.weights_desc());
  b.add_primitive(Inner(pd), {{DNNL_ARG_DIFF_DST, gradient}, {DNNL_ARG_DIFF_SRC, result}},
                  {{DNNL_ARG_WEIGHTS, weights}});
  return result;
}

/// The gradient of the matrix in the order in which the model stores it.
LinearGradients gradients_of_matrix(Builder& b, const FullyConnected& layer, const View& gradient) {
  using Inner = dnnl::inner_product_backward_weights;
  const Matrix& w = layer.matrix;
  const Dims w_dims{w.outputs, w.inputs};
  const memory::desc bias_layout = plain_layout({w.outputs});
  const dnnl::inner_product_forward::primitive_desc forward(
      {training, layer.x.layout, any_layout(w_dims), bias_layout, gradient.layout}, cpu_engine());
  const Inner::primitive_desc pd({layer.x.layout, any_layout(w_dims), bias_layout, gradient.layout}, cpu_engine(),
                                 forward);
  const View weights = b.make(w_dims, pd.diff_weights_desc(), true), bias = b.make({w.outputs}, bias_layout, true);
  b.add_primitive(Inner(pd), {{DNNL_ARG_SRC, layer.x},
                              {DNNL_ARG_DIFF_DST, gradient},
                              {DNNL_ARG_DIFF_WEIGHTS, weights},
                              {DNNL_ARG_DIFF_BIAS, bias}});
  View stored = b.in_layout(weights, {w_dims, memory::data_type::f32, w.strides});
  stored.dims = w.values.dims;
  stored.layout = w.values.layout;
  return {stored, bias};
}

void fully_connected_gradient(Backward& back, const graph::Node& node, const FullyConnected& layer) {
  Builder& b = back.builder();
  const View whole = b.plain(*back.of_output(node, 0));
  const View gradient = Builder::alias(whole, {layer.x.dims[0], layer.matrix.outputs});
  if (back.wants(node, 0))
    back.add(node, 0, Builder::alias(gradient_of_rows(b, layer, gradient), b.input(node, 0).dims));
  if (!back.wants(node, 1) && !back.wants(node, 2)) return;
  const LinearGradients gradients = gradients_of_matrix(b, layer, gradient);
  if (back.wants(node, 1)) back.add(node, 1, Builder::alias(gradients.weights, b.input(node, 1).dims));
  back.add(node, 2, gradients.bias);
}

} // namespace

void conv_gradient(Backward& back, const graph::Node& node) {
  Builder& b = back.builder();
  const Convolution c = convolution_of(b, node);
  const ConvDescriptors descriptors(c);
  const View gradient = b.in_layout(*back.of_output(node, 0), descriptors.target);
  if (back.wants(node, 0)) back.add(node, 0, gradient_of_conv_source(b, c, descriptors, gradient));
  if (!back.wants(node, 1) && !back.wants(node, 2)) return;
  const View x = b.in_layout(b.input(node, 0), descriptors.source);
  const LinearGradients gradients = gradients_of_conv_weights(b, c, descriptors, x, gradient);
  back.add(node, 1, gradients.weights);
  back.add(node, 2, gradients.bias);
}

void gemm_gradient(Backward& back, const graph::Node& node) {
  Builder& b = back.builder();
  const FullyConnected layer = fully_connected_of_gemm(b, node);
  const bool has_own_bias = !back.wants(node, 2) || (b.input(node, 2).dims == Dims{layer.matrix.outputs} &&
                                                     node.float_or("beta", 1.0F) == 1.0F);
  if (!has_own_bias || (back.wants(node, 1) && node.float_or("alpha", 1.0F) != 1.0F))
    refuse("its weight or bias can only be trained without factors, the bias with one number per column");
  fully_connected_gradient(back, node, layer);
}

void matmul_gradient(Backward& back, const graph::Node& node) {
  const auto layer = fully_connected_of_matmul(back.builder(), node);
  if (!layer) refuse("a product of two values that both depend on the images cannot be differentiated");
  fully_connected_gradient(back, node, *layer);
}

} // namespace slr::infer
