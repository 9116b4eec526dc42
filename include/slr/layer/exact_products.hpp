#pragma once
/// \file
/// Products with sharded samples whose bits do not depend on how the samples are sharded.
///
/// Inputs x_j are rounded once to 17 bits of the largest |x_j| over all samples (a perturbation of the data of relative
/// size 4e-6 of the range, below what float activations of a network are reproducible to between two runtimes). A
/// weight or a target is then rounded so that all products of a sum are integers of one power of two and the sum of
/// their magnitudes stays below 2^53: a plain dgemm, in any blocking and on any number of ranks, gives the exact sum.
#include "slr/layer/problem.hpp"
#include "slr/mpi/exact_sum.hpp"

#include <algorithm>
#include <array>
#include <span>

namespace slr {

/// Bits of an input after rounding.
inline constexpr int input_bits = 17;

/// Powers of two that bound the inputs: |x_j| <= 2^exponent_j over all samples of all ranks.
struct InputScale {
  std::vector<int> exponent; ///< k of them
};

/// Rounds the inputs of all samples of the problem in place. Collective over comm, one allreduce of k numbers.
/// \throws Error{numerical} naming the layer if an input or output is not finite.
[[nodiscard]] InputScale round_inputs(const Communicator& comm, LayerProblem& problem);

/// Rounds W (rows x k, column-major) in place so that W x is summed exactly for inputs rounded with `scale`: the entry
/// (i, j) to 53 - 17 - log2 k bits of max_j |W_ij| 2^exponent_j. Local, linear in the entries.
void round_weights(const InputScale& scale, std::int64_t rows, std::vector<double>& weights);

/// Z = W X + b for `count` neighbouring samples: exact up to one rounding per entry. Z is rows x count, column-major; x
/// (k x count) is given in double. Local, 2 rows k count flops.
void forward(std::int64_t rows, std::int64_t cols, const double* weights, const std::vector<double>& bias,
             const double* x, std::int64_t count, double* z);

/// The samples in pieces that fit the cache: calls use(first, count, x) with x the piece's inputs in double, k x count.
/// Local.
template <class Use>
void for_each_piece(const std::vector<float>& x, std::int64_t cols, std::int64_t count, Use&& use) {
  constexpr std::int64_t target_entries = std::int64_t(1) << 18; // 2 MB of doubles
  const std::int64_t piece = std::max<std::int64_t>(16, target_entries / std::max<std::int64_t>(1, cols));
  std::vector<double> buffer;
  for (std::int64_t first = 0; first < count; first += piece) {
    const std::int64_t here = std::min(piece, count - first);
    const auto begin = x.begin() + first * cols;
    buffer.assign(begin, begin + here * cols);
    use(first, here, static_cast<const double*>(buffer.data()));
  }
}

/// Z = W X + b for the fit samples of a problem with rounded inputs, rows x samples, column-major, rounded to float:
/// the same bits whatever other samples the rank has. Local.
[[nodiscard]] std::vector<float> linear_values(const LayerProblem& problem, const InputScale& scale,
                                               const std::vector<float>& weights, const std::vector<double>& bias);

/// Sums ||Y - r(Z)||_F^2 and ||Y||_F^2 sample by sample, exactly over samples and ranks.
class RelativeError {
public:
  explicit RelativeError(const LayerProblem& problem) : problem_(problem) {}
  /// The values before the activation (rows x count) of samples first, first + 1, ... Local.
  template <class T>
  void add(const Samples& samples, std::int64_t first, std::int64_t count, std::span<const T> z);
  /// ||Y - r(Z)||_F^2 / ||Y||_F^2 over all ranks, 0 for no samples. Collective; the same bits for every number of
  /// ranks.
  [[nodiscard]] double value(const Communicator& comm) const;

private:
  const LayerProblem& problem_;
  std::array<ExactSum, 2> sums_; ///< squared error, squared norm
};

} // namespace slr
