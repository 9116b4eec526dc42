#include "slr/layer/structure.hpp"

#include "structure_parts.hpp"

#include "slr/dist/redistribute.hpp"
#include "slr/layer/block_columns.hpp"
#include "slr/linalg/blas.hpp"
#include "slr/linalg/lapack.hpp"
#include "slr/linalg/scalapack.hpp"
#include "slr/mpi/agree.hpp"

#include <algorithm>
#include <cmath>
#include <functional>

namespace slr {

namespace {

constexpr double negligible = 1e-10; // of the largest singular value: no direction worth following
constexpr std::int64_t grid_block = 64;
constexpr std::int64_t one_rank_rows = 512; // up to this the eigenvalues of Q Q^T are computed by every rank

std::int64_t lead(std::int64_t rows) {
  return std::max<std::int64_t>(1, rows);
}

/// Calls use(column of this rank, columns, global number of the first) for neighbouring columns of this rank.
template <class Use>
void for_each_run(const DistMatrix<double>& m, Use&& use) {
  const auto block = m.distribution().cols.block();
  for (std::int64_t j = 0; j < m.local_cols(); j += block)
    use(j, std::min(block, m.local_cols() - j), m.global_col(LocalCol(j)).value());
}

/// The eigenpairs of a symmetric matrix that every rank has, the `count` largest at least: descending. Collective.
HalfSvd largest_pairs(const Communicator& comm, std::int64_t n, std::vector<double> gram, std::int64_t count,
                      const std::string& context) {
  if (n <= one_rank_rows) return half_of_svd(n, std::move(gram));
  DistMatrix<double> a(ProcessGrid::square(comm), n, n, grid_block, grid_block), z = a.clone();
  take_local(std::span<const double>(gram), a);
  const auto values = scalapack::syevr_largest<double>(a, std::min(count, n), z, context);
  const auto found = std::ssize(values);
  const auto vectors = gather_columns(z, GlobalCol(0), found);
  HalfSvd result;
  for (std::int64_t j = found - 1; j >= 0; --j) {
    const double value = values[static_cast<std::size_t>(j)];
    if (value <= negligible * negligible * values.back() || value <= 0) break;
    result.sigma.push_back(std::sqrt(value));
    result.left.insert(result.left.end(), vectors.begin() + j * n, vectors.begin() + (j + 1) * n);
  }
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

void FixedStructure::start_implicitly(const DistMatrix<double>& p) {
  const std::int64_t n = problem_.rows, k = problem_.cols;
  const auto pulled = [&](DistMatrix<double> m) {
    m.for_each_local([&](GlobalRow i, GlobalCol j, double& value) {
      value += delta_ * problem_.weights[static_cast<std::size_t>(j.value() * n + i.value())];
    });
    return m;
  };
  auto free = pulled(p.clone()); // W = P C^-1
  implicit_->solve(free);
  std::vector<double> gram(static_cast<std::size_t>(n * n), 0.0); // Q Q^T = W P^T
  {
    const auto target = pulled(p.clone());
    blas::gemm(Op::none, Op::transpose, n, n, target.local_cols(), 1.0, free.local().data(), free.lld(),
               target.local().data(), target.lld(), 0.0, gram.data(), n);
  }
  comm_.allreduce(std::span<double>(gram));
  const auto size = basis_size(structure_.target_rank, std::min(n, k));
  auto top = largest_pairs(comm_, n, std::move(gram), size, context_of(problem_));
  top.sigma.resize(std::min(top.sigma.size(), static_cast<std::size_t>(size)));
  top.left.resize(top.sigma.size() * static_cast<std::size_t>(n));
  // Every rank goes on with the root's.
  const auto found = static_cast<std::size_t>(comm_.broadcast_value(std::ssize(top.sigma)));
  top.sigma.resize(found);
  top.left.resize(found * static_cast<std::size_t>(n));
  comm_.broadcast(std::span<double>(top.sigma));
  comm_.broadcast(std::span<double>(top.left));
  sigma_ = std::move(top.sigma);
  left_ = std::move(top.left);
  numerical_rank_ = std::min(structure_.target_rank, std::ssize(sigma_));
  gain_ = 0;
  for (std::int64_t l = 0; l < numerical_rank_; ++l) gain_ += sigma_[std::size_t(l)] * sigma_[std::size_t(l)];
  const auto q = std::ssize(sigma_);
  auto right = make_block_columns(p.grid(), q, k, problem_.group_columns); // E = Sigma^-1 U^T W
  const auto scaled = over_sigma(n, left_, sigma_);
  if (q > 0)
    blas::gemm(Op::transpose, Op::none, q, free.local_cols(), n, 1.0, scaled.data(), n, free.local().data(), free.lld(),
               0.0, right.local().data(), right.lld());
  right_ = gather_everywhere(right);
}

void FixedStructure::add_pull_on_features() {
  const std::int64_t n = problem_.rows, q = std::ssize(sigma_);
  const auto columns = make_block_columns(statistics_.grid, 1, problem_.cols, problem_.group_columns);
  std::vector<double> pull(left_.size(), 0.0);
  for_each_run(columns, [&](std::int64_t, std::int64_t count, std::int64_t first) {
    blas::gemm(Op::none, Op::transpose, n, q, count, delta_, problem_.weights.data() + first * n, n,
               right_.data() + first * q, q, 1.0, pull.data(), n);
  });
  comm_.allreduce(std::span<double>(pull));
  std::transform(left_.begin(), left_.end(), pull.begin(), left_.begin(), std::plus<>());
}

void FixedStructure::improve_right_implicitly(std::vector<double> projected) {
  const std::int64_t n = problem_.rows, k = problem_.cols, q = std::ssize(sigma_);
  if (q == 0) return;
  auto target = make_block_columns(statistics_.grid, q, k, problem_.group_columns); // U^T P
  for_each_run(target, [&](std::int64_t local, std::int64_t count, std::int64_t first) {
    double* const to = target.local().data() + local * target.lld();
    std::copy_n(projected.begin() + first * q, count * q, to);
    blas::gemm(Op::transpose, Op::none, q, count, n, delta_, left_.data(), n, problem_.weights.data() + first * n, n,
               1.0, to, target.lld());
  });
  auto free = target.clone();
  implicit_->solve(free);
  std::vector<double> gram(static_cast<std::size_t>(q * q), 0.0);
  blas::gemm(Op::none, Op::transpose, q, q, free.local_cols(), 1.0, free.local().data(), free.lld(),
             target.local().data(), target.lld(), 0.0, gram.data(), q);
  comm_.reduce(std::span<double>(gram), 0);
  HalfSvd half;
  on_root(comm_, [&] { half = half_of_svd(q, std::move(gram)); });
  const auto size = comm_.broadcast_value(std::ssize(half.sigma));
  half.sigma.resize(static_cast<std::size_t>(size));
  half.left.resize(static_cast<std::size_t>(q * size));
  comm_.broadcast(std::span<double>(half.sigma));
  comm_.broadcast(std::span<double>(half.left));
  auto right = make_block_columns(statistics_.grid, size, k, problem_.group_columns);
  std::vector<double> rotated(static_cast<std::size_t>(n * size));
  if (size > 0) {
    const auto scaled = over_sigma(q, half.left, half.sigma);
    blas::gemm(Op::transpose, Op::none, size, free.local_cols(), q, 1.0, scaled.data(), q, free.local().data(),
               free.lld(), 0.0, right.local().data(), right.lld());
    blas::gemm(Op::none, Op::none, n, size, q, 1.0, left_.data(), n, half.left.data(), q, 0.0, rotated.data(), n);
  }
  left_ = std::move(rotated);
  sigma_ = std::move(half.sigma);
  numerical_rank_ = std::min(structure_.target_rank, size);
  right_ = gather_everywhere(right);
}

} // namespace slr
