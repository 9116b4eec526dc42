#include "test_matrix.hpp"

#include "slr/linalg/blas.hpp"
#include "slr/linalg/lapack.hpp"

#include <algorithm>
#include <cmath>
#include <random>

namespace slr_bench {
namespace {

using slr::Op;

std::vector<double> gaussian(std::int64_t count, std::uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> normal;
  std::vector<double> values(static_cast<std::size_t>(count));
  for (double& value : values) value = normal(generator);
  return values;
}

std::vector<double> orthonormal(std::int64_t m, std::int64_t n, std::uint64_t seed) {
  auto q = gaussian(m * n, seed);
  const auto tau = slr::lapack::geqrf<double>(m, n, q.data(), m);
  slr::lapack::orgqr<double>(m, n, q.data(), m, tau);
  return q;
}

/// a diag(s) for the leading columns of a rows x q array.
std::vector<double> scaled(const std::vector<double>& a, std::int64_t rows, const std::vector<double>& s) {
  std::vector<double> result(a.begin(), a.begin() + rows * std::ssize(s));
  for (std::size_t j = 0; j < s.size(); ++j)
    for (std::int64_t i = 0; i < rows; ++i) result[static_cast<std::size_t>(i) + j * std::size_t(rows)] *= s[j];
  return result;
}

std::vector<double> shrunk(const std::vector<double>& s, double tau) {
  std::vector<double> result;
  for (const double value : s)
    if (value > tau) result.push_back(value - tau);
  return result;
}

double norm(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value * value;
  return std::sqrt(sum);
}

} // namespace

std::string spectrum_name(Spectrum spectrum) {
  return spectrum == Spectrum::gap ? "gap" : "slow";
}

std::vector<double> singular_values(Spectrum spectrum, std::int64_t count) {
  constexpr std::int64_t signal = 68;
  std::vector<double> s;
  for (std::int64_t i = 0; i < count; ++i) {
    if (spectrum == Spectrum::slow)
      s.push_back(1 / (1 + double(i) / 20));
    else if (i < signal)
      s.push_back(1 - 0.8 * double(i) / double(signal - 1));
    else
      s.push_back(0.0199 * (1 - double(i - signal) / double(count - signal)));
  }
  return s;
}

TestMatrix make_test_matrix(std::int64_t rows, std::int64_t cols, Spectrum spectrum) {
  const std::int64_t q = std::min(rows, cols);
  TestMatrix matrix{.rows = rows, .cols = cols, .s = singular_values(spectrum, q), .u = {}, .v = {}, .z = {}};
  matrix.u = orthonormal(rows, q, 1);
  matrix.v = orthonormal(cols, q, 2);
  matrix.z.resize(static_cast<std::size_t>(rows * cols));
  const auto us = scaled(matrix.u, rows, matrix.s);
  slr::blas::gemm<double>(Op::none, Op::transpose, rows, cols, q, 1, us.data(), rows, matrix.v.data(), cols, 0,
                          matrix.z.data(), rows);
  return matrix;
}

std::vector<double> perturbed(const TestMatrix& matrix, double relative) {
  auto e = gaussian(matrix.rows * matrix.cols, 3);
  const double scale = relative * norm(matrix.s) / norm(e);
  for (std::size_t i = 0; i < e.size(); ++i) e[i] = matrix.z[i] + scale * e[i];
  return e;
}

double relative_error(const TestMatrix& matrix, double tau, const std::vector<double>& u, const std::vector<double>& s,
                      const std::vector<double>& vt) {
  const std::int64_t m = matrix.rows, n = matrix.cols;
  const auto kept = shrunk(matrix.s, tau);
  const auto us = scaled(matrix.u, m, kept);
  std::vector<double> x(static_cast<std::size_t>(m * n));
  slr::blas::gemm<double>(Op::none, Op::transpose, m, n, std::ssize(kept), 1, us.data(), m, matrix.v.data(), n, 0,
                          x.data(), m);
  if (!s.empty()) {
    const auto mine = scaled(u, m, s);
    slr::blas::gemm<double>(Op::none, Op::none, m, n, std::ssize(s), 1, mine.data(), m, vt.data(), std::ssize(s), -1,
                            x.data(), m);
  }
  return norm(x) / norm(kept);
}

double norm_of_threshold(const TestMatrix& matrix, double tau) {
  return norm(shrunk(matrix.s, tau));
}

} // namespace slr_bench
