#include "slr/layer/factored_splitting.hpp"

#include "input_products.hpp"
#include "wide_vectors.hpp"

#include "slr/layer/block_sums.hpp"
#include "slr/linalg/blas.hpp"
#include "slr/mpi/exact_sum.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace slr {
namespace {

constexpr std::size_t norm_count = 3; // loss, primal, dual
constexpr int no_value_exponent = -300;

/// A power of two that is at least twice the root of a sum of squares: no single value of this pass exceeds half of it,
/// and one of the next pass only if it is twice as large as all of this pass' together.
int bounding_exponent(double sum_of_squares) {
  return sum_of_squares > 0 ? std::ilogb(sum_of_squares) / 2 + 2 : no_value_exponent;
}

std::vector<int> doubled(std::vector<int> exponents) {
  for (int& e : exponents) e *= 2;
  return exponents;
}

constexpr std::array<int, 1> one_column{0};

/// Z' = Z + beta (Z - Z_previous); Z_previous becomes Z, and the rows' sums grow.
SLR_WIDE_VECTORS
void extrapolate(std::size_t n, float beta, const float* __restrict z, float* __restrict previous,
                 float* __restrict point, double* __restrict primal) {
  for (std::size_t i = 0; i < n; ++i) {
    const float moved = z[i] - previous[i];
    primal[i] += static_cast<double>(moved) * static_cast<double>(moved);
    point[i] = z[i] + beta * moved;
    previous[i] = z[i];
  }
}

/// One sample's values, a row each.
struct SampleValues {
  const float *y, *activated, *point, *gradient, *mean, *limit;
};

/// T = Z' - step gradient, centred, and the rows' sums.
SLR_WIDE_VECTORS
void update_sample(std::size_t n, float step, const SampleValues& in, float* __restrict targets,
                   float* __restrict centred, double* __restrict loss, double* __restrict change,
                   double* __restrict sum, double* __restrict square) {
  for (std::size_t i = 0; i < n; ++i) {
    const float off_target = in.y[i] - in.activated[i], target = in.point[i] - step * in.gradient[i];
    const float changed = target - targets[i];
    const float t = std::min(std::max(target - in.mean[i], -in.limit[i]), in.limit[i]);
    loss[i] += static_cast<double>(off_target) * static_cast<double>(off_target);
    change[i] += static_cast<double>(changed) * static_cast<double>(changed);
    sum[i] += static_cast<double>(t);
    square[i] += static_cast<double>(t) * static_cast<double>(t);
    targets[i] = target;
    centred[i] = t;
  }
}

} // namespace

FactoredSplitting::FactoredSplitting(const Communicator& comm, const LayerProblem& problem, const InputScale& scale,
                                     const LayerStatistics& statistics, double rho)
    : comm_(comm), problem_(problem), statistics_(statistics), rho_(rho), values_(problem.fit.linear),
      targets_(problem.fit.linear), input_exponent_(scale.exponent) {
  for (int& e : input_exponent_) ++e; // centred values reach at most twice as far
  // The first T may be several times the largest original value of its row; what is beyond is cut off.
  std::vector<double> largest(static_cast<std::size_t>(problem.rows), 0.0);
  for (std::size_t i = 0; i < values_.size(); ++i) {
    auto& here = largest[i % largest.size()];
    here = std::max(here, std::abs(double(values_[i])));
  }
  comm_.allreduce(std::span<double>(largest), Reduction::max);
  for (const double value : largest)
    target_exponent_.push_back(value > 0 ? std::ilogb(value) + 4 : no_value_exponent + 4);
}

/// What one pass fills.
struct FactoredSplitting::Work {
  Work(const std::vector<int>& rows, const std::vector<int>& features, const std::vector<int>& kept, std::int64_t terms)
      : basis(rows, features, terms), dense(rows, kept, terms), row_sums(rows, one_column, terms),
        row_squares(doubled(rows), one_column, terms) {
    for (const int e : rows) limit.push_back(std::ldexp(1.0F, e));
  }
  BlockSums basis, dense, row_sums, row_squares;
  std::array<ExactSum, norm_count> norms;
  std::vector<float> limit; ///< of |T - mean|, per row
  FactoredValues values;
  float beta = 0;
  std::vector<float> point, gradient, activated;       ///< of one sample
  std::vector<double> loss, primal, dual, sum, square; ///< of one block, per row
  std::vector<float> target, product;
  bool has_failed = false;
};

