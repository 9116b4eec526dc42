#include "slr/graph/rewrite.hpp"

#include "edit.hpp"
#include "forms.hpp"
#include "linear_node.hpp"
#include "shape_table.hpp"
#include "words.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <optional>

namespace slr::graph {
namespace {

constexpr std::int64_t split_sizes_are_an_input = 13; ///< operator set from which Split takes them so
constexpr std::int64_t gemm_needs_no_bias = 11, pads_are_an_input = 11;

/// The linear node that makes the layer's value, wherever it is by now.
LinearNode find_linear(const Model& model, const Layer& layer) {
  for (std::size_t i = 0; i < model.nodes.size(); ++i)
    if (const auto linear = linear_node(model, i); linear && linear->output(model) == layer.linear) {
      require(linear->rows == layer.rows && linear->cols == layer.cols, "a layer was changed since it was found");
      return *linear;
    }
  throw Error(ExitCode::bug, "internal error: the layer " + in_quotes(layer.name) + " is not in the model");
}

/// Names of the initializers that a form has, by what follows the layer's name.
using FormConstants = std::map<std::string, std::string>;

/// The matrix that the factors stand for, row-major.
std::vector<float> whole_weights(const Layer& layer, const CompressedLayer& factors) {
  const auto kept = std::ssize(factors.kept_groups), size = layer.group_columns();
  const auto sizes = layer.factor_sizes(kept);
  const auto rest = rest_of(factors.kept_groups, layer.group_count());
  std::vector<float> whole(static_cast<std::size_t>(layer.rows * layer.cols));
  std::vector<double> sum(static_cast<std::size_t>(sizes.v_cols));
  const auto row_of_product = [&](std::int64_t i) { // of U V
    std::ranges::fill(sum, 0.0);
    for (std::int64_t k = 0; k < factors.rank; ++k) {
      const double u = factors.U[static_cast<std::size_t>(i * factors.rank + k)];
      const auto* v = factors.V.data() + k * sizes.v_cols;
      for (std::size_t j = 0; j < sum.size(); ++j) sum[j] += u * v[j];
    }
  };
  if (layer.grouping == Grouping::filter) {
    for (std::int64_t f = 0; f < kept; ++f)
      std::copy_n(factors.B.begin() + f * layer.cols, layer.cols,
                  whole.begin() + factors.kept_groups[static_cast<std::size_t>(f)] * layer.cols);
    for (std::size_t i = 0; i < rest.size(); ++i) {
      row_of_product(static_cast<std::int64_t>(i));
      std::copy(sum.begin(), sum.end(), whole.begin() + rest[i] * layer.cols);
    }
    return whole;
  }
  for (std::int64_t i = 0; i < layer.rows; ++i) {
    const auto row = whole.begin() + static_cast<std::ptrdiff_t>(i * layer.cols);
    for (std::int64_t g = 0; g < kept; ++g)
      std::copy_n(factors.B.begin() + (i * sizes.b_cols + g * size), size,
                  row + factors.kept_groups[static_cast<std::size_t>(g)] * size);
    row_of_product(i);
    for (std::size_t g = 0; g < rest.size(); ++g)
      std::copy_n(sum.begin() + static_cast<std::ptrdiff_t>(g) * size, size, row + rest[g] * size);
  }
  return whole;
}

/// Kept columns as kept channels: the whole channels that they belong to. The same matrix.
CompressedLayer as_channels(const Layer& layer, const CompressedLayer& factors) {
  const auto area = layer.window_area();
  const auto whole = whole_weights(layer, factors);
  CompressedLayer result = factors;
  result.grouping = Grouping::channel;
  result.kept_groups = channels_of(factors.kept_groups, area);
  result.V.clear();
  result.B.clear();
  const auto is_kept = [&](std::int64_t column) {
    return std::ranges::binary_search(result.kept_groups, column / area);
  };
  for (std::int64_t i = 0; i < layer.rows; ++i)
    for (std::int64_t j = 0; j < layer.cols; ++j)
      if (is_kept(j)) result.B.push_back(whole[static_cast<std::size_t>(i * layer.cols + j)]);
  const auto rest = rest_of(factors.kept_groups, layer.cols);
  for (std::int64_t k = 0; k < factors.rank; ++k)
    for (std::size_t j = 0; j < rest.size(); ++j)
      if (!is_kept(rest[j])) result.V.push_back(factors.V[static_cast<std::size_t>(k) * rest.size() + j]);
  return result;
}

/// Collects the nodes of one form; those go into the model at the place of the old node.
class FormWriter {
public:
  /// What is in `constants` is read, what is not is added to it.
  FormWriter(Model& model, const Layer& layer, const CompressedLayer& factors, FormConstants& constants)
      : model_(model), layer_(layer), factors_(factors), constants_(constants), linear_(find_linear(model, layer)),
        original_(model.nodes[linear_.node]), channels_(layer.cols / layer.window_area()),
        kept_(static_cast<std::int64_t>(factors.kept_groups.size())) {
    check_sizes();
    if (linear_.bias_add)
      bias_dims_ = model.initializers.at(linear_.bias_name).dims;
    else
      bias_dims_ = {layer.rows};
  }

