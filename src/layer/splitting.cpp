#include "slr/layer/splitting.hpp"

#include "slr/base/narrow.hpp"
#include "slr/linalg/blas.hpp"
#include "slr/mpi/exact_sum.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

namespace slr {
namespace {

constexpr std::size_t sum_count = 6; // members of PassSums, in their order
constexpr int output_grid_bits = 30;
constexpr std::int64_t panel_values = std::int64_t(1) << 23; ///< of P, that are summed at a time
constexpr int lowest_target_exponent = -400;                 // of a row whose target is zero

/// Twenty bits of the weights, so that their sum and the sum of their squares over all ranks are exact.
double weights_hash(const std::vector<double>& weights) {
  std::uint64_t hash = 14695981039346656037U; // FNV-1a on 64-bit words
  for (const double value : weights) hash = (hash ^ std::bit_cast<std::uint64_t>(value)) * 1099511628211U;
  return static_cast<double>((hash ^ (hash >> 23) ^ (hash >> 44)) & 0xfffffU);
}

/// What every rank needs of a pass beside its columns of P, laid out for one reduction of doubles.
class Tail {
public:
  explicit Tail(std::int64_t rows)
      : rows_(static_cast<std::size_t>(rows)), data_(3 * rows_ + sum_count * ExactSum::digits + 3, 0.0) {}
  [[nodiscard]] std::size_t size() const { return data_.size(); }
  [[nodiscard]] std::vector<double>& data() { return data_; }
  double& row_sum(std::size_t i) { return data_[i]; }
  double& samples_near_limit(std::size_t i) { return data_[rows_ + i]; }
  double& samples_above_sixteenth(std::size_t i) { return data_[2 * rows_ + i]; }
  [[nodiscard]] double samples_near_limit(std::size_t i) const { return data_[rows_ + i]; }
  [[nodiscard]] double samples_above_sixteenth(std::size_t i) const { return data_[2 * rows_ + i]; }
  std::span<double> sum(std::size_t i) {
    return std::span<double>(data_).subspan(3 * rows_ + i * ExactSum::digits, ExactSum::digits);
  }
  double& hash() { return data_[data_.size() - 3]; }
  double& hash_squared() { return data_[data_.size() - 2]; }
  double& failures() { return data_.back(); }

private:
  std::size_t rows_;
  std::vector<double> data_;
};

/// One reduce-scatter: everybody's product, neighbouring columns of P from `first` on, is summed onto the owners of its
/// columns, everybody's tail onto all.
void reduce_onto_owners(const Communicator& comm, const std::vector<double>& product, std::int64_t first,
                        std::vector<double>& tail, DistMatrix<double>& owned) {
  const auto& columns = owned.distribution().cols;
  const auto end = first + std::ssize(product) / std::max<std::int64_t>(1, owned.rows());
  const auto local_begin = [&](std::int64_t col, int rank) { return columns.local_begin(GlobalCol(col), rank); };
  std::vector<double> packed;
  packed.reserve(product.size() + static_cast<std::size_t>(comm.size()) * tail.size());
  std::vector<int> counts;
  for (int rank = 0; rank < comm.size(); ++rank) {
    const auto before = packed.size();
    for (LocalCol j(local_begin(first, rank)); j.value() < local_begin(end, rank); ++j) {
      const auto column = product.begin() + (columns.global(j, rank).value() - first) * owned.rows();
      packed.insert(packed.end(), column, column + owned.rows());
    }
    packed.insert(packed.end(), tail.begin(), tail.end());
    counts.push_back(narrow<int>(packed.size() - before, "a weight matrix"));
  }
  std::vector<double> mine(static_cast<std::size_t>(counts[static_cast<std::size_t>(comm.rank())]));
  comm.reduce_scatter(std::span<const double>(packed), std::span<double>(mine), counts);
  const auto split = mine.end() - std::ssize(tail);
  std::copy(mine.begin(), split, owned.local().begin() + local_begin(first, owned.grid()->my_col()) * owned.rows());
  std::copy(split, mine.end(), tail.begin());
}

} // namespace

std::vector<double> row_means(const Communicator& comm, std::int64_t rows, std::span<const float> values,
                              std::int64_t samples) {
  const auto n = static_cast<std::size_t>(rows);
  std::vector<double> largest(n, 0.0), mean(n, 0.0);
  for (std::size_t i = 0; i < values.size(); ++i)
    largest[i % n] = std::max(largest[i % n], std::abs(double(values[i])));
  comm.allreduce(std::span<double>(largest), Reduction::max);
  std::vector<FixedPoint> grid;
  for (const double value : largest) grid.push_back(FixedPoint::covering(value, output_grid_bits));
  for (std::size_t i = 0; i < values.size(); ++i) mean[i % n] += grid[i % n].round(values[i]);
  comm.allreduce(std::span<double>(mean));
  for (double& sum : mean) sum /= static_cast<double>(std::max<std::int64_t>(1, samples));
  return mean;
}

OutputSums measure_outputs(const Communicator& comm, const LayerProblem& problem, std::int64_t samples) {
  const auto n = static_cast<std::size_t>(problem.rows);
  const auto mean = row_means(comm, problem.rows, problem.fit.y, samples);
  ExactSum squares;
  for (std::size_t s = 0; s < static_cast<std::size_t>(problem.fit.count); ++s) {
    double here = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const double value = problem.fit.y[s * n + i];
      here += value * value;
    }
    squares.add(here);
  }
  OutputSums result;
  result.squared = result.variation = allreduce_exact(comm, std::span<const ExactSum>(&squares, 1))[0];
  for (const double each : mean) result.variation -= each * each * static_cast<double>(samples);
  result.variation = std::max(result.variation, 0.0);
  return result;
}

