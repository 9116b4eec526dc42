#include "reference.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <stdexcept>

namespace slr::graph::reference {
namespace {

using Ints = std::vector<std::int64_t>;
using Inputs = std::vector<const Array*>;

std::int64_t volume(const Dims& dims) {
  std::int64_t n = 1;
  for (const auto dim : dims) n *= dim;
  return n;
}

std::size_t offset(const Dims& dims, const Dims& at) {
  std::int64_t place = 0;
  for (std::size_t i = 0; i < dims.size(); ++i) place = place * dims[i] + at[i];
  return static_cast<std::size_t>(place);
}

/// An array whose elements are given by their position.
Array made(const Dims& dims, const std::function<double(const Dims&)>& element) {
  Array result{dims, {}};
  Dims at(dims.size(), 0);
  for (std::int64_t n = volume(dims); n > 0; --n) {
    result.values.push_back(element(at));
    for (std::size_t i = dims.size(); i-- > 0;) {
      if (++at[i] < dims[i]) break;
      at[i] = 0;
    }
  }
  return result;
}

Array from_tensor(const Tensor& tensor) {
  Array result{tensor.dims, {}};
  if (tensor.type == ElementType::float32) {
    const auto values = tensor.floats();
    result.values.assign(values.begin(), values.end());
  } else if (tensor.type == ElementType::boolean) {
    for (const auto byte : tensor.data.bytes()) result.values.push_back(std::to_integer<int>(byte));
  } else {
    for (const auto value : tensor.int64s()) result.values.push_back(static_cast<double>(value));
  }
  return result;
}

Ints ints_of(const Array& array) {
  return {array.values.begin(), array.values.end()};
}

Ints list(const Node& node, const Inputs& in, const std::string& key, std::size_t i, Ints otherwise) {
  if (node.attributes.contains(key)) return node.ints_or(key, {});
  return i < in.size() && in[i] ? ints_of(*in[i]) : otherwise;
}

std::int64_t positive(std::int64_t axis, std::size_t n) {
  return axis < 0 ? axis + static_cast<std::int64_t>(n) : axis;
}

Array map(const Array& x, const std::function<double(double)>& f) {
  Array y = x;
  for (auto& value : y.values) value = f(value);
  return y;
}

Array broadcast(const Array& a, const Array& b, const std::function<double(double, double)>& f) {
  const std::size_t n = std::max(a.dims.size(), b.dims.size());
  const auto padded = [&](Dims dims) {
    dims.insert(dims.begin(), n - dims.size(), 1);
    return dims;
  };
  const Dims da = padded(a.dims), db = padded(b.dims);
  Dims dims(n);
  for (std::size_t i = 0; i < n; ++i) {
    if (da[i] != db[i] && da[i] != 1 && db[i] != 1) throw std::runtime_error("no broadcast");
    dims[i] = da[i] == 1 ? db[i] : da[i];
  }
  return made(dims, [&](const Dims& at) {
    Dims pa(n), pb(n);
    for (std::size_t i = 0; i < n; ++i) {
      pa[i] = da[i] == 1 ? 0 : at[i];
      pb[i] = db[i] == 1 ? 0 : at[i];
    }
    return f(a.values[offset(da, pa)], b.values[offset(db, pb)]);
  });
}

/// Geometry of a 2-d window: output size and pads per axis.
struct Slide {
  Ints kernel, strides, dilations, pads, output;
  Slide(const Node& node, const Dims& x, Ints k) : kernel(std::move(k)) {
    strides = node.ints_or("strides", {1, 1});
    dilations = node.ints_or("dilations", {1, 1});
    pads = node.ints_or("pads", {0, 0, 0, 0});
    const auto mode = node.string_or("auto_pad", "NOTSET");
    for (std::size_t i = 0; i < 2; ++i) {
      const auto reach = dilations[i] * (kernel[i] - 1) + 1, size = x[2 + i];
      if (mode == "VALID") pads[i] = pads[2 + i] = 0;
      if (mode == "SAME_UPPER" || mode == "SAME_LOWER") {
        const auto total =
            std::max<std::int64_t>(0, ((size + strides[i] - 1) / strides[i] - 1) * strides[i] + reach - size);
        pads[i] = mode == "SAME_UPPER" ? total / 2 : total - total / 2;
        pads[2 + i] = total - pads[i];
      }
      const double steps = double(size + pads[i] + pads[2 + i] - reach) / double(strides[i]);
      auto count = static_cast<std::int64_t>(node.int_or("ceil_mode", 0) ? std::ceil(steps) : std::floor(steps)) + 1;
      if (node.int_or("ceil_mode", 0) && (count - 1) * strides[i] >= size + pads[i]) --count;
      output.push_back(count);
    }
  }
  /// Calls visit(kernel row, kernel column, input row, input column) for the window's places inside the input.
  template <class Visit>
  void visit(const Dims& x, std::int64_t row, std::int64_t col, Visit&& each) const {
    for (std::int64_t i = 0; i < kernel[0]; ++i)
      for (std::int64_t j = 0; j < kernel[1]; ++j) {
        const auto y = row * strides[0] - pads[0] + i * dilations[0], z = col * strides[1] - pads[1] + j * dilations[1];
        if (y >= 0 && y < x[2] && z >= 0 && z < x[3]) each(i, j, y, z);
      }
  }
};

Array convolution(const Node& node, const Inputs& in) {
  const Array &x = *in[0], &w = *in[1];
  const Slide slide(node, x.dims, {w.dims[2], w.dims[3]});
  const auto group = node.int_or("group", 1), depth = w.dims[1], rows = w.dims[0] / group;
  return made({x.dims[0], w.dims[0], slide.output[0], slide.output[1]}, [&](const Dims& at) {
    double sum = in.size() > 2 && in[2] ? in[2]->values[static_cast<std::size_t>(at[1])] : 0;
    for (std::int64_t c = 0; c < depth; ++c) {
      const auto* kernel = w.values.data() + offset(w.dims, {at[1], c, 0, 0});
      const auto* plane = x.values.data() + offset(x.dims, {at[0], at[1] / rows * depth + c, 0, 0});
      slide.visit(x.dims, at[2], at[3],
                  [&](auto i, auto j, auto y, auto z) { sum += kernel[i * w.dims[3] + j] * plane[y * x.dims[3] + z]; });
    }
    return sum;
  });
}

Array pooling(const Node& node, const Array& x) {
  const bool is_max = node.op == "MaxPool";
  const Slide slide(node, x.dims, node.ints_or("kernel_shape", {}));
  const bool counts_pads = node.int_or("count_include_pad", 0) != 0;
  return made({x.dims[0], x.dims[1], slide.output[0], slide.output[1]}, [&](const Dims& at) {
    double best = -std::numeric_limits<double>::infinity(), sum = 0, n = 0;
    slide.visit(x.dims, at[2], at[3], [&](auto, auto, auto y, auto z) {
      const double value = x.values[offset(x.dims, {at[0], at[1], y, z})];
      best = std::max(best, value);
      sum += value;
      ++n;
    });
    return is_max ? best : sum / (counts_pads ? double(slide.kernel[0] * slide.kernel[1]) : n);
  });
}

Array global_pooling(const Node& node, const Array& x) {
  const auto area = static_cast<std::size_t>(x.dims[2] * x.dims[3]);
  return made({x.dims[0], x.dims[1], 1, 1}, [&](const Dims& at) {
    const auto first = x.values.begin() + static_cast<std::ptrdiff_t>(offset(x.dims, {at[0], at[1], 0, 0}));
    const auto last = first + static_cast<std::ptrdiff_t>(area);
    if (node.op == "GlobalMaxPool") return *std::max_element(first, last);
    double sum = 0;
    std::for_each(first, last, [&](double value) { sum += value; });
    return sum / double(area);
  });
}

Array gemm(const Node& node, const Inputs& in) {
  const Array &a = *in[0], &b = *in[1];
  const bool ta = node.int_or("transA", 0) != 0, tb = node.int_or("transB", 0) != 0;
  const auto m = a.dims[ta ? 1 : 0], k = a.dims[ta ? 0 : 1], n = b.dims[tb ? 0 : 1];
  auto product = made({m, n}, [&](const Dims& at) {
    double sum = 0;
    for (std::int64_t l = 0; l < k; ++l)
      sum += a.values[offset(a.dims, ta ? Dims{l, at[0]} : Dims{at[0], l})] *
             b.values[offset(b.dims, tb ? Dims{at[1], l} : Dims{l, at[1]})];
    return node.float_or("alpha", 1) * sum;
  });
  if (in.size() < 3 || !in[2]) return product;
  const double beta = node.float_or("beta", 1);
  return broadcast(product, *in[2], [&](double x, double y) { return x + beta * y; });
}

/// The right side is a matrix.
Array matmul(const Array& a, const Array& b) {
  const auto k = b.dims[0], n = b.dims[1];
  Dims dims = a.dims;
  dims.back() = n;
  return made(dims, [&](const Dims& at) {
    double sum = 0;
    Dims place = at;
    for (place.back() = 0; place.back() < k; ++place.back())
      sum += a.values[offset(a.dims, place)] * b.values[offset(b.dims, {place.back(), at.back()})];
    return sum;
  });
}

Array reshape(const Node& node, const Inputs& in) {
  Array y = *in[0];
  auto dims = ints_of(*in[1]);
  for (std::size_t i = 0; i < dims.size(); ++i)
    if (dims[i] == 0 && node.int_or("allowzero", 0) == 0) dims[i] = y.dims[i];
  for (auto& dim : dims)
    if (dim == -1) dim = volume(y.dims) / -volume(dims);
  if (volume(dims) != volume(y.dims)) throw std::runtime_error("no reshape");
  y.dims = dims;
  return y;
}

Array gather(const Node& node, const Inputs& in) {
  const Array &x = *in[0], &indices = *in[1];
  const auto axis = static_cast<std::size_t>(positive(node.int_or("axis", 0), x.dims.size()));
  Dims dims(x.dims.begin(), x.dims.begin() + static_cast<std::ptrdiff_t>(axis));
  dims.insert(dims.end(), indices.dims.begin(), indices.dims.end());
  dims.insert(dims.end(), x.dims.begin() + static_cast<std::ptrdiff_t>(axis) + 1, x.dims.end());
  return made(dims, [&](const Dims& at) {
    const auto middle = at.begin() + static_cast<std::ptrdiff_t>(axis),
               end = middle + static_cast<std::ptrdiff_t>(indices.dims.size());
    Dims place(at.begin(), middle);
    place.push_back(positive(static_cast<std::int64_t>(indices.values[offset(indices.dims, Dims(middle, end))]),
                             static_cast<std::size_t>(x.dims[axis])));
    place.insert(place.end(), end, at.end());
    return x.values[offset(x.dims, place)];
  });
}

/// Steps of one only, which is what the tests use.
Array slice(const Node& node, const Inputs& in) {
  const Array& x = *in[0];
  const auto starts = list(node, in, "starts", 1, {}), ends = list(node, in, "ends", 2, {});
  Ints all(starts.size()), ones(starts.size(), 1);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int64_t>(i);
  const auto axes = list(node, in, "axes", 3, all), steps = list(node, in, "steps", 4, ones);
  Dims dims = x.dims, first(x.dims.size(), 0), step(x.dims.size(), 1);
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const auto axis = static_cast<std::size_t>(positive(axes[i], x.dims.size()));
    const auto size = x.dims[axis];
    if (steps[i] < 1) throw std::runtime_error("the reference cannot step backwards");
    first[axis] = std::clamp<std::int64_t>(starts[i] < 0 ? starts[i] + size : starts[i], 0, size);
    const auto last = std::clamp<std::int64_t>(ends[i] < 0 ? ends[i] + size : ends[i], 0, size);
    step[axis] = steps[i];
    dims[axis] = last <= first[axis] ? 0 : (last - first[axis] + steps[i] - 1) / steps[i];
  }
  return made(dims, [&](Dims at) {
    for (std::size_t i = 0; i < at.size(); ++i) at[i] = first[i] + at[i] * step[i];
    return x.values[offset(x.dims, at)];
  });
}

Array pad(const Node& node, const Inputs& in) {
  const Array& x = *in[0];
  const auto pads = list(node, in, "pads", 1, {});
  const double fill = in.size() > 2 && in[2] ? in[2]->values[0] : node.float_or("value", 0);
  Dims dims = x.dims;
  for (std::size_t i = 0; i < dims.size(); ++i) dims[i] += pads[i] + pads[dims.size() + i];
  return made(dims, [&](Dims at) {
    for (std::size_t i = 0; i < at.size(); ++i) {
      at[i] -= pads[i];
      if (at[i] < 0 || at[i] >= x.dims[i]) return fill;
    }
    return x.values[offset(x.dims, at)];
  });
}

Array concat(const Node& node, const Inputs& in) {
  const auto axis = static_cast<std::size_t>(positive(node.int_or("axis", 0), in[0]->dims.size()));
  Dims dims = in[0]->dims;
  for (std::size_t i = 1; i < in.size(); ++i) dims[axis] += in[i]->dims[axis];
  return made(dims, [&](Dims at) {
    std::size_t i = 0;
    for (; at[axis] >= in[i]->dims[axis]; ++i) at[axis] -= in[i]->dims[axis];
    return in[i]->values[offset(in[i]->dims, at)];
  });
}

std::vector<Array> split(const Node& node, const Inputs& in) {
  const Array& x = *in[0];
  const auto axis = static_cast<std::size_t>(positive(node.int_or("axis", 0), x.dims.size()));
  const auto parts = node.outputs.size();
  const auto sizes = list(node, in, "split", 1, Ints(parts, x.dims[axis] / static_cast<std::int64_t>(parts)));
  std::vector<Array> results;
  std::int64_t first = 0;
  for (const auto size : sizes) {
    Dims dims = x.dims;
    dims[axis] = size;
    results.push_back(made(dims, [&](Dims at) {
      at[axis] += first;
      return x.values[offset(x.dims, at)];
    }));
    first += size;
  }
  if (first != x.dims[axis]) throw std::runtime_error("no split");
  return results;
}

Array transpose(const Node& node, const Array& x) {
  Ints order(x.dims.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int64_t>(order.size() - 1 - i);
  order = node.ints_or("perm", order);
  Dims dims(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) dims[i] = x.dims[static_cast<std::size_t>(order[i])];
  return made(dims, [&](const Dims& at) {
    Dims place(at.size());
    for (std::size_t i = 0; i < order.size(); ++i) place[static_cast<std::size_t>(order[i])] = at[i];
    return x.values[offset(x.dims, place)];
  });
}

Array batch_normalization(const Node& node, const Inputs& in) {
  const Array& x = *in[0];
  const double epsilon = node.float_or("epsilon", 1e-5F);
  return made(x.dims, [&](const Dims& at) {
    const auto c = static_cast<std::size_t>(at[1]);
    return (x.values[offset(x.dims, at)] - in[3]->values[c]) / std::sqrt(in[4]->values[c] + epsilon) *
               in[1]->values[c] +
           in[2]->values[c];
  });
}

Array unsqueeze(const Node& node, const Inputs& in) {
  Array y = *in[0];
  auto axes = list(node, in, "axes", 1, {});
  for (auto& axis : axes) axis = positive(axis, y.dims.size() + axes.size());
  std::sort(axes.begin(), axes.end());
  for (const auto axis : axes) y.dims.insert(y.dims.begin() + axis, 1);
  return y;
}

Array squeeze(const Node& node, const Inputs& in) {
  Array y{{}, in[0]->values};
  const auto& x = in[0]->dims;
  const auto axes = list(node, in, "axes", 1, {});
  for (std::size_t i = 0; i < x.size(); ++i) {
    bool goes = axes.empty() && x[i] == 1;
    for (const auto axis : axes) goes = goes || positive(axis, x.size()) == static_cast<std::int64_t>(i);
    if (!goes) y.dims.push_back(x[i]);
  }
  return y;
}

Array clip(const Node& node, const Inputs& in) {
  const double infinity = std::numeric_limits<double>::infinity();
  const double low = in.size() > 1 && in[1]            ? in[1]->values[0]
                     : node.attributes.contains("min") ? node.float_or("min", 0)
                                                       : -infinity;
  const double high = in.size() > 2 && in[2]            ? in[2]->values[0]
                      : node.attributes.contains("max") ? node.float_or("max", 0)
                                                        : infinity;
  return map(*in[0], [&](double v) { return std::min(high, std::max(low, v)); });
}

std::vector<Array> evaluate(const Node& node, const Inputs& in) {
  const auto& op = node.op;
  const auto unary = [&](const std::function<double(double)>& f) { return std::vector<Array>{map(*in[0], f)}; };
  const auto binary = [&](const std::function<double(double, double)>& f) {
    return std::vector<Array>{broadcast(*in[0], *in[1], f)};
  };
  if (op == "Conv") return {convolution(node, in)};
  if (op == "Gemm") return {gemm(node, in)};
  if (op == "MatMul") return {matmul(*in[0], *in[1])};
  if (op == "Relu") return unary([](double v) { return std::max(0.0, v); });
  if (op == "Sigmoid") return unary([](double v) { return 1 / (1 + std::exp(-v)); });
  if (op == "Tanh") return unary([](double v) { return std::tanh(v); });
  if (op == "LeakyRelu") return unary([&](double v) { return v < 0 ? node.float_or("alpha", 0.01F) * v : v; });
  if (op == "Clip") return {clip(node, in)};
  if (op == "Identity" || op == "Dropout" || op == "Cast") return {*in[0]};
  if (op == "Add") return binary(std::plus<>());
  if (op == "Sub") return binary(std::minus<>());
  if (op == "Mul") return binary(std::multiplies<>());
  if (op == "Div") return binary(std::divides<>());
  if (op == "MaxPool" || op == "AveragePool") return {pooling(node, *in[0])};
  if (op == "GlobalAveragePool" || op == "GlobalMaxPool") return {global_pooling(node, *in[0])};
  if (op == "BatchNormalization") return {batch_normalization(node, in)};
  if (op == "Reshape") return {reshape(node, in)};
  if (op == "Gather") return {gather(node, in)};
  if (op == "Slice") return {slice(node, in)};
  if (op == "Pad") return {pad(node, in)};
  if (op == "Concat") return {concat(node, in)};
  if (op == "Split") return split(node, in);
  if (op == "Transpose") return {transpose(node, *in[0])};
  if (op == "Unsqueeze") return {unsqueeze(node, in)};
  if (op == "Squeeze") return {squeeze(node, in)};
  if (op == "Constant") return {from_tensor(std::get<Tensor>(node.attributes.at("value")))};
  if (op == "Shape") {
    const auto& dims = in[0]->dims;
    return {Array{{static_cast<std::int64_t>(dims.size())}, std::vector<double>(dims.begin(), dims.end())}};
  }
  if (op == "ConstantOfShape") {
    const auto dims = ints_of(*in[0]);
    const auto fill =
        node.attributes.contains("value") ? from_tensor(std::get<Tensor>(node.attributes.at("value"))).values[0] : 0.0;
    return {Array{dims, std::vector<double>(static_cast<std::size_t>(volume(dims)), fill)}};
  }
  if (op == "Flatten") {
    const auto axis = node.int_or("axis", 1);
    const auto& dims = in[0]->dims;
    const auto rows = volume(Dims(dims.begin(), dims.begin() + axis));
    return {Array{{rows, volume(dims) / rows}, in[0]->values}};
  }
  throw std::runtime_error("the reference does not know " + op);
}

} // namespace

std::map<std::string, Array> run(const Model& model, const std::map<std::string, Array>& inputs) {
  auto values = inputs;
  for (const auto& [name, tensor] : model.initializers) values[name] = from_tensor(tensor);
  for (const auto& node : model.nodes) {
    Inputs in;
    for (const auto& name : node.inputs) in.push_back(name.empty() ? nullptr : &values.at(name));
    const auto results = evaluate(node, in);
    for (std::size_t i = 0; i < results.size() && i < node.outputs.size(); ++i) values[node.outputs[i]] = results[i];
  }
  return values;
}

Array random_array(Dims dims, unsigned seed) {
  std::mt19937 engine(seed);
  return made(dims, [&](const Dims&) { return double(engine()) / double(std::mt19937::max()) * 2 - 1; });
}

double relative_difference(const Array& a, const Array& b) {
  if (a.dims != b.dims) return std::numeric_limits<double>::infinity();
  double largest = 0, difference = 0;
  for (std::size_t i = 0; i < a.values.size(); ++i) {
    largest = std::max(largest, std::abs(a.values[i]));
    difference = std::max(difference, std::abs(a.values[i] - b.values[i]));
  }
  return difference == 0 ? 0 : difference / largest;
}

} // namespace slr::graph::reference