void FactoredSplitting::update_block(const FactoredMap& map, std::int64_t first, std::int64_t count, Work& work) {
  const auto n = static_cast<std::size_t>(problem_.rows);
  const auto size = n * static_cast<std::size_t>(count), begin = n * static_cast<std::size_t>(first);
  const float* const features =
      features_.apply(map, problem_.fit.x.data() + first * problem_.cols, first, count, work.values);
  for (auto* values : {&work.point, &work.gradient, &work.activated}) values->resize(n);
  work.target.resize(size);
  for (auto* rows : {&work.loss, &work.primal, &work.dual, &work.sum, &work.square}) rows->assign(n, 0.0);
  for (std::size_t s = 0; s < size; s += n) { // sample by sample: what is between two steps stays in the cache
    const auto y = std::span<const float>(problem_.fit.y).subspan(begin + s, n);
    const auto z = std::span<const float>(work.values.z).subspan(s, n);
    problem_.activation.apply(z, work.activated);
    extrapolate(n, work.beta, z.data(), values_.data() + begin + s, work.point.data(), work.primal.data());
    problem_.activation.differentiate_loss(work.point, y, work.gradient);
    update_sample(
        n, static_cast<float>(1 / rho_),
        {y.data(), work.activated.data(), work.point.data(), work.gradient.data(), map.mean.data(), work.limit.data()},
        targets_.data() + begin + s, work.target.data() + s, work.loss.data(), work.dual.data(), work.sum.data(),
        work.square.data());
  }
  std::array<double, norm_count> norms{};
  for (std::size_t i = 0; i < n; ++i) {
    norms[0] += work.loss[i];
    norms[1] += work.primal[i];
    norms[2] += work.dual[i];
  }
  if (!std::isfinite(norms[0] + norms[1] + norms[2])) {
    work.has_failed = true;
    return;
  }
  for (std::size_t i = 0; i < norm_count; ++i) work.norms[i].add(norms[i]);
  work.row_sums.add(std::span<const double>(work.sum));
  work.row_squares.add(std::span<const double>(work.square));
  const auto multiply = [&](std::int64_t columns, const float* right, BlockSums& into) {
    if (columns == 0) return;
    work.product.resize(n * static_cast<std::size_t>(columns));
    blas::gemm(Op::none, Op::transpose, problem_.rows, columns, count, 1.0F, work.target.data(), problem_.rows, right,
               columns, 0.0F, work.product.data(), problem_.rows);
    into.add(std::span<const float>(work.product));
  };
  multiply(map.basis_size, features, work.basis);
  multiply(std::ssize(map.kept_columns), work.values.kept.data(), work.dense);
}

/// Nesterov's next t for the next pass, from the beginning where the loss has risen.
void FactoredSplitting::adapt_momentum(double loss) {
  const bool has_risen = last_rank_ >= 0 && loss > last_loss_;
  age_ = has_risen || age_ == 0 ? 1 : (1 + std::sqrt(1 + 4 * age_ * age_)) / 2;
  last_loss_ = loss;
}

FactoredCross FactoredSplitting::advance(const FactoredMap& map) {
  const auto n = static_cast<std::size_t>(problem_.rows);
  std::vector<int> kept_exponent;
  for (const auto j : map.kept_columns) kept_exponent.push_back(input_exponent_[static_cast<std::size_t>(j)]);
  Work work(target_exponent_, std::vector<int>(static_cast<std::size_t>(map.basis_size), map.feature_exponent),
            kept_exponent, statistics_.samples);
  if (map.numerical_rank != last_rank_) age_ = 0; // what was extrapolated from is of another structure
  if (age_ > 0) work.beta = static_cast<float>((age_ - 1) / ((1 + std::sqrt(1 + 4 * age_ * age_)) / 2));
  features_.begin(map, problem_.fit.count);
  for_each_sample_block(problem_.fit, [&](std::int64_t first, std::int64_t count) {
    if (!work.has_failed) update_block(map, first, count, work);
  });

  // One reduction: the products, the rows' sums and squares, the norms, who failed.
  std::vector<double> all;
  for (auto* part : {&work.basis, &work.dense, &work.row_sums, &work.row_squares})
    all.insert(all.end(), part->values().begin(), part->values().end());
  const auto norms_at = all.size();
  all.resize(norms_at + norm_count * ExactSum::digits + 1, 0.0);
  const auto norm = [&](std::size_t i) {
    return std::span<double>(all).subspan(norms_at + i * ExactSum::digits, ExactSum::digits);
  };
  for (std::size_t i = 0; i < norm_count; ++i) work.norms[i].pack(norm(i));
  all.back() = work.has_failed ? 1 : 0;
  comm_.allreduce(std::span<double>(all));
  if (all.back() > 0)
    throw Error(ExitCode::numerical, "layer " + problem_.name +
                                         ": the iteration diverged (a value is not finite); use a larger budget, or "
                                         "keep the layer dense (budget.keep)");

  const double samples = static_cast<double>(std::max<std::int64_t>(1, statistics_.samples));
  FactoredCross result;
  auto from = all.begin();
  const auto take = [&](std::size_t count) {
    std::vector<double> part(from, from + static_cast<std::ptrdiff_t>(count));
    from += static_cast<std::ptrdiff_t>(count);
    return part;
  };
  result.features = take(n * static_cast<std::size_t>(map.basis_size));
  result.kept = take(n * map.kept_columns.size());
  result.target_mean = take(n);
  const auto squares = take(n);
  // T and X were centred to single precision: what that leaves of their means is far below a product's rounding.
  for (double& v : result.features) v /= samples;
  for (double& v : result.kept) v /= samples;
  for (std::size_t i = 0; i < n; ++i)
    result.target_mean[i] = static_cast<double>(map.mean[i]) + result.target_mean[i] / samples;
  for (std::size_t i = 0; i < n; ++i) target_exponent_[i] = bounding_exponent(squares[i]);
  target_mean_ = result.target_mean;
  result.loss = ExactSum::unpack(norm(0)).value();
  result.primal_squared = ExactSum::unpack(norm(1)).value();
  result.dual_squared = rho_ * rho_ * ExactSum::unpack(norm(2)).value();
  adapt_momentum(result.loss);
  last_rank_ = map.numerical_rank;
  return result;
}

