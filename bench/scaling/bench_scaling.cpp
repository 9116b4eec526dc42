// How one layer's solution scales over ranks. `count`: calls and bytes of one iteration, counted through MPI's
// profiling interface, beside those that the cost model says. `time`: the solve on one rank and on all of them, beside
// two independent matrix products. `replay`: the calls of the cost model for a replay in SimGrid. run.py drives all
// three.
#include "iteration/made_up_layer.hpp"
#include "mpi_traffic.hpp"
#include "slr/base/trace.hpp"
#include "slr/layer/constrained.hpp"
#include "slr/linalg/blas.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/mpi/trace_file.hpp"
#include "slr/plan/iteration_steps.hpp"
#include "support/bench_main.hpp"

#include <boost/program_options.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <optional>
#include <thread>

namespace {

using namespace slr;
using namespace slr_bench;

struct Settings {
  std::string mode, trace;
  LayerSize size;
  std::int64_t target_rank = 0, groups = 0, iterations = 0, repetitions = 3, simulated_ranks = 0;
};

constexpr std::int64_t not_counted = 2; // iterations at the beginning
/// Of 30 iterations the row space moves in five.
constexpr std::int64_t replayed_iterations = 6;

constexpr double simulated_speed = 1e9; // of a processor in the replay's platform: a flop takes a nanosecond

/// This rank's share of the fit samples, in whole blocks: the same ones for every number of ranks.
LayerProblem share_of(const LayerProblem& whole, const Communicator& comm) {
  auto bounds = whole.fit.block_ends;
  bounds.insert(bounds.begin(), 0);
  if (bounds.back() < whole.fit.count) bounds.push_back(whole.fit.count);
  const auto bound = [&](int rank) {
    return bounds[(bounds.size() - 1) * static_cast<std::size_t>(rank) / static_cast<std::size_t>(comm.size())];
  };
  const auto begin = bound(comm.rank()), end = bound(comm.rank() + 1);
  LayerProblem mine = whole;
  const auto cut = [&](const std::vector<float>& from, std::int64_t rows) {
    return std::vector<float>(from.begin() + begin * rows, from.begin() + end * rows);
  };
  mine.fit = {
      end - begin, cut(whole.fit.x, whole.cols), cut(whole.fit.y, whole.rows), cut(whole.fit.linear, whole.rows), {}};
  for (const auto at : bounds)
    if (at > begin && at < end) mine.fit.block_ends.push_back(at - begin);
  return mine;
}

/// Second moments and `iterations` of the constrained problem, for a given structure.
ConstrainedResult solve(const Communicator& comm, LayerProblem& problem, const Settings& settings,
                        const ProgressCallback& progress = {}) {
  const auto scale = round_inputs(comm, problem);
  const auto statistics = measure_statistics(comm, ProcessGrid::row(comm), problem);
  ConstrainedOptions options;
  options.iterations = settings.iterations;
  options.tolerance = 0;
  options.pulls = {1e-3};
  return solve_structure(comm, problem, scale, statistics,
                         {heaviest_groups(problem, settings.groups), settings.target_rank}, options, progress);
}

/// The layer as the cost model knows it: here all samples are for the fit, and judge as well.
LayerWork work_of(const Settings& settings) {
  return {settings.size.rows,
          settings.size.cols,
          settings.size.samples,
          settings.target_rank,
          settings.groups * settings.size.group_columns,
          1,
          1};
}

std::vector<IterationStep> steps_of(const Settings& settings, std::int64_t ranks, bool row_space_moves) {
  return iteration_steps(work_of(settings), ranks, row_space_moves ? RowSpace::moves : RowSpace::stays);
}

const char* name_of(Exchange exchange) {
  switch (exchange) {
  case Exchange::allreduce:
    return "allreduce";
  case Exchange::broadcast:
    return "broadcast";
  case Exchange::allgather:
    return "allgather";
  }
  return "";
}

/// 2 (p - 1) / p (n |S| + 2 r (n + k)) doubles: what the sums over the samples take at least.
double least_bytes(const Settings& settings, int ranks) {
  const auto n = double(settings.size.rows), k = double(settings.size.cols),
             s = double(settings.groups * settings.size.group_columns), r = double(settings.target_rank);
  return 2.0 * (ranks - 1) / ranks * (n * s + 2 * r * (n + k)) * sizeof(double);
}

void count(const Communicator& comm, const Settings& settings) {
  auto problem = share_of(made_up_layer(settings.size, 1), comm);
  std::vector<std::map<std::string, Traffic>> after; // every iteration
  (void)solve(comm, problem, settings, [&](const SolveProgress&) { after.push_back(mpi_traffic()); });
  const auto last = after.back(), first = after.at(not_counted - 1);
  const auto turns = static_cast<double>(after.size() - not_counted);
  if (comm.is_root()) std::printf("source,exchange,ranks,calls,bytes\n");
  for (const auto& [name, total] : last) {
    const auto before = first.count(name) > 0 ? first.at(name) : Traffic{};
    const double calls = double(total.calls - before.calls) / turns, bytes = (total.bytes - before.bytes) / turns;
    const double mean_calls = comm.allreduce_value(calls) / comm.size(),
                 mean_bytes = comm.allreduce_value(bytes) / comm.size();
    if (comm.is_root() && mean_calls > 0)
      std::printf("measured,%s,%d,%.3f,%.0f\n", name.c_str(), comm.size(), mean_calls, mean_bytes);
  }
  if (!comm.is_root()) return;
  std::map<std::string, Traffic> forecast;
  for (auto i = not_counted; i < settings.iterations; ++i)
    for (const auto& step : steps_of(settings, comm.size(), row_space_moves(i))) {
      auto& here = forecast[name_of(step.exchange)];
      ++here.calls;
      here.bytes += bytes_per_rank(step, comm.size());
    }
  for (const auto& [name, total] : forecast)
    std::printf("forecast,%s,%d,%.3f,%.0f\n", name.c_str(), comm.size(), double(total.calls) / turns,
                total.bytes / turns);
  std::printf("bound,,%d,,%.0f\n", comm.size(), least_bytes(settings, comm.size()));
}

/// For a replay in SimGrid: what every rank does in a few iterations, the row space moving in one of them. A processor
/// of `simulated_speed` flops computes for as long as one of the nominal machine would.
void replay(const Settings& settings) {
  const auto nanoseconds = [](const Flops& flops) {
    return std::llround(simulated_speed * (flops.single_precision / nominal_machine.single_precision +
                                           flops.double_precision / nominal_machine.double_precision));
  };
  const auto ranks = settings.simulated_ranks;
  std::vector<IterationStep> steps;
  for (std::int64_t i = 0; i < replayed_iterations; ++i)
    for (const auto& step : steps_of(settings, ranks, i == 0)) steps.push_back(step);
  for (std::int64_t p = 0; p < ranks; ++p) {
    std::printf("%lld init\n", static_cast<long long>(p));
    for (const auto& step : steps) {
      const auto work = nanoseconds(step.each) + (p == 0 ? nanoseconds(step.root) : 0);
      if (work > 0) std::printf("%lld compute %lld\n", static_cast<long long>(p), work);
      const auto values = std::max<long long>(1, std::llround(step.bytes / sizeof(double)));
      const auto part = (values + ranks - 1) / ranks;
      switch (step.exchange) {
      case Exchange::allreduce:
        std::printf("%lld allreduce %lld 0\n", static_cast<long long>(p), values);
        break;
      case Exchange::broadcast:
        std::printf("%lld bcast %lld 0\n", static_cast<long long>(p), values);
        break;
      case Exchange::allgather:
        std::printf("%lld allgather %lld %lld\n", static_cast<long long>(p), part, part);
        break;
      }
    }
    std::printf("%lld finalize\n", static_cast<long long>(p));
  }
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Seconds until the slowest rank is done.
template <class Work>
double time_together(const Communicator& comm, Work&& work) {
  comm.barrier();
  const double start = now();
  work();
  return comm.allreduce_value(now() - start, Reduction::max);
}
/// Seconds on rank 0 while the others sleep.
template <class Work>
double time_alone(const Communicator& comm, Work&& work) {
  const double start = now();
  if (comm.is_root()) work();
  const double seconds = now() - start;
  comm.idle_barrier();
  return comm.broadcast_value(seconds);
}

/// Products of 2048 x 2048 matrices in single and in double precision.
void multiply() {
  constexpr std::int64_t m = 2048;
  const auto product = [](auto one) {
    const std::vector a(m * m, one), b(m * m, one);
    std::vector c(m * m, one);
    for (int i = 0; i < 5; ++i)
      blas::gemm(Op::none, Op::none, m, m, m, one, a.data(), m, b.data(), m, one, c.data(), m);
  };
  product(1.0F);
  product(1.0);
}

/// The solve on one rank and on all, in turns with the products on one rank and on all.
void time(const Communicator& comm, const Settings& settings) {
  const Communicator self(MPI_COMM_SELF);
  const auto whole = made_up_layer(settings.size, 1);
  const auto mine = share_of(whole, comm);
  std::vector<double> solve_gain, product_gain, ratio;
  for (std::int64_t i = 0; i < settings.repetitions; ++i) {
    const auto solve_on = [&](const Communicator& ranks, LayerProblem problem) {
      (void)solve(ranks, problem, settings);
    };
    const double product_alone = time_alone(comm, multiply), product_together = time_together(comm, multiply);
    const double alone = time_alone(comm, [&] { solve_on(self, whole); }),
                 together = time_together(comm, [&] { solve_on(comm, mine); });
    solve_gain.push_back(alone / together);
    product_gain.push_back(comm.size() * product_alone / product_together);
    ratio.push_back(solve_gain.back() / product_gain.back());
    if (comm.is_root())
      std::printf("solve %.2f s on 1 rank, %.2f s on %d: gain %.3f; %d independent products: gain %.3f; ratio %.3f\n",
                  alone, together, comm.size(), solve_gain.back(), comm.size(), product_gain.back(), ratio.back());
  }
  if (comm.is_root())
    std::printf("median: gain %.3f of %.3f, ratio %.3f; OpenBLAS core type %s\n", median(solve_gain),
                median(product_gain), median(ratio), blas_core_type().c_str());
  if (settings.trace.empty()) return;
  const auto traced = [&](const Communicator& ranks, LayerProblem problem) {
    Trace::start();
    (void)solve(ranks, problem, settings);
    write_trace(ranks, settings.trace + "-" + std::to_string(ranks.size()) + ".json");
  };
  (void)time_alone(comm, [&] { traced(self, whole); });
  (void)time_together(comm, [&] { traced(comm, mine); });
}

void run(const Communicator& comm, const Settings& settings) {
  if (settings.mode == "count") return count(comm, settings);
  if (settings.mode == "time") return time(comm, settings);
  if (settings.mode == "replay") return replay(settings);
  throw Error(ExitCode::usage, "the mode is count, time or replay");
}

std::optional<Settings> parse(int argc, char** argv) {
  namespace po = boost::program_options;
  Settings settings;
  po::options_description options("bench_scaling");
  auto add = options.add_options();
  add("mode", po::value(&settings.mode)->required(), "count, time or replay");
  add("rows", po::value(&settings.size.rows)->default_value(settings.size.rows), "output channels");
  add("cols", po::value(&settings.size.cols)->default_value(settings.size.cols), "input channels times kernel area");
  add("group-columns", po::value(&settings.size.group_columns)->default_value(settings.size.group_columns),
      "kernel area");
  add("samples", po::value(&settings.size.samples)->default_value(settings.size.samples), "samples");
  add("rank", po::value(&settings.target_rank)->required(), "rank");
  add("groups", po::value(&settings.groups)->default_value(0), "kept groups");
  add("iterations", po::value(&settings.iterations)->default_value(8), "iterations, at least 4");
  add("repetitions", po::value(&settings.repetitions)->default_value(3), "of the timing");
  add("trace", po::value(&settings.trace),
      "of the timing: timelines of one solve more in FILE-1.json, FILE-2.json, ..");
  add("simulated-ranks", po::value(&settings.simulated_ranks)->default_value(64), "of the replay");
  if (!parse_options(argc, argv, options)) return std::nullopt;
  if (settings.iterations < 4) throw Error(ExitCode::usage, "at least four iterations are needed");
  return settings;
}

} // namespace

int main(int argc, char** argv) {
  return slr_bench::bench_main(argc, argv, "bench_scaling", MPI_COMM_WORLD, [&](const Communicator& comm) {
    if (const auto settings = parse(argc, argv)) run(comm, *settings);
  });
}
