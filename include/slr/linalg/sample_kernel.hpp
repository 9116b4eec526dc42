#pragma once
/// \file
/// Second moments of samples where there are fewer samples than columns: the kernel of the samples.
#include "slr/dist/dist_matrix.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace slr {

/// Whether the kernel is formed and factored, or only applied, as two products with the samples, in conjugate
/// gradients.
enum class KernelForm { factored, matrix_free };

/// (K + N delta I)^-1 on row vectors over the samples of a SampleKernel: by a Cholesky factor of its own, or by PETSc's
/// KSP to 1e-10 of the right sides.
class DampedKernel {
public:
  DampedKernel(DampedKernel&&) noexcept;
  DampedKernel& operator=(DampedKernel&&) noexcept;
  ~DampedKernel();

  /// B := B (K + N delta I)^-1; B is rows x (samples of this rank), column-major. Collective, in panels of rows;
  /// 2 rows N^2 / P flops, and rows N numbers sent twice. Matrix-free: per iteration 4 rows k N / P flops and a sum of
  /// rows k numbers. \throws Error{numerical} if that does not converge.
  void solve(std::vector<double>& b, std::int64_t rows) const;

private:
  friend class SampleKernel;
  struct State;
  explicit DampedKernel(std::unique_ptr<State> state);
  void solve_by_factor(std::vector<double>& b, std::int64_t rows) const;
  void solve_matrix_free(std::vector<double>& b, std::int64_t rows) const;
  std::unique_ptr<State> state_;
};

/// K = Xc^T Xc (N x N) of centred samples Xc (k x N) that are spread over the ranks, for N < k. With C = Xc Xc^T / N,
///
///     (C + delta I)^-1 = (I - Xc (K + N delta I)^-1 Xc^T) / delta,
///
/// so that nothing k x k is needed. K is held once, on the most square grid. Results agree to rounding for different
/// numbers of ranks; they are not bitwise equal.
class SampleKernel {
public:
  /// Collective. `local`: k floats per sample, contiguous, this rank's share (rank order is sample order); it is not
  /// kept. `means` has k entries (zeros: not centred). 2 k N^2 / P flops; N^2 / P doubles stay. Matrix-free there is
  /// nothing to compute, but `local` is referred to and must outlive the object and its DampedKernels.
  /// \throws Error{numerical} if a sample is not finite; `context` names the layer.
  SampleKernel(const Communicator& comm, std::span<const float> local, std::span<const double> means,
               std::string_view context = {}, KernelForm form = KernelForm::factored);
  SampleKernel(SampleKernel&&) noexcept;
  SampleKernel& operator=(SampleKernel&&) noexcept;
  ~SampleKernel();

  [[nodiscard]] std::int64_t samples() const; ///< N. Local.

  /// Factors K + N delta I, if K is formed; `panel_bytes` bounds what a solve gathers at a time. Collective. N^3 / 3P
  /// flops.
  /// @pre delta > 0. \throws Error{numerical} if the damped kernel cannot be factored.
  [[nodiscard]] DampedKernel damped(double delta, std::int64_t panel_bytes = std::int64_t(128) << 20) const;

private:
  struct State;
  std::unique_ptr<State> state_;
};

} // namespace slr