std::vector<float> FactoredSplitting::project_target(std::span<const double> q) const {
  const std::int64_t n = problem_.rows, size = std::ssize(q) / std::max<std::int64_t>(1, n);
  const std::vector<float> basis(q.begin(), q.end()), mean(target_mean_.begin(), target_mean_.end());
  std::vector<float> target, projected(static_cast<std::size_t>(size * problem_.fit.count)); // T; Q^T T
  for_each_sample_block(problem_.fit, [&](std::int64_t first, std::int64_t count) {
    // The exponents were raised to what T needs, so nothing is cut off here.
    target.resize(static_cast<std::size_t>(n * count));
    for (std::int64_t c = 0; c < count; ++c)
      subtract(mean.size(), targets_.data() + (first + c) * n, mean.data(), target.data() + c * n);
    blas::gemm(Op::transpose, Op::none, size, count, n, 1.0F, basis.data(), n, target.data(), n, 0.0F,
               projected.data() + first * size, size);
  });
  return projected;
}

std::vector<double> FactoredSplitting::project(std::span<const double> q) {
  const std::int64_t size = std::ssize(q) / std::max<std::int64_t>(1, problem_.rows);
  const std::vector<float> input_mean(statistics_.input_mean.begin(), statistics_.input_mean.end());
  double bound = 0; // |Q^T T| <= |T| for one sample
  for (const int e : target_exponent_) bound += std::ldexp(1.0, 2 * e);
  BlockSums sums(std::vector<int>(static_cast<std::size_t>(size), bounding_exponent(bound)), input_exponent_,
                 statistics_.samples);
  add_products_with_inputs(problem_, input_mean, project_target(q), size, sums);
  auto result = std::move(sums.values());
  comm_.allreduce(std::span<double>(result));
  const double samples = static_cast<double>(std::max<std::int64_t>(1, statistics_.samples));
  for (double& entry : result) entry /= samples;
  return result;
}

void FactoredSplitting::save(StateWriter& to) const {
  to.put_part("values", std::span<const float>(values_));
  to.put_part("targets", std::span<const float>(targets_));
  to.put_doubles("momentum", {age_, last_loss_});
  to.put_integers("momentum_rank", {last_rank_});
  to.put_integers("target_exponent", {target_exponent_.begin(), target_exponent_.end()});
  to.put_doubles("splitting_target_mean", target_mean_);
}

void FactoredSplitting::restore(StateReader& from) {
  features_.forget();
  values_ = from.part<float>("values", values_.size());
  targets_ = from.part<float>("targets", targets_.size());
  const auto momentum = from.get<double>("momentum");
  age_ = momentum.at(0);
  last_loss_ = momentum.at(1);
  last_rank_ = from.get<std::int64_t>("momentum_rank").at(0);
  const auto exponents = from.get<std::int64_t>("target_exponent");
  target_exponent_.assign(exponents.begin(), exponents.end());
  target_mean_ = from.get<double>("splitting_target_mean");
}

} // namespace slr
