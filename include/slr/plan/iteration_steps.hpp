#pragma once
/// \file
/// The constrained problem's iteration as its ranks go through it: what each computes, and what they then exchange. For
/// forecasts, and for replaying an iteration on a machine that is only described (bench/scaling).
#include "slr/plan/forecast.hpp"

#include <vector>

namespace slr {

/// What all ranks do together at the end of a step.
enum class Exchange { allreduce, broadcast, allgather };

/// One step of an iteration.
struct IterationStep {
  Flops each; ///< of every rank, the one with the most samples
  Flops root; ///< of rank 0 besides, while the others wait
  Exchange exchange = Exchange::allreduce;
  double bytes = 0; ///< of the whole message, of all ranks' parts
};

/// Whether the row space of the low-rank part follows the target in an iteration or stays.
enum class RowSpace { moves, stays };

/// The steps of one iteration on a group of ranks, judgement on the selection samples included: the pass over the
/// samples (one allreduce of n (q + |S|) doubles), the left factor (n q and n |S| from the root), where the row space
/// moves the projection (an allreduce of q k) and the right basis (where the factor of the second moments is on one
/// rank, q k and n q from the root; else solves in steps of at least `solve_columns` columns, in all allgathers of 5 q
/// k and an allreduce of q k), the judgement; and words on failures, of a few bytes each. Samples are dealt in whole
/// blocks of 128. Local. \pre not the implicit form; ranks > 1; |S| at most one_rank_columns
[[nodiscard]] std::vector<IterationStep> iteration_steps(const LayerWork& work, std::int64_t ranks, RowSpace row_space);

/// Bytes that a rank sends at least in an exchange, on average over the ranks: 2 (p - 1) / p of an allreduce's message,
/// (p - 1) / p of a broadcast's and an allgather's. Local.
[[nodiscard]] double bytes_per_rank(const IterationStep& step, std::int64_t ranks);

} // namespace slr
