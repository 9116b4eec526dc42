#pragma once
// The last step of a constrained solve: from the iteration's result straight down the true objective.
#include "candidate.hpp"

namespace slr {

/// Minimises FactoredObjective from `start` with PETSc/TAO (options.tao_options; LMVM of itself), at most
/// `refine_evaluations` of it, or until the error on the selection samples has not fallen for some iterations. Of all
/// iterates the one with the smallest error there counts. `result` takes its weights and errors if that error is
/// smaller than before, and in any case what was tried. Collective; as FactoredObjective the same on every rank.
void descend(const SolverLayer& layer, const FixedStructure& fixed, ConstrainedResult& result);

} // namespace slr
