#include "slr/layer/relaxed.hpp"

#include "slr/linalg/blas.hpp"
#include "slr/mpi/exact_sum.hpp"
#include "slr/prox/thresholding.hpp"

#include <algorithm>
#include <cmath>

namespace slr {
namespace {

/// <X, Y>, summed column by column and exactly over columns: the same bits for every number of ranks. Collective.
double inner_product(const DistMatrix<double>& x, const DistMatrix<double>& y) {
  ExactSum sum;
  for (LocalCol j(0); j.value() < x.local_cols(); ++j) {
    double column = 0;
    for (LocalRow i(0); i.value() < x.local_rows(); ++i) column += x.at(i, j) * y.at(i, j);
    sum.add(column);
  }
  return allreduce_exact(x.comm(), std::span<const ExactSum>(&sum, 1))[0];
}

/// x += factor * y, local parts.
void add(DistMatrix<double>& x, double factor, const DistMatrix<double>& y) {
  for (std::size_t i = 0; i < x.local().size(); ++i) x.local()[i] += factor * y.local()[i];
}

} // namespace

RelaxedSolver::RelaxedSolver(const Communicator& comm, const LayerProblem& problem, const InputScale& scale,
                             const LayerStatistics& statistics, const RelaxedOptions& options)
    : comm_(comm), problem_(problem), statistics_(statistics), options_(options),
      largest_eigenvalue_(largest_eigenvalue(statistics.gram)), svd_(comm, {.engine = options.engine}),
      splitting_(comm, problem, scale, statistics, options.rho), cross_(splitting_.cross()), bias_(problem.bias) {
  const auto zero = [&] {
    return make_block_columns(statistics.gram.grid(), problem.rows, problem.cols, problem.group_columns);
  };
  a_ = {zero(), zero()};
  b_ = {zero(), zero()};
  // a_max / N = ||P||_2 and b_max / N = max ||P_g||_F for the target Z = W0 X0 + b0, with which the splitting starts.
  const auto leading = svd_.truncate(cross_.p, 1, "layer " + problem.name);
  low_rank_unit_ = leading.sigma.empty() ? 0.0 : leading.sigma.front();
  double largest = 0;
  for (const double g : group_norms(cross_.p.local(), problem.rows, problem.group_columns))
    largest = std::max(largest, g);
  group_unit_ = comm.allreduce_value(largest, Reduction::max);
  if (const auto saved = take(options_.checkpoints, options_.part)) restore(*saved);
  kept_ = keep(options_.checkpoints, options_.part, [this](StateWriter& to) { save(to); });
}

std::vector<double> RelaxedSolver::weights() const {
  auto sum = a_.now.clone();
  add(sum, 1, b_.now);
  return gather_everywhere(sum);
}

void RelaxedSolver::start_from(const RelaxedPoint& point) {
  a_ = {point.a.clone(), point.a.clone()};
  b_ = {point.b.clone(), point.b.clone()};
  bias_ = point.bias;
  cross_ = splitting_.advance(weights(), bias_);
}

RelaxedSolver::Step RelaxedSolver::gradient_step(Block& block, const Block& other) const {
  // Y = X + beta (X - X_before), with Nesterov's sequence t for beta
  const double next = 0.5 * (1 + std::sqrt(1 + 4 * block.momentum * block.momentum));
  const double beta = (block.momentum - 1) / next;
  block.momentum = next;
  auto point = block.now.clone();
  add(point, beta, block.now);
  add(point, -beta, block.before);
  // G = (Y + other) C - P
  auto sum = point.clone();
  add(sum, 1, other.now);
  auto gradient = times_gram(gather_everywhere(sum), problem_.rows, statistics_, problem_.group_columns);
  add(gradient, -1, cross_.p);
  auto start = point.clone();
  add(start, -1 / largest_eigenvalue_, gradient);
  return {std::move(point), std::move(start)};
}

void RelaxedSolver::accept(Block& block, const DistMatrix<double>& point, DistMatrix<double> next) {
  // Restart the momentum when the step turns against the direction of travel (O'Donoghue and Candes' gradient scheme).
  auto step = point.clone();
  add(step, -1, next);
  auto travel = next.clone();
  add(travel, -1, block.now);
  if (inner_product(step, travel) > 0) block.momentum = 1;
  block.before = std::move(block.now);
  block.now = std::move(next);
}

void RelaxedSolver::step_low_rank() {
  auto [point, start] = gradient_step(a_, b_);
  const double tau = lambda_low_rank_ / (options_.rho * largest_eigenvalue_);
  // A = SVT(Y - G / L, lambda_1 / (N rho L)) = U diag(sigma - tau) V^T
  auto factors = svd_.threshold(start, tau, "layer " + problem_.name);
  numerical_rank_ = factors.numerical_rank;
  sigma_ = factors.sigma;
  u_ = std::move(factors.u);
  vt_ = std::move(factors.vt);
  std::vector<double> scaled = u_;
  for (std::size_t l = 0; l < factors.sigma.size(); ++l)
    for (std::int64_t i = 0; i < problem_.rows; ++i)
      scaled[l * static_cast<std::size_t>(problem_.rows) + static_cast<std::size_t>(i)] *= factors.sigma[l];
  DistMatrix<double> next = start.clone();
  for_each_block(next, [&](std::int64_t first, std::int64_t count) {
    blas::gemm(Op::none, Op::none, problem_.rows, count, numerical_rank_, 1.0, scaled.data(), problem_.rows,
               vt_.local().data() + first * vt_.lld(), vt_.lld(), 0.0, next.local().data() + first * next.lld(),
               next.lld());
  });
  accept(a_, point, std::move(next));
}

void RelaxedSolver::step_groups() {
  // B = GST(Y - G / L, lambda_2 / (N rho L)), groups are whole on a rank
  auto [point, next] = gradient_step(b_, a_);
  (void)threshold_groups(next.local(), problem_.rows, problem_.group_columns,
                         lambda_group_ / (options_.rho * largest_eigenvalue_));
  accept(b_, point, std::move(next));
}

SolveReport RelaxedSolver::solve(double factor, std::int64_t iteration_limit, double tolerance,
                                 const ProgressCallback& progress) {
  lambda_low_rank_ = factor * options_.nuclear * low_rank_unit_;
  lambda_group_ = factor * options_.group * group_unit_;
  auto& report = report_;
  if (!is_solving_) report = {};
  is_solving_ = false;
  report.stop_reason = StopReason::iteration_limit;
  if (largest_eigenvalue_ <= 0 || splitting_.output_variation() <= 0) { // nothing varies: the bias is all
    bias_ = cross_.target_mean;
    report.stop_reason = StopReason::converged;
    return report;
  }
  const double scale = std::sqrt(splitting_.output_variation());
  for (std::int64_t iteration = report.iterations + 1; iteration <= iteration_limit; ++iteration) {
    for (int step = 0; step < options_.inner_steps; ++step) step_low_rank();
    for (int step = 0; step < options_.inner_steps; ++step) step_groups();
    const auto w = weights();
    // b = mean(M - U) - (A + B) mean(X)
    bias_ = cross_.target_mean;
    for (std::int64_t j = 0; j < problem_.cols; ++j)
      for (std::int64_t i = 0; i < problem_.rows; ++i)
        bias_[static_cast<std::size_t>(i)] -=
            w[static_cast<std::size_t>(j * problem_.rows + i)] * statistics_.input_mean[static_cast<std::size_t>(j)];
    cross_ = splitting_.advance(w, bias_);

    const auto& sums = splitting_.sums();
    report.iterations = iteration;
    report.primal_residual = std::sqrt(sums.primal_squared) / scale;
    report.dual_residual = std::sqrt(sums.dual_squared) / scale;
    report.error_train = splitting_.output_squared() > 0 ? sums.loss / splitting_.output_squared() : 0.0;
    report.objective.push_back(objective());
    const auto kept = kept_groups();
    if (progress)
      progress(
          {iteration, iteration_limit, report.error_train, numerical_rank_, static_cast<std::int64_t>(kept.size())});
    if (report.primal_residual < tolerance && report.dual_residual < tolerance) {
      const auto c = certificate();
      if (std::max({c.low_rank_distance, c.group_distance, c.bias_distance, c.loss_distance}) < tolerance) {
        report.stop_reason = StopReason::converged;
        break;
      }
    }
    is_solving_ = true;
    poll(options_.checkpoints);
  }
  is_solving_ = false;
  return report;
}

std::vector<std::int64_t> RelaxedSolver::kept_groups() const {
  std::vector<std::uint8_t> is_kept(static_cast<std::size_t>(problem_.groups()), 0);
  const auto norms = group_norms(b_.now.local(), problem_.rows, problem_.group_columns);
  for (std::size_t g = 0; g < norms.size(); ++g) {
    const auto column = b_.now.global_col(LocalCol(static_cast<std::int64_t>(g) * problem_.group_columns));
    if (norms[g] > 0) is_kept[static_cast<std::size_t>(column.value() / problem_.group_columns)] = 1;
  }
  comm_.allreduce(std::span<std::uint8_t>(is_kept), Reduction::max);
  std::vector<std::int64_t> kept;
  for (std::size_t g = 0; g < is_kept.size(); ++g)
    if (is_kept[g]) kept.push_back(static_cast<std::int64_t>(g));
  return kept;
}

Structure RelaxedSolver::structure() const {
  constexpr double negligible = 1e-6; // of the largest singular value: below single precision's resolution of W
  Structure result{kept_groups(), numerical_rank_};
  if (result.kept_groups.empty() || numerical_rank_ == 0) return result;
  std::vector<bool> is_kept(static_cast<std::size_t>(problem_.groups()), false);
  for (const auto group : result.kept_groups) is_kept[static_cast<std::size_t>(group)] = true;
  auto rest = a_.now.clone();
  rest.for_each_local([&](GlobalRow, GlobalCol j, double& value) {
    if (is_kept[static_cast<std::size_t>(j.value() / problem_.group_columns)]) value = 0;
  });
  Svd<double> svd(comm_);
  result.target_rank = svd.threshold(rest, negligible * sigma_.front(), "layer " + problem_.name).numerical_rank;
  return result;
}

double RelaxedSolver::objective() const {
  // [1/2 ||Y - r(Z)||^2 + lambda_1 ||A||_* + lambda_2 ||B||_{2,1}] / ||Y - mean Y||^2
  ExactSum group_sum;
  for (const double g : group_norms(b_.now.local(), problem_.rows, problem_.group_columns)) group_sum.add(g);
  const double groups = allreduce_exact(comm_, std::span<const ExactSum>(&group_sum, 1))[0];
  double nuclear = 0;
  for (const double s : sigma_) nuclear += s;
  const double samples = static_cast<double>(statistics_.samples);
  return (0.5 * splitting_.sums().loss + samples * (lambda_low_rank_ * nuclear + lambda_group_ * groups)) /
         splitting_.output_variation();
}

Certificate RelaxedSolver::certificate() {
  Certificate result;
  const auto n = static_cast<std::size_t>(problem_.rows);
  const auto multiplier = splitting_.multiplier_cross();
  // G = -Lambda Xc^T / N must lie in lambda_1 d||A||_* and in lambda_2 d||B||_{2,1}.
  auto g = multiplier.p.clone();
  for (double& value : g.local()) value = -value;
  result.low_rank_distance = low_rank_distance(g);
  result.group_distance = group_distance(g);
  const double scale =
      std::sqrt(splitting_.output_variation() / static_cast<double>(std::max<std::int64_t>(1, statistics_.samples)));
  double squares = 0;
  for (std::size_t i = 0; i < n; ++i) squares += multiplier.target_mean[i] * multiplier.target_mean[i];
  result.bias_distance = scale > 0 ? std::sqrt(squares) / scale : std::sqrt(squares);
  result.loss_distance = splitting_.multiplier_distance();
  return result;
}

double RelaxedSolver::low_rank_distance(const DistMatrix<double>& g) {
  // With A = U S V^T: d||A||_* = { U V^T + E : U^T E = 0, E V = 0, ||E||_2 <= 1 }. Split G into its part in the tangent
  // space, T = U U^T G + G V V^T - U U^T G V V^T, and the rest E = G - T: the squared distance is
  // ||T - lambda U V^T||_F^2 + sum (sigma_i(E) - lambda)_+^2.
  const std::int64_t n = problem_.rows, r = numerical_rank_;
  auto tangent = g.clone(), rest = g.clone();
  if (r > 0) {
    // G V from whole matrices, and the rest block by block: products of fixed shapes, the same bits on any grid.
    const auto whole_g = gather_everywhere(g), whole_vt = gather_everywhere(vt_);
    std::vector<double> gv(static_cast<std::size_t>(n * r));
    blas::gemm(Op::none, Op::transpose, n, r, g.cols(), 1.0, whole_g.data(), n, whole_vt.data(), r, 0.0, gv.data(), n);
    // rest = (I - U U^T)(G - G V V^T)
    for_each_block(rest, [&](std::int64_t first, std::int64_t count) {
      double* here = rest.local().data() + first * rest.lld();
      const double* vt = vt_.local().data() + first * vt_.lld();
      blas::gemm(Op::none, Op::none, n, count, r, -1.0, gv.data(), n, vt, vt_.lld(), 1.0, here, rest.lld());
      std::vector<double> ut(static_cast<std::size_t>(r * count));
      blas::gemm(Op::transpose, Op::none, r, count, n, 1.0, u_.data(), n, here, rest.lld(), 0.0, ut.data(), r);
      blas::gemm(Op::none, Op::none, n, count, r, -1.0, u_.data(), n, ut.data(), r, 1.0, here, rest.lld());
    });
    add(tangent, -1, rest);
    for_each_block(tangent, [&](std::int64_t first, std::int64_t count) {
      blas::gemm(Op::none, Op::none, n, count, r, -lambda_low_rank_, u_.data(), n,
                 vt_.local().data() + first * vt_.lld(), vt_.lld(), 1.0, tangent.local().data() + first * tangent.lld(),
                 tangent.lld());
    });
  } else {
    std::fill(tangent.local().begin(), tangent.local().end(), 0.0);
  }
  double squares = inner_product(tangent, tangent);
  const auto excess = Svd<double>(comm_).threshold(rest, lambda_low_rank_, "layer " + problem_.name);
  for (const double s : excess.sigma) squares += s * s;
  const double unit = lambda_low_rank_ * std::sqrt(static_cast<double>(std::max<std::int64_t>(1, r)));
  return unit > 0 ? std::sqrt(squares) / unit : std::sqrt(squares);
}

double RelaxedSolver::group_distance(const DistMatrix<double>& g) const {
  // A kept group: ||G_g - lambda B_g / ||B_g|| ||; a zero one: (||G_g|| - lambda)_+.
  const auto size = static_cast<std::size_t>(problem_.rows * problem_.group_columns);
  const auto b_norms = group_norms(b_.now.local(), problem_.rows, problem_.group_columns);
  const auto g_norms = group_norms(g.local(), problem_.rows, problem_.group_columns);
  ExactSum squares;
  std::int64_t kept = 0;
  for (std::size_t group = 0; group < b_norms.size(); ++group) {
    double here = std::pow(std::max(0.0, g_norms[group] - lambda_group_), 2);
    if (b_norms[group] > 0) {
      ++kept;
      here = 0;
      for (std::size_t i = group * size; i < (group + 1) * size; ++i)
        here += std::pow(g.local()[i] - lambda_group_ * b_.now.local()[i] / b_norms[group], 2);
    }
    squares.add(here);
  }
  kept = comm_.allreduce_value(kept);
  const double total = allreduce_exact(comm_, std::span<const ExactSum>(&squares, 1))[0];
  const double unit = lambda_group_ * std::sqrt(static_cast<double>(std::max<std::int64_t>(1, kept)));
  return unit > 0 ? std::sqrt(total) / unit : std::sqrt(total);
}

void RelaxedSolver::save(StateWriter& to) const {
  const auto& engines = svd_.counts();
  const auto& memory = svd_.memory();
  to.put_integers("counts", {numerical_rank_, report_.iterations, static_cast<std::int64_t>(report_.stop_reason),
                             is_solving_ ? 1 : 0, engines.pdgesvd, engines.gram, engines.subspace, engines.fallbacks});
  to.put_doubles("figures", {a_.momentum, b_.momentum, report_.primal_residual, report_.dual_residual,
                             report_.error_train, lambda_low_rank_, lambda_group_});
  to.put_doubles("objective", report_.objective);
  to.put_doubles("bias", bias_);
  to.put_doubles("sigma", sigma_);
  to.put_doubles("u", u_);
  to.put_doubles("vt", numerical_rank_ > 0 ? gather(vt_) : std::vector<double>());
  to.put_doubles("a", gather(a_.now));
  to.put_doubles("a_before", gather(a_.before));
  to.put_doubles("b", gather(b_.now));
  to.put_doubles("b_before", gather(b_.before));
  to.put_doubles("cross", gather(cross_.p));
  to.put_doubles("target_mean", cross_.target_mean);
  splitting_.save(to);
  to.put_integers("svd_counts",
                  {memory.rows, memory.cols, memory.numerical_rank, memory.failures, memory.pause, memory.rough_pause});
  to.put_doubles("svd_figures", {memory.drift, memory.gram_limit});
  to.put_doubles("svd_values", memory.values);
  to.put_doubles("svd_vectors", memory.vectors);
}

void RelaxedSolver::restore(StateReader& from) {
  const auto counts = from.get<std::int64_t>("counts"), history = from.get<std::int64_t>("svd_counts");
  const auto figures = from.get<double>("figures"), drifts = from.get<double>("svd_figures");
  if (counts.size() != 8 || figures.size() != 7 || history.size() != 6 || drifts.size() != 2)
    throw Error(ExitCode::bad_data, "layer " + problem_.name + ": the checkpoint is cut off; use --fresh");
  numerical_rank_ = counts[0];
  report_ = {counts[1],  static_cast<StopReason>(counts[2]), figures[2], figures[3],
             figures[4], from.get<double>("objective")};
  is_solving_ = counts[3] != 0;
  is_restored_ = true;
  svd_.set_counts({counts[4], counts[5], counts[6], counts[7]});
  lambda_low_rank_ = figures[5];
  lambda_group_ = figures[6];
  a_.momentum = figures[0];
  b_.momentum = figures[1];
  bias_ = from.get<double>("bias");
  sigma_ = from.get<double>("sigma");
  u_ = from.get<double>("u");
  const auto fill = [&](const char* name, DistMatrix<double>& matrix) {
    const auto whole = from.get<double>(name);
    require(std::ssize(whole) == matrix.rows() * matrix.cols(), "a matrix of the checkpoint has another size");
    take_local(std::span<const double>(whole), matrix);
  };
  if (numerical_rank_ > 0) {
    const auto& like = a_.now;
    vt_ = DistMatrix<double>(like.grid(), numerical_rank_, like.cols(), numerical_rank_,
                             like.distribution().cols.block());
    fill("vt", vt_);
  }
  fill("a", a_.now);
  fill("a_before", a_.before);
  fill("b", b_.now);
  fill("b_before", b_.before);
  fill("cross", cross_.p);
  cross_.target_mean = from.get<double>("target_mean");
  splitting_.restore(from);
  svd_.restore({history[0], history[1], history[2], from.get<double>("svd_values"), from.get<double>("svd_vectors"),
                drifts[0], history[3], history[4], history[5], drifts[1]});
}

} // namespace slr
