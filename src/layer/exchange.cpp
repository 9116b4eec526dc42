#include "slr/layer/exchange.hpp"

#include "remainder.hpp"

#include "slr/linalg/blas.hpp"
#include "slr/linalg/lapack.hpp"
#include "slr/mpi/agree.hpp"

#include <algorithm>

namespace slr {
namespace {

constexpr std::int64_t pool = 24;                // of groups outside that are looked at again after the first round
constexpr std::int64_t most_kept_columns = 2048; // beyond, a rank would hold a large part of C

std::size_t length(std::int64_t value) {
  return static_cast<std::size_t>(value);
}

/// F with F F^T = B A^-1 B^T for a small positive definite A (m x m) and B (n x m): B L^-T. False if A has no factor.
/// Local.
bool whiten(std::int64_t n, std::int64_t m, std::vector<double> a, std::vector<double>& b) {
  if (lapack::potrf<double>(Uplo::lower, m, a.data(), m, "a group of inputs") != 0) return false;
  blas::trsm(Side::right, Uplo::lower, Op::transpose, n, m, 1.0, a.data(), m, b.data(), n);
  return true;
}

/// ||(I - U U^T) F||_F^2 for orthonormal columns U. Local.
double beside(std::int64_t n, const std::vector<double>& u, const std::vector<double>& f) {
  double sum = 0;
  for (const double v : f) sum += v * v;
  if (u.empty()) return sum;
  const std::int64_t r = std::ssize(u) / n, m = std::ssize(f) / n;
  std::vector<double> projected(length(r * m));
  blas::gemm(Op::transpose, Op::none, r, m, n, 1.0, u.data(), n, f.data(), n, 0.0, projected.data(), r);
  for (const double v : projected) sum -= v * v;
  return sum;
}

class Exchange {
public:
  Exchange(const Communicator& comm, const ExchangeProblem& problem, std::int64_t rank, std::vector<std::int64_t> kept)
      : comm_(comm), problem_(problem), n_(problem.cross.rows()), size_(problem.group_columns), rank_(rank),
        kept_(std::move(kept)), is_outside_(length(problem.gram.cols() / size_), true) {
    for (const auto g : kept_) is_outside_[length(g)] = false;
  }

  std::vector<std::int64_t> run() {
    for (int round = 0; round < most_exchanges && factor(); ++round) {
      const auto [place, group] = best_pair(promising());
      if (place < 0) break;
      is_outside_[length(group)] = false;
      is_outside_[length(kept_[length(place)])] = true;
      kept_.erase(kept_.begin() + place);
      kept_.insert(std::lower_bound(kept_.begin(), kept_.end(), group), group);
    }
    return kept_;
  }

private:
  /// What taking in group b would bring: t, E_b and S_bb.
  struct Entering {
    std::vector<double> solved, rest, schur;
  };

  [[nodiscard]] std::int64_t columns() const { return std::ssize(kept_) * size_; } ///< |S|
  /// The rows S of a local column of C.
  void take_kept_rows(std::int64_t local_column, double* to) const {
    const double* const column = problem_.gram.local().data() + local_column * problem_.gram.lld();
    for (const auto g : kept_) to = std::copy_n(column + g * size_, size_, to);
  }
  /// First local columns of this rank's groups, in increasing order. Blocks hold whole groups.
  template <class Use>
  void for_each_own_group(Use&& use) const {
    for (std::int64_t j = 0; j < problem_.gram.local_cols(); j += size_)
      use(problem_.gram.global_col(LocalCol(j)).value() / size_, j);
  }

