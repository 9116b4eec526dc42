#pragma once
/// \file
/// What the explicit and the implicit form of a fixed structure share.
#include "slr/layer/problem.hpp"

namespace slr {

inline std::string context_of(const LayerProblem& problem) {
  return "layer " + problem.name;
}

/// q: rank and guards. Local.
[[nodiscard]] std::int64_t basis_size(std::int64_t target_rank, std::int64_t largest);

/// Of G = U Sigma V^T with few rows, from G G^T (q x q, lower triangle): U and Sigma, descending; negligible directions
/// go. Local.
struct HalfSvd {
  std::vector<double> sigma, left; ///< q x size
};
[[nodiscard]] HalfSvd half_of_svd(std::int64_t q, std::vector<double> gram);

/// U Sigma^-1. Local.
[[nodiscard]] std::vector<double> over_sigma(std::int64_t rows, const std::vector<double>& left,
                                             const std::vector<double>& sigma);

} // namespace slr
