#include "slr/run/solver_options.hpp"

#include "slr/graph/count.hpp"

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
  return options;
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
