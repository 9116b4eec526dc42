#include "svd_core.hpp"

#include "slr/linalg/blas.hpp"
#include "transpose.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

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

#define SLR_INSTANTIATE(T)                                                                                             \
  template double rounding_allowance<T>(std::int64_t, double);                                                         \
  template void finish(const Panel<T>&, Factors<T>&);
SLR_INSTANTIATE(float)
SLR_INSTANTIATE(double)
#undef SLR_INSTANTIATE

} // namespace slr::detail
