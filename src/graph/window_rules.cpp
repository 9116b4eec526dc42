#include "shape_table.hpp"

#include <algorithm>

namespace slr::graph {
namespace {

/// One spatial dimension of a window that slides.
struct Slide {
  std::int64_t kernel = 1, stride = 1, dilation = 1, pad_begin = 0, pad_end = 0;
};

struct Slides {
  std::vector<Slide> axes;
  std::string auto_pad;
  bool rounds_up = false;
};

/// Larger numbers than this are damage, and smaller ones cannot overflow what is computed here.
constexpr std::int64_t largest_parameter = std::int64_t(1) << 30;

std::vector<std::int64_t> checked_list(const NodeView& view, const std::string& key, std::size_t n,
                                       std::int64_t otherwise, std::int64_t smallest) {
  const auto values = view.node().ints_or(key, std::vector<std::int64_t>(n, otherwise));
  if (values.size() != n)
    view.fail("has " + std::to_string(values.size()) + " " + key + " where its input needs " + std::to_string(n));
  for (const auto value : values)
    if (value < smallest || value > largest_parameter)
      view.fail("has " + key + " with the impossible value " + std::to_string(value));
  return values;
}

Slides read_slides(const NodeView& view, const std::vector<std::int64_t>& kernel) {
  const std::size_t n = kernel.size();
  const auto strides = checked_list(view, "strides", n, 1, 1);
  const auto dilations = checked_list(view, "dilations", n, 1, 1);
  const auto pads = checked_list(view, "pads", 2 * n, 0, 0);
  Slides slides;
  slides.auto_pad = view.node().string_or("auto_pad", "NOTSET");
  slides.rounds_up = view.node().int_or("ceil_mode", 0) != 0;
  for (const auto* known : {"NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"})
    if (slides.auto_pad == known) {
      const bool is_explicit = slides.auto_pad == "NOTSET";
      for (std::size_t i = 0; i < n; ++i)
        slides.axes.push_back(
            {kernel[i], strides[i], dilations[i], is_explicit ? pads[i] : 0, is_explicit ? pads[n + i] : 0});
      return slides;
    }
  view.fail("has an auto_pad that ONNX does not know");
}

Extent slid(const NodeView& view, const Extent& input, const Slide& slide, const Slides& slides) {
  const bool is_same = slides.auto_pad == "SAME_UPPER" || slides.auto_pad == "SAME_LOWER";
  const auto reach = slide.dilation * (slide.kernel - 1) + 1; // below 2^60
  const auto pads = slide.pad_begin + slide.pad_end;
  if (!input.is_known()) return slide.stride == 1 && (is_same || pads == reach - 1) ? input : Extent();
  if (is_same) return Extent::of((input.value() + slide.stride - 1) / slide.stride);
  const auto free = static_cast<__int128>(input.value()) + pads - reach;
  if (free < 0)
    view.fail("has a window of " + std::to_string(reach) + " on an input of " + std::to_string(input.value()) +
              " padded by " + std::to_string(pads));
  auto count = free / slide.stride + 1;
  // A window that would start in the padding behind the input is not counted.
  if (slides.rounds_up && free % slide.stride != 0 &&
      static_cast<__int128>(count) * slide.stride < static_cast<__int128>(input.value()) + slide.pad_begin)
    ++count;
  return Extent::of(static_cast<std::int64_t>(count));
}

Shape slid_shape(const NodeView& view, const Shape& input, const Extent& channels, const Slides& slides) {
  Shape result{input[0], channels};
  for (std::size_t i = 0; i < slides.axes.size(); ++i)
    result.push_back(slid(view, input[2 + i], slides.axes[i], slides));
  return result;
}

void convolution(NodeView& view) {
  const auto *x = view.shape(0), *w = view.shape(1);
  if (!x || !w) return;
  const auto weight = known_dims(*w);
  if (!weight) return;
  if (x->size() < 3 || weight->size() != x->size())
    view.fail("convolves a value of " + std::to_string(x->size()) + " dimensions with a weight of " +
              std::to_string(weight->size()));
  const std::vector<std::int64_t> kernel(weight->begin() + 2, weight->end());
  if (view.node().ints_or("kernel_shape", kernel) != kernel) view.fail("has a kernel_shape other than its weight's");
  for (const auto extent : kernel)
    if (extent < 1 || extent > largest_parameter) view.fail("has an empty kernel");
  const auto group = view.node().int_or("group", 1);
  if (group < 1 || (*weight)[0] % group != 0) view.fail("has a group that does not divide its output channels");
  std::int64_t channels = 0;
  if (__builtin_mul_overflow((*weight)[1], group, &channels)) view.fail("has an absurd group");
  static_cast<void>(joined(view, (*x)[1], Extent::of(channels)));
  if (const auto* bias = view.shape(2))
    if (bias->size() != 1 || !bias->front().is((*weight)[0]))
      view.fail("has a bias that is not one number per output channel");
  view.set_shape(0, slid_shape(view, *x, Extent::of((*weight)[0]), read_slides(view, kernel)));
}

void pooling(NodeView& view) {
  const auto* x = view.shape(0);
  if (!x) return;
  if (x->size() < 3) view.fail("pools a value without spatial dimensions");
  const auto kernel = checked_list(view, "kernel_shape", x->size() - 2, 0, 1);
  const auto result = slid_shape(view, *x, (*x)[1], read_slides(view, kernel));
  view.set_shape(0, result);
  view.set_shape(1, result);
}

void global_pooling(NodeView& view) {
  const auto* x = view.shape(0);
  if (!x) return;
  if (x->size() < 3) view.fail("pools a value without spatial dimensions");
  Shape result(x->size(), Extent::of(1));
  result[0] = (*x)[0];
  result[1] = (*x)[1];
  view.set_shape(0, result);
}

} // namespace

void add_window_rules(Rules& rules) {
  rules["Conv"] = convolution;
  rules["MaxPool"] = rules["AveragePool"] = rules["LpPool"] = pooling;
  rules["GlobalAveragePool"] = rules["GlobalMaxPool"] = rules["GlobalLpPool"] = global_pooling;
}

} // namespace slr::graph
