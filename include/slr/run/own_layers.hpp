#pragma once
/// \file
/// Layers without a network: weights and feature shards that another program wrote.
#include "slr/base/error.hpp"
#include "slr/run/budget.hpp"
#include "slr/run/job_checkpoints.hpp"
#include "slr/run/network.hpp"
#include "slr/run/output_folder.hpp"
#include "slr/run/progress.hpp"

namespace slr::run {

/// The `layers` of the configuration as a network of unconnected convolutions, each with an input of its own, so that
/// they are counted, given a budget, solved and reported like those of a real one. MACs are those of one sample per
/// layer.
///
/// A file of weights has `/weight`, floating, n x k or n x channels x kh x kw, row-major (a matrix may have the integer
/// attribute `group_columns`, the kernel area, else it is fully connected), and `/bias`, n values, else zeros.
/// Collective; the root reads. \throws Error{bad_data} if a file has not what it should, Error{io}.
[[nodiscard]] Network own_network(const Communicator& comm, const Configuration& config);

/// Solves every layer on its own shards (the inputs X, else X0) within the budget, all of them smaller by the same
/// factor (relaxed: both lambdas of all multiplied by one), and writes factors.h5, report.json (no accuracy) and
/// manifest.json. Collective; returns the exit code. \throws Error{bad_data} if shards and weights do not fit together,
/// and as the solver.
[[nodiscard]] ExitCode compress_own_layers(const Communicator& comm, const Configuration& config,
                                           const Network& network, const BudgetPoint& point, const OutputFiles& files,
                                           Progress& progress, JobCheckpoints& checkpoints);

} // namespace slr::run
