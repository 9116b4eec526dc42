#include "slr/linalg/shared_inverse.hpp"

#include "slr/linalg/blas.hpp"

#include <algorithm>

namespace slr {

SharedInverse::SharedInverse(DistMatrix<double> upper) : upper_(std::move(upper)) {
  require(upper_.rows() == upper_.cols() && upper_.local_rows() == upper_.rows(),
          "a shared inverse has whole columns on each rank");
  for (LocalCol j(0); j.value() < upper_.local_cols(); ++j) columns_.push_back(upper_.global_col(j).value());
}

template <class Use>
void SharedInverse::for_each_block(Use&& use) const {
  const auto block = upper_.distribution().cols.block(), width = std::ssize(columns_);
  for (std::int64_t j = 0; j < width; j += block) {
    const auto count = std::min(block, width - j);
    use(j, count, columns_[static_cast<std::size_t>(j + count - 1)] + 1);
  }
}

std::vector<double> SharedInverse::times_upper(std::span<const double> b, std::int64_t m) const {
  require(std::ssize(b) == m * upper_.rows(), "a matrix of other columns than the factor's was given");
  std::vector<double> result(static_cast<std::size_t>(m * std::ssize(columns_)));
  if (m == 0) return result;
  for_each_block([&](std::int64_t j, std::int64_t count, std::int64_t rows) {
    blas::gemm(Op::none, Op::none, m, count, rows, 1.0, b.data(), m, upper_.local().data() + j * upper_.lld(),
               upper_.lld(), 0.0, result.data() + j * m, m);
  });
  return result;
}

std::vector<double> SharedInverse::times_lower(std::span<const double> share, std::int64_t m) const {
  require(std::ssize(share) == m * std::ssize(columns_), "a rank gave other columns than its own");
  std::vector<double> result(static_cast<std::size_t>(m * upper_.rows()), 0.0);
  if (m > 0)
    for_each_block([&](std::int64_t j, std::int64_t count, std::int64_t rows) {
      blas::gemm(Op::none, Op::transpose, m, rows, count, 1.0, share.data() + j * m, m,
                 upper_.local().data() + j * upper_.lld(), upper_.lld(), 1.0, result.data(), m);
    });
  upper_.comm().allreduce(std::span<double>(result));
  return result;
}

} // namespace slr
