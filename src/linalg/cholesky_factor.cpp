#include "slr/dist/norms.hpp"
#include "slr/dist/redistribute.hpp"
#include "slr/linalg/damped_inverse.hpp"
#include "slr/linalg/factor_by_rows.hpp"
#include "slr/linalg/lapack.hpp"
#include "slr/linalg/scalapack.hpp"
#include "slr/mpi/agree.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

namespace slr {
namespace {

constexpr std::int64_t factor_block = 64;

/// The diagonal of a distributed matrix on every rank, bit for bit.
std::vector<double> diagonal_of(DistMatrix<double>& c) {
  std::vector<double> diagonal(static_cast<std::size_t>(c.rows()), 0.0);
  c.for_each_diagonal([&](std::int64_t i, double& value) { diagonal[static_cast<std::size_t>(i)] = value; });
  c.comm().allreduce(std::span<double>(diagonal));
  return diagonal;
}

void set_diagonal(DistMatrix<double>& c, const std::vector<double>& diagonal, double delta) {
  c.for_each_diagonal([&](std::int64_t i, double& value) { value = diagonal[static_cast<std::size_t>(i)] + delta; });
}

/// min_j L_jj^2 / (C_jj + delta).
double smallest_pivot(const std::vector<double>& factor_diagonal, const std::vector<double>& diagonal, double delta) {
  double smallest = 1;
  for (std::size_t j = 0; j < diagonal.size(); ++j)
    smallest = std::min(smallest, factor_diagonal[j] * factor_diagonal[j] / (diagonal[j] + delta));
  return smallest;
}

/// A whole matrix on one rank, column-major, both triangles.
struct Whole {
  std::int64_t k = 0;
  std::vector<double> a;
  double& operator()(std::int64_t i, std::int64_t j) { return a[static_cast<std::size_t>(i + j * k)]; }
};

/// Which columns to leave out of C + delta I, by a pivoted Cholesky factorisation of its correlation matrix. Local.
std::vector<std::int64_t> dependent_columns(Whole& c, const std::vector<std::int64_t>& alive, double tolerance,
                                            std::string_view context) {
  const auto count = std::ssize(alive);
  Whole r{count, std::vector<double>(static_cast<std::size_t>(count * count))};
  for (std::int64_t j = 0; j < count; ++j) {
    const auto cj = alive[static_cast<std::size_t>(j)];
    for (std::int64_t i = j; i < count; ++i) {
      const auto ci = alive[static_cast<std::size_t>(i)];
      r(i, j) = c(ci, cj) / (std::sqrt(c(ci, ci)) * std::sqrt(c(cj, cj)));
    }
  }
  const auto pivoted = lapack::pstrf<double>(count, r.a.data(), std::max<std::int64_t>(1, count), tolerance, context);
  std::vector<std::int64_t> dependent;
  for (auto i = pivoted.numerical_rank; i < count; ++i)
    dependent.push_back(alive[static_cast<std::size_t>(pivoted.pivots[static_cast<std::size_t>(i)])]);
  std::sort(dependent.begin(), dependent.end());
  return dependent;
}

} // namespace

struct CholeskyFactor::State {
  Communicator comm;
  std::int64_t k;
  std::string context;
  CholeskyOptions options;
  double pivot_tolerance;
  CholeskyReport report;
  std::vector<double> diagonal;        ///< of C, on every rank
  std::vector<bool> left_out;          ///< by column
  std::vector<double> whole;           ///< L on rank 0, for small k
  DistMatrix<double> distributed;      ///< L on the square grid, for large k
  std::optional<FactorByRows> by_rows; ///< the same for few right-hand sides, if there were any

  State(DistMatrix<double>& c, double delta, std::string_view words, const CholeskyOptions& chosen)
      : comm(c.comm().handle()), k(c.rows()), context(words), options(chosen),
        pivot_tolerance(8 * std::numeric_limits<double>::epsilon() * double(std::max<std::int64_t>(k, 10))),
        left_out(static_cast<std::size_t>(k), false) {
    report.delta = delta;
  }

