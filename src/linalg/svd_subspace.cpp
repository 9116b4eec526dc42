#include "slr/linalg/lapack.hpp"
#include "slr/mpi/agree.hpp"
#include "svd_core.hpp"
#include "svd_cost.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

namespace slr::detail {
namespace {

/// Slack of the test that nothing above tau^2 is left: relative to tau, charged to the bound.
constexpr double certificate_slack = 1e-10;
/// A Gaussian vector's component along the leading direction is below 1/4 with probability < .2, of all 8: .2^8.
constexpr double probe_factor = 4;
constexpr int largest_degree = 12;
constexpr int largest_number_of_rounds = 6;

/// Rayleigh-Ritz pairs of A = Z Z^T, on the root: A U = AU, U^T A U = diag(values), descending.
struct Ritz {
  std::int64_t p = 0;
  std::vector<double> values;
  std::vector<double> u;
  std::vector<double> au;
  std::vector<double> rotation; ///< p x p: u = Q rotation for the basis Q that the operator was applied to
};

/// A = Z Z^T applied to the root's vectors, through the Gram matrix or through Z.
template <class T>
class Operator {
public:
  Operator(const Panel<T>& panel, const GramMatrix* gram) : panel_(panel), gram_(gram) {}

  /// A q on the root. Collective over the panel's communicator.
  std::vector<double> operator()(const std::vector<double>& q, std::int64_t columns) {
    return gram_ ? apply_gram(panel_, *gram_, q, columns) : through_z(q, columns);
  }
  /// Z^T q of the last application through Z, local_cols x columns.
  [[nodiscard]] std::vector<T> take_image() { return std::move(image_); }

private:
  std::vector<double> through_z(const std::vector<double>& q, std::int64_t columns) {
    const std::int64_t m = panel_.rows;
    const std::int64_t n = panel_.local_cols;
    const std::int64_t ld = std::max<std::int64_t>(1, n);
    std::vector<T> basis(static_cast<std::size_t>(m * columns));
    if (panel_.comm->is_root()) std::copy(q.begin(), q.begin() + m * columns, basis.begin());
    panel_.comm->broadcast(std::span<T>(basis));
    image_.resize(static_cast<std::size_t>(n * columns));
    std::vector<T> back(basis.size());
    blas::gemm<T>(Op::transpose, Op::none, n, columns, m, 1, panel_.data, m, basis.data(), m, 0, image_.data(), ld);
    blas::gemm<T>(Op::none, Op::none, m, columns, n, 1, panel_.data, m, image_.data(), ld, 0, back.data(), m);
    std::vector<double> result(back.begin(), back.end());
    panel_.comm->reduce(std::span<double>(result), 0);
    return result;
  }

