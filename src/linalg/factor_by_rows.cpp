#include "slr/linalg/factor_by_rows.hpp"

#include "slr/base/trace.hpp"
#include "slr/dist/redistribute.hpp"
#include "slr/linalg/blas.hpp"

#include <algorithm>
#include <functional>

namespace slr {

FactorByRows::FactorByRows(const DistMatrix<double>& lower, std::int64_t step_columns) {
  const TraceSpan span(TraceKind::step, "factor by rows");
  const Communicator& comm = lower.comm();
  const std::int64_t k = lower.rows(), ranks = comm.size();
  require(lower.cols() == k && step_columns > 0, "a factor is square, and solved in steps of some columns");
  const std::int64_t block = (step_columns + ranks - 1) / ranks;
  rows_ = DistMatrix<double>(ProcessGrid::column(comm), k, k, block, std::max<std::int64_t>(1, k));
  redistribute(comm, lower, rows_);
  for (std::int64_t first = 0; first < k; first += block * ranks) {
    Step step;
    step.first = first;
    step.row = std::ssize(steps_) * block;
    for (std::int64_t p = 0; p < ranks; ++p) {
      const auto begin = std::min(k, first + p * block), end = std::min(k, begin + block);
      step.counts.push_back(static_cast<int>(end - begin));
      step.count += end - begin;
      if (p == comm.rank()) {
        step.my_first = begin;
        step.mine = end - begin;
      }
    }
    invert_diagonal(step);
    steps_.push_back(std::move(step));
  }
}

void FactorByRows::invert_diagonal(Step& step) const {
  const auto at = [&](std::int64_t i, std::int64_t j) { return static_cast<std::size_t>(i + j * step.count); };
  // Whole rows of L_JJ one behind the other are the columns of its transpose.
  std::vector<double> mine(at(0, step.mine)), upper(at(0, step.count)), inverse(upper.size(), 0.0);
  for (std::int64_t j = 0; j < step.mine; ++j)
    for (std::int64_t i = 0; i <= step.my_first + j - step.first; ++i)
      mine[at(i, j)] = rows_.local()[static_cast<std::size_t>(step.row + j + (step.first + i) * rows_.lld())];
  auto counts = step.counts;
  for (int& count : counts) count *= static_cast<int>(step.count);
  rows_.comm().allgather(std::span<const double>(mine), std::span<double>(upper), counts);
  for (std::int64_t i = 0; i < step.count; ++i) inverse[at(i, i)] = 1;
  blas::trsm<double>(Side::left, Uplo::upper, Op::none, step.count, step.count, 1, upper.data(), step.count,
                     inverse.data(), step.count);
  const auto begin = step.my_first - step.first;
  step.columns.assign(inverse.begin() + begin * step.count, inverse.begin() + (begin + step.mine) * step.count);
  for (std::int64_t j = 0; j < step.count; ++j)
    step.rows.insert(step.rows.end(), inverse.begin() + static_cast<std::ptrdiff_t>(at(begin, j)),
                     inverse.begin() + static_cast<std::ptrdiff_t>(at(begin + step.mine, j)));
}

void FactorByRows::gather(const Step& step, std::int64_t m, const std::vector<double>& mine,
                          std::vector<double>& b) const {
  std::vector<int> counts;
  for (const int count : step.counts) counts.push_back(narrow<int>(count * m, "the columns of a step"));
  rows_.comm().allgather(
      std::span<const double>(mine),
      std::span<double>(b).subspan(static_cast<std::size_t>(step.first * m), static_cast<std::size_t>(step.count * m)),
      counts);
}

void FactorByRows::solve_upper(std::vector<double>& b, std::int64_t m) const {
  require(std::ssize(b) == m * rows_.cols(), "a matrix of other columns than the factor's was given");
  if (m == 0) return;
  std::vector<double> mine;
  for (const Step& step : steps_) {
    mine.assign(b.begin() + step.my_first * m, b.begin() + (step.my_first + step.mine) * m);
    if (step.mine > 0 && step.first > 0)
      blas::gemm(Op::none, Op::transpose, m, step.mine, step.first, -1.0, b.data(), m, rows_.local().data() + step.row,
                 rows_.lld(), 1.0, mine.data(), m);
    gather(step, m, mine, b);
    if (step.mine > 0)
      blas::gemm(Op::none, Op::none, m, step.mine, step.count, 1.0, b.data() + step.first * m, m, step.columns.data(),
                 step.count, 0.0, mine.data(), m);
    gather(step, m, mine, b);
  }
}

void FactorByRows::solve_lower(std::vector<double>& b, std::int64_t m) const {
  require(std::ssize(b) == m * rows_.cols(), "a matrix of other columns than the factor's was given");
  if (m == 0) return;
  const std::int64_t height = rows_.local_rows();
  std::vector<double> solved(static_cast<std::size_t>(m * height)), sum, mine; // this rank's columns of E; L's rows
  for (auto step = steps_.rbegin(); step != steps_.rend(); ++step) {
    const auto below = std::min(height, step->row + step->mine), left = height - below;
    const auto here = b.begin() + step->first * m;
    if (step != steps_.rbegin()) {
      sum.assign(static_cast<std::size_t>(m * step->count), 0.0);
      if (left > 0)
        blas::gemm(Op::none, Op::none, m, step->count, left, -1.0, solved.data() + below * m, m,
                   rows_.local().data() + below + step->first * rows_.lld(), rows_.lld(), 0.0, sum.data(), m);
      rows_.comm().allreduce(std::span<double>(sum));
      std::transform(sum.begin(), sum.end(), here, here, std::plus<>());
    }
    mine.resize(static_cast<std::size_t>(m * step->mine));
    if (step->mine > 0)
      blas::gemm(Op::none, Op::transpose, m, step->mine, step->count, 1.0, b.data() + step->first * m, m,
                 step->rows.data(), step->mine, 0.0, mine.data(), m);
    std::copy(mine.begin(), mine.end(), solved.begin() + step->row * m);
    gather(*step, m, mine, b);
  }
}

} // namespace slr