  Form write(Form form) {
    remove_old();
    switch (form) {
    case Form::dense:
      write_dense();
      break;
    case Form::low_rank:
      write_low_rank(layer_.input, channels_, &factors_.bias, layer_.linear);
      break;
    case Form::kept:
      write_kept(gathered(factors_.kept_groups), layer_.linear);
      break;
    case Form::mixed:
      write_mixed();
      break;
    case Form::columns:
      write_columns();
      break;
    case Form::filters:
      write_filters();
      break;
    case Form::bias_only:
      write_bias_only();
      break;
    }
    model_.nodes.insert(model_.nodes.begin() + static_cast<std::ptrdiff_t>(place_), std::move_iterator(nodes_.begin()),
                        std::move_iterator(nodes_.end()));
    remove_dead(model_);
    return form;
  }

private:
  [[nodiscard]] bool is_convolution() const { return layer_.kind == LayerKind::convolution; }

  void check_sizes() const {
    const auto sizes = layer_.factor_sizes(kept_);
    const auto fits = [](const std::vector<float>& values, std::int64_t rows, std::int64_t cols) {
      return static_cast<std::int64_t>(values.size()) == rows * cols;
    };
    require(layer_.groups == 1 && factors_.rank >= 0 && kept_ <= layer_.group_count() &&
                fits(factors_.U, sizes.u_rows, factors_.rank) && fits(factors_.V, factors_.rank, sizes.v_cols) &&
                fits(factors_.B, sizes.b_rows, sizes.b_cols) && fits(factors_.bias, layer_.rows, 1),
            "the factors do not fit the layer " + in_quotes(layer_.name));
  }

  /// Takes the node out, and the Add that held its bias; names it used become free where nobody else reads them.
  void remove_old() {
    channel_axis_ = find_channel_axis();
    place_ = linear_.node;
    std::vector<bool> is_erased(model_.nodes.size(), false);
    is_erased[linear_.node] = true;
    if (linear_.bias_add) is_erased[*linear_.bias_add] = true;
    erase_nodes(model_, is_erased);
    for (const auto& name : {linear_.weight, linear_.bias_name})
      if (uses_of(model_, name) == 0) model_.initializers.erase(name);
  }

  /// The input's dimension that holds the channels.
  [[nodiscard]] std::int64_t find_channel_axis() const {
    if (original_.op != "MatMul") return 1;
    const auto table = symbolic_shapes(model_);
    const auto* shape = table.shape(layer_.input);
    return shape ? static_cast<std::int64_t>(shape->size()) - 1 : -1;
  }

  void write_dense() {
    add_linear(layer_.name, layer_.input, whole_weights(layer_, factors_), layer_.rows, channels_, true, &factors_.bias,
               layer_.linear);
  }

  void write_low_rank(const std::string& input, std::int64_t channels, const std::vector<float>* bias,
                      const std::string& output) {
    write_product(input, channels, factors_.V, factors_.U, layer_.rows, factors_.rank, bias, output);
  }

  void write_product(const std::string& input, std::int64_t channels, const std::vector<float>& v,
                     const std::vector<float>& u, std::int64_t rows, std::int64_t rank, const std::vector<float>* bias,
                     const std::string& output) {
    const auto reduced = value(layer_.name + "/lowrank_v");
    add_linear(layer_.name + "/lowrank_v", input, v, rank, channels, true, nullptr, reduced);
    add_linear(layer_.name + "/lowrank_u", reduced, u, rows, rank, false, bias, output);
  }