  [[nodiscard]] bool is_on_one_rank() const { return k <= options.one_rank_columns; }
  [[nodiscard]] bool is_shared() const { return !is_on_one_rank() && comm.size() > 1; }

  void note_dead() {
    const double largest = diagonal.empty() ? 0 : *std::max_element(diagonal.begin(), diagonal.end());
    for (std::size_t j = 0; j < diagonal.size(); ++j)
      if (diagonal[j] <= options.dead_tolerance * largest) report.dead.push_back(std::int64_t(j));
    if (k > 0 && largest + report.delta <= 0)
      throw Error(ExitCode::numerical, context + (context.empty() ? "" : ": ") +
                                           "every input is constant over the samples, there is nothing to fit");
  }

  /// Factors the whole matrix in the lower triangle of `a`; false if it is not safely positive definite. Local.
  [[nodiscard]] bool factor_whole(std::vector<double>& a) const {
    if (lapack::potrf<double>(Uplo::lower, k, a.data(), std::max<std::int64_t>(1, k), context) != 0) return false;
    std::vector<double> pivots;
    for (std::int64_t j = 0; j < k; ++j) pivots.push_back(a[static_cast<std::size_t>(j * (k + 1))]);
    return smallest_pivot(pivots, damped_diagonal(), 0) >= pivot_tolerance;
  }
  /// The diagonal that the factored matrix has: that of the identity where columns were left out.
  [[nodiscard]] std::vector<double> damped_diagonal() const {
    std::vector<double> result;
    for (std::size_t j = 0; j < diagonal.size(); ++j) result.push_back(left_out[j] ? 1 : diagonal[j] + report.delta);
    return result;
  }

  /// Takes dependent columns out of the whole matrix on the root until it factors; `c` holds C + delta I. Local.
  std::vector<double> factor_revealing(Whole c) {
    std::vector<std::int64_t> alive;
    for (std::int64_t j = 0; j < k; ++j) {
      const bool is_dead = std::binary_search(report.dead.begin(), report.dead.end(), j);
      // With enough damping a dead column is a column like any other.
      if (!is_dead || report.delta > options.dead_tolerance * *std::max_element(diagonal.begin(), diagonal.end()))
        alive.push_back(j);
    }
    for (double tolerance = pivot_tolerance; tolerance < 1; tolerance *= 10) {
      report.dependent = dependent_columns(c, alive, tolerance, context);
      std::fill(left_out.begin(), left_out.end(), true);
      for (const auto j : alive) left_out[static_cast<std::size_t>(j)] = false;
      for (const auto j : report.dependent) left_out[static_cast<std::size_t>(j)] = true;
      auto masked = c.a;
      mask(masked);
      if (factor_whole(masked)) return masked;
    }
    throw Error(ExitCode::numerical, context + (context.empty() ? "" : ": ") +
                                         "the Gram matrix of the inputs cannot be factored; use more samples");
  }

  void mask(std::vector<double>& a) const {
    for (std::int64_t j = 0; j < k; ++j)
      for (std::int64_t i = 0; i < k; ++i)
        if (left_out[static_cast<std::size_t>(i)] || left_out[static_cast<std::size_t>(j)])
          a[static_cast<std::size_t>(i + j * k)] = i == j ? 1 : 0;
  }

  void share_report() {
    report.used_fallback = true;
    const auto count = comm.broadcast_value(std::ssize(report.dependent));
    report.dependent.resize(static_cast<std::size_t>(count));
    comm.broadcast(std::span<std::int64_t>(report.dependent));
    std::vector<std::uint8_t> flags(left_out.begin(), left_out.end());
    comm.broadcast(std::span<std::uint8_t>(flags));
    std::transform(flags.begin(), flags.end(), left_out.begin(), [](std::uint8_t flag) { return flag != 0; });
  }

  void factor_on_one_rank(const DistMatrix<double>& c) {
    Whole all{k, gather(c)};
    bool failed = false;
    on_root(comm, [&] {
      whole = all.a;
      if (factor_whole(whole)) return;
      failed = true;
      whole = factor_revealing(std::move(all));
    });
    if (comm.broadcast_value(failed)) share_report();
  }

