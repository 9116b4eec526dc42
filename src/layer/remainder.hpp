#pragma once
/// \file
/// What the leading directions of a positive semidefinite matrix leave of it, and how kept columns and rows are
/// exchanged by it.
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

constexpr std::int64_t exchange_candidates = 6; ///< that are tried in pairs, on either side
constexpr int most_exchanges = 20;
constexpr double least_exchange_gain = 1e-3;      ///< of the error: for less another round is not worth its cost
constexpr std::int64_t most_exchange_rows = 1024; ///< of M: beyond, its eigenvalues cost more than they gain

/// The places of the `count` smallest values, smaller places first among equals. Local.
[[nodiscard]] std::vector<std::int64_t> smallest(const std::vector<double>& values, std::int64_t count);

} // namespace slr
