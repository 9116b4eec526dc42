#pragma once
/// \file
/// Establishes what Model promises of its names and its order.
#include "slr/graph/model.hpp"

#include <string>

namespace slr::graph {

/// Checks that every value has one origin and every read value has any, gives unnamed nodes a name, makes the names of
/// nodes unique and sorts the nodes; those that are in order already stay in their order. Local, O(N log N).
/// \throws Error{bad_data}; `what` names the file.
void establish_order(Model& model, const std::string& what);

} // namespace slr::graph
