#pragma once
/// \file
/// Counted flops of the singular value engines, by which `auto` chooses. Work that runs slower than a large product
/// counts more: the factors were fitted once on one core and are constants since.
#include "svd_core.hpp"

namespace slr::detail {

/// Shape of one problem: short side, long side, kept rank, subspace size.
struct SvdShape {
  double m, l, r, p;
};

/// The eigenvalue problem of the Gram matrix: 4/3 m^3 flops, half of them bound by memory.
[[nodiscard]] inline double eigen_cost(const SvdShape& s) {
  return 8 * s.m * s.m * s.m + 4 * s.m * s.m * s.r;
}
[[nodiscard]] inline double gram_cost(const SvdShape& s) {
  return s.m * s.m * s.l + eigen_cost(s) + 2 * s.m * s.l * s.r;
}
/// One Rayleigh-Ritz step with orthonormalisation.
[[nodiscard]] inline double ritz_cost(const SvdShape& s) {
  return 12 * s.m * s.p * s.p + 40 * s.p * s.p * s.p;
}

/// What the subspace engine needs besides applications of the operator, and each application.
struct SubspaceCost {
  bool through_gram = false;
  double fixed = 0;
  double application = 0;
};
[[nodiscard]] inline SubspaceCost subspace_through_gram(const SvdShape& s) {
  return {true, s.m * s.m * s.l + 1.5 * s.m * s.m * s.m + 2 * s.m * s.l * s.r, 2 * s.m * s.m * s.p};
}
[[nodiscard]] inline SubspaceCost subspace_through_z(const SvdShape& s) {
  return {false, 2 * s.l * s.p * s.r + 160 * s.m * s.l, 5.6 * s.m * s.l * s.p};
}

/// The Chebyshev degree that damps an error by `factor` > 1 when the wanted squares start at `wanted` and the unwanted
/// end at `unwanted`.
[[nodiscard]] int filter_degree(double factor, double wanted, double unwanted);

/// Expected cost of a warm-started run with the memory's spectrum and drift; the cheaper form of those possible.
struct SubspaceForecast {
  SubspaceCost form;
  double total = 0;
};
[[nodiscard]] SubspaceForecast forecast(const SvdMemory& memory, std::int64_t rows, std::int64_t cols, double tolerance,
                                        bool gram_on_root);

} // namespace slr::detail
