#include "slr/layer/structure.hpp"

#include "slr/dist/redistribute.hpp"
#include "slr/linalg/blas.hpp"
#include "slr/linalg/scalapack.hpp"

#include <algorithm>

namespace slr {
namespace {

constexpr double damping_floor = 1e-9; // of the mean diagonal: below what single-precision features resolve
constexpr std::int64_t solve_block = 64;
constexpr double one_rank_flops = 2e9; // about what a core does while a grid exchanges its first panels

/// One rank for small factorisations, the squarest grid for large ones. Collective.
Grid grid_for(const Communicator& comm, std::int64_t k) {
  const double flops = static_cast<double>(k) * static_cast<double>(k) * static_cast<double>(k) / 3;
  return flops <= one_rank_flops ? ProcessGrid::create(comm, 1, 1) : ProcessGrid::square(comm);
}

/// C in the order [S, R], plus delta on the diagonal, on the same block columns. Collective; every panel of columns
/// visits every rank once.
DistMatrix<double> permuted_gram(const LayerStatistics& statistics, const std::vector<std::int64_t>& order,
                                 double delta) {
  const auto& c = statistics.gram;
  const std::int64_t k = c.cols(), panel = c.distribution().cols.block() * c.grid()->cols();
  std::vector<std::int64_t> place(static_cast<std::size_t>(k)); // of an original column in the new order
  for (std::int64_t j = 0; j < k; ++j) place[static_cast<std::size_t>(order[static_cast<std::size_t>(j)])] = j;
  auto result = c.clone();
  const auto& columns = c.distribution().cols;
  for (std::int64_t first = 0; first < k; first += panel) {
    const auto count = std::min(panel, k - first);
    const auto from = gather_columns(c, GlobalCol(first), count);
    for (std::int64_t j = 0; j < count; ++j) {
      const GlobalCol to(place[static_cast<std::size_t>(first + j)]);
      if (columns.owner(to) != c.grid()->my_col()) continue;
      double* column = result.local().data() + columns.local(to).value() * result.lld();
      for (std::int64_t i = 0; i < k; ++i)
        column[i] = from[static_cast<std::size_t>(j * k + order[static_cast<std::size_t>(i)])];
      column[to.value()] += delta;
    }
  }
  return result;
}

} // namespace

FixedStructure::FixedStructure(const Communicator& comm, const LayerProblem& problem, const LayerStatistics& statistics,
                               Structure structure, double delta, Engine engine)
    : comm_(comm), problem_(problem), structure_(std::move(structure)),
      delta_(delta + damping_floor * std::max(statistics.mean_diagonal, 1e-30)),
      order_(kept_then_rest(structure_.kept_groups, problem.cols, problem.group_columns)),
      kept_columns_(static_cast<std::int64_t>(structure_.kept_groups.size()) * problem.group_columns),
      svd_(comm, {.engine = engine}) {
  const std::int64_t k = problem.cols;
  structure_.target_rank = std::min({structure_.target_rank, problem.rows, k - kept_columns_});
  const auto permuted = permuted_gram(statistics, order_, delta_);
  factor_ = DistMatrix<double>(grid_for(comm, k), k, k, solve_block, solve_block);
  redistribute(comm, permuted, factor_);
  if (const auto minor = scalapack::potrf(Uplo::lower, factor_, "layer " + problem.name); minor != 0)
    throw Error(ExitCode::numerical, "layer " + problem.name +
                                         ": the second moments of its inputs are not positive "
                                         "definite (leading minor " +
                                         std::to_string(minor) +
                                         "); use more calibration images or keep the layer dense (budget.keep)");
}

LayerFactors FixedStructure::solve(const DistMatrix<double>& p) {
  const std::int64_t n = problem_.rows, k = problem_.cols, s = kept_columns_, r = structure_.target_rank;
  const auto& grid = factor_.grid();
  // P + delta W0 in the order [S, R]
  const auto whole = gather_everywhere(p);
  std::vector<double> ordered(whole.size());
  for (std::int64_t j = 0; j < k; ++j)
    for (std::int64_t i = 0; i < n; ++i) {
      const auto from = static_cast<std::size_t>(order_[static_cast<std::size_t>(j)] * n + i);
      ordered[static_cast<std::size_t>(j * n + i)] = whole[from] + delta_ * problem_.weights[from];
    }
  DistMatrix<double> q(grid, n, k, solve_block, solve_block);
  take_local(std::span<const double>(ordered), q);
  // Q = P L^-T
  scalapack::trsm<double>(Side::right, Uplo::lower, Op::transpose, 1.0, factor_, q);

  LayerFactors factors;
  factors.kept_groups = structure_.kept_groups;
  factors.numerical_rank = r;
  if (r > 0) {
    // Q_R ~ U T;  [E, V] = [0, T] L^-1, so that W_R = U V and W_S = Q_S L_SS^-1 + U E
    DistMatrix<double> q_rest(grid, n, k - s, solve_block, solve_block);
    redistribute<double>(comm_, q.view(GlobalRow(0), GlobalCol(s), n, k - s), q_rest);
    auto truncated = svd_.truncate(q_rest, r, "layer " + problem_.name);
    factors.numerical_rank = truncated.numerical_rank;
    factors.u = std::move(truncated.u);
    const auto vt = gather_everywhere(truncated.vt);
    std::vector<double> t(static_cast<std::size_t>(factors.numerical_rank * k), 0.0);
    for (std::int64_t j = s; j < k; ++j)
      for (std::int64_t l = 0; l < factors.numerical_rank; ++l)
        t[static_cast<std::size_t>(j * factors.numerical_rank + l)] =
            truncated.sigma[static_cast<std::size_t>(l)] *
            vt[static_cast<std::size_t>((j - s) * factors.numerical_rank + l)];
    DistMatrix<double> right(grid, factors.numerical_rank, k, solve_block, solve_block);
    take_local(std::span<const double>(t), right);
    scalapack::trsm<double>(Side::right, Uplo::lower, Op::none, 1.0, factor_, right);
    t = gather_everywhere(right);
    factors.v.assign(t.begin() + s * factors.numerical_rank, t.end());
    t.resize(static_cast<std::size_t>(s * factors.numerical_rank)); // E
    factors.b.assign(static_cast<std::size_t>(n * s), 0.0);
    blas::gemm(Op::none, Op::none, n, s, factors.numerical_rank, 1.0, factors.u.data(), n, t.data(),
               factors.numerical_rank, 0.0, factors.b.data(), n);
  }
  if (s > 0) {
    scalapack::trsm<double>(Side::right, Uplo::lower, Op::none, 1.0, factor_.view(GlobalRow(0), GlobalCol(0), s, s),
                            q.view(GlobalRow(0), GlobalCol(0), n, s));
    const auto kept = gather_columns(q, GlobalCol(0), s);
    factors.b.resize(kept.size(), 0.0);
    for (std::size_t i = 0; i < kept.size(); ++i) factors.b[i] += kept[i];
  }
  return factors;
}

} // namespace slr
