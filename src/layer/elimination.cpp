#include "slr/layer/elimination.hpp"

#include "slr/layer/block_columns.hpp"
#include "slr/linalg/blas.hpp"
#include "slr/linalg/lapack.hpp"
#include "slr/mpi/agree.hpp"

#include <algorithm>
#include <iterator>
#include <numeric>

namespace slr {
namespace {

constexpr std::int64_t round_share = 20; // of the groups that are left go in one round

/// The columns of H and B that belong to one block: groups that are left, one after the other, with the rows of H that
/// are left. A block never leaves its rank, so all products have the same shapes for every number of ranks.
struct Block {
  std::vector<std::int64_t> groups;
  std::vector<double> inverse, weights;
};

/// The state of an elimination.
class Elimination {
public:
  Elimination(const Communicator& comm, const DistMatrix<double>& inverse, const DistMatrix<double>& weights,
              std::int64_t size)
      : comm_(comm), rows_(weights.rows()), size_(size), left_(static_cast<std::size_t>(inverse.cols() / size)),
        place_(left_.size()) {
    std::iota(left_.begin(), left_.end(), std::int64_t(0));
    place_ = left_;
    for_each_block(inverse, [&](std::int64_t first, std::int64_t count) {
      Block block;
      for (std::int64_t j = first; j < first + count; j += size_)
        block.groups.push_back(inverse.global_col(LocalCol(j)).value() / size_);
      const auto h = inverse.local().begin() + first * inverse.lld(), b = weights.local().begin() + first * rows_;
      block.inverse.assign(h, h + count * inverse.lld());
      block.weights.assign(b, b + count * rows_);
      blocks_.push_back(std::move(block));
    });
  }

  void run(std::int64_t count) {
    while (std::ssize(left_) > count) {
      const auto scores = all_scores();
      auto candidates = left_;
      std::stable_sort(candidates.begin(), candidates.end(), [&](std::int64_t a, std::int64_t b) {
        const double x = scores[static_cast<std::size_t>(a)], y = scores[static_cast<std::size_t>(b)];
        return x != y ? x < y : a > b;
      });
      candidates.resize(static_cast<std::size_t>(
          std::max<std::int64_t>(1, std::min(std::ssize(left_) - count, std::ssize(left_) / round_share))));
      std::sort(candidates.begin(), candidates.end());
      drop(candidates);
    }
  }
  [[nodiscard]] const std::vector<std::int64_t>& left() const { return left_; }

private:
  /// First row of H that belongs to a group that is left.
  [[nodiscard]] std::int64_t row_of(std::int64_t group) const {
    return place_[static_cast<std::size_t>(group)] * size_;
  }
  [[nodiscard]] std::int64_t height() const { return std::ssize(left_) * size_; } ///< rows of H that are left

  /// tr(B_g H_gg^-1 B_g^T) of every group that is left. Collective.
  [[nodiscard]] std::vector<double> all_scores() const {
    std::vector<double> scores(place_.size(), 0.0);
    std::vector<double> h, b;
    collectively(comm_, [&] {
      for (const auto& block : blocks_)
        for (std::size_t g = 0; g < block.groups.size(); ++g) {
          const auto group = block.groups[g];
          const auto first = static_cast<std::int64_t>(g) * size_; // column of the block
          h.resize(static_cast<std::size_t>(size_ * size_));
          for (std::int64_t c = 0; c < size_; ++c)
            std::copy_n(block.inverse.begin() + (first + c) * height() + row_of(group), size_, h.begin() + c * size_);
          if (lapack::potrf<double>(Uplo::lower, size_, h.data(), size_, "a group of inputs") != 0) continue; // dead: 0
          b.assign(block.weights.begin() + first * rows_, block.weights.begin() + (first + size_) * rows_);
          blas::trsm(Side::right, Uplo::lower, Op::transpose, rows_, size_, 1.0, h.data(), size_, b.data(), rows_);
          double sum = 0;
          for (const double v : b) sum += v * v;
          scores[static_cast<std::size_t>(group)] = sum;
        }
    });
    comm_.allreduce(std::span<double>(scores)); // one rank owns each: the sum has its bits
    return scores;
  }

