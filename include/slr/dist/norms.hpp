#pragma once
/// \file
/// Norms and checks of distributed matrices.
#include "slr/dist/dist_matrix.hpp"

#include <string_view>

namespace slr {

/// sqrt(sum a_ij^2). Collective. Each local column segment is squared and summed in double, the segments exactly
/// (ExactSum): on 1 x Q grids, where columns are whole, the result has the same bits for every number of ranks.
/// \throws Error{numerical} on overflow or a NaN.
template <class T>
[[nodiscard]] double frobenius_norm(const DistMatrix<T>& matrix);

/// max |a_ij|, 0 if empty. Collective. The same bits on every grid.
template <class T>
[[nodiscard]] double max_abs(const DistMatrix<T>& matrix);

/// Throws the same Error{numerical}, naming `what` and `context`, on every rank if any rank's part holds a NaN or an
/// infinity. Collective. LAPACK's singular value routines do not return from such input.
template <class T>
void require_finite(const DistMatrix<T>& matrix, std::string_view what, std::string_view context);

} // namespace slr