  /// L, P_S and B on every rank, M(S) and its remainder on the root, its leading directions everywhere. False if C_SS
  /// has no factor. Collective.
  bool factor() {
    const auto s = columns();
    factor_.assign(length(s * s), 0.0);
    kept_cross_.assign(length(n_ * s), 0.0);
    for_each_own_group([&](std::int64_t group, std::int64_t first) {
      const auto found = std::lower_bound(kept_.begin(), kept_.end(), group);
      if (found == kept_.end() || *found != group) return;
      for (std::int64_t c = 0; c < size_; ++c) {
        const auto to = (found - kept_.begin()) * size_ + c;
        take_kept_rows(first + c, factor_.data() + to * s);
        factor_[length(to * s + to)] += problem_.delta;
        std::copy_n(problem_.cross.local().data() + (first + c) * n_, n_, kept_cross_.data() + to * n_);
      }
    });
    comm_.reduce(std::span<double>(factor_), 0); // one rank owns each column: the sums have its bits
    comm_.allreduce(std::span<double>(kept_cross_));
    std::int64_t failed = 0, width = 0;
    on_root(comm_, [&] {
      failed = lapack::potrf<double>(Uplo::lower, s, factor_.data(), s, "kept inputs");
      if (failed != 0) return;
      weights_ = kept_cross_;
      blas::trsm(Side::right, Uplo::lower, Op::transpose, n_, s, 1.0, factor_.data(), s, weights_.data(), n_);
      left_over_ = problem_.products;
      blas::gemm(Op::none, Op::transpose, n_, n_, s, -1.0, weights_.data(), n_, weights_.data(), n_, 1.0,
                 left_over_.data(), n_);
      blas::trsm(Side::right, Uplo::lower, Op::none, n_, s, 1.0, factor_.data(), s, weights_.data(), n_);
      remainder_ = remainder_of(n_, left_over_, rank_);
      width = std::ssize(remainder_.leading);
    });
    if (comm_.broadcast_value(failed) != 0) return false;
    comm_.broadcast(std::span<double>(factor_));
    remainder_.leading.resize(length(comm_.broadcast_value(width)));
    comm_.broadcast(std::span<double>(remainder_.leading));
    return true;
  }

  [[nodiscard]] Entering entering(std::int64_t first) const {
    const auto s = columns();
    Entering e{std::vector<double>(length(s * size_)), {}, std::vector<double>(length(size_ * size_))};
    std::vector<double> c_sb(e.solved.size());
    const auto& c = problem_.gram;
    const auto row = c.global_col(LocalCol(first)).value();
    for (std::int64_t j = 0; j < size_; ++j) {
      take_kept_rows(first + j, c_sb.data() + j * s);
      std::copy_n(c.local().data() + (first + j) * c.lld() + row, size_, e.schur.data() + j * size_);
      e.schur[length(j * size_ + j)] += problem_.delta;
    }
    e.solved = c_sb;
    lapack::potrs<double>(Uplo::lower, s, size_, factor_.data(), s, e.solved.data(), s);
    const double* const p = problem_.cross.local().data() + first * n_;
    e.rest.assign(p, p + n_ * size_);
    blas::gemm(Op::none, Op::none, n_, size_, s, -1.0, kept_cross_.data(), n_, e.solved.data(), s, 1.0, e.rest.data(),
               n_);
    blas::gemm(Op::transpose, Op::none, size_, size_, s, -1.0, c_sb.data(), s, e.solved.data(), s, 1.0, e.schur.data(),
               size_);
    return e;
  }

  /// The groups outside S that promise most, and what they bring, on every rank; the first time the pool is made.
  /// Collective.
  std::vector<std::pair<std::int64_t, Entering>> promising() {
    std::vector<double> scores(is_outside_.size(), 0.0); // negative: the smallest are wanted
    collectively(comm_, [&] {
      for_each_own_group([&](std::int64_t group, std::int64_t first) {
        if (!is_outside_[length(group)]) return;
        auto e = entering(first);
        if (whiten(n_, size_, std::move(e.schur), e.rest))
          scores[length(group)] = -beside(n_, remainder_.leading, e.rest);
      });
    });
    comm_.allreduce(std::span<double>(scores));
    if (!has_pool_) {
      std::fill(is_outside_.begin(), is_outside_.end(), false);
      for (const auto group : smallest(scores, pool)) is_outside_[length(group)] = scores[length(group)] < 0;
      has_pool_ = true;
    }
    std::vector<std::pair<std::int64_t, Entering>> result;
    const auto s = columns();
    for (const auto group : smallest(scores, exchange_candidates)) {
      if (scores[length(group)] >= 0) continue;
      Entering zero{std::vector<double>(length(s * size_)), std::vector<double>(length(n_ * size_)),
                    std::vector<double>(length(size_ * size_))};
      result.emplace_back(group, std::move(zero));
    }
    for_each_own_group([&](std::int64_t group, std::int64_t first) {
      for (auto& [wanted, e] : result)
        if (wanted == group) e = entering(first);
    });
    for (auto& [group, e] : result)
      for (auto* part : {&e.solved, &e.rest, &e.schur}) comm_.allreduce(std::span<double>(*part));
    return result;
  }

