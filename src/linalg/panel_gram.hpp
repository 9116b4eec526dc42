#pragma once
/// \file
/// Sums of products of columns that are spread over the ranks, onto block columns.
#include "slr/dist/dist_matrix.hpp"

namespace slr::detail {

/// C := sum over ranks X X^T (both triangles), X k x local_cols column-major with leading dimension k, in double. C is
/// k x k on a 1 x P grid. Collective over C's communicator. The products are formed in column panels of at most
/// `panel_bytes` (at least one column), lower triangle only, and reduce-scattered onto the owners of the columns.
/// Exact, and so independent of the number of ranks, where every sum of products is a multiple of a power of two below
/// 2^53 times it. k^2 local_cols flops per rank.
template <class T>
void panel_gram(std::int64_t local_cols, const T* x, DistMatrix<double>& c, std::int64_t panel_bytes);

} // namespace slr::detail