  void write_kept(const std::string& input, const std::string& output) {
    add_linear(layer_.name + "/kept", input, factors_.B, layer_.rows, kept_, true, &factors_.bias, output);
  }

  void write_mixed() {
    const auto placement = placement_of(factors_.kept_groups, channels_);
    auto input = layer_.input;
    if (placement == Placement::scattered) {
      auto order = factors_.kept_groups;
      const auto rest = rest_of(order, channels_);
      order.insert(order.end(), rest.begin(), rest.end());
      input = gathered(order);
    }
    const auto kept_part = value(layer_.name + "/split_kept"), rest_part = value(layer_.name + "/split_rest");
    if (placement == Placement::last)
      add_split(input, {rest_part, kept_part}, {channels_ - kept_, kept_});
    else
      add_split(input, {kept_part, rest_part}, {kept_, channels_ - kept_});
    const auto kept_sum = value(layer_.name + "/kept"), low_rank_sum = value(layer_.name + "/lowrank_u");
    write_kept(kept_part, kept_sum);
    write_low_rank(rest_part, channels_ - kept_, nullptr, low_rank_sum);
    add_node(layer_.name + "/add", "Add", {kept_sum, low_rank_sum}, {layer_.linear});
  }

  /// The kept columns' inputs, place after place of the kernel, for a 1x1 convolution.
  void write_columns() {
    std::vector<std::string> pieces;
    std::vector<std::int64_t> order; // of the columns of B
    for (const auto& place : places_of(layer_, factors_.kept_groups)) {
      const auto suffix = "_" + std::to_string(place.number);
      auto piece = layer_.input;
      if (std::ssize(place.channels) < channels_) piece = gathered(place.channels, "/order" + suffix);
      if (place.is_shifted()) piece = shifted(piece, place, "/shift" + suffix);
      pieces.push_back(piece);
      order.insert(order.end(), place.columns.begin(), place.columns.end());
    }
    auto input = pieces.front();
    if (pieces.size() > 1) {
      input = value(layer_.name + "/columns");
      add_node(layer_.name + "/columns", "Concat", pieces, {input}).attributes["axis"] = std::int64_t(1);
    }
    std::vector<float> weights;
    for (std::int64_t i = 0; i < layer_.rows; ++i)
      for (const auto column : order) weights.push_back(factors_.B[static_cast<std::size_t>(i * kept_ + column)]);
    const bool is_alone = factors_.rank == 0;
    const auto kept_sum = is_alone ? layer_.linear : value(layer_.name + "/kept");
    add_linear(layer_.name + "/kept", input, weights, layer_.rows, kept_, false, &factors_.bias, kept_sum);
    nodes_.back().attributes["strides"] =
        std::vector<std::int64_t>(layer_.window.strides.begin(), layer_.window.strides.end());
    if (is_alone) return;
    const auto rest = rest_of(factors_.kept_groups, layer_.cols);
    std::vector<float> v(static_cast<std::size_t>(factors_.rank * layer_.cols), 0.0F); // zeros on the kept columns
    for (std::int64_t k = 0; k < factors_.rank; ++k)
      for (std::size_t j = 0; j < rest.size(); ++j)
        v[static_cast<std::size_t>(k * layer_.cols + rest[j])] =
            factors_.V[static_cast<std::size_t>(k) * rest.size() + j];
    const auto low_rank_sum = value(layer_.name + "/lowrank_u");
    write_product(layer_.input, channels_, v, factors_.U, layer_.rows, factors_.rank, nullptr, low_rank_sum);
    add_node(layer_.name + "/add", "Add", {kept_sum, low_rank_sum}, {layer_.linear});
  }