  /// Of every dropped group its columns of H (the rows that are left) and of B, on every rank; then none of them is
  /// left in any block. Collective.
  struct Dropped {
    std::vector<double> inverse, weights;
  };
  Dropped take_out(const std::vector<std::int64_t>& groups) {
    Dropped result;
    const auto d = std::ssize(groups) * size_;
    result.inverse.resize(static_cast<std::size_t>(height() * d), 0.0);
    result.weights.resize(static_cast<std::size_t>(rows_ * d), 0.0);
    for (auto& block : blocks_) {
      Block rest;
      for (std::size_t g = 0; g < block.groups.size(); ++g) {
        const auto first = static_cast<std::ptrdiff_t>(g) * size_;
        const auto h = block.inverse.begin() + first * height(), b = block.weights.begin() + first * rows_;
        const auto found = std::lower_bound(groups.begin(), groups.end(), block.groups[g]);
        if (found != groups.end() && *found == block.groups[g]) {
          const auto to = (found - groups.begin()) * size_;
          std::copy_n(h, size_ * height(), result.inverse.begin() + to * height());
          std::copy_n(b, size_ * rows_, result.weights.begin() + to * rows_);
          continue;
        }
        rest.groups.push_back(block.groups[g]);
        rest.inverse.insert(rest.inverse.end(), h, h + size_ * height());
        rest.weights.insert(rest.weights.end(), b, b + size_ * rows_);
      }
      block = std::move(rest);
    }
    comm_.allreduce(std::span<double>(result.inverse));
    comm_.allreduce(std::span<double>(result.weights));
    return result;
  }

  /// The rows of the groups from a matrix with all rows of H, or all but theirs.
  [[nodiscard]] std::vector<double> rows_of(const std::vector<std::int64_t>& groups,
                                            const std::vector<double>& matrix) const {
    std::vector<double> result;
    result.reserve(matrix.size());
    for (auto column = matrix.begin(); column != matrix.end(); column += height())
      for (const auto g : groups) result.insert(result.end(), column + row_of(g), column + row_of(g) + size_);
    return result;
  }

  void drop(const std::vector<std::int64_t>& groups) {
    const auto dropped = take_out(groups);
    const auto d = std::ssize(groups) * size_;
    std::vector<std::int64_t> rest;
    std::set_difference(left_.begin(), left_.end(), groups.begin(), groups.end(), std::back_inserter(rest));
    auto h_dd = rows_of(groups, dropped.inverse);
    const auto h_d = rows_of(rest, dropped.inverse);
    require(lapack::potrf<double>(Uplo::lower, d, h_dd.data(), d, "dropped inputs") == 0,
            "the inverse second moments lost their definiteness");
    const auto height_after = std::ssize(rest) * size_;
    // K = H_DD^-1 H_D. for the columns of each block, then both updates.
    for (auto& block : blocks_) {
      const auto count = std::ssize(block.groups) * size_;
      if (count == 0) continue;
      auto step = rows_of(groups, block.inverse);
      block.inverse = rows_of(rest, block.inverse);
      lapack::potrs<double>(Uplo::lower, d, count, h_dd.data(), d, step.data(), d);
      if (height_after > 0)
        blas::gemm(Op::none, Op::none, height_after, count, d, -1.0, h_d.data(), height_after, step.data(), d, 1.0,
                   block.inverse.data(), height_after);
      blas::gemm(Op::none, Op::none, rows_, count, d, -1.0, dropped.weights.data(), rows_, step.data(), d, 1.0,
                 block.weights.data(), rows_);
    }
    left_ = std::move(rest);
    for (std::size_t i = 0; i < left_.size(); ++i) place_[static_cast<std::size_t>(left_[i])] = std::int64_t(i);
  }

  const Communicator& comm_;
  std::int64_t rows_, size_;
  std::vector<std::int64_t> left_, place_; ///< the groups that are left; of each of these its place among them
  std::vector<Block> blocks_;
};

} // namespace

std::vector<std::vector<std::int64_t>> kept_by_elimination(const Communicator& comm, DistMatrix<double> inverse,
                                                           DistMatrix<double> weights, std::int64_t group_columns,
                                                           std::span<const std::int64_t> counts) {
  require(inverse.rows() == inverse.cols() && weights.cols() == inverse.cols() && group_columns >= 1 &&
              inverse.cols() % group_columns == 0,
          "elimination needs a square inverse, weights of as many columns, and whole groups");
  Elimination elimination(comm, inverse, weights, group_columns);
  inverse = {}; // its own copy is what shrinks
  weights = {};
  std::vector<std::size_t> by_count(counts.size());
  std::iota(by_count.begin(), by_count.end(), std::size_t(0));
  std::stable_sort(by_count.begin(), by_count.end(), [&](auto a, auto b) { return counts[a] > counts[b]; });
  std::vector<std::vector<std::int64_t>> kept(counts.size());
  for (const auto i : by_count) {
    elimination.run(std::max<std::int64_t>(counts[i], 0));
    kept[i] = elimination.left();
  }
  return kept;
}

} // namespace slr
