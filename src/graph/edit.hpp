#pragma once
/// \file
/// Small changes to a model that keep its promises.
#include "slr/graph/model.hpp"

#include <string>
#include <vector>

namespace slr::graph {

/// `wanted`, or with a number behind it if a value of that name exists. Local, linear in the model.
[[nodiscard]] std::string unused_value_name(const Model& model, const std::string& wanted);
/// The same for names of nodes.
[[nodiscard]] std::string unused_node_name(const Model& model, const std::string& wanted);

/// How often the value is read by nodes or is an output of the graph. Local.
[[nodiscard]] std::size_t uses_of(const Model& model, const std::string& value);

/// Everybody who reads `from` reads `to` from now on; outputs of the graph stay. Local.
void redirect_reads(Model& model, const std::string& from, const std::string& to);

/// Takes out the marked nodes; the rest keeps its order. Local.
void erase_nodes(Model& model, const std::vector<bool>& is_erased);

} // namespace slr::graph
