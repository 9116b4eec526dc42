#pragma once
/// \file
/// From the configuration's words to the solver's numbers.
#include "slr/layer/constrained.hpp"
#include "slr/layer/relaxed.hpp"
#include "slr/layer/report.hpp"
#include "slr/run/network.hpp"
#include "slr/run/progress.hpp"

namespace slr::run {

[[nodiscard]] RelaxedOptions relaxed_options(const Configuration& config);
[[nodiscard]] ConstrainedOptions constrained_options(const Configuration& config);
/// Asks PETSc about the options that it will get. Local. \throws Error{configuration} naming the key and the word
void check_solver_options(const Configuration& config);
[[nodiscard]] Engine svd_engine(const Configuration& config);
/// How the layer's least squares are solved where no kept groups are asked for. Collective.
[[nodiscard]] LeastSquares least_squares(const Communicator& comm, const LayerProblem& problem,
                                         const Configuration& config);
/// Passes what a solver says on to the progress display.
[[nodiscard]] ProgressCallback step_listener(Progress& progress);
/// Elements of the layer's weight and bias as the folded network stores them. Local.
[[nodiscard]] std::int64_t dense_parameters(const Network& network, const graph::Layer& layer);

} // namespace slr::run
