#include "slr/layer/structure.hpp"

#include "structure_parts.hpp"

#include "slr/dist/redistribute.hpp"
#include "slr/linalg/blas.hpp"
#include "slr/linalg/lapack.hpp"
#include "slr/linalg/scalapack.hpp"
#include "slr/mpi/agree.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <initializer_list>

namespace slr {

namespace {

constexpr double negligible = 1e-10;        // of the largest singular value: no direction worth following
constexpr std::int64_t panel_columns = 512; // of an n x n matrix that are summed at a time
constexpr std::int64_t one_rank_rows = 512; // up to this the eigenvalues of Q Q^T are computed by every rank

std::int64_t lead(std::int64_t rows) {
  return std::max<std::int64_t>(1, rows);
}

/// A += alpha X Y^T + beta V W^T over the samples of all ranks, all of n rows, a panel of columns at a time.
/// Collective.
struct Outer {
  double factor;
  const std::vector<double>&left, &right;
};
void add_outer_products(const Communicator& comm, std::int64_t samples, std::initializer_list<Outer> terms,
                        DistMatrix<double>& a) {
  const std::int64_t n = a.rows();
  std::vector<double> panel;
  for (std::int64_t first = 0; first < n; first += panel_columns) {
    const auto width = std::min(panel_columns, n - first);
    panel.assign(static_cast<std::size_t>(n * width), 0.0);
    for (const auto& [factor, left, right] : terms)
      if (samples > 0)
        blas::gemm(Op::none, Op::transpose, n, width, samples, factor, left.data(), n, right.data() + first, n, 1.0,
                   panel.data(), n);
    comm.allreduce(std::span<double>(panel));
    if (!a.grid()->contains_me()) continue;
    const auto& columns = a.distribution().cols;
    const LocalCol end(columns.local_begin(GlobalCol(first + width), a.grid()->my_col()));
    for (LocalCol j(columns.local_begin(GlobalCol(first), a.grid()->my_col())); j < end; ++j) {
      const double* column = panel.data() + (a.global_col(j).value() - first) * n;
      for (LocalRow i(0); i.value() < a.local_rows(); ++i) a.at(i, j) += column[a.global_row(i).value()];
    }
  }
}

/// This rank's share of U^T A U (q x q) for U with q columns, on every rank. Local.
std::vector<double> congruence(const DistMatrix<double>& a, std::int64_t q, const std::vector<double>& u) {
  const std::int64_t n = a.rows(), rows = a.local_rows(), cols = a.local_cols();
  std::vector<double> result(static_cast<std::size_t>(q * q), 0.0);
  if (rows == 0 || cols == 0) return result;
  std::vector<double> upper(static_cast<std::size_t>(rows * q)), right(static_cast<std::size_t>(cols * q)),
      product(upper.size());
  for (std::int64_t l = 0; l < q; ++l) {
    for (LocalRow i(0); i.value() < rows; ++i)
      upper[static_cast<std::size_t>(l * rows + i.value())] =
          u[static_cast<std::size_t>(l * n + a.global_row(i).value())];
    for (LocalCol j(0); j.value() < cols; ++j)
      right[static_cast<std::size_t>(l * cols + j.value())] =
          u[static_cast<std::size_t>(l * n + a.global_col(j).value())];
  }
  blas::gemm(Op::none, Op::none, rows, q, cols, 1.0, a.local().data(), a.lld(), right.data(), cols, 0.0, product.data(),
             rows);
  blas::gemm(Op::transpose, Op::none, q, q, rows, 1.0, upper.data(), rows, product.data(), rows, 0.0, result.data(), q);
  return result;
}

/// U and Sigma from A = Q Q^T on a grid, the `count` largest singular values at most: descending, the same on every
/// rank. Collective.
HalfSvd largest_pairs(const Communicator& comm, DistMatrix<double> a, std::int64_t count, const std::string& context) {
  const auto n = a.rows();
  HalfSvd result;
  if (n <= one_rank_rows) {
    auto whole = gather_everywhere(a);
    result = half_of_svd(n, std::move(whole));
  } else {
    auto z = a.clone();
    const auto values = scalapack::syevr_largest<double>(a, std::min(count, n), z, context);
    const auto found = std::ssize(values);
    const auto vectors = gather_columns(z, GlobalCol(0), found);
    for (std::int64_t j = found - 1; j >= 0; --j) {
      const double value = values[static_cast<std::size_t>(j)];
      if (value <= negligible * negligible * values.back() || value <= 0) break;
      result.sigma.push_back(std::sqrt(value));
      result.left.insert(result.left.end(), vectors.begin() + j * n, vectors.begin() + (j + 1) * n);
    }
  }
  // Every rank goes on with the root's.
  const auto found =
      static_cast<std::size_t>(comm.broadcast_value(std::min<std::int64_t>(count, std::ssize(result.sigma))));
  result.sigma.resize(found);
  result.left.resize(found * static_cast<std::size_t>(n));
  comm.broadcast(std::span<double>(result.sigma));
  comm.broadcast(std::span<double>(result.left));
  return result;
}

} // namespace

std::int64_t basis_size(std::int64_t target_rank, std::int64_t largest) {
  return target_rank == 0 ? 0 : std::min(target_rank + std::max<std::int64_t>(4, target_rank / 8), largest);
}

HalfSvd half_of_svd(std::int64_t q, std::vector<double> gram) {
  HalfSvd result;
  std::vector<double> vectors(gram.size());
  const auto values = lapack::syevr<double>(q, gram.data(), lead(q), vectors.data(), lead(q));
  const double largest = values.empty() ? 0 : std::max(values.back(), 0.0);
  for (std::int64_t l = q - 1; l >= 0; --l) {
    const double value = values[static_cast<std::size_t>(l)];
    if (value <= negligible * negligible * largest || value <= 0) break;
    result.sigma.push_back(std::sqrt(value));
    result.left.insert(result.left.end(), vectors.begin() + l * q, vectors.begin() + (l + 1) * q);
  }
  return result;
}

std::vector<double> over_sigma(std::int64_t rows, const std::vector<double>& left, const std::vector<double>& sigma) {
  auto scaled = left;
  for (std::size_t l = 0; l < sigma.size(); ++l)
    for (std::int64_t i = 0; i < rows; ++i)
      scaled[l * static_cast<std::size_t>(rows) + static_cast<std::size_t>(i)] /= sigma[l];
  return scaled;
}

void FixedStructure::start(std::span<const float> target) {
  require(in_samples_.has_value(), "only the implicit form starts from a target on samples");
  const auto& moments = *statistics_.in_samples;
  const std::int64_t n = problem_.rows, mine = problem_.fit.count;
  const auto count = static_cast<double>(std::max<std::int64_t>(1, statistics_.samples));
  // D = T - S,  R = D (K + N delta I)^-1,  Q Q^T = T T^T / N + delta (W0 W0^T - R D^T)
  const std::vector<double> t(target.begin(), target.end());
  auto d = t;
  std::transform(d.begin(), d.end(), moments.original.begin(), d.begin(), std::minus<>());
  auto r = d;
  in_samples_->solve(r, n);
  auto gram = moments.weights_squared.clone();
  for (double& value : gram.local()) value *= delta_;
  add_outer_products(comm_, mine, {{1 / count, t, t}, {-delta_, r, d}}, gram);
  auto top = largest_pairs(comm_, std::move(gram), basis_size(structure_.target_rank, std::min(n, problem_.cols)),
                           context_of(problem_));
  sigma_ = std::move(top.sigma);
  left_ = std::move(top.left);
  const auto q = std::ssize(sigma_);
  numerical_rank_ = std::min(structure_.target_rank, q);
  gain_ = 0;
  for (std::int64_t l = 0; l < numerical_rank_; ++l) gain_ += sigma_[std::size_t(l)] * sigma_[std::size_t(l)];
  std::vector<double> projected(static_cast<std::size_t>(q * mine)); // U^T R
  if (q > 0 && mine > 0)
    blas::gemm(Op::transpose, Op::none, q, mine, n, 1.0, left_.data(), n, r.data(), n, 0.0, projected.data(), q);
  set_right_in_samples(projected);
}

void FixedStructure::set_right_in_samples(const std::vector<double>& r) {
  const std::int64_t n = problem_.rows, k = problem_.cols, q = std::ssize(sigma_), mine = problem_.fit.count;
  std::vector<float> right(static_cast<std::size_t>(q * k), 0.0F);
  if (q > 0) {
    const auto scaled = over_sigma(n, left_, sigma_);
    const std::vector<float> basis(scaled.begin(), scaled.end());
    const auto [first, columns] = share_of_columns(comm_.rank());
    if (columns > 0)
      blas::gemm(Op::transpose, Op::none, q, columns, n, 1.0F, basis.data(), n, problem_.weights.data() + first * n, n,
                 0.0F, right.data() + first * q, q);
  }
  if (q > 0 && mine > 0) {
    std::vector<float> on_samples(r.size()), sums(static_cast<std::size_t>(q), 0.0F);
    for (std::int64_t s = 0; s < mine; ++s)
      for (std::int64_t l = 0; l < q; ++l) {
        const auto at = static_cast<std::size_t>(s * q + l);
        on_samples[at] = static_cast<float>(r[at] / sigma_[static_cast<std::size_t>(l)]);
        sums[static_cast<std::size_t>(l)] += on_samples[at];
      }
    blas::gemm(Op::none, Op::transpose, q, k, mine, 1.0F, on_samples.data(), q, problem_.fit.x.data(), k, 1.0F,
               right.data(), q);
    const std::vector<float> mean(statistics_.input_mean.begin(), statistics_.input_mean.end()); // X is not centred
    blas::gemm(Op::none, Op::none, q, k, 1, -1.0F, sums.data(), q, mean.data(), 1, 1.0F, right.data(), q);
  }
  comm_.allreduce(std::span<float>(right));
  right_.assign(right.begin(), right.end());
}

void FixedStructure::add_pull_on_features() {
  const std::int64_t n = problem_.rows, q = std::ssize(sigma_);
  const auto [first, columns] = share_of_columns(comm_.rank());
  std::vector<float> pull(left_.size(), 0.0F);
  if (columns > 0) {
    const std::vector<float> right(right_.begin() + first * q, right_.begin() + (first + columns) * q);
    blas::gemm(Op::none, Op::transpose, n, q, columns, static_cast<float>(delta_), problem_.weights.data() + first * n,
               n, right.data(), q, 0.0F, pull.data(), n);
  }
  comm_.allreduce(std::span<float>(pull));
  std::transform(left_.begin(), left_.end(), pull.begin(), left_.begin(), std::plus<>());
}

void FixedStructure::improve_right(std::span<const float> projected) {
  require(in_samples_.has_value(), "only the implicit form is improved on samples");
  const auto& moments = *statistics_.in_samples;
  const std::int64_t n = problem_.rows, q = std::ssize(sigma_), mine = problem_.fit.count;
  if (q == 0) return;
  const auto count = static_cast<double>(std::max<std::int64_t>(1, statistics_.samples));
  // As in `start`, with U^T T in the place of T and U^T W0 in that of W0.
  const std::vector<double> t(projected.begin(), projected.end());
  auto d = t;
  if (mine > 0)
    blas::gemm(Op::transpose, Op::none, q, mine, n, -1.0, left_.data(), n, moments.original.data(), n, 1.0, d.data(),
               q);
  auto r = d;
  in_samples_->solve(r, q);
  auto gram = congruence(moments.weights_squared, q, left_);
  for (double& value : gram) value *= delta_;
  if (mine > 0) {
    blas::gemm(Op::none, Op::transpose, q, q, mine, 1 / count, t.data(), q, t.data(), q, 1.0, gram.data(), q);
    blas::gemm(Op::none, Op::transpose, q, q, mine, -delta_, r.data(), q, d.data(), q, 1.0, gram.data(), q);
  }
  comm_.reduce(std::span<double>(gram), 0);
  HalfSvd half;
  on_root(comm_, [&] { half = half_of_svd(q, std::move(gram)); });
  const auto size = comm_.broadcast_value(std::ssize(half.sigma));
  half.sigma.resize(static_cast<std::size_t>(size));
  half.left.resize(static_cast<std::size_t>(q * size));
  comm_.broadcast(std::span<double>(half.sigma));
  comm_.broadcast(std::span<double>(half.left));
  std::vector<double> rotated(static_cast<std::size_t>(n * size)), on_samples(static_cast<std::size_t>(size * mine));
  if (size > 0) {
    blas::gemm(Op::none, Op::none, n, size, q, 1.0, left_.data(), n, half.left.data(), q, 0.0, rotated.data(), n);
    if (mine > 0)
      blas::gemm(Op::transpose, Op::none, size, mine, q, 1.0, half.left.data(), q, r.data(), q, 0.0, on_samples.data(),
                 size);
  }
  left_ = std::move(rotated);
  sigma_ = std::move(half.sigma);
  numerical_rank_ = std::min(structure_.target_rank, size);
  set_right_in_samples(on_samples);
}

} // namespace slr
