#include "slr/dist/redistribute.hpp"
#include "slr/linalg/damped_inverse.hpp"
#include "slr/linalg/scalapack.hpp"
#include "slr/mpi/agree.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace slr {
namespace {

constexpr std::int64_t kernel_block = 64;
/// Samples that are widened to double and multiplied at a time.
constexpr std::int64_t chunk_samples = 64;

} // namespace

struct ImplicitInverse::State {
  Communicator comm;
  std::span<const float> local;
  std::vector<double> means;
  double delta;
  std::string context;
  std::int64_t panel_bytes;
  std::int64_t k;
  std::int64_t mine;                ///< samples on this rank
  std::vector<std::int64_t> counts; ///< samples by rank
  std::vector<std::int64_t> firsts; ///< global number of each rank's first sample
  std::int64_t total = 0;
  DistMatrix<double> factor; ///< lower Cholesky factor of N delta I + Xc^T Xc

  State(const Communicator& world, std::span<const float> samples, std::vector<double> row_means, double damping,
        std::string_view words, std::int64_t bytes)
      : comm(world.handle()), local(samples), means(std::move(row_means)), delta(damping), context(words),
        panel_bytes(bytes), k(std::ssize(means)), mine(k > 0 ? std::ssize(samples) / k : 0),
        counts(comm.allgather_value(mine)), firsts(counts.size(), 0) {
    std::exclusive_scan(counts.begin(), counts.end(), firsts.begin(), std::int64_t(0));
    total = std::accumulate(counts.begin(), counts.end(), std::int64_t(0));
  }

  /// `count` samples from `data`, centred, in double.
  void widen(const float* data, std::int64_t count, std::vector<double>& out) const {
    out.resize(static_cast<std::size_t>(count * k));
    for (std::int64_t s = 0; s < count; ++s)
      for (std::int64_t i = 0; i < k; ++i)
        out[static_cast<std::size_t>(i + s * k)] = double(data[i + s * k]) - means[static_cast<std::size_t>(i)];
  }
  /// Calls f(first local sample, count, centred samples in double) for all local samples.
  template <class F>
  void for_each_chunk(F&& f) const {
    std::vector<double> chunk;
    for (std::int64_t s = 0; s < mine; s += chunk_samples) {
      const std::int64_t count = std::min(chunk_samples, mine - s);
      widen(local.data() + s * k, count, chunk);
      f(s, count, chunk.data());
    }
  }
  /// The pieces of `rows` per own sample from every rank, side by side in sample order, on every rank.
  [[nodiscard]] std::vector<double> gather_samples(const std::vector<double>& piece, std::int64_t rows) const {
    std::vector<int> lengths;
    for (const auto count : counts) lengths.push_back(narrow<int>(count * rows, "a panel"));
    std::vector<double> all(static_cast<std::size_t>(total * rows));
    comm.allgather(std::span<const double>(piece), std::span<double>(all), lengths);
    return all;
  }

  void build_kernel();
  void solve(DistMatrix<double>& b) const;
  [[nodiscard]] std::vector<double> diagonal() const;
};

