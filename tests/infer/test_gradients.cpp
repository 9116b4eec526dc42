// Gradients of a network's loss against central differences, in double, of a plain interpreter of the same network.
#include "graph/reference.hpp"
#include "trained_network.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <sstream>

namespace slr::test {
namespace {

using infer::Loss;
using infer::Tape;

graph::reference::Array in_double(const Array& a) {
  return {a.dims, {a.data.begin(), a.data.end()}};
}

/// The loss of all images by its definition.
double plain_loss(Loss loss, const std::vector<double>& z, const std::vector<float>& t, std::size_t images) {
  const std::size_t n = z.size() / images;
  double total = 0;
  for (std::size_t i = 0; i < images; ++i) {
    double sum_z = 0, sum_t = 0;
    for (std::size_t c = 0; c < n; ++c) {
      sum_z += std::exp(z[i * n + c]);
      sum_t += std::exp(static_cast<double>(t[i * n + c]));
    }
    for (std::size_t c = 0; c < n; ++c) {
      const double p_t = std::exp(static_cast<double>(t[i * n + c])) / sum_t, p_z = std::exp(z[i * n + c]) / sum_z;
      const double d = z[i * n + c] - static_cast<double>(t[i * n + c]);
      total += loss == Loss::kullback_leibler ? p_t * std::log(p_t / p_z) : d * d / static_cast<double>(n);
    }
  }
  return total;
}

struct Case {
  const char* name;
  std::function<void(Network&)> build; ///< from "x" (3 x 6 x 6 images) to "y"; weights called w.. and b.. are trained
  Loss loss = Loss::squared_error;
  std::int64_t opset = 13;
  /// The last node's definition, where the interpreter does not have its operator.
  std::function<graph::reference::Array(const graph::reference::Array&)> last = {};
};
void PrintTo(const Case& c, std::ostream* out) {
  *out << c.name;
}

/// x -> trained convolution -> the operator under test -> y.
std::function<void(Network&)> behind(const std::string& op, const std::map<std::string, graph::Attribute>& attributes,
                                     const std::vector<std::string>& more = {},
                                     const std::function<void(Network&)>& constants = {}) {
  return [=](Network& n) {
    if (constants) constants(n);
    convolution(n, "x", "c", 3, 4, 2);
    std::vector<std::string> inputs{"c"};
    inputs.insert(inputs.end(), more.begin(), more.end());
    n.node(op, inputs, {"y"}, attributes);
  };
}

/// The network's output in double.
graph::reference::Array plain_output(const Case& c, graph::Model model, const Array& x) {
  if (!c.last) return graph::reference::run(model, {{"x", in_double(x)}}).at("y");
  const std::string from = model.nodes.back().inputs[0];
  model.nodes.pop_back();
  return c.last(graph::reference::run(model, {{"x", in_double(x)}}).at(from));
}

class Gradient : public testing::TestWithParam<Case> {};

TEST_P(Gradient, EqualsTheCentralDifference) {
  const Case& c = GetParam();
  Network network({3, 6, 6}, c.opset);
  c.build(network);
  const graph::Model model = network.model();
  infer::TapeOptions options{"x", {3, 6, 6}, "y", {}, c.loss, 4};
  for (const auto& [name, tensor] : model.initializers)
    if (name[0] == 'w' || name[0] == 'b') options.trained.push_back(name);
  Tape tape(model, options);

  const Array x = array({3, 3, 6, 6}, 1);
  const auto outputs = plain_output(c, model, x);
  Array target{outputs.dims, numbers(graph::element_count(outputs.dims), 77)};
  std::vector<float> gradient(static_cast<std::size_t>(tape.size()));
  const auto losses = tape.losses(x, target, gradient);

  // A number of float32 sums one behind the other, each with an error of at most (terms) u of its magnitudes; those
  // exceed their sum by less than the square root of the number of terms, because signs are mixed.
  constexpr double terms = 3 * 36 * 9, depth = 8;
  double total = 0, largest = 0;
  for (const double loss : losses) total += loss;
  for (const float g : gradient) largest = std::max(largest, std::abs(static_cast<double>(g)));
  const double expected = plain_loss(c.loss, outputs.values, target.data, 3);
  EXPECT_NEAR(total, expected, depth * std::sqrt(terms) * unit_roundoff * std::max(expected, 1.0));
  ASSERT_GT(largest, 0);

  // h^2 f''' / 6 and eps |f| / h are far below the bound of float32.
  const float h = 0x1p-16F;
  auto weights = tape.weights();
  const auto loss_at = [&](const infer::TrainedTensor& tensor, std::size_t i, float step) {
    graph::Model moved = model;
    std::vector<float> values(weights.begin() + tensor.offset, weights.begin() + tensor.offset + tensor.size);
    values[i] += step;
    moved.initializers[tensor.name] = graph::Tensor::of_floats(tensor.dims, values);
    return plain_loss(c.loss, plain_output(c, moved, x).values, target.data, 3);
  };
  for (const auto& tensor : tape.trained())
    for (std::int64_t i = 0; i < tensor.size; i += 1 + tensor.size / 12) {
      const auto at = static_cast<std::size_t>(i);
      const double difference = (loss_at(tensor, at, h) - loss_at(tensor, at, -h)) / (2 * static_cast<double>(h));
      EXPECT_NEAR(static_cast<double>(gradient[static_cast<std::size_t>(tensor.offset) + at]), difference,
                  depth * std::sqrt(terms) * unit_roundoff * largest)
          << tensor.name << "[" << i << "]";
    }
}

INSTANTIATE_TEST_SUITE_P(
    Linear, Gradient,
    testing::Values(
        Case{"conv", [](Network& n) { convolution(n, "x", "y", 3, 4, 2); }},
        Case{"two_convs", [](Network& n) { convolution(convolution(n, "x", "c", 3, 4, 2), "c", "y", 4, 5, 4); }},
        Case{"grouped",
             [](Network& n) {
               convolution(n, "x", "c", 3, 6, 2);
               n.constant("w", array({4, 3, 3, 3}, 4)).constant("b", array({4}, 5));
               n.node("Conv", {"c", "w", "b"}, {"y"}, {{"group", std::int64_t(2)}, {"strides", Ints{2, 1}}});
             }},
        Case{"depthwise",
             [](Network& n) {
               convolution(n, "x", "c", 3, 8, 2);
               n.constant("w", array({8, 1, 3, 3}, 4));
               n.node("Conv", {"c", "w"}, {"y"}, {{"group", std::int64_t(8)}, {"dilations", Ints{2, 2}}});
             }},
        Case{"low_rank",
             [](Network& n) {
               n.constant("wv", array({2, 3, 3, 3}, 4)).constant("wu", array({5, 2, 1, 1}, 5));
               n.node("Conv", {"x", "wv"}, {"v"}, {{"strides", Ints{2, 2}}, {"auto_pad", std::string("SAME_UPPER")}});
               n.node("Conv", {"v", "wu"}, {"y"});
             }},
        Case{"gemm", flat_gemm(0)}, Case{"gemm_transposed", flat_gemm(1), Loss::kullback_leibler},
        Case{"matmul",
             [](Network& n) {
               convolution(n, "x", "c", 3, 2, 2);
               n.node("Flatten", {"c"}, {"f"}).constant("w_m", array({72, 5}, 8)).constant("b_m", array({5}, 9));
               n.node("MatMul", {"f", "w_m"}, {"m"}).node("Add", {"m", "b_m"}, {"y"});
             },
             Loss::kullback_leibler},
        Case{"matmul_of_rows",
             [](Network& n) {
               convolution(n, "x", "c", 3, 2, 2);
               n.constant("w_m", array({6, 5}, 8)).node("MatMul", {"c", "w_m"}, {"y"});
             }},
        Case{"shared_weight",
             [](Network& n) {
               n.constant("w", array({3, 3, 3, 3}, 4)).node("Conv", {"x", "w"}, {"a"}, {{"pads", Ints{1, 1, 1, 1}}});
               n.node("Tanh", {"a"}, {"t"}).node("Conv", {"t", "w"}, {"y"}, {{"pads", Ints{1, 1, 1, 1}}});
             }}),
    [](const auto& test) { return std::string(test.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Activations, Gradient,
    testing::Values(Case{"relu", behind("Relu", {})}, Case{"leaky_relu", behind("LeakyRelu", {{"alpha", 0.2F}})},
                    Case{"sigmoid", behind("Sigmoid", {})}, Case{"tanh", behind("Tanh", {})},
                    Case{"clip",
                         behind("Clip", {}, {"low", "high"},
                                [](Network& n) { n.constant("low", {}, {-0.7F}).constant("high", {}, {0.9F}); })},
                    Case{"relu_twice",
                         [](Network& n) {
                           convolution(n, "x", "c", 3, 4, 2);
                           n.node("Relu", {"c"}, {"r"});
                           convolution(n, "r", "d", 4, 4, 4).node("Add", {"d", "r"}, {"s"}).node("Relu", {"s"}, {"y"});
                         }}),
    [](const auto& test) { return std::string(test.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Pools, Gradient,
    testing::Values(Case{"max", behind("MaxPool", {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}})},
                    Case{"max_overlapping",
                         behind("MaxPool", {{"kernel_shape", Ints{3, 3}}, {"pads", Ints{1, 1, 1, 1}}})},
                    Case{"average", behind("AveragePool", {{"kernel_shape", Ints{3, 2}}, {"pads", Ints{1, 0, 1, 1}}})},
                    Case{"average_padded", behind("AveragePool", {{"kernel_shape", Ints{3, 3}},
                                                                  {"strides", Ints{2, 2}},
                                                                  {"pads", Ints{1, 1, 1, 1}},
                                                                  {"count_include_pad", std::int64_t(1)}})},
                    Case{"global_average", behind("GlobalAveragePool", {}), Loss::kullback_leibler},
                    Case{"global_max", behind("GlobalMaxPool", {})}),
    [](const auto& test) { return std::string(test.param.name); });

const auto statistics = [](Network& n) {
  n.constant("scale", {4}, {1.5F, -0.5F, 2.0F, 1.0F})
      .constant("shift", array({4}, 21))
      .constant("mean", array({4}, 22));
  n.constant("variance", {4}, {0.5F, 1.0F, 2.0F, 0.1F});
};

INSTANTIATE_TEST_SUITE_P(
    Others, Gradient,
    testing::Values(
        Case{"batch_normalization",
             behind("BatchNormalization", {}, {"scale", "shift", "mean", "variance"}, statistics)},
        Case{"add_to_all",
             [](Network& n) {
               n.constant("b", array({3, 1, 1}, 4)).node("Add", {"x", "b"}, {"y"});
             }},
        Case{"sub",
             [](Network& n) {
               convolution(convolution(n, "x", "c", 3, 4, 2), "x", "d", 3, 4, 4).node("Sub", {"c", "d"}, {"y"});
             }},
        Case{"mul",
             [](Network& n) {
               convolution(convolution(n, "x", "c", 3, 4, 2), "x", "d", 3, 1, 4).node("Mul", {"c", "d"}, {"y"});
             }},
        Case{"div",
             [](Network& n) {
               convolution(convolution(n, "x", "c", 3, 4, 2), "x", "d", 3, 1, 4).node("Sigmoid", {"d"}, {"s"});
               n.node("Div", {"c", "s"}, {"y"});
             }},
        Case{"concat",
             [](Network& n) {
               convolution(convolution(n, "x", "c", 3, 2, 2), "x", "d", 3, 3, 4);
               n.node("Concat", {"c", "x", "d"}, {"y"}, {{"axis", std::int64_t(1)}});
             }},
        Case{"gather_split",
             [](Network& n) {
               convolution(n, "x", "c", 3, 5, 2).integers("order", {3, 0, 4, 2, 1}).integers("sizes", {2, 3});
               n.node("Gather", {"c", "order"}, {"g"}, {{"axis", std::int64_t(1)}});
               n.node("Split", {"g", "sizes"}, {"k", "r"}, {{"axis", std::int64_t(1)}});
               convolution(convolution(n, "k", "kept", 2, 4, 6), "r", "rest", 3, 4, 8);
               n.node("Add", {"kept", "rest"}, {"y"});
             }},
        Case{"split_unread",
             [](Network& n) {
               convolution(n, "x", "c", 3, 4, 2).node("Split", {"c"}, {"y", "unread"}, {{"axis", std::int64_t(1)}});
             }},
        Case{"gather_twice", behind("Gather", {{"axis", std::int64_t(2)}}, {"rows"},
                                    [](Network& n) {
                                      n.integers("rows", {1, 1, 5});
                                    })},
        Case{"slice", behind("Slice", {}, {"starts", "ends", "axes", "steps"},
                             [](Network& n) {
                               n.integers("starts", {1, 0}).integers("ends", {4, 5}).integers("axes", {1, 3});
                               n.integers("steps", {1, 2});
                             })},
        Case{"pad", behind("Pad", {}, {"pads"},
                           [](Network& n) {
                             n.integers("pads", {0, 0, 1, -1, 0, 0, 2, 1});
                           })},
        Case{"transpose", behind("Transpose", {{"perm", Ints{0, 2, 3, 1}}})},
        Case{"reshape", behind("Reshape", {}, {"shape"},
                               [](Network& n) {
                                 n.integers("shape", {0, 8, -1});
                               })}),
    [](const auto& test) { return std::string(test.param.name); });

using Plain = graph::reference::Array;

auto everywhere(double (*f)(double)) {
  return [f](Plain x) {
    for (double& value : x.values) value = f(value);
    return x;
  };
}

/// f over the channels of every image and pixel of an N x C x H x W array.
auto over_channels(std::function<std::vector<double>(const std::vector<double>&)> f) {
  return [f](Plain x) {
    const auto channels = static_cast<std::size_t>(x.dims[1]), area = static_cast<std::size_t>(x.dims[2] * x.dims[3]);
    std::vector<double> line(channels);
    for (std::size_t n = 0; n < static_cast<std::size_t>(x.dims[0]); ++n)
      for (std::size_t i = 0; i < area; ++i) {
        for (std::size_t k = 0; k < channels; ++k) line[k] = x.values[(n * channels + k) * area + i];
        line = f(line);
        for (std::size_t k = 0; k < channels; ++k) x.values[(n * channels + k) * area + i] = line[k];
      }
    return x;
  };
}

auto normalised(std::int64_t size, double alpha, double beta, double bias) {
  return over_channels([=](const std::vector<double>& x) {
    const std::int64_t count = std::ssize(x);
    std::vector<double> y(x.size());
    for (std::int64_t c = 0; c < count; ++c) {
      double sum = 0;
      for (std::int64_t k = std::max<std::int64_t>(0, c - (size - 1) / 2); k <= std::min(count - 1, c + size / 2); ++k)
        sum += x[static_cast<std::size_t>(k)] * x[static_cast<std::size_t>(k)];
      y[static_cast<std::size_t>(c)] =
          x[static_cast<std::size_t>(c)] / std::pow(bias + alpha / static_cast<double>(size) * sum, beta);
    }
    return y;
  });
}

std::vector<double> softmax(const std::vector<double>& x) {
  double sum = 0;
  for (const double value : x) sum += std::exp(value);
  std::vector<double> y;
  for (const double value : x) y.push_back(std::exp(value) / sum);
  return y;
}
std::vector<double> log_softmax(const std::vector<double>& x) {
  auto y = softmax(x);
  for (double& value : y) value = std::log(value);
  return y;
}

/// All numbers of an image together, as a Softmax before operator set 13 takes them.
Plain softmax_of_images(Plain x) {
  const std::size_t size = x.values.size() / 3;
  for (std::size_t n = 0; n < 3; ++n) {
    const auto begin = x.values.begin() + static_cast<std::ptrdiff_t>(n * size);
    const auto y = softmax({begin, begin + static_cast<std::ptrdiff_t>(size)});
    std::copy(y.begin(), y.end(), begin);
  }
  return x;
}

/// The mean over the last two dimensions, or over the channels alone.
Plain mean(const Plain& x, bool of_channels) {
  const auto channels = static_cast<std::size_t>(x.dims[1]), area = static_cast<std::size_t>(x.dims[2] * x.dims[3]);
  const std::size_t images = 3;
  Plain y{of_channels ? Dims{3, x.dims[2], x.dims[3]} : Dims{3, x.dims[1], 1, 1}, {}};
  y.values.assign(images * (of_channels ? area : channels), 0);
  for (std::size_t n = 0; n < images; ++n)
    for (std::size_t c = 0; c < channels; ++c)
      for (std::size_t i = 0; i < area; ++i)
        y.values[of_channels ? n * area + i : n * channels + c] +=
            x.values[(n * channels + c) * area + i] / static_cast<double>(of_channels ? channels : area);
  return y;
}

constexpr auto squared = Loss::squared_error;
const std::map<std::string, graph::Attribute> lrn3{{"size", std::int64_t(3)}, {"alpha", 0.5F}, {"bias", 1.5F}};
const std::map<std::string, graph::Attribute> lrn4{{"size", std::int64_t(4)}, {"alpha", 0.5F}, {"bias", 1.5F}};

INSTANTIATE_TEST_SUITE_P(
    ByDefinition, Gradient,
    testing::Values(
        Case{"hard_swish", behind("HardSwish", {}), squared, 14,
             everywhere([](double x) { return x * std::clamp(x / 6 + 0.5, 0.0, 1.0); })},
        Case{"hard_sigmoid", behind("HardSigmoid", {{"alpha", 0.25F}, {"beta", 0.5F}}), squared, 13,
             everywhere([](double x) { return std::clamp(0.25 * x + 0.5, 0.0, 1.0); })},
        Case{"gelu", behind("Gelu", {}), squared, 20,
             everywhere([](double x) { return x / 2 * (1 + std::erf(x / std::sqrt(2.0))); })},
        Case{"gelu_tanh", behind("Gelu", {{"approximate", std::string("tanh")}}), squared, 20, everywhere([](double x) {
               return x / 2 * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
             })},
        Case{"erf", behind("Erf", {}), squared, 13, everywhere([](double x) { return std::erf(x); })},
        Case{"lrn", behind("LRN", lrn3), squared, 13, normalised(3, 0.5, 0.75, 1.5)},
        Case{"lrn_even", behind("LRN", lrn4), squared, 13, normalised(4, 0.5, 0.75, 1.5)},
        Case{"softmax", behind("Softmax", {{"axis", std::int64_t(1)}}), squared, 13, over_channels(softmax)},
        Case{"softmax_old", behind("Softmax", {}), squared, 11, softmax_of_images},
        Case{"log_softmax", behind("LogSoftmax", {{"axis", std::int64_t(1)}}), squared, 13, over_channels(log_softmax)},
        Case{"mean", behind("ReduceMean", {{"axes", Ints{2, 3}}}), Loss::kullback_leibler, 13,
             [](const Plain& x) { return mean(x, false); }},
        Case{"mean_of_channels", behind("ReduceMean", {{"axes", Ints{1}}, {"keepdims", std::int64_t(0)}}), squared, 13,
             [](const Plain& x) { return mean(x, true); }}),
    [](const auto& test) { return std::string(test.param.name); });

} // namespace
} // namespace slr::test
