#include "slr/layer/factored_objective.hpp"

#include "basis_form.hpp"
#include "input_products.hpp"
#include "structure_parts.hpp"

#include "slr/dist/redistribute.hpp"
#include "slr/linalg/blas.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/mpi/exact_sum.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numeric>
#include <utility>

namespace slr {
namespace {

constexpr int no_feature_limit = 100; // as a power of two: nothing is cut off
constexpr int no_value_exponent = -300;
constexpr std::int64_t pull_columns = 512; // of W - W0, that exist at a time
constexpr std::array<int, 1> one_column{0};

std::vector<int> exponents_above(std::span<const double> largest) {
  std::vector<int> exponents;
  for (const double value : largest) exponents.push_back(value > 0 ? std::ilogb(value) + 1 : no_value_exponent);
  return exponents;
}

/// largest[i] = max over samples of |values(i, sample)|. Local.
void raise(std::span<double> largest, std::span<const float> values, std::int64_t lead) {
  const auto size = largest.size(), step = static_cast<std::size_t>(lead);
  for (std::size_t at = 0; at + size <= values.size(); at += step)
    for (std::size_t i = 0; i < size; ++i) largest[i] = std::max(largest[i], std::abs(double(values[at + i])));
}

void add_to(std::span<double> to, std::span<const double> values) {
  for (std::size_t i = 0; i < to.size(); ++i) to[i] += values[i];
}

/// The leading dimension of a matrix that may have no rows.
std::int64_t lead(std::int64_t rows) {
  return std::max<std::int64_t>(1, rows);
}

} // namespace

/// Derivatives with respect to W, restricted to what the coordinates need.
struct RawGradient {
  double value = 0;
  std::vector<double> left;      ///< G E^T, n x r
  std::vector<double> projected; ///< U^T G, r x k in the columns' own order
  std::vector<double> kept;      ///< G_S, n x |S|
  std::vector<double> mean;      ///< n
};

struct FactoredObjective::State {
  const Communicator& comm;
  const LayerProblem& problem;
  const InputScale& scale;
  const LayerStatistics& statistics;
  const FixedStructure& fixed;
  double pull_weight, output_squared; ///< N mu d, ||Y||^2
  std::int64_t n, k, r, s;
  bool moves_basis;                    ///< whether E has coordinates
  std::vector<std::int64_t> kept_rows; ///< the first of r columns of U stand for them: one entry each, which stays
  std::vector<std::int64_t> order;
  BasisForm start, last;      ///< at the origin, and at last_x
  std::vector<double> last_x; ///< none yet: no point has no coordinates
  std::vector<double> length; ///< of the columns of U0
  /// Where E stays, W - W0 enters through E E^T (r x r), W0 E^T (n x r) and ||W0||^2, measured once.
  std::vector<double> basis_gram, weights_on_basis;
  double weights_squared = 0;