/// Row slabs: the samples of one rank, a few at a time, travel to all; each multiplies them with its own.
void ImplicitInverse::State::build_kernel() {
  const Grid grid = ProcessGrid::square(comm);
  factor = DistMatrix<double>(grid, total, total, kernel_block, kernel_block);
  std::vector<float> travelling;
  std::vector<double> slab, piece;
  for (int source = 0; source < comm.size(); ++source) {
    const auto from = static_cast<std::size_t>(source);
    for (std::int64_t s = 0; s < counts[from]; s += chunk_samples) {
      const std::int64_t width = std::min(chunk_samples, counts[from] - s);
      travelling.resize(static_cast<std::size_t>(width * k));
      if (comm.rank() == source) std::copy_n(local.data() + s * k, width * k, travelling.data());
      comm.broadcast(std::span<float>(travelling), source);
      widen(travelling.data(), width, slab);
      piece.assign(static_cast<std::size_t>(width * mine), 0.0);
      for_each_chunk([&](std::int64_t first, std::int64_t count, const double* x) {
        blas::gemm<double>(Op::transpose, Op::none, width, count, k, 1, slab.data(), k, x, k, 0,
                           piece.data() + first * width, width);
      });
      // width x N, of which each rank keeps what it owns.
      const auto rows = gather_samples(piece, width);
      const GlobalRow top(firsts[from] + s);
      if (!grid->contains_me()) continue;
      const auto& d = factor.distribution();
      const LocalRow begin(d.rows.local_begin(top, grid->my_row()));
      const LocalRow end(d.rows.local_begin(top + width, grid->my_row()));
      for (LocalCol j(0); j.value() < factor.local_cols(); ++j)
        for (LocalRow i = begin; i < end; ++i)
          factor.at(i, j) =
              rows[static_cast<std::size_t>((factor.global_row(i) - top) + factor.global_col(j).value() * width)];
    }
  }
  factor.for_each_diagonal([&](std::int64_t, double& value) { value += double(total) * delta; });
  if (scalapack::potrf(Uplo::lower, factor, context) != 0)
    throw Error(ExitCode::numerical,
                context + (context.empty() ? "" : ": ") +
                    "the damped kernel of the samples is not positive definite; raise the damping");
}

void ImplicitInverse::State::solve(DistMatrix<double>& b) const {
  require(b.cols() == k && b.grid()->rows() == 1 && b.grid()->cols() == comm.size(),
          "the implicit inverse works on block columns of all ranks");
  const std::int64_t m = b.rows();
  const auto& cols = b.distribution().cols;
  const std::int64_t panel_rows =
      std::clamp<std::int64_t>(panel_bytes / (3 * 8 * std::max<std::int64_t>(k, 1)), 1, std::max<std::int64_t>(m, 1));
  for (std::int64_t top = 0; top < m; top += panel_rows) {
    const std::int64_t rows = std::min(panel_rows, m - top);
    std::vector<int> lengths;
    for (int rank = 0; rank < comm.size(); ++rank) lengths.push_back(narrow<int>(rows * cols.count(rank), "a panel"));
    // The panel of B, whole rows, on every rank; pieces by rank first, then in the order of the columns.
    std::vector<double> my_piece(static_cast<std::size_t>(rows * b.local_cols()));
    for (std::int64_t j = 0; j < b.local_cols(); ++j)
      std::copy_n(&b.at(LocalRow(top), LocalCol(j)), rows, my_piece.data() + j * rows);
    std::vector<double> by_rank(static_cast<std::size_t>(rows * k)), panel(by_rank.size());
    comm.allgather(std::span<const double>(my_piece), std::span<double>(by_rank), lengths);
    const auto for_each_column = [&](auto&& move) {
      std::int64_t at = 0;
      for (int rank = 0; rank < comm.size(); ++rank)
        for (LocalCol j(0); j.value() < cols.count(rank); ++j, at += rows)
          move(by_rank.data() + at, panel.data() + cols.global(j, rank).value() * rows);
    };
    for_each_column([&](double* piece, double* column) { std::copy_n(piece, rows, column); });

    // G = B Xc, T = G (N delta I + Xc^T Xc)^-1.
    std::vector<double> g(static_cast<std::size_t>(rows * mine));
    for_each_chunk([&](std::int64_t first, std::int64_t count, const double* x) {
      blas::gemm<double>(Op::none, Op::none, rows, count, k, 1, panel.data(), rows, x, k, 0, g.data() + first * rows,
                         rows);
    });
    DistMatrix<double> t(factor.grid(), rows, total, kernel_block, kernel_block);
    take_local(std::span<const double>(gather_samples(g, rows)), t);
    const View<const double> l(factor);
    scalapack::trsm<double>(Side::right, Uplo::lower, Op::transpose, 1, l, t);
    scalapack::trsm<double>(Side::right, Uplo::lower, Op::none, 1, l, t);
    const auto whole_t = gather_everywhere(t);

    // B := (B - T Xc^T) / delta.
    std::fill(panel.begin(), panel.end(), 0.0);
    const double* my_t = whole_t.data() + firsts[static_cast<std::size_t>(comm.rank())] * rows;
    for_each_chunk([&](std::int64_t first, std::int64_t count, const double* x) {
      blas::gemm<double>(Op::none, Op::transpose, rows, k, count, 1, my_t + first * rows, rows, x, k, 1, panel.data(),
                         rows);
    });
    for_each_column([&](double* piece, double* column) { std::copy_n(column, rows, piece); });
    comm.reduce_scatter(std::span<const double>(by_rank), std::span<double>(my_piece), lengths);
    for (std::int64_t j = 0; j < b.local_cols(); ++j)
      for (std::int64_t i = 0; i < rows; ++i) {
        double& value = b.at(LocalRow(top + i), LocalCol(j));
        value = (value - my_piece[static_cast<std::size_t>(i + j * rows)]) / delta;
      }
  }
}

