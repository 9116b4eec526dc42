#include "slr/linalg/gram.hpp"

#include "panel_gram.hpp"
#include "slr/dist/redistribute.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/mpi/exact_sum.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace slr {
namespace {

/// Sums of every row over all ranks, and the number of samples; exact under the same condition as the Gram matrix.
template <class T>
GramSummary sum_rows(const Communicator& comm, std::span<const T> local, std::int64_t k, std::string_view context) {
  const std::string where = context.empty() ? "" : std::string(context) + ": ";
  const bool is_whole = k == 0 ? local.empty() : local.size() % static_cast<std::size_t>(k) == 0;
  collectively(comm, [&] {
    if (!is_whole) throw Error(ExitCode::bad_data, where + "a rank's samples are not whole columns");
  });
  GramSummary summary;
  const auto rows = static_cast<std::size_t>(k);
  summary.means.assign(rows, 0.0);
  for (std::size_t at = 0; at < local.size(); at += rows)
    for (std::size_t i = 0; i < rows; ++i) summary.means[i] += double(local[at + i]);
  comm.allreduce(std::span<double>(summary.means));
  summary.samples = comm.allreduce_value(k == 0 ? std::int64_t(0) : std::int64_t(local.size()) / k);
  if (k > 0 && summary.samples == 0) throw Error(ExitCode::bad_data, where + "there are no samples to fit");
  if (!std::all_of(summary.means.begin(), summary.means.end(), [](double sum) { return std::isfinite(sum); }))
    throw Error(ExitCode::numerical, where + "the samples hold a value that is not finite");
  return summary;
}

} // namespace

template <class T>
GramSummary gram(std::span<const T> local, bool is_centred, DistMatrix<double>& c, std::int64_t panel_bytes,
                 std::string_view context) {
  const Communicator& comm = c.comm();
  const std::int64_t k = c.rows();
  require(c.cols() == k && panel_bytes > 0, "a Gram matrix is square and its panels have a size");
  if (c.grid()->rows() != 1 || c.grid()->cols() != comm.size()) {
    const std::int64_t block = c.distribution().cols.block();
    DistMatrix<double> columns(ProcessGrid::row(comm), k, k, block, block);
    auto summary = gram(local, is_centred, columns, panel_bytes, context);
    redistribute(comm, columns, c);
    return summary;
  }
  GramSummary summary = sum_rows(comm, local, k, context);
  if (k == 0) return summary;
  detail::panel_gram(std::int64_t(local.size()) / k, local.data(), c, panel_bytes);

  // C = (S - s s^T / N) / N; `means` holds the sums s so far.
  const double n = static_cast<double>(summary.samples);
  ExactSum trace;
  c.for_each_local([&](GlobalRow i, GlobalCol j, double& value) {
    const double product =
        summary.means[static_cast<std::size_t>(i.value())] * summary.means[static_cast<std::size_t>(j.value())];
    value = (is_centred ? value - product / n : value) / n;
    // A variance of rounding errors may come out negative.
    if (i.value() == j.value()) value = std::max(value, 0.0);
  });
  collectively(comm, [&] { c.for_each_diagonal([&](std::int64_t, double& value) { trace.add(value); }); });
  summary.mean_diagonal = allreduce_exact(comm, std::array{trace})[0] / static_cast<double>(k);
  for (double& mean : summary.means) mean /= n;
  return summary;
}

template GramSummary gram(std::span<const float>, bool, DistMatrix<double>&, std::int64_t, std::string_view);
template GramSummary gram(std::span<const double>, bool, DistMatrix<double>&, std::int64_t, std::string_view);

} // namespace slr