  void write_filters() {
    const auto rest = rest_of(factors_.kept_groups, layer_.rows);
    const auto bias_of = [&](const std::vector<std::int64_t>& rows) {
      std::vector<float> bias;
      for (const auto row : rows) bias.push_back(factors_.bias[static_cast<std::size_t>(row)]);
      return bias;
    };
    const auto kept_part = value(layer_.name + "/kept"), rest_part = value(layer_.name + "/lowrank_u");
    const auto kept_bias = bias_of(factors_.kept_groups), rest_bias = bias_of(rest);
    add_linear(layer_.name + "/kept", layer_.input, factors_.B, kept_, channels_, true, &kept_bias, kept_part);
    const auto rank = std::max<std::int64_t>(1, factors_.rank);
    auto u = factors_.U, v = factors_.V;
    u.resize(rest.size() * static_cast<std::size_t>(rank), 0.0F);
    v.resize(static_cast<std::size_t>(rank * layer_.cols), 0.0F);
    write_product(layer_.input, channels_, v, u, std::ssize(rest), rank, &rest_bias, rest_part);
    const auto placement = placement_of(factors_.kept_groups, layer_.rows);
    const bool is_scattered = placement == Placement::scattered;
    const auto joined = is_scattered ? value(layer_.name + "/join") : layer_.linear;
    const auto parts =
        placement == Placement::last ? std::vector{rest_part, kept_part} : std::vector{kept_part, rest_part};
    add_node(layer_.name + "/join", "Concat", parts, {joined}).attributes["axis"] = channel_axis_;
    if (!is_scattered) return;
    auto order = factors_.kept_groups; // row order[i] is the i-th of the joined ones
    order.insert(order.end(), rest.begin(), rest.end());
    std::vector<std::int64_t> place(order.size());
    for (std::size_t i = 0; i < order.size(); ++i) place[static_cast<std::size_t>(order[i])] = std::int64_t(i);
    add_gather(joined, place, "/order", layer_.linear);
  }

  /// One channel through the window with zero weights has the right spatial shape; the bias widens it to all channels.
  void write_bias_only() {
    const auto input = channels_ > 1 ? gathered({0}) : layer_.input;
    const auto zeros = value(layer_.name + "/zero");
    const std::vector<float> zero_kernel(static_cast<std::size_t>(layer_.window_area()), 0.0F);
    add_linear(layer_.name + "/zero", input, zero_kernel, 1, 1, true, nullptr, zeros);
    const auto dims = is_convolution() ? Dims{layer_.rows, 1, 1} : bias_dims_;
    const auto bias = add_initializer(layer_.name + "/add.bias", Tensor::of_floats(dims, factors_.bias));
    add_node(layer_.name + "/add", "Add", {zeros, bias}, {layer_.linear});
  }

  std::string gathered(const std::vector<std::int64_t>& channels, const std::string& name = "/order") {
    return add_gather(layer_.input, channels, name, value(layer_.name + name));
  }

  std::string add_gather(const std::string& input, const std::vector<std::int64_t>& channels, const std::string& name,
                         const std::string& output) {
    const auto indices = add_initializer(layer_.name + name + ".indices",
                                         Tensor::of_int64s({static_cast<std::int64_t>(channels.size())}, channels));
    add_node(layer_.name + name, "Gather", {input, indices}, {output}).attributes["axis"] = channel_axis_;
    return output;
  }

  std::string shifted(const std::string& input, const KeptPlace& place, const std::string& name) {
    const auto& p = place.pads;
    const std::vector<std::int64_t> pads{0, 0, p[0], p[1], 0, 0, p[2], p[3]};
    auto output = value(layer_.name + name);
    const bool is_attribute = model_.opset() < pads_are_an_input;
    std::vector<std::string> inputs{input};
    if (!is_attribute) inputs.push_back(add_initializer(layer_.name + name + ".pads", Tensor::of_int64s({8}, pads)));
    auto& node = add_node(layer_.name + name, "Pad", inputs, {output});
    if (is_attribute) node.attributes["pads"] = pads;
    return output;
  }

  void add_split(const std::string& input, const std::vector<std::string>& outputs,
                 const std::vector<std::int64_t>& sizes) {
    auto& node = add_node(layer_.name + "/split", "Split", {input}, outputs);
    node.attributes["axis"] = channel_axis_;
    if (model_.opset() < split_sizes_are_an_input) {
      node.attributes["split"] = sizes;
      return;
    }
    const auto name = add_initializer(layer_.name + "/split.sizes", Tensor::of_int64s({2}, sizes));
    nodes_.back().inputs.push_back(name);
  }

  /// A node of the layer's kind: weights rows x (channels * area of the window), or of 1x1 without the window.
  void add_linear(const std::string& name, const std::string& input, const std::vector<float>& weights,
                  std::int64_t rows, std::int64_t channels, bool has_window, const std::vector<float>* bias,
                  const std::string& output) {
    if (is_convolution())
      add_convolution(name, input, weights, rows, channels, has_window, bias, output);
    else if (original_.op == "Gemm" && (bias || model_.opset() >= gemm_needs_no_bias))
      add_gemm(name, input, weights, rows, channels, bias, output);
    else
      add_matmul(name, input, weights, rows, channels, bias, output);
  }

