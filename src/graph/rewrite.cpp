#include "slr/graph/rewrite.hpp"

#include "edit.hpp"
#include "forms.hpp"
#include "linear_node.hpp"
#include "shape_table.hpp"
#include "words.hpp"

#include <algorithm>
#include <iterator>
#include <map>

namespace slr::graph {
namespace {

constexpr std::int64_t split_sizes_are_an_input = 13; ///< operator set from which Split takes them so
constexpr std::int64_t gemm_needs_no_bias = 11;

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

  Form write() {
    const auto form = cheapest_form(layer_, factors_.rank, factors_.kept_groups).form;
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
    const auto area = layer_.window_area();
    const auto fits = [](const std::vector<float>& values, std::int64_t rows, std::int64_t cols) {
      return static_cast<std::int64_t>(values.size()) == rows * cols;
    };
    require(layer_.groups == 1 && factors_.rank >= 0 && kept_ <= channels_ &&
                fits(factors_.U, layer_.rows, factors_.rank) &&
                fits(factors_.V, factors_.rank, layer_.cols - kept_ * area) &&
                fits(factors_.B, layer_.rows, kept_ * area) && fits(factors_.bias, layer_.rows, 1),
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
    std::vector<float> whole(static_cast<std::size_t>(layer_.rows * layer_.cols));
    const auto area = layer_.window_area();
    const auto rest = rest_of(factors_.kept_groups, channels_);
    const auto kept_cols = kept_ * area, rest_cols = layer_.cols - kept_cols;
    std::vector<double> sum(static_cast<std::size_t>(rest_cols));
    for (std::int64_t i = 0; i < layer_.rows; ++i) {
      const auto row = whole.begin() + static_cast<std::ptrdiff_t>(i * layer_.cols);
      for (std::int64_t g = 0; g < kept_; ++g)
        std::copy_n(factors_.B.begin() + (i * kept_cols + g * area), area,
                    row + factors_.kept_groups[static_cast<std::size_t>(g)] * area);
      std::ranges::fill(sum, 0.0);
      for (std::int64_t k = 0; k < factors_.rank; ++k) {
        const double u = factors_.U[static_cast<std::size_t>(i * factors_.rank + k)];
        const auto* v = factors_.V.data() + k * rest_cols;
        for (std::size_t j = 0; j < sum.size(); ++j) sum[j] += u * v[j];
      }
      for (std::size_t g = 0; g < rest.size(); ++g)
        std::copy_n(sum.begin() + static_cast<std::ptrdiff_t>(g) * area, area, row + rest[g] * area);
    }
    add_linear(layer_.name, layer_.input, whole, layer_.rows, channels_, true, &factors_.bias, layer_.linear);
  }

  void write_low_rank(const std::string& input, std::int64_t channels, const std::vector<float>* bias,
                      const std::string& output) {
    const auto reduced = value(layer_.name + "/lowrank_v");
    add_linear(layer_.name + "/lowrank_v", input, factors_.V, factors_.rank, channels, true, nullptr, reduced);
    add_linear(layer_.name + "/lowrank_u", reduced, factors_.U, layer_.rows, factors_.rank, false, bias, output);
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

  std::string gathered(const std::vector<std::int64_t>& channels) {
    const auto output = value(layer_.name + "/order");
    const auto indices = add_initializer(layer_.name + "/order.indices",
                                         Tensor::of_int64s({static_cast<std::int64_t>(channels.size())}, channels));
    add_node(layer_.name + "/order", "Gather", {layer_.input, indices}, {output}).attributes["axis"] = channel_axis_;
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
    return add_initializer(name + ".bias", Tensor::of_floats(bias_dims_, bias));
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
  FormConstants constants;
  const auto form = FormWriter(model, layer, compressed, constants).write();
  for (const auto& other : layer.others) (void)FormWriter(model, other, compressed, constants).write();
  return form;
}

} // namespace slr::graph
