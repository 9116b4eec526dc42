#include "slr/layer/kept_rows.hpp"

#include "remainder.hpp"
#include "structure_parts.hpp"

#include "slr/linalg/blas.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace slr {

UnitRows take_rows(const std::vector<std::int64_t>& rows, std::int64_t n, std::span<double> q) {
  const std::int64_t f = std::ssize(rows), cols = n > 0 ? std::ssize(q) / n : 0;
  UnitRows result{std::vector<double>(rows.size()), std::vector<double>(static_cast<std::size_t>(f * cols))};
  for (std::int64_t i = 0; i < f; ++i) {
    double squares = 0;
    double* const row = q.data() + rows[static_cast<std::size_t>(i)];
    for (std::int64_t j = 0; j < cols; ++j) squares += row[j * n] * row[j * n];
    const double length = result.length[static_cast<std::size_t>(i)] = std::sqrt(squares);
    for (std::int64_t j = 0; j < cols; ++j) {
      result.unit[static_cast<std::size_t>(j * f + i)] = length > 0 ? row[j * n] / length : 0;
      row[j * n] = 0;
    }
  }
  return result;
}

std::vector<double> stacked(std::int64_t cols, const std::vector<double>& top, const std::vector<double>& bottom) {
  if (top.empty()) return bottom;
  const auto a = std::ssize(top) / cols, b = std::ssize(bottom) / cols;
  std::vector<double> result;
  result.reserve(top.size() + bottom.size());
  for (std::int64_t j = 0; j < cols; ++j) {
    result.insert(result.end(), top.begin() + j * a, top.begin() + (j + 1) * a);
    result.insert(result.end(), bottom.begin() + j * b, bottom.begin() + (j + 1) * b);
  }
  return result;
}

std::vector<double> beside_unit_columns(const std::vector<std::int64_t>& rows, std::int64_t n,
                                        const std::vector<double>& columns) {
  if (rows.empty()) return columns;
  std::vector<double> result(rows.size() * static_cast<std::size_t>(n), 0.0);
  for (std::size_t i = 0; i < rows.size(); ++i) result[i * static_cast<std::size_t>(n) + std::size_t(rows[i])] = 1;
  result.insert(result.end(), columns.begin(), columns.end());
  for (auto column = result.begin() + std::ssize(rows) * n; column != result.end(); column += n)
    for (const auto row : rows) column[row] = 0;
  return result;
}

namespace {

/// Rows and their losses beside a low-rank part of the others.
class RowChoice {
public:
  RowChoice(std::int64_t n, const std::vector<double>& products, std::int64_t target_rank, std::int64_t count)
      : n_(n), rank_(target_rank), count_(count), products_(products) {}

  /// The `count` largest, increasing.
  [[nodiscard]] std::vector<std::int64_t> largest(std::vector<double> values) const {
    for (double& v : values) v = -v;
    auto rows = smallest(values, count_);
    std::sort(rows.begin(), rows.end());
    return rows;
  }

  /// Exchanges a row for another as long as that pays: those that would lose least and those that lose most are tried
  /// in pairs.
  void exchange() {
    for (int round = 0; round < most_exchanges; ++round) {
      const auto now = remainder_of(n_, without(best_), rank_);
      const auto lost = losses(best_);
      std::vector<std::int64_t> outside;
      std::vector<double> losses_inside, gains_outside; // negative: the largest are wanted
      for (std::int64_t i = 0; i < n_; ++i) {
        if (std::binary_search(best_.begin(), best_.end(), i)) {
          losses_inside.push_back(lost[std::size_t(i)]);
        } else {
          outside.push_back(i);
          gains_outside.push_back(-lost[std::size_t(i)]);
        }
      }
      double least = now.value * (1 - least_exchange_gain);
      std::vector<std::int64_t> better;
      for (const auto place : smallest(losses_inside, exchange_candidates))
        for (const auto other : smallest(gains_outside, exchange_candidates)) {
          const auto in = outside[std::size_t(other)];
          auto rows = best_;
          rows.erase(rows.begin() + place);
          rows.insert(std::lower_bound(rows.begin(), rows.end(), in), in);
          const double bound = remainder_bound(n_, without(rows), now.leading);
          if (bound >= least) continue;
          least = bound;
          better = std::move(rows);
        }
      if (better.empty()) return;
      best_ = std::move(better);
    }
  }

  /// What every row loses on the leading right singular vectors of the rows that are not kept.
  [[nodiscard]] std::vector<double> losses(const std::vector<std::int64_t>& kept) const {
    const auto size = static_cast<std::size_t>(n_);
    auto half = half_of_svd(n_, without(kept));
    const auto r = std::min(rank_, std::ssize(half.sigma));
    half.sigma.resize(static_cast<std::size_t>(r));
    half.left.resize(static_cast<std::size_t>(r) * size);
    for (std::size_t l = 0; l < half.sigma.size(); ++l) // U has no part in F
      for (const auto row : kept) half.left[l * size + std::size_t(row)] = 0;
    std::vector<double> result(size);
    for (std::size_t i = 0; i < size; ++i) result[i] = products_[i * size + i];
    if (r == 0) return result;
    // Q T^T = Q Q_G^T U Sigma^-1
    const auto scaled = over_sigma(n_, half.left, half.sigma);
    std::vector<double> projected(half.left.size());
    blas::gemm(Op::none, Op::none, n_, r, n_, 1.0, products_.data(), n_, scaled.data(), n_, 0.0, projected.data(), n_);
    for (std::size_t l = 0; l < half.sigma.size(); ++l)
      for (std::size_t i = 0; i < size; ++i) result[i] -= projected[l * size + i] * projected[l * size + i];
    return result;
  }

  /// Alternates from these rows, and remembers the best ones.
  void follow(std::vector<std::int64_t> rows) {
    constexpr int most_steps = 30;
    for (int step = 0; step < most_steps; ++step) {
      const auto lost = losses(rows);
      double sum = 0; // of the rows that are not kept
      for (std::size_t i = 0, next = 0; i < lost.size(); ++i) {
        if (next < rows.size() && rows[next] == std::int64_t(i))
          ++next;
        else
          sum += lost[i];
      }
      if (sum < least_) {
        least_ = sum;
        best_ = rows;
      }
      auto following = largest(lost);
      if (following == rows) return;
      rows = std::move(following);
    }
  }
  [[nodiscard]] const std::vector<std::int64_t>& best() const { return best_; }

private:
  /// Q_G Q_G^T, the rows of F zero.
  [[nodiscard]] std::vector<double> without(const std::vector<std::int64_t>& kept) const {
    const auto size = static_cast<std::size_t>(n_);
    auto rest = products_;
    for (const auto row : kept)
      for (std::size_t j = 0; j < size; ++j) rest[j * size + std::size_t(row)] = rest[std::size_t(row) * size + j] = 0;
    return rest;
  }

  std::int64_t n_, rank_, count_;
  const std::vector<double>& products_;
  double least_ = std::numeric_limits<double>::infinity();
  std::vector<std::int64_t> best_;
};

} // namespace

std::vector<std::int64_t> choose_rows(std::int64_t n, const std::vector<double>& products, std::int64_t target_rank,
                                      std::int64_t count) {
  if (count <= 0) return {};
  RowChoice choice(n, products, target_rank, std::min(count, n));
  std::vector<double> squares(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i)
    squares[static_cast<std::size_t>(i)] = products[static_cast<std::size_t>(i * n + i)];
  choice.follow(choice.largest(choice.losses({})));
  choice.follow(choice.largest(squares));
  if (n <= most_exchange_rows) choice.exchange();
  return choice.best();
}

} // namespace slr