/// (1 - ||L^-1 Xc^T e_j||^2) / delta for every column j.
std::vector<double> ImplicitInverse::State::diagonal() const {
  std::vector<double> squares(static_cast<std::size_t>(k), 0.0);
  const std::int64_t panel_rows = std::clamp<std::int64_t>(panel_bytes / (3 * 8 * std::max<std::int64_t>(total, 1)), 1,
                                                           std::max<std::int64_t>(k, 1));
  for (std::int64_t top = 0; top < k; top += panel_rows) {
    const std::int64_t rows = std::min(panel_rows, k - top);
    std::vector<double> piece(static_cast<std::size_t>(rows * mine));
    for (std::int64_t s = 0; s < mine; ++s)
      for (std::int64_t i = 0; i < rows; ++i)
        piece[static_cast<std::size_t>(i + s * rows)] =
            double(local[static_cast<std::size_t>(top + i + s * k)]) - means[static_cast<std::size_t>(top + i)];
    DistMatrix<double> h(factor.grid(), rows, total, kernel_block, kernel_block);
    take_local(std::span<const double>(gather_samples(piece, rows)), h);
    scalapack::trsm<double>(Side::right, Uplo::lower, Op::transpose, 1, View<const double>(factor), h);
    h.for_each_local([&](GlobalRow i, GlobalCol, double& value) {
      squares[static_cast<std::size_t>(top + i.value())] += value * value;
    });
  }
  comm.allreduce(std::span<double>(squares));
  for (double& square : squares) square = (1 - square) / delta;
  return squares;
}

ImplicitInverse::ImplicitInverse(const Communicator& comm, std::span<const float> local, std::vector<double> means,
                                 double delta, std::string_view context, std::int64_t panel_bytes) {
  require(delta > 0 && std::isfinite(delta) && panel_bytes > 0, "the implicit inverse needs delta > 0");
  collectively(comm, [&] {
    const bool is_whole = means.empty() ? local.empty() : local.size() % means.size() == 0;
    if (!is_whole) throw Error(ExitCode::bad_data, std::string(context) + ": a rank's samples are not whole columns");
    for (const float value : local)
      if (!std::isfinite(value))
        throw Error(ExitCode::numerical, std::string(context) + ": the samples hold a value that is not finite");
  });
  state_ = std::make_unique<State>(comm, local, std::move(means), delta, context, panel_bytes);
  state_->build_kernel();
}

ImplicitInverse::~ImplicitInverse() = default;
ImplicitInverse::ImplicitInverse(ImplicitInverse&&) noexcept = default;
ImplicitInverse& ImplicitInverse::operator=(ImplicitInverse&&) noexcept = default;

std::int64_t ImplicitInverse::samples() const {
  return state_->total;
}
void ImplicitInverse::solve(DistMatrix<double>& b) const {
  state_->solve(b);
}
std::vector<double> ImplicitInverse::diagonal() const {
  return state_->diagonal();
}

} // namespace slr