  void add_convolution(const std::string& name, const std::string& input, const std::vector<float>& weights,
                       std::int64_t rows, std::int64_t channels, bool has_window, const std::vector<float>* bias,
                       const std::string& output) {
    const std::vector<std::int64_t> kernel =
        has_window ? std::vector<std::int64_t>(layer_.window.kernel.begin(), layer_.window.kernel.end())
                   : std::vector<std::int64_t>{1, 1};
    std::vector<std::string> inputs{
        input, add_initializer(name + ".weight", Tensor::of_floats({rows, channels, kernel[0], kernel[1]}, weights))};
    if (bias) inputs.push_back(add_bias(name, *bias));
    auto& node = add_node(name, "Conv", inputs, {output});
    if (has_window) node.attributes = original_.attributes;
    node.attributes["kernel_shape"] = kernel;
    node.attributes.erase("group");
  }

  void add_gemm(const std::string& name, const std::string& input, const std::vector<float>& weights, std::int64_t rows,
                std::int64_t cols, const std::vector<float>* bias, const std::string& output) {
    std::vector<std::string> inputs{input, add_initializer(name + ".weight", Tensor::of_floats({rows, cols}, weights))};
    if (bias) inputs.push_back(add_bias(name, *bias));
    add_node(name, "Gemm", inputs, {output}).attributes["transB"] = std::int64_t(1);
  }

  void add_matmul(const std::string& name, const std::string& input, const std::vector<float>& weights,
                  std::int64_t rows, std::int64_t cols, const std::vector<float>* bias, const std::string& output) {
    std::vector<float> transposed(weights.size());
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < cols; ++j)
        transposed[static_cast<std::size_t>(j * rows + i)] = weights[static_cast<std::size_t>(i * cols + j)];
    const auto weight = add_initializer(name + ".weight", Tensor::of_floats({cols, rows}, transposed));
    const auto product = bias ? value(name + "/product") : output;
    add_node(name, "MatMul", {input, weight}, {product});
    if (bias) add_node(name + "/bias", "Add", {product, add_bias(name, *bias)}, {output});
  }

  std::string add_bias(const std::string& name, const std::vector<float>& bias) {
    const auto dims = std::ssize(bias) == layer_.rows ? bias_dims_ : Dims{std::ssize(bias)};
    return add_initializer(name + ".bias", Tensor::of_floats(dims, bias));
  }

  /// Of this name, or the one that another node with the same weights has already.
  std::string add_initializer(const std::string& wanted, Tensor tensor) {
    auto& name = constants_[wanted.substr(layer_.name.size())];
    if (name.empty()) {
      name = unused_value_name(model_, wanted);
      model_.initializers[name] = std::move(tensor);
    }
    return name;
  }

  [[nodiscard]] std::string value(const std::string& wanted) const { return unused_value_name(model_, wanted); }

  Node& add_node(const std::string& name, const std::string& op, std::vector<std::string> inputs,
                 std::vector<std::string> outputs) {
    nodes_.push_back({unused_node_name(model_, name), op, "", std::move(inputs), std::move(outputs), {}});
    return nodes_.back();
  }

  Model& model_;
  const Layer& layer_;
  const CompressedLayer& factors_;
  FormConstants& constants_;
  const LinearNode linear_;
  const Node original_;
  const std::int64_t channels_, kept_;
  Dims bias_dims_;
  std::int64_t channel_axis_ = 1;
  std::size_t place_ = 0;
  std::vector<Node> nodes_;
};

} // namespace

Form replace_layer(Model& model, const Layer& layer, const CompressedLayer& compressed) {
  auto own = layer;
  own.grouping = compressed.grouping;
  const auto form = cheapest_form(own, compressed.rank, compressed.kept_groups).form;
  std::optional<CompressedLayer> channels; // columns that are dearer alone
  if (own.grouping == Grouping::column && form != Form::columns && form != Form::dense) {
    channels = as_channels(own, compressed);
    own.grouping = Grouping::channel;
  }
  FormConstants constants;
  for (const auto* use : own.uses()) {
    auto here = *use;
    here.grouping = own.grouping;
    FormWriter(model, here, channels ? *channels : compressed, constants).write(form);
  }
  return form;
}

} // namespace slr::graph
