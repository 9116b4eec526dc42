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
      : rows_(shape.rows), cols_(shape.cols), rank_(factors.u.cols),
        u_(factors.u.values.begin(), factors.u.values.end()), v_(factors.v.values.begin(), factors.v.values.end()),
        b_(factors.b.values.begin(), factors.b.values.end()), bias_(factors.bias.begin(), factors.bias.end()) {
    std::vector<bool> is_kept(static_cast<std::size_t>(cols_), false);
    for (const auto group : factors.kept_groups)
      std::fill_n(is_kept.begin() + group * shape.group_columns, shape.group_columns, true);
    for (const bool wanted : {true, false})
      for (std::int64_t j = 0; j < cols_; ++j)
        if (is_kept[static_cast<std::size_t>(j)] == wanted) order_.push_back(j);
    kept_ = static_cast<std::int64_t>(factors.kept_groups.size()) * shape.group_columns;
  }

  /// Z = U (V X_R) + B X_S + b; `x` is count x cols, the result count x rows, both row-major.
  [[nodiscard]] const std::vector<double>& values(const std::vector<float>& x, std::int64_t count) {
    ordered_.resize(static_cast<std::size_t>(count * cols_));
    for (std::int64_t s = 0; s < count; ++s)
      for (std::int64_t j = 0; j < cols_; ++j)
        ordered_[static_cast<std::size_t>(s * cols_ + j)] =
            x[static_cast<std::size_t>(s * cols_ + order_[static_cast<std::size_t>(j)])];
    bottleneck_.resize(static_cast<std::size_t>(count * rank_));
    z_.clear();
    for (std::int64_t s = 0; s < count; ++s) z_.insert(z_.end(), bias_.begin(), bias_.end());
    // Row-major matrices are the transposes of BLAS's column-major ones; the samples are its columns.
    const auto rest = cols_ - kept_;
    const auto lead = [](std::int64_t extent) { return std::max<std::int64_t>(1, extent); };
    blas::gemm<double>(Op::transpose, Op::none, rank_, count, rest, 1, v_.data(), lead(rest), ordered_.data() + kept_,
                       cols_, 0, bottleneck_.data(), lead(rank_));
    blas::gemm<double>(Op::transpose, Op::none, rows_, count, rank_, 1, u_.data(), lead(rank_), bottleneck_.data(),
                       lead(rank_), 1, z_.data(), rows_);
    blas::gemm<double>(Op::transpose, Op::none, rows_, count, kept_, 1, b_.data(), lead(kept_), ordered_.data(), cols_,
                       1, z_.data(), rows_);
    return z_;
  }

private:
  std::int64_t rows_, cols_, rank_, kept_ = 0;
  std::vector<double> u_, v_, b_, bias_;
  std::vector<std::int64_t> order_; ///< the kept columns, then the others
  std::vector<double> ordered_, bottleneck_, z_;
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
                    {}};
  const auto activation = noted<std::string>(factors, "activation");
  try {
    shape.activation = slr::Activation::from_text(activation);
  } catch (const Error& error) {
    throw wrong(factors, error.what());
  }
  const auto &u = factors.u, &v = factors.v, &b = factors.b;
  const bool is_divided = shape.cols >= 1 && shape.group_columns >= 1 && shape.cols % shape.group_columns == 0;
  if (shape.rows < 1 || !is_divided) throw wrong(factors, "the attributes rows, cols and group_columns contradict");
  std::int64_t next = 0;
  for (const auto group : factors.kept_groups) {
    if (group < next || group >= shape.cols / shape.group_columns)
      throw wrong(factors, "kept_groups are not increasing numbers of input channels");
    next = group + 1;
  }
  if (u.rows != shape.rows || b.rows != shape.rows || u.cols != v.rows || std::ssize(factors.bias) != shape.rows ||
      b.cols != std::ssize(factors.kept_groups) * shape.group_columns || v.cols != shape.cols - b.cols)
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
