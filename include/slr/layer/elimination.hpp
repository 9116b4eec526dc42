#pragma once
/// \file
/// Which groups of columns to keep: backward elimination.
#include "slr/dist/dist_matrix.hpp"
#include "slr/layer/problem.hpp"

#include <span>
#include <vector>

namespace slr {

/// Starting from B = P H with H = C^-1 (all columns kept, the optimum for P), groups are dropped until as many are left
/// as the smallest of `counts` says, in rounds: those whose removal raises the error least go first, at most a
/// twentieth of what is left at a time, and none beyond a count that was asked for.
///
/// With the columns D of a round, removing them at the optimum of the others raises the error by
/// tr(B_D H_DD^-1 B_D^T), after which  B -= B_D H_DD^-1 H_D.,  H -= H_.D H_DD^-1 H_D.  (the optimum and the inverse for
/// the columns that are left). Within a round the groups' own scores decide; ties go to the larger index.
///
/// `inverse` (k x k) and `weights` (n x k) are in block columns on a 1 x P grid and are consumed. Collective. Returns
/// the groups that were left at every count, in the order of `counts`: each list increasing, within those of larger
/// counts, the same on every rank and for every number of ranks (each block of columns is updated by products of one
/// shape). About k^2 (2/3 k + n) / P flops to eliminate everything, one gather of (k + n) |D| numbers per round.
[[nodiscard]] std::vector<std::vector<std::int64_t>>
kept_by_elimination(const Communicator& comm, DistMatrix<double> inverse, DistMatrix<double> weights,
                    std::int64_t group_columns, std::span<const std::int64_t> counts);

} // namespace slr