  void factor_on_grid(DistMatrix<double>& c) {
    const Grid grid = ProcessGrid::square(comm);
    DistMatrix<double> damped(grid, k, k, factor_block, factor_block);
    redistribute(comm, c, damped);
    distributed = damped.clone();
    if (is_factored()) return;
    if (k > options.fallback_columns) {
      double mean = 0;
      for (const double value : diagonal) mean += value / double(k);
      report.used_fallback = true;
      do {
        report.delta = std::max(10 * report.delta, 1e-10 * mean);
        distributed = damped.clone();
        set_diagonal(distributed, diagonal, report.delta);
        if (report.delta > mean)
          throw Error(ExitCode::numerical, context + (context.empty() ? "" : ": ") +
                                               "the Gram matrix of the inputs cannot be factored; use more samples");
      } while (!is_factored());
      return;
    }
    distributed = {};
    Whole all{k, gather(damped)};
    std::vector<double> masked;
    on_root(comm, [&] { masked = factor_revealing(std::move(all)); });
    share_report();
    distributed = std::move(damped);
    scatter(std::span<const double>(masked), distributed);
  }

  /// Factors `distributed` in place; false if it is not safely positive definite. Collective.
  [[nodiscard]] bool is_factored() {
    if (scalapack::potrf(Uplo::lower, distributed, context) != 0) return false;
    const auto pivots = diagonal_of(distributed);
    return comm.broadcast_value(smallest_pivot(pivots, diagonal, report.delta) >= pivot_tolerance);
  }

  void clear_left_out(DistMatrix<double>& b) const {
    if (!report.used_fallback) return;
    b.for_each_local([&](GlobalRow, GlobalCol j, double& value) {
      if (left_out[static_cast<std::size_t>(j.value())]) value = 0;
    });
  }

  void clear_left_out(std::vector<double>& b, std::int64_t m) const {
    for (std::int64_t j = 0; j < k && report.used_fallback; ++j)
      if (left_out[static_cast<std::size_t>(j)]) std::fill_n(b.begin() + j * m, m, 0.0);
  }

  /// (C + delta I)^-1 in block columns; zero for what is left out.
  void inverse(DistMatrix<double>& result) const {
    require(result.rows() == k && result.cols() == k && result.local_rows() == k, "an inverse wants whole columns");
    if (is_on_one_rank()) {
      Whole all{k, {}};
      on_root(comm, [&] {
        all.a = whole;
        lapack::potri<double>(Uplo::lower, k, all.a.data(), std::max<std::int64_t>(1, k), context);
        for (std::int64_t j = 0; j < k; ++j)
          for (std::int64_t i = 0; i < j; ++i) all(i, j) = all(j, i);
      });
      scatter(std::span<const double>(all.a), result);
    } else {
      auto lower = distributed.clone();
      scalapack::potri(Uplo::lower, lower, context);
      redistribute(comm, lower, result);
      const auto block = result.distribution().cols.block();
      DistMatrix<double> rows(ProcessGrid::column(comm), k, k, block, k);
      redistribute(comm, lower, rows);
      lower = {};
      const auto upper = transposed(rows, result.grid());
      result.for_each_local([&, at = std::size_t(0)](GlobalRow i, GlobalCol j, double& value) mutable {
        const double above = upper.local()[at++];
        if (i.value() < j.value()) value = above;
      });
    }
    result.for_each_local([&](GlobalRow i, GlobalCol j, double& value) {
      if (left_out[static_cast<std::size_t>(j.value())] || left_out[static_cast<std::size_t>(i.value())]) value = 0;
    });
  }

