#include "panel_gram.hpp"
#include "slr/dist/redistribute.hpp"
#include "slr/linalg/lapack.hpp"
#include "slr/linalg/scalapack.hpp"
#include "slr/mpi/agree.hpp"
#include "svd_core.hpp"

#include <algorithm>
#include <cmath>

namespace slr::detail {
namespace {

constexpr std::int64_t eigen_block = 64;
constexpr std::int64_t gram_panel_bytes = std::int64_t(64) << 20;

/// The lower triangle of Z Z^T of the local columns, on top of what c holds; floats are widened a chunk at a time.
template <class T>
void accumulate(const Panel<T>& panel, std::vector<double>& c) {
  const std::int64_t m = panel.rows;
  if constexpr (std::is_same_v<T, double>) {
    blas::syrk<double>(Uplo::lower, Op::none, m, panel.local_cols, 1, panel.data, m, 0, c.data(), m);
  } else {
    constexpr std::int64_t chunk = 1024;
    std::vector<double> wide;
    for (std::int64_t j = 0; j < panel.local_cols; j += chunk) {
      const std::int64_t count = std::min(chunk, panel.local_cols - j);
      wide.assign(panel.data + j * m, panel.data + (j + count) * m);
      blas::syrk<double>(Uplo::lower, Op::none, m, count, 1, wide.data(), m, j == 0 ? 0 : 1, c.data(), m);
    }
  }
}

/// Likewise with products of floats, a chunk at a time.
template <class T>
void accumulate_roughly(const Panel<T>& panel, std::vector<double>& c) {
  const std::int64_t m = panel.rows;
  constexpr std::int64_t block = rough_chunk / 8; // short sums round less, and stay in the second-level cache
  std::vector<float> narrow_chunk, part(c.size());
  for (std::int64_t j = 0; j < panel.local_cols; j += block) {
    const std::int64_t count = std::min(block, panel.local_cols - j);
    const float* chunk = nullptr;
    if constexpr (std::is_same_v<T, float>) {
      chunk = panel.data + j * m;
    } else {
      narrow_chunk.assign(panel.data + j * m, panel.data + (j + count) * m);
      chunk = narrow_chunk.data();
    }
    blas::syrk<float>(Uplo::lower, Op::none, m, count, 1, chunk, m, j % rough_chunk == 0 ? 0.0F : 1.0F, part.data(), m);
    if ((j + block) % rough_chunk != 0 && j + block < panel.local_cols) continue;
    for (std::int64_t col = 0; col < m; ++col)
      for (std::int64_t row = col; row < m; ++row) {
        const auto at = static_cast<std::size_t>(row + col * m);
        c[at] += double(part[at]);
      }
  }
}

/// The eigenpairs of the Gram matrix from the top down to the request's limit, with guards; on the root.
struct TopPairs {
  std::vector<double> values;
  std::vector<double> vectors;
};

TopPairs pairs_on_root(const Request& request, const GramMatrix& gram, std::int64_t m) {
  auto work = gram.whole;
  const auto top =
      request.is_threshold
          ? lapack::syevr_above<double>(m, work.data(), m,
                                        std::max(request.tau * request.tau, gram_floor(m) * gram.trace / double(m)), 8,
                                        guards(0), request.context)
          : lapack::syevr_largest<double>(m, work.data(), m, request.target_rank + guards(request.target_rank),
                                          request.context);
  return {top.values, top.vectors};
}

template <class T>
TopPairs pairs_on_grid(const Panel<T>& panel, const Request& request, const GramMatrix& gram) {
  const std::int64_t m = panel.rows;
  const Grid grid = ProcessGrid::square(*panel.comm);
  DistMatrix<double> a(grid, m, m, eigen_block, eigen_block), z(grid, m, m, eigen_block, eigen_block);
  redistribute(*panel.comm, gram.block_columns, a);
  // Guards come from a margin of the spectrum here: their number cannot be asked for together with a bound.
  constexpr double margin = 0.49;
  const double lower = std::max(margin * request.tau * request.tau, gram_floor(m) * gram.trace / double(m));
  const auto values = request.is_threshold
                          ? scalapack::syevr_between<double>(a, lower, 2 * gram.trace + 1, z, request.context)
                          : scalapack::syevr_largest<double>(
                                a, std::min(m, request.target_rank + guards(request.target_rank)), z, request.context);
  const auto found = static_cast<std::int64_t>(values.size());
  TopPairs top{.values = {values.rbegin(), values.rend()}, .vectors = {}};
  const auto ascending = gather_columns(z, GlobalCol(0), found);
  if (!panel.comm->is_root()) return {};
  const std::int64_t rank = kept(request, top.values, m);
  const std::int64_t wanted = std::min(found, rank + guards(rank));
  top.values.resize(static_cast<std::size_t>(wanted));
  top.vectors.resize(static_cast<std::size_t>(wanted * m));
  for (std::int64_t j = 0; j < wanted; ++j)
    std::copy_n(ascending.data() + (found - 1 - j) * m, m, top.vectors.data() + j * m);
  return top;
}

/// sqrt(sum_i ||C u_i - lambda_i u_i||^2 / lambda_i) = ||(I - U U^T) Z V||_F, on the root.
double residual_of(const std::vector<double>& cu, const TopPairs& top, std::int64_t m, std::int64_t rank) {
  double sum = 0;
  for (std::int64_t j = 0; j < rank; ++j) {
    const double lambda = top.values[static_cast<std::size_t>(j)];
    double square = 0;
    for (std::int64_t i = 0; i < m; ++i) {
      const auto at = static_cast<std::size_t>(i + j * m);
      const double e = cu[at] - lambda * top.vectors[at];
      square += e * e;
    }
    sum += square / lambda;
  }
  return std::sqrt(sum);
}

} // namespace

template <class T>
GramMatrix form_gram(const Panel<T>& panel, bool is_rough) {
  const Communicator& comm = *panel.comm;
  const std::int64_t m = panel.rows;
  GramMatrix gram;
  if (comm.size() > 1 && m > root_gram_rows) {
    const std::int64_t block = std::min(eigen_block, (m + comm.size() - 1) / comm.size());
    gram.block_columns = DistMatrix<double>(ProcessGrid::row(comm), m, m, block, block);
    panel_gram(panel.local_cols, panel.data, gram.block_columns, gram_panel_bytes);
    gram.block_columns.for_each_diagonal([&](std::int64_t, double& value) { gram.trace += value; });
    gram.trace = comm.allreduce_value(gram.trace);
    return gram;
  }
  gram.is_rough = is_rough;
  gram.whole.resize(static_cast<std::size_t>(m * m));
  if (is_rough)
    accumulate_roughly(panel, gram.whole);
  else
    accumulate(panel, gram.whole);
  if (comm.size() > 1) comm.reduce(std::span<double>(gram.whole), 0);
  if (comm.is_root())
    for (std::int64_t i = 0; i < m; ++i) gram.trace += gram.whole[static_cast<std::size_t>(i * (m + 1))];
  else
    gram.whole.clear();
  gram.trace = comm.broadcast_value(gram.trace);
  return gram;
}

template <class T>
std::vector<double> apply_gram(const Panel<T>& panel, const GramMatrix& gram, const std::vector<double>& q,
                               std::int64_t columns) {
  const std::int64_t m = panel.rows;
  const auto count = static_cast<std::size_t>(m * columns);
  const Communicator& comm = *panel.comm;
  std::vector<double> result;
  if (!gram.is_distributed()) {
    if (!comm.is_root()) return result;
    result.resize(count);
    blas::symm<double>(Uplo::lower, m, columns, 1, gram.whole.data(), m, q.data(), m, 0, result.data(), m);
    return result;
  }
  // C is symmetric: my columns times my rows of q, summed.
  std::vector<double> all(count);
  if (comm.is_root()) std::copy_n(q.begin(), count, all.begin());
  comm.broadcast(std::span<double>(all));
  const DistMatrix<double>& c = gram.block_columns;
  const auto local = static_cast<std::size_t>(c.local_cols());
  std::vector<double> my_rows(local * static_cast<std::size_t>(columns));
  for (std::size_t j = 0; j < static_cast<std::size_t>(columns); ++j)
    for (std::size_t i = 0; i < local; ++i)
      my_rows[i + j * local] = all[static_cast<std::size_t>(c.global_col(LocalCol(std::int64_t(i))).value()) +
                                   j * static_cast<std::size_t>(m)];
  result.assign(count, 0.0);
  blas::gemm<double>(Op::none, Op::none, m, columns, c.local_cols(), 1, c.local().data(), c.lld(), my_rows.data(),
                     std::max<std::int64_t>(1, c.local_cols()), 0, result.data(), m);
  comm.reduce(std::span<double>(result), 0);
  return result;
}

template <class T>
Factors<T> gram_engine(const Panel<T>& panel, const Request& request, const GramMatrix& gram) {
  const Communicator& comm = *panel.comm;
  const std::int64_t m = panel.rows;
  TopPairs top;
  if (gram.is_distributed())
    top = pairs_on_grid(panel, request, gram);
  else
    on_root(comm, [&] { top = pairs_on_root(request, gram, m); });

  const std::int64_t rank = comm.broadcast_value(kept(request, top.values, m));
  const auto cu = apply_gram(panel, gram, top.vectors, rank);
  Factors<T> factors;
  if (comm.is_root()) {
    for (std::int64_t i = 0; i < rank; ++i) factors.sigma.push_back(std::sqrt(top.values[static_cast<std::size_t>(i)]));
    factors.left.assign(top.vectors.begin(), top.vectors.begin() + rank * m);

    const double norm_z = std::sqrt(gram.trace);
    const double largest = top.values.empty() ? 0 : top.values.front();
    const double floor = std::sqrt(gram_floor(m) * largest);
    const bool cut_by_floor = request.is_threshold ? request.tau < floor : rank < std::min(request.target_rank, m);
    // Singular values that drown in the rounding of C are left out of X.
    const double missing = cut_by_floor && largest > 0 ? std::sqrt(double(m - rank)) * floor : 0;
    const double divisor = request.is_threshold ? std::max(request.tau, floor)
                           : rank > 0           ? factors.sigma.back()
                                                : floor;
    const double rounding = divisor > 0 ? 2 * gram_rounding(gram.trace, panel.cols) / divisor : 0;
    const double algorithm = residual_of(cu, top, m, rank) + missing + rounding;
    const double norm_x = norm_of_result(request, factors.sigma);
    factors.accepted = algorithm <= request.options.gram_tolerance * (norm_x > 0 ? norm_x : norm_z);
    factors.error_bound = algorithm + rounding_allowance<T>(rank, norm_z);
    factors.values = std::move(top.values);
    factors.vectors = std::move(top.vectors);
  }
  factors.accepted = comm.broadcast_value(factors.accepted);
  if (factors.accepted) finish(panel, factors);
  return factors;
}

#define SLR_INSTANTIATE(T)                                                                                             \
  template GramMatrix form_gram(const Panel<T>&, bool);                                                                \
  template std::vector<double> apply_gram(const Panel<T>&, const GramMatrix&, const std::vector<double>&,              \
                                          std::int64_t);                                                               \
  template Factors<T> gram_engine(const Panel<T>&, const Request&, const GramMatrix&);
SLR_INSTANTIATE(float)
SLR_INSTANTIATE(double)
#undef SLR_INSTANTIATE

} // namespace slr::detail
