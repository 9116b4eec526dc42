// One iteration of the constrained solver on one layer: seconds of its steps, the error after each iteration, flops and
// bytes, and the share of this machine's sgemm rate. run.py runs it against ADMM in PyTorch.
#include "made_up_layer.hpp"
#include "slr/layer/constrained.hpp"
#include "slr/layer/factored_splitting.hpp"
#include "slr/layer/splitting.hpp"
#include "slr/layer/structure.hpp"
#include "slr/linalg/blas.hpp"
#include "support/bench_main.hpp"

#include <boost/program_options.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iostream>
#include <optional>

namespace {

using namespace slr;
using namespace slr_bench;

struct Settings {
  LayerSize size;
  std::int64_t target_rank = 0, groups = 0, iterations = 30, seed = 1;
  double ratio = 4; ///< dense parameters over those of the structure; used where target_rank is 0
  double pull = 1e-3, rho = ConstrainedOptions{}.rho;
  std::string write, csv;
};

/// Wall time and processor time of this process.
struct Clock {
  double wall = 0, cpu = 0;
  static Clock now() {
    timespec time{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return {std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(),
            double(time.tv_sec) + 1e-9 * double(time.tv_nsec)};
  }
  Clock operator-(const Clock& other) const { return {wall - other.wall, cpu - other.cpu}; }
  Clock& operator+=(const Clock& other) {
    wall += other.wall;
    cpu += other.cpu;
    return *this;
  }
};

template <class Work>
Clock time_of(Work&& work) {
  const auto start = Clock::now();
  work();
  return Clock::now() - start;
}

/// GFLOP per second of processor time for 2048 x 2048 matrices, the best of five.
double sgemm_rate() {
  constexpr std::int64_t m = 2048;
  const std::vector<float> a(m * m, 1.0F), b(m * m, 0.5F);
  std::vector<float> c(m * m);
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    const auto seconds =
        time_of([&] { blas::gemm(Op::none, Op::none, m, m, m, 1.0F, a.data(), m, b.data(), m, 0.0F, c.data(), m); });
    best = std::max(best, 2e-9 * double(m * m * m) / seconds.cpu);
  }
  return best;
}

constexpr std::array step_names{"advance", "improve_left", "project", "improve_right", "improve_within"};

struct Iteration {
  double error = 0; ///< of the weights that it began with
  std::array<Clock, step_names.size()> steps;
  [[nodiscard]] Clock total() const {
    Clock sum;
    for (const auto& step : steps) sum += step;
    return sum;
  }
};

/// What one iteration that moves the row space must compute and move at least, with q = rank + guards features.
struct Counts {
  double single_flops = 0, double_flops = 0, bytes = 0;
};
Counts counts_of(const LayerProblem& p, double q, double r, double s) {
  const double n = double(p.rows), k = double(p.cols), samples = double(p.fit.count);
  Counts c;
  c.single_flops = 2 * samples * (q * k + n * r + n * s) // Z by the factors
                   + 2 * samples * (n * q + n * s)       // T Phi^T, T X_S^T
                   + 2 * samples * (n * q + q * k);      // Q^T T X^T
  c.double_flops = 2 * q * k * k                         // two triangular solves
                   + 2 * n * s * s                       // D
                   + 4 * q * n * k                       // the pull's share of both half steps
                   + 2 * n * q * q + 2 * q * q * k;      // QR, Gram matrix and rotation
  c.bytes = 4 * samples * (2 * k + n * (1 + 2 + 2 + 1))  // X twice; Y; Z and T read and written, T read again
            + 8 * (k * k + 2 * n * k);                   // L twice (half of it each), W0 twice
  return c;
}

std::vector<Iteration> iterate(const Communicator& comm, const LayerProblem& problem, const InputScale& scale,
                               const LayerStatistics& statistics, FixedStructure& fixed, std::vector<double> mean,
                               const Settings& settings) {
  const double output_squared = measure_outputs(comm, problem, statistics.samples).squared;
  FactoredSplitting splitting(comm, problem, scale, statistics, settings.rho);
  std::vector<Iteration> result(static_cast<std::size_t>(settings.iterations + 1));
  for (std::int64_t number = 0; auto& iteration : result) { // the last one only for its error
    FactoredCross cross;
    std::vector<double> projected;
    iteration.steps[0] = time_of([&] { cross = splitting.advance(fixed.map(mean)); });
    iteration.error = cross.loss / output_squared;
    mean = cross.target_mean;
    if (!row_space_moves(number++)) {
      iteration.steps[4] = time_of([&] { fixed.improve_within(cross); });
      continue;
    }
    iteration.steps[1] = time_of([&] { fixed.improve_left(cross); });
    iteration.steps[2] = time_of([&] { projected = splitting.project(fixed.left_basis()); });
    iteration.steps[3] = time_of([&] { fixed.improve_right(std::move(projected)); });
  }
  return result;
}

/// Medians, separately for iterations in which the row space moves and those in which it stays.
void print_steps(const std::vector<Iteration>& iterations) {
  const auto line = [&](bool moves, const char* name, auto&& of) {
    std::vector<double> wall, cpu;
    for (std::size_t i = 0; i + 1 < iterations.size(); ++i) {
      if (row_space_moves(static_cast<std::int64_t>(i)) != moves || of(iterations[i]).wall == 0) continue;
      wall.push_back(of(iterations[i]).wall);
      cpu.push_back(of(iterations[i]).cpu);
    }
    if (!wall.empty()) std::printf("%-14s %8.3f s wall, %8.3f s processor\n", name, median(wall), median(cpu));
  };
  for (const bool moves : {true, false}) {
    std::printf("the row space %s (medians):\n", moves ? "moves" : "stays");
    for (std::size_t step = 0; step < step_names.size(); ++step)
      line(moves, step_names[step], [&](const Iteration& it) { return it.steps[step]; });
    line(moves, "iteration", [](const Iteration& it) { return it.total(); });
  }
}

void run(const Communicator& comm, const Settings& settings) {
  auto problem = made_up_layer(settings.size, static_cast<std::uint64_t>(settings.seed));
  const auto scale = round_inputs(comm, problem);
  Structure structure{heaviest_groups(problem, settings.groups), settings.target_rank};
  const double n = double(problem.rows), k = double(problem.cols), s = double(settings.groups * problem.group_columns);
  if (structure.target_rank == 0)
    structure.target_rank = static_cast<std::int64_t>((n * k / settings.ratio - n * s) / (n + k - s));
  if (structure.target_rank < 0) throw Error(ExitCode::usage, "the kept groups alone have more parameters");
  if (!settings.write.empty()) write_raw(problem, structure.kept_groups, settings.write);
  const double rate = sgemm_rate();

  std::optional<LayerStatistics> statistics;
  std::optional<FixedStructure> fixed;
  std::vector<double> mean;
  const auto setup = time_of([&] {
    statistics.emplace(measure_statistics(comm, ProcessGrid::row(comm), problem));
    auto cross = ActivationSplitting(comm, problem, scale, *statistics).cross();
    fixed.emplace(comm, problem, *statistics, structure, settings.pull * statistics->mean_diagonal / settings.rho,
                  Engine::automatic);
    fixed->start(cross.p);
    mean = std::move(cross.target_mean);
  });
  const auto iterations = iterate(comm, problem, scale, *statistics, *fixed, std::move(mean), settings);

  const double q = double(fixed->left_basis().size()) / n, r = double(fixed->structure().target_rank);
  const auto counts = counts_of(problem, q, r, s);
  std::vector<double> cpu;
  for (std::size_t i = 0; i + 1 < iterations.size(); ++i)
    if (row_space_moves(static_cast<std::int64_t>(i))) cpu.push_back(iterations[i].total().cpu);
  const double seconds = median(cpu);
  std::printf("layer          %lld x %lld, %lld samples; rank %lld, %lld kept groups: %.2fx fewer parameters\n",
              static_cast<long long>(problem.rows), static_cast<long long>(problem.cols),
              static_cast<long long>(problem.fit.count), static_cast<long long>(structure.target_rank),
              static_cast<long long>(settings.groups), n * k / (n * s + r * (n + k - s)));
  std::printf("machine        sgemm %.1f GFLOP/s on one thread, OpenBLAS core type %s\n", rate,
              blas_core_type().c_str());
  std::printf("set-up         %8.3f s wall, %8.3f s processor\n", setup.wall, setup.cpu);
  print_steps(iterations);
  std::printf("where it moves %.1f GFLOP in single, %.1f in double precision, %.2f GB\n", 1e-9 * counts.single_flops,
              1e-9 * counts.double_flops, 1e-9 * counts.bytes);
  std::printf("rate           %.1f GFLOP/s in all, %.0f %% of the sgemm rate\n",
              1e-9 * (counts.single_flops + counts.double_flops) / seconds,
              1e-7 * (counts.single_flops + counts.double_flops) / seconds / rate);
  if (settings.csv.empty()) return;
  std::ofstream out(settings.csv);
  out << "program,iteration,seconds,cpu_seconds,error\nsetup,0," << setup.wall << ',' << setup.cpu << ",\n";
  Clock elapsed;
  for (std::size_t i = 0; i < iterations.size(); ++i) {
    out << "slr," << i << ',' << elapsed.wall << ',' << elapsed.cpu << ',' << iterations[i].error << '\n';
    elapsed += iterations[i].total();
  }
}

std::optional<Settings> parse(int argc, char** argv) {
  namespace po = boost::program_options;
  Settings settings;
  po::options_description options("bench_iteration");
  auto add = options.add_options();
  add("rows", po::value(&settings.size.rows)->default_value(settings.size.rows), "output channels");
  add("cols", po::value(&settings.size.cols)->default_value(settings.size.cols), "input channels times kernel area");
  add("group-columns", po::value(&settings.size.group_columns)->default_value(settings.size.group_columns),
      "kernel area");
  add("samples", po::value(&settings.size.samples)->default_value(settings.size.samples), "samples");
  add("rank", po::value(&settings.target_rank), "rank; by default what the ratio leaves");
  add("groups", po::value(&settings.groups)->default_value(0), "kept groups");
  add("ratio", po::value(&settings.ratio)->default_value(settings.ratio), "dense parameters over those allowed");
  add("iterations", po::value(&settings.iterations)->default_value(settings.iterations), "iterations");
  add("pull", po::value(&settings.pull)->default_value(settings.pull), "pull towards the original weights");
  add("rho", po::value(&settings.rho)->default_value(settings.rho), "curvature of what replaces the loss");
  add("seed", po::value(&settings.seed)->default_value(settings.seed), "of the data");
  add("write", po::value(&settings.write), "write the data to this folder");
  add("csv", po::value(&settings.csv), "write a line per iteration to this file");
  if (!parse_options(argc, argv, options)) return std::nullopt;
  if (settings.iterations < 1) throw Error(ExitCode::usage, "at least one iteration is needed");
  return settings;
}

} // namespace

int main(int argc, char** argv) {
  return slr_bench::bench_main(argc, argv, "bench_iteration", MPI_COMM_SELF, [&](const Communicator& comm) {
    if (const auto settings = parse(argc, argv)) run(comm, *settings);
  });
}
