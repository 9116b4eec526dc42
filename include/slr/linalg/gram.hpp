#pragma once
/// \file
/// The Gram matrix of samples that are spread over the ranks.
#include "slr/dist/dist_matrix.hpp"

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace slr {

/// What comes with a Gram matrix; the same on every rank.
struct GramSummary {
  std::int64_t samples = 0;  ///< N, over all ranks
  std::vector<double> means; ///< k: the mean of every row of X (also when it was not subtracted)
  double mean_diagonal = 0;  ///< trace(C) / k, 0 for k = 0
};

/// C = X X^T / N, or with `is_centred` (X - mean 1^T)(X - mean 1^T)^T / N. Collective over C's communicator.
///
/// `local` holds this rank's samples as contiguous columns of k = c.rows() floats or doubles; any number per rank, also
/// none. C is k x k on any grid of the communicator and gets both triangles. Memory: two panels of `panel_bytes` per
/// rank besides C's share (twice that where C is not on a 1 x P grid), never k x k. k^2 N_local flops per rank.
///
/// Sums are plain sums of doubles and the mean is taken out afterwards, C = (S - s s^T / N) / N. If the entries of X
/// lie on grids (FixedPoint, one per row) so coarse that the sums are exact, C, the means and the diagonal have the
/// same bits for every number of ranks and every dealing of the samples; otherwise they agree to k-independent
/// rounding, N eps max|x_i| max|x_j|. \throws Error{bad_data} if there are no samples at all, or not whole ones;
/// Error{numerical} if a sum is not finite.
template <class T>
[[nodiscard]] GramSummary gram(std::span<const T> local, bool is_centred, DistMatrix<double>& c,
                               std::int64_t panel_bytes = std::int64_t(128) << 20, std::string_view context = {});

} // namespace slr
