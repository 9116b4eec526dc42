#pragma once
/// \file
/// The steps of folding. Each leaves a valid model that computes the same.
#include "slr/graph/model.hpp"

namespace slr::graph {

/// Constant nodes become initializers.
void fold_constant_nodes(Model& model);
/// Identity, and Dropout as it is outside training, go.
void fold_pass_through(Model& model);
/// Integers that are known before the network runs become initializers; where a Reshape's target contains the free
/// batch dimension, that one is written as 0 (copy) or -1 (infer), never as a number.
void fold_integers(Model& model);
/// Transpose, Reshape and the like of an initializer that nobody else reads become one.
void fold_moved_weights(Model& model);
/// BatchNormalization moves into the linear node before it.
void fold_batch_norms(Model& model);

} // namespace slr::graph