  const Panel<T>& panel_;
  const GramMatrix* gram_;
  std::vector<T> image_;
};

/// Replaces the m x p columns by an orthonormal basis of their span.
void orthonormalize(std::int64_t m, std::int64_t p, std::vector<double>& q, std::string_view context) {
  const auto tau = lapack::geqrf<double>(m, p, q.data(), m, context);
  lapack::orgqr<double>(m, p, q.data(), m, tau, context);
}

Ritz rayleigh_ritz(std::int64_t m, std::int64_t p, const std::vector<double>& q, const std::vector<double>& aq,
                   std::string_view context) {
  Ritz ritz{.p = p, .values = {}, .u = {}, .au = {}, .rotation = {}};
  const auto pp = static_cast<std::size_t>(p);
  std::vector<double> h(pp * pp), s(pp * pp);
  blas::gemm<double>(Op::transpose, Op::none, p, p, m, 1, q.data(), m, aq.data(), m, 0, h.data(), p);
  for (std::size_t j = 0; j < pp; ++j)
    for (std::size_t i = j; i < pp; ++i) h[i + j * pp] = 0.5 * (h[i + j * pp] + h[j + i * pp]);
  const auto ascending = lapack::syevr<double>(p, h.data(), p, s.data(), p, context);
  ritz.values.assign(ascending.rbegin(), ascending.rend());
  ritz.rotation.resize(pp * pp);
  for (std::size_t j = 0; j < pp; ++j) std::copy_n(s.data() + (pp - 1 - j) * pp, pp, ritz.rotation.data() + j * pp);
  ritz.u.resize(static_cast<std::size_t>(m) * pp);
  ritz.au.resize(ritz.u.size());
  blas::gemm<double>(Op::none, Op::none, m, p, p, 1, q.data(), m, ritz.rotation.data(), p, 0, ritz.u.data(), m);
  blas::gemm<double>(Op::none, Op::none, m, p, p, 1, aq.data(), m, ritz.rotation.data(), p, 0, ritz.au.data(), m);
  return ritz;
}

/// ||A u_i - lambda_i u_i|| for every pair.
std::vector<double> residuals(std::int64_t m, const Ritz& ritz) {
  std::vector<double> norms;
  for (std::int64_t j = 0; j < ritz.p; ++j) {
    double square = 0;
    for (std::int64_t i = 0; i < m; ++i) {
      const auto at = static_cast<std::size_t>(i + j * m);
      const double e = ritz.au[at] - ritz.values[static_cast<std::size_t>(j)] * ritz.u[at];
      square += e * e;
    }
    norms.push_back(std::sqrt(square));
  }
  return norms;
}

/// What the root sees after a Rayleigh-Ritz step.
struct Progress {
  std::int64_t rank = 0;
  double residual = 0; ///< ||(I - U U^T) Z V||_F of the kept pairs
  double norm_x = 0;
  double relative() const { return norm_x > 0 ? residual / norm_x : 0; }
};

Progress assess(const Request& request, std::int64_t m, const Ritz& ritz) {
  Progress progress{.rank = kept(request, ritz.values, m), .residual = 0, .norm_x = 0};
  const auto norms = residuals(m, ritz);
  std::vector<double> sigma;
  double sum = 0;
  for (std::int64_t i = 0; i < progress.rank; ++i) {
    const auto at = static_cast<std::size_t>(i);
    sigma.push_back(std::sqrt(ritz.values[at]));
    sum += norms[at] * norms[at] / ritz.values[at];
  }
  progress.residual = std::sqrt(sum);
  progress.norm_x = norm_of_result(request, sigma);
  return progress;
}

/// The limit that everything outside the kept pairs must stay below, as a singular value.
double limit_of(const Request& request, const Ritz& ritz, std::int64_t rank) {
  if (request.is_threshold) return request.tau;
  return rank > 0 ? std::sqrt(ritz.values[static_cast<std::size_t>(rank - 1)]) : 0;
}

/// Chebyshev filter T_d((2 A - b) / b) on the Ritz vectors, of which the first application is known. On the root:
/// the filtered vectors, not orthonormal. Collective.
template <class T>
std::vector<double> filter(Operator<T>& apply, const Communicator& comm, const Ritz& ritz, std::int64_t p, int degree,
                           double b) {
  std::vector<double> before, now, next;
  if (comm.is_root()) {
    before = ritz.u;
    now.resize(ritz.u.size());
    for (std::size_t i = 0; i < now.size(); ++i) now[i] = 2 / b * ritz.au[i] - ritz.u[i];
  }
  for (int d = 2; d <= degree; ++d) {
    next = apply(now, p);
    if (comm.is_root())
      for (std::size_t i = 0; i < now.size(); ++i) next[i] = 2 * (2 / b * next[i] - now[i]) - before[i];
    before.swap(now);
    now.swap(next);
  }
  return now;
}

/// Is lambda_max((I - U U^T) C (I - U U^T)) <= limit^2 (1 + slack)^2? By a Cholesky factorisation, on the root.
/// A rough C has its own precision, F = float: twice its error covers the deflation in F too, and the factorisation of
/// an m x m matrix with a diagonal below 2 limit^2 adds 4 m eps limit^2, statistically.
template <class F>
bool nothing_above(const GramMatrix& gram, std::int64_t m, std::int64_t long_side, const Ritz& ritz, std::int64_t rank,
                   double limit, std::string_view context) {
  const double eps = std::numeric_limits<F>::epsilon() / 2.0;
  const double uncertain =
      gram.is_rough ? 2 * rough_gram_error(long_side) * gram.trace + 4 * double(m) * eps * limit * limit : 0;
  const double shift = limit * limit * (1 + certificate_slack) * (1 + certificate_slack) - uncertain;
  // With A U = U Lambda + E the deflated matrix is C - G U^T - U G^T, G = A U - U Lambda / 2.
  std::vector<F> g(static_cast<std::size_t>(m * rank));
  const std::vector<F> u(ritz.u.begin(), ritz.u.begin() + m * rank);
  for (std::int64_t j = 0; j < rank; ++j)
    for (std::int64_t i = 0; i < m; ++i) {
      const auto at = static_cast<std::size_t>(i + j * m);
      g[at] = static_cast<F>(ritz.au[at] - ritz.values[static_cast<std::size_t>(j)] / 2 * ritz.u[at]);
    }
  std::vector<F> d(gram.whole.begin(), gram.whole.end());
  blas::syr2k<F>(Uplo::lower, m, rank, 1, g.data(), m, u.data(), m, -1, d.data(), m);
  for (std::int64_t i = 0; i < m; ++i) d[static_cast<std::size_t>(i * (m + 1))] += static_cast<F>(shift);
  return lapack::potrf<F>(Uplo::lower, m, d.data(), m, context) == 0;
}

/// An upper bound of ||(I - P) A (I - P)|| with P on all Ritz vectors, wrong with probability < 3e-6. Collective.
template <class T>
double probe_remainder(Operator<T>& apply, const Communicator& comm, std::int64_t m, const Ritz& ritz) {
  const auto deflate = [&](std::vector<double>& g) {
    std::vector<double> h(static_cast<std::size_t>(ritz.p * probes));
    blas::gemm<double>(Op::transpose, Op::none, ritz.p, probes, m, 1, ritz.u.data(), m, g.data(), m, 0, h.data(),
                       ritz.p);
    blas::gemm<double>(Op::none, Op::none, m, probes, ritz.p, -1, ritz.u.data(), m, h.data(), ritz.p, 1, g.data(), m);
  };
  constexpr int powers = 2;
  std::vector<double> g;
  if (comm.is_root()) g = gaussian(m * probes, 20110511);
  for (int i = 0; i < powers; ++i) {
    if (comm.is_root()) deflate(g);
    g = apply(g, probes);
    if (comm.is_root()) deflate(g);
  }
  double largest = 0;
  for (std::int64_t j = 0; comm.is_root() && j < probes; ++j) {
    double square = 0;
    for (std::int64_t i = 0; i < m; ++i) square += std::pow(g[static_cast<std::size_t>(i + j * m)], 2);
    largest = std::max(largest, std::sqrt(square));
  }
  return std::pow(probe_factor * comm.broadcast_value(largest), 1.0 / powers);
}

/// The norm of the remainder of Z beside the kept pairs, from that beside all pairs: the guards are coupled to the rest
/// by their residuals, and the norm of a symmetric 2 x 2 block matrix is at most that of the matrix of norms.
double remainder_norm(std::int64_t m, const Ritz& ritz, std::int64_t rank, double outside) {
  if (rank == ritz.p) return std::sqrt(outside);
  const auto norms = residuals(m, ritz);
  double coupling = 0;
  for (std::int64_t i = rank; i < ritz.p; ++i) coupling += std::pow(norms[static_cast<std::size_t>(i)], 2);
  const double guard = std::max(0.0, ritz.values[static_cast<std::size_t>(rank)]);
  const double half = (guard - outside) / 2;
  return std::sqrt((guard + outside) / 2 + std::sqrt(half * half + coupling));
}

/// Through Z the last application also gives Z V: one more half step for the left vectors, for nothing. With
/// Z V = U' S' W^T, X' = U' f(S') (V W)^T; its residual is that of U times ||remainder|| / sigma_r. Fills sigma, left
/// (root) and right. Collective.
template <class T>
void polish(const Panel<T>& panel, const std::vector<T>& image, const Ritz& ritz, std::int64_t rank,
            std::string_view context, Factors<T>& factors) {
  const Communicator& comm = *panel.comm;
  const auto m = static_cast<std::size_t>(panel.rows);
  const auto r = static_cast<std::size_t>(rank);
  const auto p = static_cast<std::size_t>(comm.broadcast_value(ritz.p));
  std::vector<T> turn(p * r); // V W = image * turn
  on_root(comm, [&] {
    std::vector<double> zv(m * r);
    for (std::size_t j = 0; j < r; ++j)
      for (std::size_t i = 0; i < m; ++i) zv[i + j * m] = ritz.au[i + j * m] / std::sqrt(ritz.values[j]);
    const auto tau = lapack::geqrf<double>(panel.rows, rank, zv.data(), panel.rows, context);
    std::vector<double> small(r * r, 0.0), u(r * r), wt(r * r);
    for (std::size_t j = 0; j < r; ++j)
      for (std::size_t i = 0; i <= j; ++i) small[i + j * r] = zv[i + j * m];
    factors.sigma.resize(r);
    lapack::gesdd<double>(rank, rank, small.data(), rank, factors.sigma.data(), u.data(), rank, wt.data(), rank,
                          context);
    factors.left.assign(m * r, 0.0);
    for (std::size_t j = 0; j < r; ++j) std::copy_n(u.data() + j * r, r, factors.left.data() + j * m);
    lapack::ormqr<double>(Side::left, Op::none, panel.rows, rank, zv.data(), panel.rows, tau, factors.left.data(),
                          panel.rows, context);
    std::vector<double> scaled(p * r), turned(p * r);
    for (std::size_t j = 0; j < r; ++j)
      for (std::size_t i = 0; i < p; ++i) scaled[i + j * p] = ritz.rotation[i + j * p] / std::sqrt(ritz.values[j]);
    blas::gemm<double>(Op::none, Op::transpose, ritz.p, rank, rank, 1, scaled.data(), ritz.p, wt.data(), rank, 0,
                       turned.data(), ritz.p);
    std::copy(turned.begin(), turned.end(), turn.begin());
  });
  comm.broadcast(std::span<T>(turn));
  factors.sigma.resize(r);
  factors.left.resize(m * r);
  comm.broadcast(std::span<double>(factors.sigma));
  comm.broadcast(std::span<double>(factors.left));
  factors.right.resize(r * static_cast<std::size_t>(panel.local_cols));
  if (factors.right.empty()) return;
  blas::gemm<T>(Op::transpose, Op::transpose, rank, panel.local_cols, static_cast<std::int64_t>(p), 1, turn.data(),
                static_cast<std::int64_t>(p), image.data(), panel.local_cols, 0, factors.right.data(), rank);
}

/// The memory's vectors, with fresh ones up to the wanted number of guards; on the root.
std::vector<double> start_vectors(const SvdMemory& memory, std::int64_t m, std::int64_t p, std::string_view context) {
  std::vector<double> q = memory.vectors;
  const auto have = static_cast<std::int64_t>(memory.values.size());
  q.resize(static_cast<std::size_t>(m * p));
  if (have < p) {
    const auto fresh = gaussian(m * (p - have), 19970401);
    std::copy(fresh.begin(), fresh.end(), q.begin() + m * have);
    orthonormalize(m, p, q, context);
  }
  return q;
}

} // namespace

template <class T>
Factors<T> subspace_engine(const Panel<T>& panel, const Request& request, const GramMatrix* gram, SvdMemory& memory,
                           double affordable) {
  const Communicator& comm = *panel.comm;
  const std::int64_t m = panel.rows;
  const double eps = std::numeric_limits<T>::epsilon() / 2.0;
  const double tolerance = std::max(request.options.subspace_tolerance, 64 * eps);
  const bool is_rough = gram && gram->is_rough;
  // The iteration's share of the tolerance: the probes' safety factor comes on top where Z has the last word.
  const double inner = is_rough ? tolerance / 8 : tolerance;
  Operator<T> apply(panel, gram);
  Factors<T> factors;
  Ritz ritz;
  Progress progress;

  // Round: Rayleigh-Ritz, bound, filter. The root decides, everybody follows.
  const std::int64_t expected = request.is_threshold ? memory.numerical_rank : request.target_rank;
  std::int64_t p = comm.broadcast_value(std::min(m, expected + guards(expected)));
  std::vector<double> q;
  on_root(comm, [&] { q = start_vectors(memory, m, p, request.context); });
  double spent = 0;
  bool converged = false;
  for (int round = 0;; ++round) {
    const auto aq = apply(q, p);
    struct Decision {
      int degree;
      double upper;
      bool converged;
    } decision{0, 0, false};
    on_root(comm, [&] {
      ritz = rayleigh_ritz(m, p, q, aq, request.context);
      progress = assess(request, m, ritz);
      const double relative = progress.relative();
      if (round == 0) memory.drift = relative;
      const bool has_guards = progress.rank < p || p == m;
      const double wanted = progress.rank > 0 ? ritz.values[static_cast<std::size_t>(progress.rank - 1)] : 0;
      // The free half step through Z improves the bound by about the gap at the cut.
      const double gain = gram || progress.rank == 0 || progress.rank == p
                              ? 1
                              : std::sqrt(std::max(0.0, ritz.values[static_cast<std::size_t>(progress.rank)]) / wanted);
      decision.converged = has_guards && (relative * gain <= inner || p == m);
      if (decision.converged || !has_guards || progress.rank == 0 || round == largest_number_of_rounds) return;
      decision.upper = std::max(ritz.values.back(), 1e-3 * wanted);
      const int needed = filter_degree(3 * relative * gain / inner, wanted, decision.upper);
      // Beyond 1e10 between the strongest and the weakest vector the weak ones drown in the strong.
      const int stable = static_cast<int>(23 / std::log(4 * ritz.values.front() / decision.upper));
      decision.degree = std::clamp(needed, 1, std::max(1, std::min(stable, largest_degree)));
      const SvdShape shape{double(m), double(panel.cols), double(progress.rank), double(p)};
      const auto form = gram ? subspace_through_gram(shape) : subspace_through_z(shape);
      const double rounds = std::ceil(double(needed) / decision.degree);
      spent += form.application * decision.degree + ritz_cost(shape);
      const double rest = (rounds - 1) * (form.application * (decision.degree + 1) + ritz_cost(shape));
      if (form.fixed + form.application + spent + rest > affordable) decision.degree = 0;
    });
    decision = comm.broadcast_value(decision);
    converged = decision.converged;
    if (converged || decision.degree == 0) break;
    q = filter(apply, comm, ritz, p, decision.degree, decision.upper);
    on_root(comm, [&] { orthonormalize(m, p, q, request.context); });
  }
  if (!converged) return factors;

  // Of the basis that the rotation refers to; the probes come after.
  const std::vector<T> image = apply.take_image();

  // What is outside the kept pairs must not exceed the limit.
  const std::int64_t rank = comm.broadcast_value(progress.rank);
  double limit = comm.broadcast_value(comm.is_root() ? limit_of(request, ritz, rank) : 0.0);
  bool certified = true;
  double remainder = limit;
  if (rank < m && gram) {
    on_root(comm, [&] {
      const auto certificate = is_rough ? nothing_above<float> : nothing_above<double>;
      certified = certificate(*gram, m, panel.cols, ritz, rank, limit, request.context);
    });
  } else if (rank < m) {
    const double outside = p < m ? probe_remainder(apply, comm, m, ritz) : 0;
    if (comm.is_root()) {
      remainder = remainder_norm(m, ritz, rank, outside);
      certified = remainder <= limit * (1 + certificate_slack);
    }
  }
  if (!comm.broadcast_value(certified)) return factors;

  double measured = 0;
  if (gram || rank == 0) {
    if (comm.is_root()) {
      for (std::int64_t i = 0; i < rank; ++i)
        factors.sigma.push_back(std::sqrt(ritz.values[static_cast<std::size_t>(i)]));
      factors.left.assign(ritz.u.begin(), ritz.u.begin() + rank * m);
    }
    finish(panel, factors);
    if (is_rough && rank > 0) measured = measured_residual(panel, factors);
  } else {
    polish(panel, image, ritz, rank, request.context, factors);
  }
  if (comm.is_root()) {
    const double kept_square = std::accumulate(ritz.values.begin(), ritz.values.end(), 0.0);
    const double gain = gram || rank == 0 ? 1 : std::min(1.0, remainder / factors.sigma.back());
    const double slack = std::sqrt(double(m - rank)) * limit * certificate_slack;
    const double residual = is_rough ? measured : progress.residual * gain;
    // A rough Gram matrix says nothing about X that was not measured on Z.
    const double rounding = is_rough ? 0 : gram ? 2 * gram_rounding(gram->trace, panel.cols) : 4 * eps * kept_square;
    const bool is_nearly_orthonormal = !is_rough || rank == 0 || measured <= largest_skewness * factors.sigma.back();
    factors.error_bound = residual + slack + (limit > 0 ? rounding / limit : 0) +
                          rounding_allowance<T>(rank, std::sqrt(gram ? gram->trace : kept_square));
    factors.accepted =
        (residual + slack <= tolerance * progress.norm_x && is_nearly_orthonormal) || progress.norm_x == 0;
    const std::int64_t keep = std::min(p, rank + guards(rank));
    factors.values.assign(ritz.values.begin(), ritz.values.begin() + keep);
    factors.vectors.assign(ritz.u.begin(), ritz.u.begin() + keep * m);
  }
  factors.accepted = comm.broadcast_value(factors.accepted);
  return factors;
}

template Factors<float> subspace_engine(const Panel<float>&, const Request&, const GramMatrix*, SvdMemory&, double);
template Factors<double> subspace_engine(const Panel<double>&, const Request&, const GramMatrix*, SvdMemory&, double);

} // namespace slr::detail
