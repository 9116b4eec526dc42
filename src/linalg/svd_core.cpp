#include "svd_core.hpp"

#include "slr/linalg/blas.hpp"
#include "transpose.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace slr::detail {

std::int64_t kept(const Request& request, std::span<const double> squares, std::int64_t rows) {
  if (squares.empty()) return 0;
  const double floor = gram_floor(rows) * squares.front();
  const double lower = request.is_threshold ? std::max(request.tau * request.tau, floor) : floor;
  const auto above = std::count_if(squares.begin(), squares.end(), [&](double value) { return value > lower; });
  return request.is_threshold ? above : std::min<std::int64_t>(above, request.target_rank);
}

double norm_of_result(const Request& request, std::span<const double> sigma) {
  const double shift = request.is_threshold ? request.tau : 0;
  double sum = 0;
  for (const double s : sigma) sum += (s - shift) * (s - shift);
  return std::sqrt(sum);
}

template <class T>
double rounding_allowance(std::int64_t numerical_rank, double norm_z) {
  const double eps = std::numeric_limits<T>::epsilon() / 2.0;
  return (std::sqrt(static_cast<double>(numerical_rank)) + 4) * eps * norm_z;
}

double gram_rounding(double trace, std::int64_t long_side) {
  return 4 * (std::numeric_limits<double>::epsilon() / 2) * std::sqrt(static_cast<double>(long_side)) * trace;
}

double rough_gram_error(std::int64_t long_side) {
  const double eps = std::numeric_limits<float>::epsilon() / 2;
  const double terms = static_cast<double>(std::min(rough_chunk, long_side));
  return 4 * eps * (terms / std::sqrt(static_cast<double>(long_side)) + 1);
}

template <class T>
void finish(const Panel<T>& panel, Factors<T>& factors) {
  const Communicator& comm = *panel.comm;
  const auto rank = static_cast<std::size_t>(comm.broadcast_value(static_cast<std::int64_t>(factors.sigma.size())));
  factors.sigma.resize(rank);
  factors.left.resize(rank * static_cast<std::size_t>(panel.rows));
  comm.broadcast(std::span<double>(factors.sigma));
  comm.broadcast(std::span<double>(factors.left));
  std::vector<T> scaled(factors.left.size());
  const auto m = static_cast<std::size_t>(panel.rows);
  for (std::size_t j = 0; j < rank; ++j)
    for (std::size_t i = 0; i < m; ++i) scaled[i + j * m] = static_cast<T>(factors.left[i + j * m] / factors.sigma[j]);
  factors.right.resize(rank * static_cast<std::size_t>(panel.local_cols));
  // The product with few rows is slow as it stands: chunks of Z^T U with many rows, transposed while they are in cache.
  constexpr std::int64_t chunk = 256;
  std::vector<T> part(static_cast<std::size_t>(chunk) * rank);
  for (std::int64_t from = 0; rank > 0 && from < panel.local_cols; from += chunk) {
    const std::int64_t count = std::min(chunk, panel.local_cols - from);
    blas::gemm<T>(Op::transpose, Op::none, count, static_cast<std::int64_t>(rank), panel.rows, 1,
                  panel.data + from * panel.rows, panel.rows, scaled.data(), panel.rows, 0, part.data(), count);
    transpose(count, static_cast<std::int64_t>(rank), part.data(),
              factors.right.data() + static_cast<std::size_t>(from) * rank);
  }
}

std::vector<double> gaussian(std::int64_t count, std::uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> normal;
  std::vector<double> values(static_cast<std::size_t>(count));
  for (double& value : values) value = normal(generator);
  return values;
}

template <class T>
double measured_residual(const Panel<T>& panel, const Factors<T>& factors) {
  constexpr double chi_square = 0.18;
  const std::int64_t m = panel.rows, n = panel.local_cols;
  const auto rank = static_cast<std::int64_t>(factors.sigma.size());
  const auto g = gaussian(rank * probes, 20010915);
  const std::vector<T> in_t(g.begin(), g.end());
  std::vector<T> vg(static_cast<std::size_t>(n * probes)), zvg(static_cast<std::size_t>(m * probes));
  const std::int64_t ld = std::max<std::int64_t>(1, n);
  blas::gemm<T>(Op::transpose, Op::none, n, probes, rank, 1, factors.right.data(), rank, in_t.data(), rank, 0,
                vg.data(), ld);
  blas::gemm<T>(Op::none, Op::none, m, probes, n, 1, panel.data, m, vg.data(), ld, 0, zvg.data(), m);
  std::vector<double> d(zvg.begin(), zvg.end());
  panel.comm->reduce(std::span<double>(d), 0);
  if (!panel.comm->is_root()) return 0;
  std::vector<double> sg(g.size());
  for (std::size_t at = 0; at < g.size(); ++at) sg[at] = factors.sigma[at % factors.sigma.size()] * double(in_t[at]);
  blas::gemm<double>(Op::none, Op::none, m, probes, rank, -1, factors.left.data(), m, sg.data(), rank, 1, d.data(), m);
  const double square = std::inner_product(d.begin(), d.end(), d.begin(), 0.0);
  return 1.2 * std::sqrt(square / chi_square);
}

#define SLR_INSTANTIATE(T)                                                                                             \
  template double rounding_allowance<T>(std::int64_t, double);                                                         \
  template void finish(const Panel<T>&, Factors<T>&);                                                                  \
  template double measured_residual(const Panel<T>&, const Factors<T>&);
SLR_INSTANTIATE(float)
SLR_INSTANTIATE(double)
#undef SLR_INSTANTIATE

} // namespace slr::detail
