#include "slr/layer/elimination.hpp"

#include "slr/layer/block_columns.hpp"
#include "slr/linalg/blas.hpp"
#include "slr/linalg/lapack.hpp"
#include "slr/mpi/agree.hpp"

#include <algorithm>
#include <numeric>

namespace slr {
namespace {

constexpr std::int64_t round_share = 20; // of the groups that are left go in one round

/// The state of an elimination.
class Elimination {
public:
  Elimination(const Communicator& comm, DistMatrix<double> inverse, DistMatrix<double> weights, std::int64_t size)
      : comm_(comm), inverse_(std::move(inverse)), weights_(std::move(weights)), size_(size),
        groups_(inverse_.cols() / size), is_left_(static_cast<std::size_t>(groups_), true), left_(groups_) {}

  void run(std::int64_t count) {
    while (left_ > count) {
      const auto scores = all_scores();
      std::vector<std::int64_t> candidates;
      for (std::int64_t g = 0; g < groups_; ++g)
        if (is_left_[static_cast<std::size_t>(g)]) candidates.push_back(g);
      std::stable_sort(candidates.begin(), candidates.end(), [&](std::int64_t a, std::int64_t b) {
        const double x = scores[static_cast<std::size_t>(a)], y = scores[static_cast<std::size_t>(b)];
        return x != y ? x < y : a > b;
      });
      candidates.resize(
          static_cast<std::size_t>(std::max<std::int64_t>(1, std::min(left_ - count, left_ / round_share))));
      std::sort(candidates.begin(), candidates.end());
      drop(candidates);
    }
  }
  [[nodiscard]] std::vector<std::int64_t> left() const {
    std::vector<std::int64_t> result;
    for (std::int64_t g = 0; g < groups_; ++g)
      if (is_left_[static_cast<std::size_t>(g)]) result.push_back(g);
    return result;
  }

private:
  /// tr(B_g H_gg^-1 B_g^T) of every group that is left. Collective.
  [[nodiscard]] std::vector<double> all_scores() const {
    const std::int64_t n = weights_.rows();
    std::vector<double> scores(static_cast<std::size_t>(groups_), 0.0);
    std::vector<double> h, b;
    collectively(comm_, [&] {
      for (std::int64_t j = 0; j < inverse_.local_cols(); j += size_) {
        const auto column = inverse_.global_col(LocalCol(j)).value(), group = column / size_;
        if (!is_left_[static_cast<std::size_t>(group)]) continue;
        h.resize(static_cast<std::size_t>(size_ * size_));
        for (std::int64_t c = 0; c < size_; ++c)
          std::copy_n(inverse_.local().data() + (j + c) * inverse_.lld() + column, size_, h.begin() + c * size_);
        if (lapack::potrf<double>(Uplo::lower, size_, h.data(), size_, "a group of inputs") != 0) continue; // dead: 0
        b.assign(weights_.local().begin() + j * n, weights_.local().begin() + (j + size_) * n);
        blas::trsm(Side::right, Uplo::lower, Op::transpose, n, size_, 1.0, h.data(), size_, b.data(), n);
        double sum = 0;
        for (const double v : b) sum += v * v;
        scores[static_cast<std::size_t>(group)] = sum;
      }
    });
    comm_.allreduce(std::span<double>(scores)); // one rank owns each: the sum has its bits
    return scores;
  }

  /// The columns of the groups from `matrix`, on every rank: (its rows) x (groups size_). Collective.
  [[nodiscard]] std::vector<double> columns_of(const DistMatrix<double>& matrix,
                                               const std::vector<std::int64_t>& groups) const {
    const std::int64_t rows = matrix.rows();
    std::vector<double> result(static_cast<std::size_t>(rows * size_) * groups.size(), 0.0);
    const auto& columns = matrix.distribution().cols;
    for (std::size_t i = 0; i < groups.size(); ++i)
      for (std::int64_t c = 0; c < size_; ++c) {
        const GlobalCol j(groups[i] * size_ + c);
        if (columns.owner(j) != matrix.grid()->my_col()) continue;
        std::copy_n(matrix.local().data() + columns.local(j).value() * matrix.lld(), rows,
                    result.begin() + static_cast<std::ptrdiff_t>(i) * size_ * rows + c * rows);
      }
    comm_.allreduce(std::span<double>(result));
    return result;
  }

  void drop(const std::vector<std::int64_t>& groups) {
    const std::int64_t k = inverse_.rows(), n = weights_.rows(), d = std::ssize(groups) * size_;
    const auto h = columns_of(inverse_, groups), b = columns_of(weights_, groups);
    std::vector<double> h_dd(static_cast<std::size_t>(d * d));
    for (std::int64_t j = 0; j < d; ++j)
      for (std::int64_t i = 0; i < d; ++i)
        h_dd[static_cast<std::size_t>(j * d + i)] =
            h[static_cast<std::size_t>(j * k + groups[static_cast<std::size_t>(i / size_)] * size_ + i % size_)];
    require(lapack::potrf<double>(Uplo::lower, d, h_dd.data(), d, "dropped inputs") == 0,
            "the inverse second moments lost their definiteness");
    // K = H_DD^-1 H_D. for the columns of each block, then both updates; blocks have one shape on any grid.
    std::vector<double> step;
    for_each_block(inverse_, [&](std::int64_t first, std::int64_t count) {
      step.resize(static_cast<std::size_t>(d * count));
      double* const columns = inverse_.local().data() + first * inverse_.lld();
      for (std::int64_t j = 0; j < count; ++j)
        for (std::int64_t i = 0; i < d; ++i)
          step[static_cast<std::size_t>(j * d + i)] =
              columns[j * inverse_.lld() + groups[static_cast<std::size_t>(i / size_)] * size_ + i % size_];
      lapack::potrs<double>(Uplo::lower, d, count, h_dd.data(), d, step.data(), d);
      blas::gemm(Op::none, Op::none, k, count, d, -1.0, h.data(), k, step.data(), d, 1.0, columns, inverse_.lld());
      blas::gemm(Op::none, Op::none, n, count, d, -1.0, b.data(), n, step.data(), d, 1.0,
                 weights_.local().data() + first * weights_.lld(), weights_.lld());
    });
    for (const auto g : groups) is_left_[static_cast<std::size_t>(g)] = false;
    left_ -= std::ssize(groups);
  }

  const Communicator& comm_;
  DistMatrix<double> inverse_, weights_;
  std::int64_t size_, groups_;
  std::vector<bool> is_left_;
  std::int64_t left_;
};

} // namespace

std::vector<std::int64_t> kept_by_elimination(const Communicator& comm, DistMatrix<double> inverse,
                                              DistMatrix<double> weights, std::int64_t group_columns,
                                              std::int64_t count) {
  require(inverse.rows() == inverse.cols() && weights.cols() == inverse.cols() && group_columns >= 1 &&
              inverse.cols() % group_columns == 0,
          "elimination needs a square inverse, weights of as many columns, and whole groups");
  Elimination elimination(comm, std::move(inverse), std::move(weights), group_columns);
  elimination.run(std::max<std::int64_t>(count, 0));
  return elimination.left();
}

} // namespace slr
