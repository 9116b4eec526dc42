#pragma once
/// \file
/// What the leading directions of a positive semidefinite matrix leave of it.
#include <cstdint>
#include <vector>

namespace slr {

/// tr M minus its r largest eigenvalues, and their eigenvectors (n x r, orthonormal).
struct Remainder {
  double value = 0;
  std::vector<double> leading;
};

/// Of M (n x n, column-major, both triangles). Local; the reduction of M and r eigenvectors.
[[nodiscard]] Remainder remainder_of(std::int64_t n, const std::vector<double>& m, std::int64_t r);

/// Never below it, and close to it where M is near a matrix with these leading directions: tr M - tr Z^T M Z, with Z
/// from two steps of block power iteration. Local; 6 n^2 r flops.
[[nodiscard]] double remainder_bound(std::int64_t n, const std::vector<double>& m, const std::vector<double>& leading);

} // namespace slr