  State(const Communicator& its_comm, const LayerProblem& its_problem, const InputScale& its_scale,
        const LayerStatistics& its_statistics, const FixedStructure& its_fixed, const LayerFactors& from,
        const std::vector<std::int64_t>& its_kept_rows, double pull, double its_output_squared);
  void set_basis(const LayerFactors& from);
  [[nodiscard]] const BasisForm& at(std::span<const double> x);
  [[nodiscard]] RawGradient loss(const BasisForm& here) const;
  void measure_weights();
  [[nodiscard]] RawGradient pull(const BasisForm& here) const;
  [[nodiscard]] RawGradient pull_on_basis(const BasisForm& here) const;
  void to_coordinates(RawGradient raw, std::span<double> gradient) const;
};

FactoredObjective::State::State(const Communicator& its_comm, const LayerProblem& its_problem,
                                const InputScale& its_scale, const LayerStatistics& its_statistics,
                                const FixedStructure& its_fixed, const LayerFactors& from,
                                const std::vector<std::int64_t>& its_kept_rows, double pull, double its_output_squared)
    : comm(its_comm), problem(its_problem), scale(its_scale), statistics(its_statistics), fixed(its_fixed),
      pull_weight(static_cast<double>(its_statistics.samples) * pull * its_statistics.mean_diagonal),
      output_squared(its_output_squared > 0 ? its_output_squared : 1), n(its_problem.rows), k(its_problem.cols),
      r(from.numerical_rank), s(std::ssize(from.kept_groups) * its_problem.group_columns),
      moves_basis(its_fixed.factor() != nullptr), kept_rows(its_kept_rows),
      order(kept_then_rest(from.kept_groups, its_problem.cols, its_problem.group_columns)) {
  set_basis(from);
  for (std::int64_t l = 0; l < r; ++l) {
    const auto column = from.u.begin() + l * n;
    const double squares = std::inner_product(column, column + n, column, 0.0);
    length.push_back(squares > 0 ? std::sqrt(squares) : 1);
  }
  if (!moves_basis) measure_weights();
}

/// A share of the columns on each rank, a few at a time.
void FactoredObjective::State::measure_weights() {
  const auto size = static_cast<std::size_t>(n * r);
  std::vector<double> sums(static_cast<std::size_t>(r * r) + size + 1, 0.0), panel;
  const std::int64_t end = k * (comm.rank() + 1) / comm.size();
  for (std::int64_t j = k * comm.rank() / comm.size(); j < end; j += pull_columns) {
    const auto width = std::min(pull_columns, end - j);
    panel.assign(problem.weights.begin() + j * n, problem.weights.begin() + (j + width) * n);
    const double* const basis = start.right.data() + j * r;
    blas::gemm(Op::none, Op::transpose, r, r, width, 1.0, basis, lead(r), basis, lead(r), 1.0, sums.data(), lead(r));
    blas::gemm(Op::none, Op::transpose, n, r, width, 1.0, panel.data(), n, basis, lead(r), 1.0, sums.data() + r * r, n);
    sums.back() += std::inner_product(panel.begin(), panel.end(), panel.begin(), 0.0);
  }
  comm.allreduce(std::span<double>(sums));
  basis_gram.assign(sums.begin(), sums.begin() + r * r);
  weights_on_basis.assign(sums.begin() + r * r, sums.end() - 1);
  weights_squared = sums.back();
}

void FactoredObjective::State::set_basis(const LayerFactors& from) {
  start.kept_groups = from.kept_groups;
  start.kept_rows = kept_rows;
  start.basis_size = start.numerical_rank = r;
  start.left = from.u;
  start.dense = from.b;
  // E0 = [-V C_RS C_SS^-1, V], orthogonal to the columns S in the metric of C; what U E_S adds there D0 takes away.
  start.right.assign(static_cast<std::size_t>(r * k), 0.0);
  std::copy(from.v.begin(), from.v.end(), start.right.begin() + r * s);
  if (r > 0 && s > 0) {
    std::vector<double> original(start.right.size());
    for (std::int64_t j = 0; j < k; ++j)
      std::copy_n(start.right.begin() + j * r, r, original.begin() + order[static_cast<std::size_t>(j)] * r);
    const auto product = gather_everywhere(times_gram(original, r, statistics, problem.group_columns));
    std::vector<double> on_kept(static_cast<std::size_t>(r * s));
    for (std::int64_t j = 0; j < s; ++j)
      std::transform(product.begin() + order[static_cast<std::size_t>(j)] * r,
                     product.begin() + (order[static_cast<std::size_t>(j)] + 1) * r, on_kept.begin() + j * r,
                     std::negate<>());
    fixed.kept_factor()->solve(on_kept, r);
    std::copy(on_kept.begin(), on_kept.end(), start.right.begin());
    blas::gemm(Op::none, Op::none, n, s, r, -1.0, start.left.data(), n, on_kept.data(), r, 1.0, start.dense.data(), n);
  }
  // mean = b + U V mean x_R + B mean x_S
  start.mean.assign(static_cast<std::size_t>(n), 0.0);
  const auto offset = factors_of(problem, statistics, start).bias;
  for (std::size_t i = 0; i < start.mean.size(); ++i) start.mean[i] = from.bias[i] - offset[i];
}

/// An iterate that was evaluated is asked for again when it is judged.
const BasisForm& FactoredObjective::State::at(std::span<const double> x) {
  if (std::equal(x.begin(), x.end(), last_x.begin(), last_x.end())) return last;
  last_x.clear(); // until it is computed
  last = start;
  auto from = x.begin();
  const auto add = [&](std::vector<double>& to) {
    add_to(to, {from, to.size()});
    from += std::ssize(to);
  };
  add(last.left);
  add(last.mean);
  if (moves_basis) {
    std::vector<double> dense(from, from + n * s);
    from += n * s;
    fixed.kept_factor()->solve_lower(dense, n);
    add_to(last.dense, dense);
    std::vector<double> right(last.right.size(), 0.0);
    for (std::int64_t j = s; j < k; ++j)
      for (std::int64_t l = 0; l < r; ++l)
        right[static_cast<std::size_t>(j * r + l)] = *from++ / length[static_cast<std::size_t>(l)];
    fixed.factor()->solve_lower(right, r);
    add_to(last.right, right);
  }
  last_x.assign(x.begin(), x.end());
  return last;
}

/// 1/2 ||Y - r(Z)||^2. The first pass over the samples finds how large values are, so that sums in the second are
/// exact.
RawGradient FactoredObjective::State::loss(const BasisForm& here) const {
  const auto map = map_of(problem, statistics, here, no_feature_limit);
  const auto rows = static_cast<std::size_t>(n), rank = static_cast<std::size_t>(r);
  const auto samples = static_cast<std::size_t>(problem.fit.count);
  std::vector<float> residual(rows * samples), features(rank * samples), projected(rank * samples);
  std::vector<double> largest(rows + 2 * rank + 1, 0.0); // of R, E x, U^T R per row; whether a value is not finite
  ExactSum loss;
  FactoredValues values;
  std::vector<float> activated(rows);
  for_each_sample_block(problem.fit, [&](std::int64_t first, std::int64_t count) {
    const auto begin = static_cast<std::size_t>(first * n), size = static_cast<std::size_t>(count * n);
    apply(map, problem.fit.x.data() + first * k, count, values);
    const auto y = std::span<const float>(problem.fit.y).subspan(begin, size);
    const auto residual_here = std::span<float>(residual).subspan(begin, size);
    problem.activation.differentiate_loss(values.z, y, residual_here);
    double squares = 0;
    for (std::size_t c = 0; c < size; c += rows) {
      problem.activation.apply(std::span<const float>(values.z).subspan(c, rows), activated);
      for (std::size_t i = 0; i < rows; ++i) {
        const double off = double(activated[i]) - double(y[c + i]);
        squares += off * off;
      }
    }
    if (!std::isfinite(squares)) {
      largest.back() = 1;
      return;
    }
    loss.add(squares);
    std::copy(values.features.begin(), values.features.end(), features.begin() + first * r);
    blas::gemm(Op::transpose, Op::none, r, count, n, 1.0F, map.left.data(), n, residual.data() + begin, n, 0.0F,
               projected.data() + first * r, lead(r));
  });
  const auto part = [&](std::size_t from, std::size_t count) {
    return std::span<double>(largest).subspan(from, count);
  };
  raise(part(0, rows), residual, n);
  raise(part(rows, rank), features, lead(r));
  raise(part(rows + rank, rank), projected, lead(r));
  for (const double value : largest)
    if (!std::isfinite(value)) largest.back() = 1;
  comm.allreduce(std::span<double>(largest), Reduction::max);
  if (largest.back() > 0)
    throw Error(ExitCode::numerical, context_of(problem) + ": the refinement diverged (a value is not finite); use "
                                                           "method.refine.evaluations: 0");

  const auto row_exponent = exponents_above(part(0, rows));
  std::vector<int> input_exponent = scale.exponent, kept_exponent;
  for (int& e : input_exponent) ++e; // centred values reach at most twice as far
  for (const auto j : map.kept_columns) kept_exponent.push_back(input_exponent[static_cast<std::size_t>(j)]);
  if (!moves_basis) input_exponent.clear(); // nobody asks for the products with the inputs
  BlockSums with_features(row_exponent, exponents_above(part(rows, rank)), statistics.samples),
      with_kept(row_exponent, kept_exponent, statistics.samples),
      row_sums(row_exponent, one_column, statistics.samples),
      with_inputs(exponents_above(part(rows + rank, rank)), input_exponent, statistics.samples);
  std::vector<float> product, kept;
  std::vector<double> sum(rows);
  for_each_sample_block(problem.fit, [&](std::int64_t first, std::int64_t count) {
    const float* const here_residual = residual.data() + first * n;
    const auto multiply = [&](std::int64_t columns, const float* right, BlockSums& into) {
      if (columns == 0) return;
      product.resize(rows * static_cast<std::size_t>(columns));
      blas::gemm(Op::none, Op::transpose, n, columns, count, 1.0F, here_residual, n, right, columns, 0.0F,
                 product.data(), n);
      into.add(std::span<const float>(product));
    };
    multiply(r, features.data() + first * r, with_features);
    kept.resize(static_cast<std::size_t>(s * count));
    for (std::int64_t c = 0; c < count; ++c)
      for (std::int64_t j = 0; j < s; ++j) {
        const auto column = static_cast<std::size_t>(order[static_cast<std::size_t>(j)]);
        kept[static_cast<std::size_t>(c * s + j)] =
            problem.fit.x[static_cast<std::size_t>((first + c) * k) + column] - map.input_mean[column];
      }
    multiply(s, kept.data(), with_kept);
    std::fill(sum.begin(), sum.end(), 0.0);
    for (std::int64_t c = 0; c < count; ++c)
      for (std::size_t i = 0; i < rows; ++i) sum[i] += double(here_residual[static_cast<std::size_t>(c * n) + i]);
    row_sums.add(std::span<const double>(sum));
  });
  if (moves_basis) add_products_with_inputs(problem, map.input_mean, projected, r, with_inputs);

  // One reduction: the products, and the loss.
  std::vector<double> all;
  for (auto* each : {&with_features, &with_inputs, &with_kept, &row_sums})
    all.insert(all.end(), each->values().begin(), each->values().end());
  all.resize(all.size() + ExactSum::digits);
  loss.pack(std::span<double>(all).last(ExactSum::digits));
  comm.allreduce(std::span<double>(all));
  RawGradient raw;
  auto from = all.begin();
  const auto take = [&](BlockSums& sums) {
    const auto begin = std::exchange(from, from + std::ssize(sums.values()));
    return std::vector<double>(begin, from);
  };
  raw.left = take(with_features);
  raw.projected = take(with_inputs);
  raw.kept = take(with_kept);
  raw.mean = take(row_sums);
  raw.value = 0.5 * ExactSum::unpack(std::span<const double>(all).last(ExactSum::digits)).value();
  return raw;
}

/// (N mu d / 2) ||U E - W0||^2 = (N mu d / 2) (<U, U E E^T - 2 W0 E^T> + ||W0||^2).
RawGradient FactoredObjective::State::pull_on_basis(const BasisForm& here) const {
  RawGradient raw;
  raw.left = weights_on_basis;
  blas::gemm(Op::none, Op::none, n, r, r, 1.0, here.left.data(), n, basis_gram.data(), lead(r), -1.0, raw.left.data(),
             n); // U E E^T - W0 E^T
  raw.value = weights_squared;
  for (std::size_t i = 0; i < raw.left.size(); ++i) raw.value += here.left[i] * (raw.left[i] - weights_on_basis[i]);
  raw.value *= 0.5 * pull_weight;
  for (double& value : raw.left) value *= pull_weight;
  return raw;
}

/// (N mu d / 2) ||W - W0||^2, in panels of columns; what is n x k never exists a second time. Of the result's parts
/// that are solved with, the root's count.
RawGradient FactoredObjective::State::pull(const BasisForm& here) const {
  RawGradient raw;
  raw.left.assign(static_cast<std::size_t>(n * r), 0.0);
  raw.projected.assign(static_cast<std::size_t>(r * k), 0.0);
  raw.kept.assign(static_cast<std::size_t>(n * s), 0.0);
  on_root(comm, [&] {
    std::vector<double> off, inner;
    for (std::int64_t j = 0; j < k; j += pull_columns) {
      const auto width = std::min(pull_columns, k - j);
      off.assign(static_cast<std::size_t>(n * width), 0.0);
      inner.resize(static_cast<std::size_t>(r * width));
      for (std::int64_t c = 0; c < width; ++c)
        for (std::int64_t i = 0; i < n; ++i)
          off[static_cast<std::size_t>(c * n + i)] =
              (j + c < s ? here.dense[static_cast<std::size_t>((j + c) * n + i)] : 0.0) -
              problem.weights[static_cast<std::size_t>(order[static_cast<std::size_t>(j + c)] * n + i)];
      const double* const right = here.right.data() + j * r;
      blas::gemm(Op::none, Op::none, n, width, r, 1.0, here.left.data(), n, right, lead(r), 1.0, off.data(), n);
      raw.value += 0.5 * pull_weight * std::inner_product(off.begin(), off.end(), off.begin(), 0.0);
      blas::gemm(Op::none, Op::transpose, n, r, width, pull_weight, off.data(), n, right, lead(r), 1.0, raw.left.data(),
                 n);
      blas::gemm(Op::transpose, Op::none, r, width, n, pull_weight, here.left.data(), n, off.data(), n, 0.0,
                 inner.data(), lead(r));
      for (std::int64_t c = 0; c < width; ++c)
        std::copy_n(inner.begin() + c * r, r, raw.projected.begin() + order[static_cast<std::size_t>(j + c)] * r);
      for (std::int64_t at = j * n; at < std::min(s, j + width) * n; ++at)
        raw.kept[static_cast<std::size_t>(at)] = pull_weight * off[static_cast<std::size_t>(at - j * n)];
    }
  });
  raw.left.push_back(raw.value); // travels with it
  comm.broadcast(std::span<double>(raw.left));
  raw.value = raw.left.back();
  raw.left.pop_back();
  return raw;
}

/// The chain rule for dU, dm, dD and dT: on every rank the same.
void FactoredObjective::State::to_coordinates(RawGradient raw, std::span<double> gradient) const {
  auto to = gradient.begin();
  const auto put = [&](double value) { *to++ = value / output_squared; };
  if (!kept_rows.empty()) {
    std::fill_n(raw.left.begin(), std::ssize(kept_rows) * n, 0.0);
    for (std::int64_t l = 0; l < r; ++l)
      for (const auto row : kept_rows) raw.left[static_cast<std::size_t>(l * n + row)] = 0;
  }
  for (const double value : raw.left) put(value);
  for (const double value : raw.mean) put(value);
  if (!moves_basis) return;
  fixed.kept_factor()->solve_upper(raw.kept, n); // G_S L_SS^-T
  for (const double value : raw.kept) put(value);
  std::vector<double> ordered(raw.projected.size());
  for (std::int64_t j = 0; j < k; ++j)
    std::copy_n(raw.projected.begin() + order[static_cast<std::size_t>(j)] * r, r, ordered.begin() + j * r);
  fixed.factor()->solve_upper(ordered, r); // (U^T G L^-T)_R
  for (std::int64_t j = s; j < k; ++j)
    for (std::int64_t l = 0; l < r; ++l)
      put(ordered[static_cast<std::size_t>(j * r + l)] / length[static_cast<std::size_t>(l)]);
}

FactoredObjective::FactoredObjective(const Communicator& comm, const LayerProblem& problem, const InputScale& scale,
                                     const LayerStatistics& statistics, const FixedStructure& fixed,
                                     const LayerFactors& start, double pull, double output_squared)
    : state_(std::make_unique<State>(
          comm, problem, scale, statistics, fixed, rows_as_rank(start, problem.rows, problem.cols),
          start.grouping == Grouping::filter ? start.kept_groups : std::vector<std::int64_t>{}, pull, output_squared)) {
}
FactoredObjective::~FactoredObjective() = default;

std::int64_t FactoredObjective::size() const {
  const auto& f = *state_;
  return f.n * f.r + f.n + (f.moves_basis ? f.n * f.s + f.r * (f.k - f.s) : 0);
}

double FactoredObjective::evaluate(std::span<const double> x, std::span<double> gradient) const {
  require(std::ssize(x) == size() && x.size() == gradient.size(), "a point of another number of coordinates");
  const auto& here = state_->at(x);
  auto raw = state_->loss(here);
  const auto pull = state_->moves_basis ? state_->pull(here) : state_->pull_on_basis(here);
  add_to(raw.left, pull.left);
  add_to(raw.kept, pull.kept);
  add_to(raw.projected, pull.projected);
  const double value = (raw.value + pull.value) / state_->output_squared;
  state_->to_coordinates(std::move(raw), gradient);
  return value;
}

FactoredMap FactoredObjective::map(std::span<const double> x) const {
  return map_of(state_->problem, state_->statistics, state_->at(x), no_feature_limit);
}

LayerFactors FactoredObjective::factors(std::span<const double> x) const {
  return factors_of(state_->problem, state_->statistics, state_->at(x));
}

} // namespace slr