ActivationSplitting::ActivationSplitting(const Communicator& comm, const LayerProblem& problem, const InputScale& scale,
                                         const LayerStatistics& statistics, double rho)
    : comm_(comm), problem_(problem), scale_(scale), statistics_(statistics), rho_(rho),
      outputs_(measure_outputs(comm, problem, statistics.samples)),
      split_(problem.fit.linear.begin(), problem.fit.linear.end()), dual_(split_.size(), 0.0),
      target_exponent_(static_cast<std::size_t>(problem.rows), 0) {}

CrossProducts ActivationSplitting::cross() {
  std::vector<double> largest(static_cast<std::size_t>(problem_.rows), 0.0);
  for (std::size_t i = 0; i < split_.size(); ++i) {
    auto& here = largest[i % largest.size()];
    here = std::max(here, std::abs(split_[i] - dual_[i]));
  }
  comm_.allreduce(std::span<double>(largest), Reduction::max);
  for (std::size_t i = 0; i < largest.size(); ++i)
    target_exponent_[i] = largest[i] > 0 ? std::ilogb(largest[i]) + 2 : 0; // at least a factor of two to spare
  return pass(nullptr, nullptr, Target::split_minus_dual);
}

CrossProducts ActivationSplitting::advance(std::vector<double> weights, const std::vector<double>& bias) {
  round_weights(scale_, problem_.rows, weights);
  return pass(&weights, &bias, Target::split_minus_dual);
}

CrossProducts ActivationSplitting::multiplier_cross() {
  std::vector<double> largest(static_cast<std::size_t>(problem_.rows), 0.0);
  for (std::size_t i = 0; i < dual_.size(); ++i) {
    auto& here = largest[i % largest.size()];
    here = std::max(here, std::abs(rho_ * dual_[i]));
  }
  comm_.allreduce(std::span<double>(largest), Reduction::max);
  const auto kept = target_exponent_;
  const auto kept_sums = sums_;
  for (std::size_t i = 0; i < largest.size(); ++i)
    target_exponent_[i] = largest[i] > 0 ? std::ilogb(largest[i]) + 2 : 0;
  auto result = pass(nullptr, nullptr, Target::multiplier);
  target_exponent_ = kept;
  sums_ = kept_sums;
  return result;
}

/// What one pass fills.
struct ActivationSplitting::Workspace {
  explicit Workspace(std::int64_t rows) : tail(rows) {}
  Tail tail;
  std::array<ExactSum, sum_count> exact;
  std::vector<FixedPoint> grid;          ///< of the targets, per row
  std::vector<double> z, argument, m, t; ///< of one piece of samples, rows x count
};

