#include "fold.hpp"

#include "slr/graph/rewrite.hpp"

namespace slr::graph {

Model fold(const Model& model) {
  Model folded = model; // shares the weights
  fold_constant_nodes(folded);
  fold_pass_through(folded);
  fold_integers(folded);
  fold_moved_weights(folded);
  fold_batch_norms(folded);
  remove_dead(folded);
  return folded;
}

} // namespace slr::graph
