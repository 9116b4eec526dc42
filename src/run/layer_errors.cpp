#include "layer_errors.hpp"

#include "slr/linalg/blas.hpp"
#include "slr/run/features.hpp"

#include <algorithm>
#include <cmath>

namespace slr::run {
namespace {

constexpr std::int64_t piece_values = std::int64_t(1) << 20;

Error wrong(const store::LayerFactors& factors, const std::string& what) {
  return Error(ExitCode::bad_data, "layer " + factors.name + " of the factors: " + what + "; compress again");
}

template <class T>
T noted(const store::LayerFactors& factors, const std::string& key) {
  const auto found = factors.certificate.find(key);
  const auto* value = found == factors.certificate.end() ? nullptr : std::get_if<T>(&found->second);
  if (!value) throw wrong(factors, "the attribute " + key + " is missing or of another type");
  return *value;
}

/// The compressed layer before its activation, by its factors: W is never formed.
class FactoredLayer {
public:
  FactoredLayer(const store::LayerFactors& factors, const FactorShape& shape)
      : rows_(shape.rows), cols_(shape.cols), rank_(factors.u.cols), keeps_rows_(shape.grouping == Grouping::filter),
        u_(factors.u.values.begin(), factors.u.values.end()), v_(factors.v.values.begin(), factors.v.values.end()),
        b_(factors.b.values.begin(), factors.b.values.end()), bias_(factors.bias.begin(), factors.bias.end()) {
    const auto size = keeps_rows_ ? 1 : shape.group_columns;
    std::vector<bool> is_kept(static_cast<std::size_t>(keeps_rows_ ? rows_ : cols_), false);
    for (const auto group : factors.kept_groups) std::fill_n(is_kept.begin() + group * size, size, true);
    for (const bool wanted : {true, false})
      for (std::size_t j = 0; j < is_kept.size(); ++j)
        if (is_kept[j] == wanted) order_.push_back(static_cast<std::int64_t>(j));
    kept_ = static_cast<std::int64_t>(factors.kept_groups.size()) * size;
  }

  /// Z = U (V X_R) + B X_S + b, or with rows kept Z_F = B X + b_F and the others U (V X) + b; `x` is count x cols, the
  /// result count x rows, both row-major.
  [[nodiscard]] std::vector<double> values(const std::vector<float>& x, std::int64_t count) const {
    std::vector<double> inputs(x.begin(), x.begin() + count * cols_);
    for (std::int64_t s = 0; s < count && !keeps_rows_; ++s)
      for (std::int64_t j = 0; j < cols_; ++j)
        inputs[static_cast<std::size_t>(s * cols_ + j)] =
            x[static_cast<std::size_t>(s * cols_ + order_[static_cast<std::size_t>(j)])];
    const auto rest = keeps_rows_ ? 0 : kept_; // where the inputs of V begin
    const auto inner = product(v_, rank_, cols_ - rest, inputs.data() + rest, cols_, count);
    const auto of_rank = product(u_, keeps_rows_ ? rows_ - kept_ : rows_, rank_, inner.data(), rank_, count);
    const auto of_kept =
        product(b_, keeps_rows_ ? kept_ : rows_, keeps_rows_ ? cols_ : kept_, inputs.data(), cols_, count);
    std::vector<double> z;
    z.reserve(static_cast<std::size_t>(count * rows_));
    for (std::int64_t s = 0; s < count; ++s) z.insert(z.end(), bias_.begin(), bias_.end());
    if (!keeps_rows_) {
      for (std::size_t i = 0; i < z.size(); ++i) z[i] += of_rank[i] + of_kept[i];
      return z;
    }
    for (std::int64_t s = 0; s < count; ++s)
      for (std::int64_t i = 0; i < rows_; ++i)
        z[static_cast<std::size_t>(s * rows_ + order_[static_cast<std::size_t>(i)])] +=
            i < kept_ ? of_kept[static_cast<std::size_t>(s * kept_ + i)]
                      : of_rank[static_cast<std::size_t>(s * (rows_ - kept_) + i - kept_)];
    return z;
  }

private:
  /// A X for A (m x p) and the columns X, `lead` apart, row-major (the transposes of BLAS's column-major ones).
  static std::vector<double> product(const std::vector<double>& a, std::int64_t m, std::int64_t p, const double* x,
                                     std::int64_t lead, std::int64_t count) {
    std::vector<double> result(static_cast<std::size_t>(m * count), 0.0);
    if (m > 0 && p > 0 && count > 0)
      blas::gemm<double>(Op::transpose, Op::none, m, count, p, 1, a.data(), p, x, lead, 0, result.data(), m);
    return result;
  }

