#pragma once
// A layer that was never trained, of any size, with the properties that matter for time and convergence.
#include "slr/layer/problem.hpp"

#include <filesystem>

namespace slr_bench {

struct LayerSize {
  std::int64_t rows = 512, cols = 4608, group_columns = 9, samples = 20000;
};

/// ReLU inputs of a decaying spectrum, weights of a decaying spectrum with a tenth of the channels three times as
/// heavy, about half of the outputs active. All samples are for the fit, in blocks of 128 as a job with 10 positions
/// has. The same numbers on every machine up to rounding. Local, 2 samples cols (rows + 512) flops.
[[nodiscard]] slr::LayerProblem made_up_layer(const LayerSize& size, std::uint64_t seed);

/// The `count` groups whose weights times inputs have the largest energy, increasing. Local.
[[nodiscard]] std::vector<std::int64_t> heaviest_groups(const slr::LayerProblem& problem, std::int64_t count);

/// x.f32, y.f32 (a row per sample), weight.f32 (rows x cols, row-major), bias.f32 and kept.i64 in a folder.
void write_raw(const slr::LayerProblem& problem, const std::vector<std::int64_t>& kept_groups,
               const std::filesystem::path& folder);

} // namespace slr_bench
