#pragma once
// Matrices with known singular value decompositions, and the optimality conditions of what is computed from them.
#include "dist/grids.hpp"
#include "slr/linalg/lapack.hpp"
#include "slr/linalg/svd.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace slr_test {

/// The first n columns of a random orthogonal m x m matrix.
inline std::vector<double> orthonormal(std::int64_t m, std::int64_t n, std::uint64_t seed) {
  auto q = random_matrix<double>(m, n, seed);
  const auto tau = slr::lapack::geqrf<double>(m, n, q.data(), m);
  slr::lapack::orgqr<double>(m, n, q.data(), m, std::span<const double>(tau));
  return q;
}

/// U diag(s) V^T, m x n, with random orthonormal factors and s.size() <= min(m, n).
inline std::vector<double> with_singular_values(std::int64_t m, std::int64_t n, const std::vector<double>& s,
                                                std::uint64_t seed) {
  const auto q = std::ssize(s);
  auto u = orthonormal(m, q, seed);
  const auto v = orthonormal(n, q, seed + 1);
  for (std::int64_t j = 0; j < q; ++j)
    for (std::int64_t i = 0; i < m; ++i) u[static_cast<std::size_t>(i + j * m)] *= s[static_cast<std::size_t>(j)];
  std::vector<double> z(static_cast<std::size_t>(m * n), 0.0);
  if (q > 0)
    slr::blas::gemm<double>(slr::Op::none, slr::Op::transpose, m, n, q, 1, u.data(), m, v.data(), n, 0, z.data(), m);
  return z;
}

/// `signal` values from 1 down to .2, then noise from .02 to 0.
inline std::vector<double> gap_spectrum(std::int64_t count, std::int64_t signal) {
  std::vector<double> s;
  for (std::int64_t i = 0; i < count; ++i)
    s.push_back(i < signal ? 1 - 0.8 * double(i) / double(std::max<std::int64_t>(1, signal - 1))
                           : 0.02 * (1 - double(i - signal) / double(count - signal)));
  return s;
}

inline std::vector<double> perturbed(std::vector<double> z, double relative, std::uint64_t seed) {
  const auto e = random_matrix<double>(std::ssize(z), 1, seed);
  const double scale = relative * norm(z) / norm(e);
  for (std::size_t i = 0; i < z.size(); ++i) z[i] += scale * e[i];
  return z;
}

/// The whole X = U diag(sigma) V^T on every rank. Collective.
template <class T>
std::vector<double> whole(const slr::LowRank<T>& x, std::int64_t rows) {
  const auto vt = slr::gather_everywhere(x.vt);
  std::vector<double> us(x.u.begin(), x.u.end());
  for (std::size_t j = 0; j < x.sigma.size(); ++j)
    for (std::int64_t i = 0; i < rows; ++i) us[static_cast<std::size_t>(i) + j * std::size_t(rows)] *= x.sigma[j];
  const std::vector<double> right(vt.begin(), vt.end());
  std::vector<double> result(static_cast<std::size_t>(rows * x.vt.cols()), 0.0);
  if (x.numerical_rank > 0 && rows > 0 && x.vt.cols() > 0)
    slr::blas::gemm<double>(slr::Op::none, slr::Op::none, rows, x.vt.cols(), x.numerical_rank, 1, us.data(), rows,
                            right.data(), x.numerical_rank, 0, result.data(), rows);
  return result;
}

/// The reference: a full decomposition by ?gesdd, thresholded (tau) or truncated.
struct Reference {
  std::vector<double> s;
  std::vector<double> x;
};
inline Reference reference(std::int64_t m, std::int64_t n, std::vector<double> z, bool is_threshold, double tau,
                           std::int64_t rank) {
  const std::int64_t q = std::min(m, n);
  Reference ref;
  ref.s.resize(static_cast<std::size_t>(q));
  std::vector<double> u(static_cast<std::size_t>(m * q)), vt(static_cast<std::size_t>(q * n));
  ref.x.assign(z.size(), 0.0);
  if (q == 0) return ref;
  slr::lapack::gesdd<double>(m, n, z.data(), m, ref.s.data(), u.data(), m, vt.data(), q);
  for (std::int64_t j = 0; j < q; ++j) {
    const double s = ref.s[static_cast<std::size_t>(j)];
    const double f = is_threshold ? std::max(0.0, s - tau) : (j < rank ? s : 0.0);
    for (std::int64_t i = 0; i < m; ++i) u[static_cast<std::size_t>(i + j * m)] *= f;
  }
  slr::blas::gemm<double>(slr::Op::none, slr::Op::none, m, n, q, 1, u.data(), m, vt.data(), q, 0, ref.x.data(), m);
  return ref;
}

inline double distance(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> d(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) d[i] = a[i] - b[i];
  return norm(d);
}

/// The Frobenius distance of Z - X to tau times the subdifferential of the nuclear norm at X = U diag(sigma) V^T: with
/// G = Z - X, the parts U^T G V - tau I, U^T G (I - V V^T), (I - U U^T) G V, and what of the rest exceeds tau.
template <class T>
double distance_to_optimality(const slr::LowRank<T>& x, std::int64_t m, std::int64_t n, const std::vector<double>& z,
                              double tau) {
  const auto r = x.numerical_rank;
  const std::vector<double> u(x.u.begin(), x.u.end());
  const auto vt_t = slr::gather_everywhere(x.vt);
  const std::vector<double> vt(vt_t.begin(), vt_t.end());
  auto g = z;
  const auto xx = whole(x, m);
  for (std::size_t i = 0; i < g.size(); ++i) g[i] -= xx[i];
  // G - tau U V^T must be W with U^T W = 0, W V = 0, ||W|| <= tau.
  auto uv = product(false, false, m, n, r, u, vt);
  for (std::size_t i = 0; i < g.size(); ++i) g[i] -= tau * uv[i];
  const auto ug = product(true, false, r, n, m, u, g);  // U^T W
  const auto gv = product(false, true, m, r, n, g, vt); // W V
  const std::int64_t q = std::min(m, n);
  std::vector<double> s(static_cast<std::size_t>(q)), left(static_cast<std::size_t>(m * q)),
      right(static_cast<std::size_t>(q * n));
  slr::lapack::gesdd<double>(m, n, g.data(), m, s.data(), left.data(), m, right.data(), q);
  double square = norm(ug) * norm(ug) + norm(gv) * norm(gv);
  for (const double value : s) square += std::pow(std::max(0.0, value - tau), 2);
  return std::sqrt(square);
}

/// ||U^T U - I||_F and ||V V^T - I||_F, the larger.
template <class T>
double orthogonality(const slr::LowRank<T>& x, std::int64_t m) {
  const auto r = x.numerical_rank;
  const auto vt = slr::gather_everywhere(x.vt);
  double worst = 0;
  for (auto gram : {product(true, false, r, r, m, x.u, x.u), product(false, true, r, r, x.vt.cols(), vt, vt)}) {
    for (std::int64_t i = 0; i < r; ++i) gram[static_cast<std::size_t>(i * (r + 1))] -= 1;
    worst = std::max(worst, norm(gram));
  }
  return worst;
}

} // namespace slr_test
