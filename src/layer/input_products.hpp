#pragma once
/// \file
/// Products of values per sample with the inputs.
#include "slr/layer/block_sums.hpp"
#include "slr/layer/problem.hpp"

namespace slr {

/// sums += V (X - mean)^T over the fit samples of this rank, block by block: V is size x samples, the sums size x cols.
/// Local, 2 size cols samples flops.
void add_products_with_inputs(const LayerProblem& problem, const std::vector<float>& input_mean,
                              const std::vector<float>& values, std::int64_t size, BlockSums& sums);

} // namespace slr
