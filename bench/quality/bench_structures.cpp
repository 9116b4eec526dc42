// What kept groups, the activation in the objective and the pull are worth in single layers, on their original inputs.
//
//   mpirun -n 2 bench_structures CONFIG.yaml [--set KEY=VALUE]...
//
// Captures features as slr_calibrate does. For every 3x3 convolution with at least 288 columns, at a quarter of its
// parameters, prints the held-out error of: rank alone, kept groups (method.grouping) alone, the best of the path
// between them by the selection samples, and the solution of the linear problem with the same structure (no iteration);
// then the ratios and their geometric means. For every fully connected layer at a twentieth, rank alone: the held-out
// error with the pull that the selection samples choose, and with none.
#include "slr/graph/rewrite.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/run/job.hpp"
#include "slr/run/output_folder.hpp"
#include "slr/run/program.hpp"
#include "slr/run/solver_options.hpp"
#include "slr/run/sweep.hpp"

#include <cmath>
#include <cstdio>
#include <map>

namespace {

using namespace slr;
using namespace slr::run;

/// A layer's problem and what answers about it.
class Solver {
public:
  Solver(const Communicator& comm, const PreparedProblem& prepared, const Configuration& config)
      : comm_(comm), prepared_(prepared),
        statistics_(measure_statistics(comm, ProcessGrid::row(comm), prepared.problem)),
        options_(constrained_options(config)) {}
  [[nodiscard]] ConstrainedResult best_of(const std::vector<Split>& splits,
                                          const std::vector<double>& pulls = {}) const {
    auto options = options_;
    if (!pulls.empty()) options.pulls = pulls;
    return solve_splits(comm_, prepared_.problem, prepared_.scale, statistics_, splits, options);
  }
  [[nodiscard]] ConstrainedResult linear(const Structure& structure) const {
    auto options = options_;
    options.iterations = options.trial_iterations = 0;
    return solve_structure(comm_, prepared_.problem, prepared_.scale, statistics_, structure, options);
  }
  [[nodiscard]] double heldout(const ConstrainedResult& result) const {
    return relative_error(comm_, prepared_.problem, prepared_.problem.report, result.factors);
  }

private:
  const Communicator& comm_;
  const PreparedProblem& prepared_;
  LayerStatistics statistics_;
  ConstrainedOptions options_;
};

LargestRank rank_within(const graph::Layer& layer, std::int64_t allowance) {
  return [&layer, allowance](std::int64_t groups) {
    auto rank = layer.largest_rank(groups);
    while (rank >= 0 && graph::cheapest_form(layer, rank, groups).parameters > allowance) --rank;
    return rank;
  };
}

void print_convolution(bool is_printing, const graph::Layer& layer, const Solver& solver, const LayerProblem& problem,
                       std::int64_t allowance, std::map<std::string, std::vector<double>>& logarithms) {
  const auto largest = rank_within(layer, allowance);
  const auto low_rank = solver.best_of(splits_of_budget(problem, largest, std::vector{0.0}));
  const auto groups = solver.best_of(splits_of_budget(problem, largest, std::vector{1.0}));
  const auto both = solver.best_of(splits_of_budget(problem, largest, ConstrainedOptions{}.shares));
  const auto linear = solver.linear(both.structure);
  const double e = solver.heldout(both), of_rank = solver.heldout(low_rank), of_groups = solver.heldout(groups),
               of_linear = solver.heldout(linear), to_pure = e / std::min(of_rank, of_groups),
               to_linear = e / of_linear;
  logarithms["pure"].push_back(std::log(to_pure));
  logarithms["linear"].push_back(std::log(to_linear));
  if (!is_printing) return;
  std::printf("%-10s %4lld x %-5lld rank %3lld groups %4lld  low rank %.5f  groups %.5f  both %.5f  linear %.5f  "
              "to pure %.3f  to linear %.3f\n",
              layer.name.c_str(), static_cast<long long>(layer.rows), static_cast<long long>(layer.cols),
              static_cast<long long>(both.structure.target_rank),
              static_cast<long long>(both.structure.kept_groups.size()), of_rank, of_groups, e, of_linear, to_pure,
              to_linear);
  std::fflush(stdout);
}

void print_pull(bool is_printing, const graph::Layer& layer, const Solver& solver, const LayerProblem& problem,
                std::int64_t allowance) {
  const auto only = splits_of_budget(problem, rank_within(layer, allowance), std::vector{0.0});
  if (only.empty() || only.front().rank < 1) return;
  const auto pulled = solver.best_of(only), free = solver.best_of(only, {0.0});
  const double with_pull = solver.heldout(pulled), without = solver.heldout(free); // on all ranks
  if (is_printing)
    std::printf("%-10s %4lld x %-5lld rank %3lld  pull %.4g: %.5f  without: %.5f\n", layer.name.c_str(),
                static_cast<long long>(layer.rows), static_cast<long long>(layer.cols),
                static_cast<long long>(only.front().rank), pulled.pull, with_pull, without);
  std::fflush(stdout);
}

ExitCode work(const Communicator& comm, const CalibrateOptions& options) {
  (void)run_calibrate(comm, options);
  const auto config = load_configuration(comm, options.config, options.overrides, required_by_calibrate);
  const auto network = load_network(comm, config.model.absolute, config.method.grouping);
  const auto features = store::FeatureSet::open(comm, OutputFiles{config.output.absolute}.features().string());
  const auto share = share_of_rank(comm, config.calibration.images);
  const auto reasons = dense_reasons(network, config);
  std::map<std::string, std::vector<double>> logarithms;
  for (std::size_t i = 0; i < network.layers.size(); ++i) {
    const auto& layer = network.layers[i];
    const bool is_fully_connected = layer.kind == graph::LayerKind::fully_connected;
    if (!reasons[i].empty() || (!is_fully_connected && (layer.window_area() != 9 || layer.cols < 288))) continue;
    const auto prepared = prepare_problem(comm, network, layer, features, share, {});
    const Solver solver(comm, prepared, config);
    const auto dense = dense_parameters(network, layer);
    if (is_fully_connected)
      print_pull(comm.is_root(), layer, solver, prepared.problem, dense / 20);
    else
      print_convolution(comm.is_root(), layer, solver, prepared.problem, dense / 4, logarithms);
  }
  for (const auto& [name, values] : logarithms) {
    double sum = 0;
    for (const double value : values) sum += value;
    if (comm.is_root())
      std::printf("geometric mean to %s: %.3f\n", name.c_str(), std::exp(sum / static_cast<double>(values.size())));
  }
  return ExitCode::done;
}

} // namespace

int main(int argc, char** argv) {
  return run_program(argc, argv, {"bench_structures", MPI_COMM_WORLD}, parse_calibrate, work);
}
