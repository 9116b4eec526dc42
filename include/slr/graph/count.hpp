#pragma once
/// \file
/// What a network costs.
#include "slr/graph/model.hpp"

#include <map>

namespace slr::graph {

/// The dimensions of every value for a batch of one image: free dimensions of the inputs are set to 1 where they are
/// the first, otherwise the model is refused. Values that cannot be inferred (after an unknown operator) are absent.
/// Local. \throws Error{bad_data} naming the node whose inputs contradict each other.
[[nodiscard]] std::map<std::string, Dims> infer_shapes(const Model& model, std::int64_t batch = 1);

struct Counts {
  std::int64_t parameters = 0; ///< elements of all floating initializers and constants, and of gather indices, one each
  std::int64_t macs = 0;       ///< products of Conv, Gemm and MatMul for one image
  std::int64_t bytes = 0;      ///< initializers as stored
};
/// Local. To compare before and after, count both after `fold`.
[[nodiscard]] Counts count(const Model& model);

/// What `count` says of the layer alone: weight and bias of a layer that `find_layers` finds under this name (without a
/// bias that other nodes read too, which stays whatever becomes of the layer), else the numbers of the nodes that
/// `replace_layer` made of it. 0 where there is no such layer. Local.
[[nodiscard]] std::int64_t layer_parameters(const Model& model, const std::string& layer);

} // namespace slr::graph