void ActivationSplitting::update_piece(std::int64_t first, std::int64_t count, const double* x,
                                       const std::vector<double>& weights, const std::vector<double>& bias,
                                       Workspace& work) {
  const auto rows = static_cast<std::size_t>(problem_.rows);
  const auto size = rows * static_cast<std::size_t>(count), begin = rows * static_cast<std::size_t>(first);
  for (auto* values : {&work.z, &work.argument, &work.m}) values->resize(size);
  // Z = W X + b;  M = prox(Z + U);  U = U + Z - M
  forward(problem_.rows, problem_.cols, weights.data(), bias, x, count, work.z.data());
  for (std::size_t i = 0; i < size; ++i) work.argument[i] = work.z[i] + dual_[begin + i];
  prox_activation(problem_.activation, work.argument, std::span(problem_.fit.y).subspan(begin, size), rho_, work.m);
  for (std::size_t s = 0; s < size; s += rows) {
    std::array<double, sum_count> sums{}; // of one sample: a fixed order of terms, whatever the rank
    for (std::size_t i = s; i < s + rows; ++i) {
      const double z = work.z[i], m = work.m[i], u = work.argument[i] - m;
      const double loss = problem_.fit.y[begin + i] - problem_.activation(z), primal = z - m;
      const double dual = rho_ * (m - split_[begin + i]), lambda = rho_ * u;
      sums[0] += loss * loss;
      sums[1] += primal * primal;
      sums[2] += dual * dual;
      sums[3] += z * z;
      sums[4] += m * m;
      sums[5] += lambda * lambda;
      dual_[begin + i] = u;
      split_[begin + i] = m;
    }
    for (std::size_t i = 0; i < sum_count; ++i) work.exact[i].add(sums[i]);
  }
}

void ActivationSplitting::round_target(std::int64_t first, std::int64_t count, Target target, bool is_counted,
                                       Workspace& work) const {
  // A value beyond its row's bound is cut off there; the bound is raised for the next pass.
  const auto rows = static_cast<std::size_t>(problem_.rows);
  const auto size = rows * static_cast<std::size_t>(count), begin = rows * static_cast<std::size_t>(first);
  work.t.resize(size);
  for (std::size_t s = 0; s < size; s += rows)
    for (std::size_t row = 0; row < rows; ++row) {
      const std::size_t at = begin + s + row;
      const double value = target == Target::multiplier ? rho_ * dual_[at] : split_[at] - dual_[at];
      const double rounded = work.grid[row].round(value), limit = work.grid[row].largest();
      work.t[s + row] = rounded;
      if (!is_counted) continue;
      work.tail.row_sum(row) += rounded;
      work.tail.samples_near_limit(row) += std::abs(value) > limit / 2 ? 1 : 0;
      work.tail.samples_above_sixteenth(row) += std::abs(value) > limit / 16 ? 1 : 0;
    }
}

void ActivationSplitting::adapt_target_exponents(const Workspace& work) {
  for (std::size_t i = 0; i < target_exponent_.size(); ++i) {
    if (work.tail.samples_near_limit(i) > 0)
      target_exponent_[i] += 2;
    else if (work.tail.samples_above_sixteenth(i) == 0 && target_exponent_[i] > lowest_target_exponent)
      target_exponent_[i] -= 1;
  }
}

