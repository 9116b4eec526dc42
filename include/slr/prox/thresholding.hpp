#pragma once
/// \file
/// Proximal map of the l2,1 norm over groups of neighbouring columns.
#include <cstdint>
#include <span>
#include <vector>

namespace slr {

/// Group soft thresholding, in place: Z_g <- max(0, 1 - tau / ||Z_g||_F) Z_g for every group g of `group_columns`
/// neighbouring columns of the column-major rows x columns array. It is the proximal map of tau sum_g ||Z_g||_F.
/// Returns for every group whether it is non-zero afterwards. Local, linear.
/// \pre columns is a multiple of group_columns, tau >= 0
std::vector<bool> threshold_groups(std::span<double> z, std::int64_t rows, std::int64_t group_columns, double tau);

/// ||Z_g||_F of every group. Local, linear.
[[nodiscard]] std::vector<double> group_norms(std::span<const double> z, std::int64_t rows, std::int64_t group_columns);

} // namespace slr
