#include "panel_gram.hpp"

#include "slr/dist/redistribute.hpp"
#include "slr/linalg/blas.hpp"

#include <algorithm>

namespace slr::detail {
namespace {

/// Columns [first, first + count) of the lower triangle's panel, all of one rank.
struct Piece {
  std::int64_t first = 0;
  std::int64_t count = 0;
  int owner = 0;
};

/// So many columns at once: the samples are converted anew for every panel, but what a panel has above the diagonal is
/// computed in vain.
constexpr std::int64_t panel_columns = 512;

/// One panel: pieces sorted by owner for the reduce-scatter; rows start at `top`.
struct PanelPlan {
  std::int64_t top = 0;
  std::int64_t end = 0;
  std::vector<Piece> pieces;
};

PanelPlan plan_panel(const DistMatrix<double>& c, std::int64_t from, std::int64_t panel_bytes) {
  const auto& cols = c.distribution().cols;
  const std::int64_t rows = c.rows() - from;
  // At least a block of every rank, if the bytes allow it, so that all of them sum up.
  const std::int64_t width =
      std::clamp<std::int64_t>(panel_bytes / (8 * rows), 1, std::max(panel_columns, cols.block() * cols.parts()));
  PanelPlan plan{.top = from, .end = from, .pieces = {}};
  while (plan.end < c.cols() && plan.end - from < width) {
    const std::int64_t block_end = std::min((plan.end / cols.block() + 1) * cols.block(), c.cols());
    const std::int64_t end = std::min(block_end, from + width);
    const int owner = cols.owner(GlobalCol(plan.end));
    if (!plan.pieces.empty() && plan.pieces.back().owner == owner)
      plan.pieces.back().count += end - plan.end; // of one rank alone
    else
      plan.pieces.push_back({plan.end, end - plan.end, owner});
    plan.end = end;
  }
  std::stable_sort(plan.pieces.begin(), plan.pieces.end(),
                   [](const Piece& a, const Piece& b) { return a.owner < b.owner; });
  return plan;
}

/// Rows of samples in double precision.
struct Rows {
  const double* values = nullptr;
  std::int64_t lead = 0;
};

/// Rows `top` and below of so many samples of k values. What is converted lies in the buffer.
template <class T>
Rows rows_below(std::int64_t top, const T* x, std::int64_t k, std::int64_t samples, std::vector<double>& buffer) {
  if constexpr (std::is_same_v<T, double>) {
    return {x + top, k};
  } else {
    const auto rows = k - top;
    buffer.resize(static_cast<std::size_t>(rows * samples));
    for (std::int64_t s = 0; s < samples; ++s) std::copy_n(x + s * k + top, rows, buffer.data() + s * rows);
    return {buffer.data(), rows};
  }
}

/// The rows of all pieces of a panel, one piece below the other.
Rows rows_of(const PanelPlan& plan, const Rows& below, std::int64_t samples, std::vector<double>& buffer) {
  const auto width = plan.end - plan.top;
  buffer.resize(static_cast<std::size_t>(width * samples));
  double* to = buffer.data();
  for (std::int64_t s = 0; s < samples; ++s)
    for (const Piece& piece : plan.pieces)
      to = std::copy_n(below.values + s * below.lead + piece.first - plan.top, piece.count, to);
  return {buffer.data(), width};
}

/// Fills the strict upper triangle from the lower one.
void mirror(DistMatrix<double>& c) {
  if (c.comm().size() == 1) {
    auto a = c.local();
    const auto n = static_cast<std::size_t>(c.rows());
    constexpr std::size_t tile = 32;
    for (std::size_t jj = 0; jj < n; jj += tile)
      for (std::size_t ii = 0; ii <= jj; ii += tile)
        for (std::size_t j = jj; j < std::min(n, jj + tile); ++j)
          for (std::size_t i = ii; i < std::min(j, ii + tile); ++i) a[i + j * n] = a[j + i * n];
    return;
  }
  const auto on_columns = transposed(c, ProcessGrid::column(c.comm()));
  DistMatrix<double> upper(c.grid(), c.rows(), c.cols(), c.distribution().rows.block(), c.distribution().cols.block());
  redistribute(c.comm(), on_columns, upper);
  c.for_each_local([&, at = std::size_t(0)](GlobalRow i, GlobalCol j, double& value) mutable {
    if (i.value() < j.value()) value = upper.local()[at];
    ++at;
  });
}

} // namespace

template <class T>
void panel_gram(std::int64_t local_cols, const T* x, DistMatrix<double>& c, std::int64_t panel_bytes) {
  const Communicator& comm = c.comm();
  const std::int64_t k = c.rows();
  require(c.grid()->rows() == 1 && c.grid()->cols() == comm.size() && c.cols() == k,
          "a Gram matrix is summed onto block columns of all ranks");
  std::vector<double> chunk, right, partial, mine;
  // A chunk of samples is converted at a time, of the size of a panel.
  const std::int64_t chunk_cols = std::clamp<std::int64_t>(panel_bytes / (8 * std::max<std::int64_t>(k, 1)), 1,
                                                           std::max<std::int64_t>(local_cols, 1));
  for (std::int64_t from = 0; from < k;) {
    const PanelPlan plan = plan_panel(c, from, panel_bytes);
    const std::int64_t rows = k - plan.top;
    partial.assign(static_cast<std::size_t>(rows * (plan.end - plan.top)), 0.0);
    for (std::int64_t s = 0; s < local_cols; s += chunk_cols) {
      const std::int64_t samples = std::min(chunk_cols, local_cols - s);
      const Rows below = rows_below(plan.top, x + s * k, k, samples, chunk);
      // One product for all pieces, whose columns are brought into the order of their owners before.
      const Rows columns = plan.pieces.size() > 1 ? rows_of(plan, below, samples, right) : below;
      blas::gemm<double>(Op::none, Op::transpose, rows, plan.end - plan.top, samples, 1, below.values, below.lead,
                         columns.values, columns.lead, 1, partial.data(), rows);
    }
    std::vector<int> counts(static_cast<std::size_t>(comm.size()), 0);
    for (const Piece& piece : plan.pieces)
      counts[static_cast<std::size_t>(piece.owner)] += narrow<int>(rows * piece.count, "a panel");
    mine.resize(static_cast<std::size_t>(counts[static_cast<std::size_t>(comm.rank())]));
    comm.reduce_scatter(std::span<const double>(partial), std::span<double>(mine), counts);
    const double* column = mine.data();
    for (const Piece& piece : plan.pieces) {
      if (piece.owner != comm.rank()) continue;
      const LocalCol to = c.distribution().cols.local(GlobalCol(piece.first));
      for (std::int64_t j = 0; j < piece.count; ++j, column += rows)
        std::copy_n(column, rows, &c.at(LocalRow(plan.top), to + j));
    }
    from = plan.end;
  }
  mirror(c);
}

template void panel_gram(std::int64_t, const float*, DistMatrix<double>&, std::int64_t);
template void panel_gram(std::int64_t, const double*, DistMatrix<double>&, std::int64_t);

} // namespace slr::detail