CrossProducts ActivationSplitting::pass(const std::vector<double>* weights, const std::vector<double>* bias,
                                        Target target) {
  const std::int64_t n = problem_.rows, k = problem_.cols;
  const int target_bits = exact_product_bits(std::max<std::int64_t>(statistics_.samples, 1), input_bits);
  Workspace work(n);
  for (const int exponent : target_exponent_) work.grid.emplace_back(exponent - target_bits, target_bits);

  CrossProducts result{make_block_columns(statistics_.grid, n, k, problem_.group_columns),
                       std::vector<double>(static_cast<std::size_t>(n))};
  const auto width = std::max<std::int64_t>(1, panel_values / std::max<std::int64_t>(1, n));
  std::vector<double> product; // T X^T over this rank's samples, for the columns from `left` on
  const auto multiply = [&](std::int64_t left, bool is_first) {
    const auto columns = std::min(width, k - left);
    product.assign(static_cast<std::size_t>(n * columns), 0.0);
    for_each_piece(problem_.fit.x, k, problem_.fit.count, [&](std::int64_t first, std::int64_t count, const double* x) {
      if (is_first && weights) update_piece(first, count, x, *weights, *bias, work);
      round_target(first, count, target, is_first, work);
      blas::gemm(Op::none, Op::transpose, n, columns, count, 1.0, work.t.data(), n, x + left, k, 1.0, product.data(),
                 n);
    });
  };
  try {
    multiply(0, true);
  } catch (const Error&) {
    work.tail.failures() = 1; // everybody learns of it in the collective below
  }

  for (std::size_t i = 0; i < sum_count; ++i) work.exact[i].pack(work.tail.sum(i));
  const double my_hash = weights ? weights_hash(*weights) : 0.0;
  work.tail.hash() = my_hash;
  work.tail.hash_squared() = my_hash * my_hash;
  product.resize(static_cast<std::size_t>(n * std::min(width, k)));
  reduce_onto_owners(comm_, product, 0, work.tail.data(), result.p);

  if (work.tail.failures() > 0)
    throw Error(ExitCode::numerical, "layer " + problem_.name +
                                         ": the iteration diverged (a value is not finite); use a larger budget, or "
                                         "keep the layer dense (budget.keep)");
  require(static_cast<double>(comm_.size()) * work.tail.hash_squared() == work.tail.hash() * work.tail.hash(),
          "layer " + problem_.name + ": the ranks work on different weights");

  std::vector<double> no_tail;
  for (auto left = width; left < k; left += width) {
    multiply(left, false);
    reduce_onto_owners(comm_, product, left, no_tail, result.p);
  }
  adapt_target_exponents(work);
  const double samples = static_cast<double>(std::max<std::int64_t>(1, statistics_.samples));
  for (std::size_t i = 0; i < result.target_mean.size(); ++i) result.target_mean[i] = work.tail.row_sum(i) / samples;
  result.p.for_each_local([&](GlobalRow i, GlobalCol j, double& entry) {
    entry =
        entry / samples - result.target_mean[std::size_t(i.value())] * statistics_.input_mean[std::size_t(j.value())];
  });
  std::array<double, sum_count> values{};
  for (std::size_t i = 0; i < sum_count; ++i) values[i] = ExactSum::unpack(work.tail.sum(i)).value();
  sums_ = {values[0], values[1], values[2], values[3], values[4], values[5]};
  return result;
}

double ActivationSplitting::multiplier_distance() const {
  ExactSum squares;
  const auto rows = static_cast<std::size_t>(problem_.rows);
  for (std::size_t s = 0; s < split_.size(); s += rows) {
    double here = 0;
    for (std::size_t i = s; i < s + rows; ++i) {
      const double d = problem_.activation.stationarity_distance(split_[i], problem_.fit.y[i], rho_ * dual_[i]);
      here += d * d;
    }
    squares.add(here);
  }
  const double total = allreduce_exact(comm_, std::span<const ExactSum>(&squares, 1))[0];
  return outputs_.variation > 0 ? std::sqrt(total / outputs_.variation) : std::sqrt(total);
}

void ActivationSplitting::save(StateWriter& to) const {
  to.put_part("split", std::span<const double>(split_));
  to.put_part("dual", std::span<const double>(dual_));
  to.put_integers("target_exponent", {target_exponent_.begin(), target_exponent_.end()});
  to.put_doubles("sums", {sums_.loss, sums_.primal_squared, sums_.dual_squared, sums_.linear_squared,
                          sums_.split_squared, sums_.lambda_squared});
}

void ActivationSplitting::restore(StateReader& from) {
  split_ = from.part<double>("split", split_.size());
  dual_ = from.part<double>("dual", dual_.size());
  const auto exponents = from.get<std::int64_t>("target_exponent");
  target_exponent_.assign(exponents.begin(), exponents.end());
  const auto sums = from.get<double>("sums");
  sums_ = {sums.at(0), sums.at(1), sums.at(2), sums.at(3), sums.at(4), sums.at(5)};
}

} // namespace slr