  /// The place in S and the group outside whose exchange lowers the error most; (-1, -1) if none does. Collective.
  std::pair<std::int64_t, std::int64_t> best_pair(const std::vector<std::pair<std::int64_t, Entering>>& outside) const {
    std::int64_t place = -1, group = -1;
    on_root(comm_, [&] {
      const auto s = columns();
      std::vector<double> inverse(length(s * s), 0.0); // L^-1, then H_aa = (L^-1)_.a^T (L^-1)_.a
      for (std::int64_t i = 0; i < s; ++i) inverse[length(i * s + i)] = 1;
      blas::trsm(Side::left, Uplo::lower, Op::none, s, s, 1.0, factor_.data(), s, inverse.data(), s);
      std::vector<std::vector<double>> blocks, leaving; // H_aa; F with F F^T = B_a H_aa^-1 B_a^T
      std::vector<double> losses;
      for (std::int64_t a = 0; a < std::ssize(kept_); ++a) {
        const double* const of_a = inverse.data() + a * size_ * s;
        blocks.emplace_back(length(size_ * size_));
        blas::gemm(Op::transpose, Op::none, size_, size_, s, 1.0, of_a, s, of_a, s, 0.0, blocks.back().data(), size_);
        leaving.emplace_back(weights_.begin() + a * size_ * n_, weights_.begin() + (a + 1) * size_ * n_);
        require(whiten(n_, size_, blocks.back(), leaving.back()),
                "the inverse second moments of kept inputs lost their definiteness");
        losses.push_back(beside(n_, remainder_.leading, leaving.back()));
      }
      double least = remainder_.value * (1 - least_exchange_gain);
      for (const auto a : smallest(losses, exchange_candidates)) {
        auto without = left_over_;
        const auto& f = leaving[length(a)];
        blas::gemm(Op::none, Op::transpose, n_, n_, size_, 1.0, f.data(), n_, f.data(), n_, 1.0, without.data(), n_);
        for (const auto& [b, e] : outside) {
          const double bound = remainder_with(e, a, blocks[length(a)], without);
          if (bound >= least) continue;
          least = bound;
          place = a;
          group = b;
        }
      }
    });
    return {comm_.broadcast_value(place), comm_.broadcast_value(group)};
  }

  /// The bound with a dropped (M without it is given) and b taken in beside what is left of S; t_a are the rows a of t:
  ///
  ///   E_b += B_a H_aa^-1 t_a,  S_bb += t_a^T H_aa^-1 t_a.
  [[nodiscard]] double remainder_with(Entering b, std::int64_t a, std::vector<double> h_aa,
                                      const std::vector<double>& without) const {
    const auto s = columns();
    std::vector<double> t_a(length(size_ * size_));
    for (std::int64_t j = 0; j < size_; ++j)
      std::copy_n(b.solved.data() + j * s + a * size_, size_, t_a.data() + j * size_);
    auto step = t_a;
    if (lapack::potrf<double>(Uplo::lower, size_, h_aa.data(), size_, "a group of inputs") != 0)
      return remainder_.value;
    lapack::potrs<double>(Uplo::lower, size_, size_, h_aa.data(), size_, step.data(), size_);
    blas::gemm(Op::none, Op::none, n_, size_, size_, 1.0, weights_.data() + a * size_ * n_, n_, step.data(), size_, 1.0,
               b.rest.data(), n_);
    blas::gemm(Op::transpose, Op::none, size_, size_, size_, 1.0, t_a.data(), size_, step.data(), size_, 1.0,
               b.schur.data(), size_);
    if (!whiten(n_, size_, std::move(b.schur), b.rest)) return remainder_.value;
    auto m = without;
    blas::gemm(Op::none, Op::transpose, n_, n_, size_, -1.0, b.rest.data(), n_, b.rest.data(), n_, 1.0, m.data(), n_);
    return remainder_bound(n_, m, remainder_.leading);
  }

  const Communicator& comm_;
  const ExchangeProblem& problem_;
  std::int64_t n_, size_, rank_;
  std::vector<std::int64_t> kept_;
  std::vector<bool> is_outside_; ///< which groups may be taken in
  bool has_pool_ = false;
  std::vector<double> factor_, kept_cross_; ///< L of C_SS, P_S
  std::vector<double> weights_, left_over_; ///< B and M(S), on the root
  Remainder remainder_;                     ///< its value on the root alone
};

} // namespace

bool is_exchange_affordable(std::int64_t rows, std::int64_t kept_columns) {
  return rows <= most_exchange_rows && kept_columns <= most_kept_columns;
}

std::vector<std::int64_t> improve_by_exchange(const Communicator& comm, const ExchangeProblem& problem,
                                              std::int64_t rank, std::vector<std::int64_t> kept) {
  if (kept.empty() || std::ssize(kept) * problem.group_columns == problem.gram.cols()) return kept;
  return Exchange(comm, problem, rank, std::move(kept)).run();
}

} // namespace slr
