#pragma once
/// \file
/// What a layer's solution will take, counted from its sizes. For forecasts only: no result ever depends on them.
#include <cstdint>

namespace slr {

/// One layer as it will be solved.
struct LayerWork {
  std::int64_t rows = 0, cols = 0; ///< n, k
  std::int64_t samples = 0;        ///< N over all ranks, those for choices and reports included
  std::int64_t rank = 0;           ///< r
  std::int64_t kept_columns = 0;   ///< |S|
  std::int64_t iterations = 0;     ///< of the final solve, trials included
  std::int64_t factorizations = 0; ///< of the second moments: one per strength of the pull and order of the columns
  bool is_implicit = false;        ///< few samples for many columns: no second moments (slr/layer/statistics.hpp)
  std::int64_t block_samples = 1;  ///< of a block of images, whose products are rounded and summed together
  double network_products = 0;     ///< of the network, from the layer before to this one's inputs, for all images
};

/// Factors of up to so many columns are on one rank (CholeskyOptions).
inline constexpr double one_rank_columns = 1792;
/// With factors of more, so many are solved for at a time (FactorByRows).
inline constexpr std::int64_t solve_columns = 512;

/// q: the rank and a few guards, the directions that an iteration follows. Local.
[[nodiscard]] double basis_size(const LayerWork& work);

/// The iterations in which the row space moves: 0, 1, 3, 7, 15, .. (slr/layer/structure.hpp). Local.
[[nodiscard]] double basis_iterations(const LayerWork& work);

/// Shares of the samples that the iteration fits and that judge it (slr/layer/problem.hpp).
inline constexpr double fit_share = 0.8, selection_share = 0.1;

/// Operations by the kind of arithmetic that does them.
struct Flops {
  double single_precision = 0; ///< products with the samples
  double double_precision = 0; ///< second moments, factorisations, triangular solves
  double elements = 0;         ///< single values that are added to sums in double precision
};

/// With N samples, of which F = 0.8 N are fitted and J = 0.1 N judge, and q = r and a few guards:
///
///   single    2 N n k for the original outputs, the network's products twice (beside them it moves as much), and per
///             iteration 2 F (2 q n + 2 n |S|) + 2 J n (q + |S|), and 2 F (q n + 2 q k) + 2 J q k where the row
///             space moves
///   double    second moments 2 F k^2, first target 2 F n k, the result's errors 2 N (r (n + k) + n |S|), per factor
///             k^3 / 3 + n k^2, where the row space moves triangular solves 4 q k^2, and where columns are kept the
///             inverse and an elimination k^2 (5/3 k + 2 n)
///   elements  20 N (n + k) for reading, rounding and copying the samples, per iteration 7 F n + 4 J n for losses and
///             sums, and for every block of samples the products q n + n |S|; where the row space moves F k / 2 for
///             centring, and q k per block
///
/// The 2 and 20 are what the layers of SqueezeNet took (`--trace`); all else is counted.
///
/// In the implicit form the double ones are W0 W0^T, the kernel and W0 X: k (n^2 + 2 N^2 + 4 n N); per start an n x n
/// matrix 4 n^2 N, its eigenvalues 4/3 n^3 and E 2 q k (n + N); where the row space moves, beside the
/// samples' products, 2 q k (2 n + N) and 2 n^2 q. Local.
[[nodiscard]] Flops count_flops(const LayerWork& work);

/// What a machine does in a second, per rank.
struct MachineRates {
  double single_precision = 0; ///< flops of a basis' products with samples that come from memory
  double double_precision = 0; ///< flops of products of square matrices
  double bytes = 0;            ///< that a rank sends or receives in a sum over ranks
  double step_seconds = 0;     ///< of one message of no length
  double elements = 0;         ///< single values added to sums in double precision
};
/// A machine of the usual kind, for decisions that must not depend on the one that runs.
inline constexpr MachineRates nominal_machine{2e10, 1e10, 2e9, 5e-6, 1e9};

/// Seconds for a layer on a group of ranks: its operations divided by the ranks, except those that one rank does for
/// all (factors of up to `one_rank_columns` columns and the triangular solves with them); factorisations and
/// eliminations twice, since they reach half the rate of a product; the bytes of its sums over ranks, and log2(ranks)
/// messages for each of its collectives. Local.
[[nodiscard]] double predict_seconds(const LayerWork& work, int ranks, const MachineRates& machine);

/// Bytes that one of `ranks` ranks holds while the layer is solved: its share of X (twice: as read and as rounded), Y,
/// M, U, the original values and the features in single precision; its share of two k x k matrices; a k x k factor
/// (`is_on_one_rank`: the root's); three n x k matrices in double that every rank holds. In the implicit form, beside
/// the samples: the original weights in single precision, its share of three n x n matrices, and three bases q x k.
/// Local.
[[nodiscard]] double count_bytes(const LayerWork& work, std::int64_t ranks);

} // namespace slr
