#include "slr/run/solver_options.hpp"

#include "slr/graph/count.hpp"
#include "slr/linalg/lmvm.hpp"

namespace slr::run {

Engine svd_engine(const Configuration& config) {
  switch (config.method.svd) {
  case SvdKind::automatic:
    return Engine::automatic;
  case SvdKind::pdgesvd:
    return Engine::pdgesvd;
  case SvdKind::gram:
    return Engine::gram;
  case SvdKind::subspace:
    return Engine::subspace;
  }
  return Engine::automatic;
}

RelaxedOptions relaxed_options(const Configuration& config) {
  RelaxedOptions options;
  options.nuclear = config.method.nuclear;
  options.group = config.method.group;
  options.engine = svd_engine(config);
  return options;
}

ConstrainedOptions constrained_options(const Configuration& config) {
  ConstrainedOptions options;
  if (config.method.kind == MethodKind::constrained) options.iterations = config.method.iteration_limit();
  options.tolerance = config.method.tolerance;
  options.engine = svd_engine(config);
  options.refine_evaluations = config.method.refine.evaluations;
  options.tao_options = config.method.refine.tao.value_or("");
  return options;
}

void check_solver_options(const Configuration& config) {
  if (!config.method.refine.tao) return;
  try {
    check_tao_options(*config.method.refine.tao);
  } catch (const Error& error) {
    throw Error(ExitCode::configuration, config.where("method.refine.tao") + ": method.refine.tao: " + error.what());
  }
}

LeastSquares least_squares(const Communicator& comm, const LayerProblem& problem, const Configuration& config) {
  return choose_least_squares(
      config.method.least_squares,
      {problem.rows, problem.cols, comm.allreduce_value(problem.fit.count), config.method.iteration_limit()});
}

ProgressCallback step_listener(Progress& progress) {
  return [&progress](const slr::SolveProgress& now) {
    progress.step({now.iteration, now.limit, now.error, now.numerical_rank, now.kept_groups});
  };
}

std::int64_t dense_parameters(const Network& network, const graph::Layer& layer) {
  return graph::layer_parameters(network.model, layer.name);
}

} // namespace slr::run
