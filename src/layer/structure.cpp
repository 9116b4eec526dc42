#include "slr/layer/structure.hpp"

#include "basis_form.hpp"
#include "slr/layer/kept_rows.hpp"
#include "structure_parts.hpp"

#include "slr/dist/redistribute.hpp"
#include "slr/linalg/blas.hpp"
#include "slr/linalg/lapack.hpp"
#include "slr/mpi/agree.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

namespace slr {
namespace {

constexpr double damping_floor = 1e-9; // of the mean diagonal: below what single-precision features resolve

/// C restricted to and ordered by `order`, in block columns. Collective; every panel of columns visits every rank once.
DistMatrix<double> ordered_gram(const LayerStatistics& statistics, const std::vector<std::int64_t>& order) {
  const auto& c = statistics.gram;
  const std::int64_t k = c.cols(), size = std::ssize(order);
  const std::int64_t block = c.distribution().cols.block(), panel = block * c.grid()->cols();
  std::vector<std::int64_t> place(static_cast<std::size_t>(k), -1); // of an original column in the new order
  for (std::int64_t j = 0; j < size; ++j) place[static_cast<std::size_t>(order[static_cast<std::size_t>(j)])] = j;
  DistMatrix<double> result(c.grid(), size, size, std::max<std::int64_t>(1, size), block);
  const auto& columns = result.distribution().cols;
  for (std::int64_t first = 0; first < k; first += panel) {
    const auto count = std::min(panel, k - first);
    const auto from = gather_columns(c, GlobalCol(first), count);
    for (std::int64_t j = 0; j < count; ++j) {
      const GlobalCol to(place[static_cast<std::size_t>(first + j)]);
      if (to.value() < 0 || columns.owner(to) != c.grid()->my_col()) continue;
      double* column = result.local().data() + columns.local(to).value() * result.lld();
      for (std::int64_t i = 0; i < size; ++i)
        column[i] = from[static_cast<std::size_t>(j * k + order[static_cast<std::size_t>(i)])];
    }
  }
  return result;
}

/// As half_of_svd, but the first f rows of G are left as they are: their lengths are the first values, and U is the
/// identity there. Local.
HalfSvd half_of_svd_beside(std::int64_t f, std::int64_t q, std::vector<double> gram) {
  if (f == 0) return half_of_svd(q, std::move(gram));
  constexpr double no_length = 1e-150; // of a row of zeros, which is divided by it
  HalfSvd result;
  std::vector<double> below;
  for (std::int64_t l = 0; l < q; ++l) {
    const auto column = gram.begin() + l * q;
    if (l < f) {
      result.sigma.push_back(std::max(std::sqrt(std::max(column[l], 0.0)), no_length));
      result.left.resize(static_cast<std::size_t>((l + 1) * q), 0.0);
      result.left[static_cast<std::size_t>(l * q + l)] = 1;
    } else {
      below.insert(below.end(), column + f, column + q);
    }
  }
  const auto rest = half_of_svd(q - f, std::move(below));
  result.sigma.insert(result.sigma.end(), rest.sigma.begin(), rest.sigma.end());
  for (std::int64_t l = 0; l < std::ssize(rest.sigma); ++l) {
    result.left.insert(result.left.end(), static_cast<std::size_t>(f), 0.0);
    result.left.insert(result.left.end(), rest.left.begin() + l * (q - f), rest.left.begin() + (l + 1) * (q - f));
  }
  return result;
}

/// G = U' Sigma V^T for G with few rows: U' and Sigma from its Gram matrix; kept rows first. Local.
struct SmallSvd {
  std::int64_t size = 0;
  std::vector<double> sigma, left, right; ///< q x size, size x cols
};
SmallSvd small_svd(std::int64_t f, std::int64_t q, std::int64_t cols, const double* g) {
  std::vector<double> gram(static_cast<std::size_t>(q * q));
  blas::syrk(Uplo::lower, Op::none, q, cols, 1.0, g, q, 0.0, gram.data(), q);
  auto half = half_of_svd_beside(f, q, std::move(gram));
  SmallSvd result{std::ssize(half.sigma), std::move(half.sigma), std::move(half.left), {}};
  result.right.resize(static_cast<std::size_t>(result.size * cols));
  if (result.size == 0) return result;
  const auto scaled = over_sigma(q, result.left, result.sigma);
  blas::gemm(Op::transpose, Op::none, result.size, cols, q, 1.0, scaled.data(), q, g, q, 0.0, result.right.data(),
             result.size);
  return result;
}

/// W0 in double, a panel of columns at a time: use(first, count, panel). A whole copy would be the largest thing here.
template <class Use>
void for_each_original_panel(const LayerProblem& problem, Use&& use) {
  constexpr std::int64_t width = 512;
  const std::int64_t n = problem.rows, k = problem.cols;
  std::vector<double> panel;
  for (std::int64_t first = 0; first < k; first += width) {
    const auto count = std::min(width, k - first);
    panel.assign(problem.weights.begin() + first * n, problem.weights.begin() + (first + count) * n);
    use(first, count, panel.data());
  }
}

/// Orthonormal columns that span those of Y (n x q). Local.
void orthonormalize(std::int64_t n, std::int64_t q, std::vector<double>& y) {
  const auto tau = lapack::geqrf<double>(n, q, y.data(), std::max<std::int64_t>(1, n));
  lapack::orgqr<double>(n, q, y.data(), std::max<std::int64_t>(1, n), std::span<const double>(tau));
}

/// The same for what is left of Y beside kept rows F, whose unit columns come first. Local.
void orthonormalize_beside(const std::vector<std::int64_t>& rows, std::int64_t n, std::int64_t q,
                           std::vector<double>& y) {
  if (rows.empty()) return orthonormalize(n, q, y);
  const std::int64_t f = std::ssize(rows), left = n - f;
  const auto order = kept_then_rest(rows, n, 1);
  std::vector<double> rest(static_cast<std::size_t>(left * (q - f)));
  const auto each = [&](auto&& use) {
    for (std::int64_t l = 0; l < q - f; ++l)
      for (std::int64_t i = 0; i < left; ++i)
        use(rest[static_cast<std::size_t>(l * left + i)],
            y[static_cast<std::size_t>((f + l) * n + order[static_cast<std::size_t>(f + i)])]);
  };
  each([](double& to, double from) { to = from; });
  orthonormalize(left, q - f, rest);
  each([](double from, double& to) { to = from; });
  y = beside_unit_columns(rows, n, {y.begin() + f * n, y.end()});
}

std::vector<std::int64_t> first_of(const std::vector<std::int64_t>& order, std::int64_t count) {
  return {order.begin(), order.begin() + count};
}

} // namespace

FixedStructure::FixedStructure(const Communicator& comm, const LayerProblem& problem, const LayerStatistics& statistics,
                               Structure structure, double delta, Engine engine, const FixedStructure* same_metric)
    : comm_(comm), problem_(problem), statistics_(statistics), structure_(std::move(structure)),
      delta_(delta + damping_floor * std::max(statistics.mean_diagonal, 1e-30)), svd_(comm, {.engine = engine}) {
  (problem.grouping == Grouping::filter ? kept_rows_ : kept_column_groups_) = structure_.kept_groups;
  order_ = kept_then_rest(kept_column_groups_, problem.cols, problem.group_columns);
  kept_columns_ = std::ssize(kept_column_groups_) * problem.group_columns;
  if (statistics.is_implicit()) {
    require(structure_.kept_groups.empty(), "the implicit form has no kept groups");
    in_samples_.emplace(statistics.in_samples->kernel.damped(delta_));
  } else if (same_metric != nullptr) {
    require(same_metric->order_ == order_ && same_metric->kept_columns_ == kept_columns_ &&
                same_metric->delta_ == delta_,
            "structures of different columns or damping have no common metric");
    metric_ = same_metric->metric_;
  } else {
    metric_ = std::make_shared<Metric>(
        Metric{{ordered_gram(statistics, order_), delta_, context_of(problem)},
               {ordered_gram(statistics, first_of(order_, kept_columns_)), delta_, context_of(problem)}});
  }
  structure_.target_rank = std::min(structure_.target_rank, problem.largest_rank(std::ssize(structure_.kept_groups)));
}

void FixedStructure::set_right(const std::vector<double>& t, std::int64_t q) {
  mix_.clear();
  // E = [0, T] L^-1
  right_.assign(static_cast<std::size_t>(q * problem_.cols), 0.0);
  std::copy(t.begin(), t.end(), right_.begin() + q * kept_columns_);
  metric_->whole.solve_lower(right_, q);
}

void FixedStructure::start(const DistMatrix<double>& p) {
  require(!in_samples_, "the implicit form starts from a target on samples");
  const std::int64_t n = problem_.rows, k = problem_.cols, s = kept_columns_;
  auto p_whole = gather_everywhere(p);
  std::vector<double> q_whole(p_whole.size());
  for (std::int64_t j = 0; j < k; ++j)
    for (std::int64_t i = 0; i < n; ++i) {
      const auto from = static_cast<std::size_t>(order_[static_cast<std::size_t>(j)] * n + i);
      q_whole[static_cast<std::size_t>(j * n + i)] = p_whole[from] + delta_ * problem_.weights[from];
    }
  p_whole.clear();
  p_whole.shrink_to_fit();
  dense_.assign(q_whole.begin(), q_whole.begin() + n * s);
  metric_->kept.solve(dense_, n);
  metric_->whole.solve_upper(q_whole, n);
  gain_ = 0;
  for (std::int64_t i = 0; i < n * s; ++i)
    gain_ += q_whole[static_cast<std::size_t>(i)] * q_whole[static_cast<std::size_t>(i)];
  const auto rows = take_rows(kept_rows_, n, q_whole); // of the others the largest part of low rank
  const auto f = std::ssize(kept_rows_);
  const auto size = basis_size(structure_.target_rank, std::min(n - f, k - s));
  DistMatrix<double> q_rest(statistics_.gram.grid(), n, k - s, std::max<std::int64_t>(1, n),
                            statistics_.gram.distribution().cols.block());
  take_local(std::span<const double>(q_whole).subspan(static_cast<std::size_t>(n * s)), q_rest);
  auto truncated = svd_.truncate(q_rest, size, context_of(problem_));
  sigma_ = rows.length;
  sigma_.insert(sigma_.end(), truncated.sigma.begin(), truncated.sigma.end());
  left_ = beside_unit_columns(kept_rows_, n, truncated.u);
  numerical_rank_ = f + std::min(structure_.target_rank, truncated.numerical_rank);
  for (std::int64_t l = 0; l < numerical_rank_; ++l) gain_ += sigma_[std::size_t(l)] * sigma_[std::size_t(l)];
  set_right(stacked(k - s, rows.unit, gather_everywhere(truncated.vt)), f + truncated.numerical_rank);
}

void FixedStructure::take_left(const FactoredCross& cross) {
  const std::int64_t n = problem_.rows, k = problem_.cols, s = kept_columns_, q = basis_rows();
  dense_ = cross.kept;
  for (std::int64_t j = 0; j < s; ++j)
    for (std::int64_t i = 0; i < n; ++i)
      dense_[static_cast<std::size_t>(j * n + i)] +=
          delta_ * problem_.weights[static_cast<std::size_t>(order_[static_cast<std::size_t>(j)] * n + i)];
  if (metric_) metric_->kept.solve(dense_, n);
  if (q == 0) return;
  left_ = cross.features;
  if (in_samples_) return add_pull_on_features();
  if (metric_->whole.is_shared()) return add_pull_in_shares();
  on_root(comm_, [&] {
    std::vector<double> original(static_cast<std::size_t>(q * k)); // E in the columns' own order
    for (std::int64_t j = 0; j < k; ++j)
      std::copy_n(right_.begin() + j * q, q, original.begin() + order_[static_cast<std::size_t>(j)] * q);
    for_each_original_panel(problem_, [&](std::int64_t first, std::int64_t count, const double* weights) {
      blas::gemm(Op::none, Op::transpose, n, q, count, delta_, weights, n, original.data() + first * q, q, 1.0,
                 left_.data(), n);
    });
  });
}

void FixedStructure::improve_left(const FactoredCross& cross) {
  const std::int64_t n = problem_.rows, q = basis_rows();
  take_left(cross);
  mix_.clear();
  sigma_.resize(static_cast<std::size_t>(q)); // a direction each, until improve_right knows their lengths
  if (q == 0) return;
  on_root(comm_, [&] { orthonormalize_beside(kept_rows_, n, q, left_); });
  comm_.broadcast(std::span<double>(left_));
}

std::int64_t
FixedStructure::broadcast_directions(std::initializer_list<std::pair<std::vector<double>*, std::int64_t>> parts) const {
  const auto size = comm_.broadcast_value(std::ssize(*parts.begin()->first));
  for (const auto& [values, each] : parts) {
    values->resize(static_cast<std::size_t>(size * each));
    comm_.broadcast(std::span<double>(*values));
  }
  return size;
}

void FixedStructure::improve_within(const FactoredCross& cross) {
  require(has_features_to_stay(), "this form has no features that stay");
  const std::int64_t n = problem_.rows, q = basis_rows();
  take_left(cross);
  if (q == 0) return;
  on_root(comm_, [&] { // Y = P E^T: M and Sigma from Y^T Y
    std::vector<double> gram(static_cast<std::size_t>(q * q));
    blas::syrk(Uplo::lower, Op::transpose, q, n, 1.0, left_.data(), n, 0.0, gram.data(), q);
    auto half = half_of_svd(q, std::move(gram));
    const auto size = std::ssize(half.sigma);
    std::vector<double> left(static_cast<std::size_t>(n * size));
    if (size > 0)
      blas::gemm(Op::none, Op::none, n, size, q, 1.0, left_.data(), n, over_sigma(q, half.left, half.sigma).data(), q,
                 0.0, left.data(), n);
    left_ = std::move(left);
    sigma_ = std::move(half.sigma);
    mix_ = std::move(half.left);
  });
  const auto size = broadcast_directions({{&sigma_, 1}, {&left_, n}, {&mix_, q}});
  numerical_rank_ = std::min(structure_.target_rank, size);
}

FixedStructure::ColumnShare FixedStructure::share_of_columns(int rank) const {
  const std::int64_t k = problem_.cols, first = k * rank / comm_.size();
  return {first, k * (rank + 1) / comm_.size() - first};
}

void FixedStructure::add_pull_in_shares() {
  const std::int64_t n = problem_.rows, q = basis_rows();
  const auto [first, count] = share_of_columns(comm_.rank());
  std::vector<double> pull(left_.size(), 0.0);
  if (count > 0) {
    const auto weights = original_columns(first, count);
    blas::gemm(Op::none, Op::transpose, n, q, count, delta_, weights.data(), n, right_.data() + first * q, q, 0.0,
               pull.data(), n);
  }
  comm_.allreduce(std::span<double>(pull));
  std::transform(left_.begin(), left_.end(), pull.begin(), left_.begin(), std::plus<>());
}

std::vector<double> FixedStructure::original_columns(std::int64_t first, std::int64_t count) const {
  const auto n = static_cast<std::size_t>(problem_.rows);
  std::vector<double> columns;
  columns.reserve(n * static_cast<std::size_t>(count));
  for (auto j = first; j < first + count; ++j) {
    const auto from = problem_.weights.begin() + order_[static_cast<std::size_t>(j)] * problem_.rows;
    columns.insert(columns.end(), from, from + problem_.rows);
  }
  return columns;
}

void FixedStructure::improve_right(std::vector<double> projected) {
  require(!in_samples_, "the implicit form is improved on samples");
  const std::int64_t k = problem_.cols, q = std::ssize(sigma_);
  if (q == 0) return;
  std::vector<double> ordered(projected.size());
  for (std::int64_t j = 0; j < k; ++j)
    std::copy_n(projected.begin() + order_[static_cast<std::size_t>(j)] * q, q, ordered.begin() + j * q);
  if (metric_->whole.is_shared())
    improve_right_in_shares(std::move(ordered));
  else
    improve_right_on_root(std::move(ordered));
  metric_->whole.solve_lower(right_, std::ssize(sigma_)); // E = [0, T] L^-1
  numerical_rank_ = std::min<std::int64_t>(std::ssize(kept_rows_) + structure_.target_rank, std::ssize(sigma_));
}

void FixedStructure::improve_right_on_root(std::vector<double> g) {
  const std::int64_t n = problem_.rows, k = problem_.cols, s = kept_columns_, q = std::ssize(sigma_);
  on_root(comm_, [&] {
    add_pull(0, k, g.data());
    metric_->whole.solve_upper_here(g, q);
    auto svd = small_svd(std::ssize(kept_rows_), q, k - s, g.data() + q * s);
    rotate_left(svd.left, svd.size);
    right_.assign(static_cast<std::size_t>(svd.size * k), 0.0);
    std::copy(svd.right.begin(), svd.right.end(), right_.begin() + svd.size * s);
    sigma_ = std::move(svd.sigma);
  });
  const auto size = broadcast_directions({{&sigma_, 1}, {&left_, n}});
  right_.resize(static_cast<std::size_t>(size * k)); // the root's count
}

void FixedStructure::improve_right_in_shares(std::vector<double> g) {
  const std::int64_t k = problem_.cols, s = kept_columns_, q = std::ssize(sigma_);
  const auto [first, count] = share_of_columns(comm_.rank());
  const auto from_all = [&](std::int64_t rows, const std::vector<double>& mine) {
    std::vector<int> counts(static_cast<std::size_t>(comm_.size()));
    for (int p = 0; p < comm_.size(); ++p)
      counts[static_cast<std::size_t>(p)] = narrow<int>(rows * share_of_columns(p).count, "a share of the columns");
    std::vector<double> all(static_cast<std::size_t>(rows * k));
    comm_.allgather(std::span<const double>(mine), std::span<double>(all), counts);
    return all;
  };
  std::vector<double> pull(static_cast<std::size_t>(q * count)), gram(static_cast<std::size_t>(q * q), 0.0);
  add_pull(first, count, pull.data());
  const auto whole_pull = from_all(q, pull);
  std::transform(whole_pull.begin(), whole_pull.end(), g.begin(), g.begin(), std::plus<>());
  metric_->whole.solve_upper(g, q);
  std::fill_n(g.begin(), q * s, 0.0); // the columns S are free
  if (count > 0) blas::syrk(Uplo::lower, Op::none, q, count, 1.0, g.data() + q * first, q, 0.0, gram.data(), q);
  comm_.allreduce(std::span<double>(gram));
  HalfSvd half;
  on_root(comm_, [&] { half = half_of_svd_beside(std::ssize(kept_rows_), q, std::move(gram)); });
  const auto size = broadcast_directions({{&half.sigma, 1}, {&half.left, q}});
  std::vector<double> t(static_cast<std::size_t>(size * count));
  if (size > 0 && count > 0)
    blas::gemm(Op::transpose, Op::none, size, count, q, 1.0, over_sigma(q, half.left, half.sigma).data(), q,
               g.data() + q * first, q, 0.0, t.data(), size);
  right_ = from_all(size, t);
  rotate_left(half.left, size);
  sigma_ = std::move(half.sigma);
}

void FixedStructure::add_pull(std::int64_t first, std::int64_t count, double* g) const {
  constexpr std::int64_t width = 512; // a whole copy of W0 would be the largest thing here
  const std::int64_t n = problem_.rows, q = std::ssize(sigma_);
  for (std::int64_t j = 0; j < count; j += width) {
    const auto here = std::min(width, count - j);
    const auto weights = original_columns(first + j, here);
    blas::gemm(Op::transpose, Op::none, q, here, n, delta_, left_.data(), n, weights.data(), n, 1.0, g + j * q, q);
  }
}

void FixedStructure::rotate_left(const std::vector<double>& by, std::int64_t size) {
  const std::int64_t n = problem_.rows, q = std::ssize(sigma_);
  std::vector<double> rotated(static_cast<std::size_t>(n * size));
  if (size > 0) blas::gemm(Op::none, Op::none, n, size, q, 1.0, left_.data(), n, by.data(), q, 0.0, rotated.data(), n);
  left_ = std::move(rotated);
}

void FixedStructure::lower_rank(std::int64_t rank) {
  require(rank >= 0 && rank <= structure_.target_rank, "a rank can only be lowered");
  const std::int64_t n = problem_.rows, k = problem_.cols, q = std::ssize(sigma_);
  if (!mix_.empty()) { // M^T E in the place of E
    const auto rows = basis_rows();
    std::vector<double> mixed(static_cast<std::size_t>(q * k));
    if (q > 0)
      blas::gemm(Op::transpose, Op::none, q, k, rows, 1.0, mix_.data(), rows, right_.data(), rows, 0.0, mixed.data(),
                 q);
    right_ = std::move(mixed);
    mix_.clear();
  }
  const auto f = std::ssize(kept_rows_), size = f + std::min(q - f, basis_size(rank, q - f));
  std::vector<double> right(static_cast<std::size_t>(size * k));
  for (std::int64_t j = 0; j < k; ++j) std::copy_n(right_.begin() + j * q, size, right.begin() + j * size);
  right_ = std::move(right);
  left_.resize(static_cast<std::size_t>(n * size));
  sigma_.resize(static_cast<std::size_t>(size));
  structure_.target_rank = rank;
  numerical_rank_ = std::min(f + rank, size);
}

BasisForm FixedStructure::form(const std::vector<double>& target_mean) const {
  const auto n = static_cast<std::size_t>(problem_.rows), r = static_cast<std::size_t>(numerical_rank_);
  BasisForm result{kept_column_groups_, kept_rows_, basis_rows(), numerical_rank_, {}, {}, right_, dense_, target_mean};
  if (!mix_.empty()) {
    result.mix.assign(mix_.begin(), mix_.begin() + static_cast<std::ptrdiff_t>(basis_rows() * numerical_rank_));
  }
  result.left.assign(left_.begin(), left_.begin() + static_cast<std::ptrdiff_t>(n * r));
  for (std::size_t l = 0; l < r; ++l)
    for (std::size_t i = 0; i < n; ++i) result.left[l * n + i] *= sigma_[l];
  return result;
}

FactoredMap FixedStructure::map(const std::vector<double>& target_mean) const {
  // E C E^T = I: over N samples no feature exceeds sqrt(N).
  const int exponent = std::ilogb(static_cast<double>(std::max<std::int64_t>(1, statistics_.samples))) / 2 + 2;
  return map_of(problem_, statistics_, form(target_mean), exponent);
}

LayerFactors FixedStructure::factors(const std::vector<double>& target_mean) const {
  return factors_of(problem_, statistics_, form(target_mean));
}

std::vector<double> FixedStructure::low_rank_part(std::int64_t rank) const {
  const std::int64_t n = problem_.rows, k = problem_.cols, q = basis_rows(), r = std::min(rank, std::ssize(sigma_));
  std::vector<double> scaled(left_.begin(), left_.begin() + n * r), ordered(static_cast<std::size_t>(n * k), 0.0);
  for (std::int64_t l = 0; l < r; ++l)
    for (std::int64_t i = 0; i < n; ++i)
      scaled[static_cast<std::size_t>(l * n + i)] *= sigma_[static_cast<std::size_t>(l)];
  std::int64_t inner = r;
  if (!mix_.empty() && r > 0) {
    std::vector<double> mixed(static_cast<std::size_t>(n * q));
    blas::gemm(Op::none, Op::transpose, n, q, r, 1.0, scaled.data(), n, mix_.data(), q, 0.0, mixed.data(), n);
    scaled = std::move(mixed);
    inner = q;
  }
  if (r > 0)
    blas::gemm(Op::none, Op::none, n, k, inner, 1.0, scaled.data(), n, right_.data(), q, 0.0, ordered.data(), n);
  std::vector<double> result(ordered.size());
  for (std::int64_t j = 0; j < k; ++j)
    std::copy_n(ordered.begin() + j * n, n, result.begin() + order_[static_cast<std::size_t>(j)] * n);
  return result;
}

void FixedStructure::solve(DistMatrix<double>& b) const {
  require(kept_columns_ == 0 && metric_, "the columns are not in their own order, or there is no factor");
  metric_->whole.solve(b);
}

void FixedStructure::save(StateWriter& to) const {
  const auto& engines = svd_.counts();
  to.put_integers("structure", {structure_.target_rank, numerical_rank_, engines.pdgesvd, engines.gram,
                                engines.subspace, engines.fallbacks});
  to.put_doubles("gain", {gain_});
  to.put_doubles("sigma", sigma_);
  to.put_doubles("left", left_);
  to.put_doubles("right", right_);
  to.put_doubles("mix", mix_);
  to.put_doubles("dense", dense_);
}

void FixedStructure::restore(StateReader& from) {
  const auto counts = from.get<std::int64_t>("structure");
  gain_ = from.get<double>("gain").at(0);
  sigma_ = from.get<double>("sigma");
  left_ = from.get<double>("left");
  right_ = from.get<double>("right");
  mix_ = from.get<double>("mix");
  dense_ = from.get<double>("dense");
  const auto q = std::ssize(sigma_), basis = mix_.empty() ? q : std::ssize(mix_) / std::max<std::int64_t>(1, q);
  if (std::ssize(counts) != 6 || std::ssize(left_) != q * problem_.rows ||
      std::ssize(right_) != basis * problem_.cols || (!mix_.empty() && std::ssize(mix_) != basis * q) ||
      std::ssize(dense_) != problem_.rows * kept_columns_ || counts[1] > q)
    throw Error(ExitCode::bad_data, "layer " + problem_.name + ": the checkpoint is of another structure; use --fresh");
  structure_.target_rank = counts[0];
  numerical_rank_ = counts[1];
  svd_.set_counts({counts[2], counts[3], counts[4], counts[5]});
}

} // namespace slr
