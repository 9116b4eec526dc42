#include "slr/linalg/sample_kernel.hpp"

#include "conjugate_gradients.hpp"

#include "slr/base/narrow.hpp"
#include "slr/dist/redistribute.hpp"
#include "slr/linalg/blas.hpp"
#include "slr/linalg/scalapack.hpp"
#include "slr/mpi/agree.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <string>

namespace slr {
namespace {

constexpr std::int64_t kernel_block = 64;
/// Samples that are widened to double and multiplied at a time.
constexpr std::int64_t chunk_samples = 64;
constexpr double krylov_tolerance = 1e-10;

/// How the samples are dealt to the ranks.
struct Dealt {
  std::vector<std::int64_t> counts, firsts; ///< by rank
  std::int64_t mine = 0, total = 0;

  Dealt(const Communicator& comm, std::int64_t here) : counts(comm.allgather_value(here)), mine(here) {
    firsts.resize(counts.size());
    std::exclusive_scan(counts.begin(), counts.end(), firsts.begin(), std::int64_t(0));
    total = std::accumulate(counts.begin(), counts.end(), std::int64_t(0));
  }
  /// The pieces of `rows` values per own sample from every rank, side by side in sample order, on every rank.
  [[nodiscard]] std::vector<double> gather(const Communicator& comm, std::span<const double> piece,
                                           std::int64_t rows) const {
    std::vector<int> lengths;
    for (const auto count : counts) lengths.push_back(narrow<int>(count * rows, "a panel"));
    std::vector<double> all(static_cast<std::size_t>(total * rows));
    comm.allgather(piece, std::span<double>(all), lengths);
    return all;
  }
};

/// `count` samples, centred, in double.
void widen(const float* data, std::int64_t count, std::span<const double> means, std::vector<double>& out) {
  const auto k = means.size();
  out.resize(static_cast<std::size_t>(count) * k);
  for (std::size_t s = 0; s < static_cast<std::size_t>(count); ++s)
    for (std::size_t i = 0; i < k; ++i) out[i + s * k] = double(data[i + s * k]) - means[i];
}

/// Row slabs: the samples of one rank, a few at a time, travel to all; each multiplies them with its own.
DistMatrix<double> build_kernel(const Communicator& comm, const Dealt& dealt, std::span<const float> local,
                                std::span<const double> means) {
  const auto k = std::ssize(means);
  const Grid grid = ProcessGrid::square(comm);
  DistMatrix<double> kernel(grid, dealt.total, dealt.total, kernel_block, kernel_block);
  std::vector<float> travelling;
  std::vector<double> slab, chunk, piece;
  for (int source = 0; source < comm.size(); ++source) {
    const auto from = static_cast<std::size_t>(source);
    for (std::int64_t s = 0; s < dealt.counts[from]; s += chunk_samples) {
      const std::int64_t width = std::min(chunk_samples, dealt.counts[from] - s);
      travelling.resize(static_cast<std::size_t>(width * k));
      if (comm.rank() == source) std::copy_n(local.data() + s * k, width * k, travelling.data());
      comm.broadcast(std::span<float>(travelling), source);
      widen(travelling.data(), width, means, slab);
      piece.assign(static_cast<std::size_t>(width * dealt.mine), 0.0);
      for (std::int64_t first = 0; first < dealt.mine; first += chunk_samples) {
        const std::int64_t count = std::min(chunk_samples, dealt.mine - first);
        widen(local.data() + first * k, count, means, chunk);
        blas::gemm<double>(Op::transpose, Op::none, width, count, k, 1, slab.data(), k, chunk.data(), k, 0,
                           piece.data() + first * width, width);
      }
      // width x N, of which each rank keeps what it owns.
      const auto rows = dealt.gather(comm, piece, width);
      const GlobalRow top(dealt.firsts[from] + s);
      if (!grid->contains_me()) continue;
      const auto& d = kernel.distribution();
      const LocalRow begin(d.rows.local_begin(top, grid->my_row()));
      const LocalRow end(d.rows.local_begin(top + width, grid->my_row()));
      for (LocalCol j(0); j.value() < kernel.local_cols(); ++j)
        for (LocalRow i = begin; i < end; ++i)
          kernel.at(i, j) =
              rows[static_cast<std::size_t>((kernel.global_row(i) - top) + kernel.global_col(j).value() * width)];
    }
  }
  return kernel;
}

/// What the kernel is made of, where it is not formed.
struct Unformed {
  std::span<const float> local;
  std::vector<double> means;
};

} // namespace

struct DampedKernel::State {
  Communicator comm;
  Dealt dealt;
  std::int64_t panel_bytes;
  DistMatrix<double> factor;        ///< lower Cholesky factor of K + N delta I
  std::optional<Unformed> unformed; ///< instead of the factor
  double shift;                     ///< N delta
  std::string context;
};

DampedKernel::DampedKernel(std::unique_ptr<State> state) : state_(std::move(state)) {}
DampedKernel::~DampedKernel() = default;
DampedKernel::DampedKernel(DampedKernel&&) noexcept = default;
DampedKernel& DampedKernel::operator=(DampedKernel&&) noexcept = default;

void DampedKernel::solve(std::vector<double>& b, std::int64_t rows) const {
  require(std::ssize(b) == rows * state_->dealt.mine, "a right side has other samples than the kernel");
  if (state_->unformed)
    solve_matrix_free(b, rows);
  else
    solve_by_factor(b, rows);
}

/// One system for a panel of rows at a time: its vectors are the panel's values, its operator B -> (B Xc^T) Xc + N
/// delta B, so that all products are of matrices, and all rows share the iterations.
void DampedKernel::solve_matrix_free(std::vector<double>& b, std::int64_t rows) const {
  const auto& samples = *state_->unformed;
  const auto& dealt = state_->dealt;
  const auto k = std::ssize(samples.means);
  const auto for_each_chunk = [&](auto&& use) {
    std::vector<double> chunk;
    for (std::int64_t first = 0; first < dealt.mine; first += chunk_samples) {
      const auto count = std::min(chunk_samples, dealt.mine - first);
      widen(samples.local.data() + first * k, count, samples.means, chunk);
      use(first, count, chunk.data());
    }
  };
  std::vector<double> squares; // K_ss + N delta
  for_each_chunk([&](std::int64_t, std::int64_t count, const double* x) {
    for (std::int64_t s = 0; s < count; ++s)
      squares.push_back(std::inner_product(x + s * k, x + (s + 1) * k, x + s * k, state_->shift));
  });
  const auto height = std::clamp<std::int64_t>(state_->panel_bytes / (8 * std::max<std::int64_t>(k, 1)), 1,
                                               std::max<std::int64_t>(rows, 1));
  for (std::int64_t top = 0; top < rows; top += height) {
    const auto here = std::min(height, rows - top);
    std::vector<double> panel(static_cast<std::size_t>(here * dealt.mine)), diagonal(panel.size()),
        inner(static_cast<std::size_t>(here * k));
    for (std::int64_t s = 0; s < dealt.mine; ++s) {
      std::copy_n(b.begin() + s * rows + top, here, panel.begin() + s * here);
      std::fill_n(diagonal.begin() + s * here, here, squares[static_cast<std::size_t>(s)]);
    }
    const auto apply = [&](std::span<const double> from, std::span<double> to) {
      std::fill(inner.begin(), inner.end(), 0.0);
      for_each_chunk([&](std::int64_t first, std::int64_t count, const double* x) {
        blas::gemm<double>(Op::none, Op::transpose, here, k, count, 1, from.data() + first * here, here, x, k, 1,
                           inner.data(), here);
      });
      state_->comm.allreduce(std::span<double>(inner));
      for_each_chunk([&](std::int64_t first, std::int64_t count, const double* x) {
        blas::gemm<double>(Op::none, Op::none, here, count, k, 1, inner.data(), here, x, k, 0, to.data() + first * here,
                           here);
      });
      for (std::size_t i = 0; i < to.size(); ++i) to[i] += state_->shift * from[i];
    };
    (void)conjugate_gradients(state_->comm, apply, diagonal, panel, krylov_tolerance, state_->context);
    for (std::int64_t s = 0; s < dealt.mine; ++s)
      std::copy_n(panel.begin() + s * here, here, b.begin() + s * rows + top);
  }
}

void DampedKernel::solve_by_factor(std::vector<double>& b, std::int64_t rows) const {
  const auto& [comm, dealt, panel_bytes, factor, unformed, shift, context] = *state_;
  const View<const double> l(factor);
  const auto height = std::clamp<std::int64_t>(panel_bytes / (2 * 8 * std::max<std::int64_t>(dealt.total, 1)), 1,
                                               std::max<std::int64_t>(rows, 1));
  std::vector<double> piece;
  for (std::int64_t top = 0; top < rows; top += height) {
    const auto here = std::min(height, rows - top);
    piece.resize(static_cast<std::size_t>(here * dealt.mine));
    for (std::int64_t s = 0; s < dealt.mine; ++s)
      std::copy_n(b.begin() + s * rows + top, here, piece.begin() + s * here);
    DistMatrix<double> t(factor.grid(), here, dealt.total, kernel_block, kernel_block);
    take_local(std::span<const double>(dealt.gather(comm, piece, here)), t);
    scalapack::trsm<double>(Side::right, Uplo::lower, Op::transpose, 1, l, t);
    scalapack::trsm<double>(Side::right, Uplo::lower, Op::none, 1, l, t);
    const auto whole = gather_everywhere(t);
    const auto* mine = whole.data() + dealt.firsts[static_cast<std::size_t>(comm.rank())] * here;
    for (std::int64_t s = 0; s < dealt.mine; ++s) std::copy_n(mine + s * here, here, b.begin() + s * rows + top);
  }
}

struct SampleKernel::State {
  Communicator comm;
  Dealt dealt;
  std::string context;
  DistMatrix<double> kernel;
  std::optional<Unformed> unformed; ///< instead of the kernel
};

SampleKernel::SampleKernel(const Communicator& comm, std::span<const float> local, std::span<const double> means,
                           std::string_view context, KernelForm form) {
  collectively(comm, [&] {
    const bool is_whole = means.empty() ? local.empty() : local.size() % means.size() == 0;
    require(is_whole, std::string(context) + ": a rank's samples are not whole columns");
    for (const float value : local)
      if (!std::isfinite(value))
        throw Error(ExitCode::numerical, std::string(context) + ": the samples hold a value that is not finite");
  });
  Dealt dealt(comm, means.empty() ? 0 : std::ssize(local) / std::ssize(means));
  state_ = std::make_unique<State>(State{Communicator(comm.handle()), dealt, std::string(context), {}, {}});
  if (form == KernelForm::matrix_free)
    state_->unformed = {local, {means.begin(), means.end()}};
  else
    state_->kernel = build_kernel(comm, dealt, local, means);
}

SampleKernel::~SampleKernel() = default;
SampleKernel::SampleKernel(SampleKernel&&) noexcept = default;
SampleKernel& SampleKernel::operator=(SampleKernel&&) noexcept = default;

std::int64_t SampleKernel::samples() const {
  return state_->dealt.total;
}

DampedKernel SampleKernel::damped(double delta, std::int64_t panel_bytes) const {
  require(delta > 0 && std::isfinite(delta) && panel_bytes > 0, "a damped kernel needs delta > 0");
  const State& s = *state_;
  const double shift = static_cast<double>(s.dealt.total) * delta;
  const auto damped_by = [&](DistMatrix<double> factor) {
    return DampedKernel(std::make_unique<DampedKernel::State>(DampedKernel::State{
        Communicator(s.comm.handle()), s.dealt, panel_bytes, std::move(factor), s.unformed, shift, s.context}));
  };
  if (s.unformed) return damped_by({});
  auto factor = s.kernel.clone();
  factor.for_each_diagonal([&](std::int64_t, double& value) { value += shift; });
  if (scalapack::potrf(Uplo::lower, factor, s.context) != 0)
    throw Error(ExitCode::numerical,
                s.context + (s.context.empty() ? "" : ": ") +
                    "the damped kernel of the samples is not positive definite; raise the damping");
  return damped_by(std::move(factor));
}

} // namespace slr