  std::int64_t rows_, cols_, rank_, kept_ = 0; ///< kept_: columns, or rows
  bool keeps_rows_;
  std::vector<double> u_, v_, b_, bias_;
  std::vector<std::int64_t> order_; ///< the kept columns or rows, then the others
};

struct Sum {
  double error = 0, norm = 0;
  std::int64_t samples = 0;
  [[nodiscard]] double relative() const { return norm > 0 ? error / norm : 0; }
};

} // namespace

FactorShape checked_shape(const store::LayerFactors& factors) {
  FactorShape shape{noted<std::int64_t>(factors, "rows"),
                    noted<std::int64_t>(factors, "cols"),
                    noted<std::int64_t>(factors, "group_columns"),
                    Grouping::channel,
                    {}};
  if (factors.certificate.contains("grouping")) { // files of earlier versions have none
    const auto grouping = grouping_from_text(noted<std::string>(factors, "grouping"));
    if (!grouping) throw wrong(factors, "the attribute grouping names none");
    shape.grouping = *grouping;
  }
  const auto activation = noted<std::string>(factors, "activation");
  try {
    shape.activation = slr::Activation::from_text(activation);
  } catch (const Error& error) {
    throw wrong(factors, error.what());
  }
  const auto &u = factors.u, &v = factors.v, &b = factors.b;
  const bool is_divided = shape.cols >= 1 && shape.group_columns >= 1 && shape.cols % shape.group_columns == 0;
  if (shape.rows < 1 || !is_divided) throw wrong(factors, "the attributes rows, cols and group_columns contradict");
  const auto groups = shape.grouping == Grouping::filter ? shape.rows : shape.cols / shape.group_columns;
  std::int64_t next = 0;
  for (const auto group : factors.kept_groups) {
    if (group < next || group >= groups)
      throw wrong(factors, shape.grouping == Grouping::filter
                               ? "kept_groups are not increasing numbers of output channels"
                               : "kept_groups are not increasing numbers of input channels");
    next = group + 1;
  }
  const auto sizes =
      factor_sizes(shape.grouping, shape.rows, shape.cols, shape.group_columns, std::ssize(factors.kept_groups));
  if (u.rows != sizes.u_rows || b.rows != sizes.b_rows || u.cols != v.rows || std::ssize(factors.bias) != shape.rows ||
      b.cols != sizes.b_cols || v.cols != sizes.v_cols)
    throw wrong(factors, "U, V, B or the bias do not have the sizes that rows, cols and kept_groups give");
  return shape;
}

LayerErrors layer_errors(const store::FeatureSet& features, const store::LayerFactors& factors, Judged judged) {
  const auto shape = checked_shape(factors);
  const auto& layer = features.layer(factors.name);
  if (layer.inputs != shape.cols || layer.outputs != shape.rows)
    throw wrong(factors, "the feature shards have " + std::to_string(layer.outputs) + " x " +
                             std::to_string(layer.inputs) + " values per sample");
  using store::Quantity;
  const auto inputs = features.has(factors.name, Quantity::inputs) ? Quantity::inputs : Quantity::original_inputs;
  const auto numbers = features.samples(factors.name);
  const auto piece = std::max<std::int64_t>(1, piece_values / (shape.rows + shape.cols));
  FactoredLayer factored(factors, shape);
  Sum train, heldout;
  for (std::int64_t first = 0; first < std::ssize(numbers); first += piece) {
    const auto count = std::min(piece, std::ssize(numbers) - first);
    const auto role_at = [&](std::int64_t s) {
      return role_of_image(image_of(numbers[static_cast<std::size_t>(first + s)], layer));
    };
    const auto is_judged = [&](std::int64_t s) {
      return role_at(s) == Role::report || (judged == Judged::both && role_at(s) == Role::fit);
    };
    bool is_any = false;
    for (std::int64_t s = 0; s < count && !is_any; ++s) is_any = is_judged(s);
    if (!is_any) continue;
    const auto x = features.read(factors.name, inputs, first, count);
    const auto y = features.read(factors.name, Quantity::outputs, first, count);
    const auto& z = factored.values(x, count);
    for (std::int64_t s = 0; s < count; ++s) {
      if (!is_judged(s)) continue;
      double error = 0, norm = 0;
      for (auto i = static_cast<std::size_t>(s * shape.rows); i < static_cast<std::size_t>((s + 1) * shape.rows); ++i) {
        const double target = y[i], d = target - shape.activation(z[i]);
        error += d * d;
        norm += target * target;
      }
      auto& sum = role_at(s) == Role::report ? heldout : train;
      sum.error += error;
      sum.norm += norm;
      ++sum.samples;
    }
  }
  return {train.relative(), heldout.relative(), train.samples, heldout.samples};
}

bool is_same_error(double a, double b) {
  constexpr double relative = 1e-3, absolute = 1e-7;
  return std::abs(a - b) <= std::max(relative * std::max(a, b), absolute); // false for what is not a number
}

} // namespace slr::run
