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

/// (K + N delta I)^-1 on row vectors over the samples of a SampleKernel, by a Cholesky factor of its own.
class DampedKernel {
public:
  DampedKernel(DampedKernel&&) noexcept;
  DampedKernel& operator=(DampedKernel&&) noexcept;
  ~DampedKernel();

  /// B := B (K + N delta I)^-1; B is rows x (samples of this rank), column-major. Collective, in panels of rows;
  /// 2 rows N^2 / P flops, and rows N numbers sent twice.
  void solve(std::vector<double>& b, std::int64_t rows) const;

private:
  friend class SampleKernel;
  struct State;
  explicit DampedKernel(std::unique_ptr<State> state);
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
  /// kept. `means` has k entries (zeros: not centred). 2 k N^2 / P flops; N^2 / P doubles stay.
  /// \throws Error{numerical} if a sample is not finite; `context` names the layer.
  SampleKernel(const Communicator& comm, std::span<const float> local, std::span<const double> means,
               std::string_view context = {});
  SampleKernel(SampleKernel&&) noexcept;
  SampleKernel& operator=(SampleKernel&&) noexcept;
  ~SampleKernel();

  [[nodiscard]] std::int64_t samples() const; ///< N. Local.

  /// Factors K + N delta I; `panel_bytes` bounds what a solve gathers at a time. Collective. N^3 / 3P flops.
  /// @pre delta > 0. \throws Error{numerical} if the damped kernel cannot be factored.
  [[nodiscard]] DampedKernel damped(double delta, std::int64_t panel_bytes = std::int64_t(128) << 20) const;

private:
  struct State;
  std::unique_ptr<State> state_;
};

} // namespace slr
