#pragma once
/// \file
/// Grouped convolutions as what they are: several convolutions side by side.
#include "slr/graph/model.hpp"

namespace slr::graph {

/// Above this number of groups a convolution stays as it is: each group would be small, and many nodes are slow.
inline constexpr std::int64_t most_split_groups = 4;

/// Replaces every grouped convolution (not a depthwise one) with constant weights that nobody else reads by Split, one
/// convolution NODE/group1, NODE/group2, ... each followed by the activation that follows it, and Concat, so that every
/// group can be compressed by itself. The function and the number of parameters and products stay the same. Local.
void split_groups(Model& model);

/// Undoes it where all groups of a convolution are as `split_groups` made them. Local.
void join_groups(Model& model);

} // namespace slr::graph