  /// B := B L^-T L^-1.
  void solve(DistMatrix<double>& b) const {
    require(b.cols() == k && b.comm().size() == comm.size(), "a matrix of other columns than the factor's was given");
    clear_left_out(b);
    const std::int64_t m = b.rows();
    if (m == 0 || k == 0) return;
    if (is_on_one_rank()) {
      auto all = gather(b);
      on_root(comm, [&] { apply_whole(all, m, true, true); });
      scatter(std::span<const double>(all), b);
      return;
    }
    DistMatrix<double> square(distributed.grid(), m, k, factor_block, factor_block);
    redistribute(comm, b, square);
    const View<const double> l(distributed);
    scalapack::trsm<double>(Side::right, Uplo::lower, Op::transpose, 1, l, square);
    scalapack::trsm<double>(Side::right, Uplo::lower, Op::none, 1, l, square);
    redistribute(comm, square, b);
  }
  /// B := B L^-T and/or B := B L^-1 for few rows, on this rank alone. Local.
  void apply_here(std::vector<double>& b, std::int64_t m, bool upper, bool lower) const {
    require(!is_shared() && comm.is_root(), "the factor is not on this rank");
    clear_left_out(b, m);
    if (m > 0 && k > 0) apply_whole(b, m, upper, lower);
  }
  /// Likewise on all ranks.
  void apply(std::vector<double>& b, std::int64_t m, bool upper, bool lower) {
    require(std::ssize(b) == m * k, "a matrix of other columns than the factor's was given");
    if (m == 0 || k == 0) return;
    if (!is_shared()) {
      on_root(comm, [&] { apply_here(b, m, upper, lower); });
      comm.broadcast(std::span<double>(b));
      return;
    }
    if (!by_rows) by_rows.emplace(distributed);
    clear_left_out(b, m);
    if (upper) by_rows->solve_upper(b, m);
    if (lower) by_rows->solve_lower(b, m);
  }
  void apply_whole(std::vector<double>& b, std::int64_t m, bool upper, bool lower) const {
    const double* const l = is_on_one_rank() ? whole.data() : distributed.local().data();
    if (upper) blas::trsm<double>(Side::right, Uplo::lower, Op::transpose, m, k, 1, l, k, b.data(), m);
    if (lower) blas::trsm<double>(Side::right, Uplo::lower, Op::none, m, k, 1, l, k, b.data(), m);
  }
};

CholeskyFactor::CholeskyFactor(DistMatrix<double> c, double delta, std::string_view context,
                               const CholeskyOptions& options) {
  require(c.rows() == c.cols() && delta >= 0 && std::isfinite(delta), "a damped Gram matrix is square, delta >= 0");
  require_finite(c, "the Gram matrix", context);
  state_ = std::make_unique<State>(c, delta, context, options);
  state_->diagonal = diagonal_of(c);
  state_->note_dead();
  set_diagonal(c, state_->diagonal, delta);
  if (state_->is_on_one_rank())
    state_->factor_on_one_rank(c);
  else
    state_->factor_on_grid(c);
  const auto out = std::count(state_->left_out.begin(), state_->left_out.end(), true);
  state_->report.numerical_rank = state_->k - out;
}

CholeskyFactor::~CholeskyFactor() = default;
CholeskyFactor::CholeskyFactor(CholeskyFactor&&) noexcept = default;
CholeskyFactor& CholeskyFactor::operator=(CholeskyFactor&&) noexcept = default;

const CholeskyReport& CholeskyFactor::report() const {
  return state_->report;
}
bool CholeskyFactor::is_shared() const {
  return state_->is_shared();
}
void CholeskyFactor::inverse(DistMatrix<double>& result) const {
  state_->inverse(result);
}
void CholeskyFactor::solve_upper_here(std::vector<double>& b, std::int64_t rows) const {
  state_->apply_here(b, rows, true, false);
}
void CholeskyFactor::solve(DistMatrix<double>& b) const {
  state_->solve(b);
}
void CholeskyFactor::solve(std::vector<double>& b, std::int64_t rows) const {
  state_->apply(b, rows, true, true);
}
void CholeskyFactor::solve_upper(std::vector<double>& b, std::int64_t rows) const {
  state_->apply(b, rows, true, false);
}
void CholeskyFactor::solve_lower(std::vector<double>& b, std::int64_t rows) const {
  state_->apply(b, rows, false, true);
}

} // namespace slr
