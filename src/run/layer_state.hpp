#pragma once
// What became of a layer, to and from a checkpoint.
#include "slr/mpi/checkpoints.hpp"
#include "slr/run/sweep.hpp"

namespace slr::run {

/// Collective. Factors go as single precision: that is what is made of a finished layer.
void save_outcome(StateWriter& to, const std::string& name, const LayerOutcome& outcome);
/// Everything but what the network's layer itself and its replacement say (name, shape, parameters, form). Collective.
/// \throws Error{bad_data}
[[nodiscard]] LayerOutcome restore_outcome(StateReader& from, const std::string& name, const graph::Layer& layer);

} // namespace slr::run
