// Times of the singular value engines against p?gesvd, in the same run: median and spread, error against the known
// answer, and the bound that the engine gave. Run with OPENBLAS_CORETYPE unset, alone or under mpirun.
#include "slr/dist/redistribute.hpp"
#include "slr/linalg/scalapack.hpp"
#include "slr/linalg/svd.hpp"
#include "support/bench_main.hpp"
#include "test_matrix.hpp"

#include <boost/program_options.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iostream>
#include <optional>
#include <sstream>

namespace {

using namespace slr;
using namespace slr_bench;

struct Settings {
  bool full = false;
  bool small_only = false;
  bool double_only = false;
  int repeats = 9;
  int slow_repeats = 3;
  std::vector<double> taus{0.01, 0.1, 0.5}; ///< fractions of sigma_1 = 1
  std::string csv;
};

struct Row {
  std::string engine, orientation, precision, matrix, note;
  std::int64_t rows = 0, cols = 0;
  double tau = 0;
  double median = 0, spread = 0, speedup = 0;
  double error = -1, bound = -1; ///< relative to ||X||_F; negative: not computed
};

struct Timing {
  double median = 0;
  double spread = 0; ///< largest minus smallest
};

/// Wall time, or this process' processor time where other jobs share the cores.
double now(bool is_cpu_time) {
  if (!is_cpu_time) return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return double(time.tv_sec) + 1e-9 * double(time.tv_nsec);
}

bool use_cpu_time = false; ///< --cpu-time, for all measurements of the run

/// Time of a collective action: the slowest rank counts.
template <class Prepare, class Action>
Timing time_of(const Communicator& comm, int repeats, Prepare&& prepare, Action&& action) {
  std::vector<double> seconds;
  for (int i = 0; i < repeats; ++i) {
    prepare();
    comm.barrier();
    const double begin = now(use_cpu_time);
    action();
    const double mine = now(use_cpu_time) - begin;
    seconds.push_back(comm.allreduce_value(mine, Reduction::max));
  }
  std::sort(seconds.begin(), seconds.end());
  return {seconds[seconds.size() / 2], seconds.back() - seconds.front()};
}

template <class T>
constexpr const char* precision = std::is_same_v<T, float> ? "float" : "double";

template <class T>
DistMatrix<T> distribute(const Communicator& comm, std::int64_t rows, std::int64_t cols, const std::vector<double>& z) {
  constexpr std::int64_t block = 72;
  DistMatrix<T> matrix(ProcessGrid::row(comm), rows, cols, rows, block);
  const std::vector<T> converted(z.begin(), z.end());
  scatter(std::span<const T>(converted), matrix);
  return matrix;
}

/// One case: a matrix in one precision on all ranks, with its neighbour.
template <class T>
struct Case {
  const Communicator& comm;
  const TestMatrix& known;
  std::string matrix;
  DistMatrix<T> z;
  DistMatrix<T> neighbour;
};

class Table {
public:
  explicit Table(const Communicator& comm) : comm_(comm) {}
  void add(Row row) {
    if (comm_.is_root()) {
      std::printf("%-9s %-5s %5lld x %-5lld %-6s %-4s %5.2f %10.4f %9.4f %8.1f  %9.2e %9.2e %s\n", row.engine.c_str(),
                  row.orientation.c_str(), static_cast<long long>(row.rows), static_cast<long long>(row.cols),
                  row.precision.c_str(), row.matrix.c_str(), row.tau, row.median, row.spread, row.speedup, row.error,
                  row.bound, row.note.c_str());
      std::fflush(stdout);
    }
    rows_.push_back(std::move(row));
  }
  void head() const {
    if (!comm_.is_root()) return;
    std::printf("ranks %d, one BLAS thread each, OpenBLAS core type %s, %s time\n", comm_.size(),
                blas_core_type().c_str(), use_cpu_time ? "processor" : "wall");
    std::printf("%-9s %-5s %13s %-6s %-4s %5s %10s %9s %8s  %9s %9s\n", "engine", "orien", "rows x cols", "prec", "mat",
                "tau", "median s", "spread s", "speedup", "error", "bound");
  }
  void write_csv(const std::string& file) const {
    std::ofstream out(file);
    out << "engine,orientation,rows,cols,precision,tau,ranks,seconds_median,seconds_spread,speedup,error,bound,matrix,"
           "core_type,note\n";
    for (const Row& row : rows_)
      out << row.engine << ',' << row.orientation << ',' << row.rows << ',' << row.cols << ',' << row.precision << ','
          << row.tau << ',' << comm_.size() << ',' << row.median << ',' << row.spread << ',' << row.speedup << ','
          << row.error << ',' << row.bound << ',' << row.matrix << ',' << blas_core_type() << ',' << row.note << '\n';
    if (!out) throw Error(ExitCode::io, "the table could not be written to " + file);
  }

private:
  const Communicator& comm_;
  std::vector<Row> rows_;
};

/// Error and bound, relative to ||X||_F; the error on rank 0.
template <class T>
void judge(const Case<T>& c, double tau, const LowRank<T>& x, Row& row) {
  const auto vt = gather(x.vt);
  row.bound = 0;
  if (!c.comm.is_root()) return;
  row.error = relative_error(c.known, tau, {x.u.begin(), x.u.end()}, x.sigma, {vt.begin(), vt.end()});
  row.bound = x.error_bound / norm_of_threshold(c.known, tau);
}

template <class T>
Row blank_row(const Case<T>& c, const std::string& engine, const std::string& orientation, double tau) {
  Row row;
  row.engine = engine;
  row.orientation = orientation;
  row.precision = precision<T>;
  row.matrix = c.matrix;
  row.rows = c.z.rows();
  row.cols = c.z.cols();
  row.tau = tau;
  return row;
}

/// p?gesvd of Z as it is: the orientation that a naive caller gets.
template <class T>
Timing time_wide(const Case<T>& c, int repeats) {
  const Grid grid = ProcessGrid::square(c.comm);
  const std::int64_t m = c.z.rows(), n = c.z.cols();
  DistMatrix<T> a(grid, m, n, 64, 64), u(grid, m, m, 64, 64), vt(grid, m, n, 64, 64);
  return time_of(
      c.comm, repeats, [&] { redistribute(c.comm, c.z, a); }, [&] { (void)scalapack::gesvd(a, u, vt); });
}

template <class T>
void run_engine(const Case<T>& c, Engine engine, double tau, int repeats, double reference, Table& table) {
  SvdOptions options;
  options.engine = engine;
  Svd<T> svd(c.comm, options);
  const bool is_warm = engine == Engine::subspace || engine == Engine::automatic;
  if (is_warm) (void)svd.threshold(c.neighbour, tau);
  const SvdMemory memory = svd.memory();
  const auto before = svd.counts();
  LowRank<T> x;
  (void)svd.threshold(c.z, tau); // warm-up
  const Timing timing = time_of(
      c.comm, repeats, [&] { svd.restore(memory); }, [&] { x = svd.threshold(c.z, tau); });
  Row row = blank_row(c, std::string(engine_name(engine)), "", tau);
  row.median = timing.median;
  row.spread = timing.spread;
  row.speedup = reference / timing.median;
  row.note = is_warm ? "warm, " + std::string(engine_name(x.engine)) + ", rank " : "rank ";
  row.note += std::to_string(x.numerical_rank);
  if (svd.counts().fallbacks > before.fallbacks) row.note += ", fell back";
  judge(c, tau, x, row);
  table.add(row);
}

/// Times of p?gesvd for one shape and precision: {tall, wide}, extrapolated by m^2 l where too slow.
struct Reference {
  Timing tall, wide;
  double tall_error = -1, tall_bound = -1;
  bool is_extrapolated = false;
};

template <class T>
Reference measure_reference(const Case<T>& c, const Settings& settings, bool wide_too) {
  Reference reference;
  SvdOptions options;
  options.engine = Engine::pdgesvd;
  Svd<T> svd(c.comm, options);
  reference.tall = time_of(
      c.comm, settings.slow_repeats, [] {}, [&] { (void)svd.threshold(c.z, 0.1); });
  if (wide_too) reference.wide = time_wide(c, 1);
  return reference;
}

template <class T>
void run_case(const Case<T>& c, const Reference& reference, int repeats, const std::vector<double>& taus,
              Table& table) {
  for (const double tau : taus) {
    for (const bool is_wide : {false, true}) {
      Row row = blank_row(c, "pdgesvd", is_wide ? "wide" : "tall", tau);
      const Timing& timing = is_wide ? reference.wide : reference.tall;
      if (timing.median <= 0) continue;
      row.median = timing.median;
      row.spread = timing.spread;
      row.speedup = reference.tall.median / timing.median;
      row.note = reference.is_extrapolated ? "extrapolated" : "";
      table.add(row);
    }
    for (const Engine engine : {Engine::gram, Engine::subspace, Engine::automatic})
      run_engine(c, engine, tau, repeats, reference.tall.median, table);
  }
}

template <class T>
void run_shape(const Communicator& comm, const Settings& settings, std::int64_t rows, std::int64_t cols, bool is_large,
               Table& table, std::optional<Reference>& small) {
  for (const Spectrum spectrum : {Spectrum::gap, Spectrum::slow}) {
    TestMatrix known;
    std::vector<double> neighbour;
    if (comm.is_root()) {
      known = make_test_matrix(rows, cols, spectrum);
      neighbour = perturbed(known, 0.02);
    }
    const Case<T> c{comm, known, spectrum_name(spectrum), distribute<T>(comm, rows, cols, known.z),
                    distribute<T>(comm, rows, cols, neighbour)};
    Reference reference;
    if (!is_large || settings.full) {
      reference = measure_reference(c, settings, spectrum == Spectrum::gap);
      if (!is_large && spectrum == Spectrum::gap) small = reference;
    } else {
      const double growth = double(rows) * double(rows) * double(cols) / (512.0 * 512 * 4608);
      reference = *small;
      for (Timing* timing : {&reference.tall, &reference.wide}) *timing = {timing->median * growth, 0};
      reference.is_extrapolated = true;
    }
    run_case(c, reference, is_large ? settings.slow_repeats : settings.repeats, settings.taus, table);
  }
}

template <class T>
void run_precision(const Communicator& comm, const Settings& settings, Table& table) {
  std::optional<Reference> small;
  run_shape<T>(comm, settings, 512, 4608, false, table, small);
  if (!settings.small_only) run_shape<T>(comm, settings, 4096, 9216, true, table, small);
}

std::optional<Settings> parse(int argc, char** argv) {
  namespace po = boost::program_options;
  Settings settings;
  po::options_description options("bench_svd: singular value engines against p?gesvd");
  auto add = options.add_options();
  add("full", po::bool_switch(&settings.full),
      "run p?gesvd at 4096 x 9216 too (minutes each) instead of extrapolating");
  add("small", po::bool_switch(&settings.small_only), "only 512 x 4608");
  add("cpu-time", po::bool_switch(&use_cpu_time), "processor time instead of wall time, on a shared machine");
  add("double", po::bool_switch(&settings.double_only), "only double precision");
  add("tau", po::value(&settings.taus)->multitoken(), "thresholds as fractions of sigma_1 (.01 .1 .5)");
  add("repeats", po::value(&settings.repeats)->default_value(9), "runs of each fast case");
  add("slow-repeats", po::value(&settings.slow_repeats)->default_value(3), "runs of each slow case");
  add("csv", po::value(&settings.csv), "write the table to this file");
  if (!parse_options(argc, argv, options)) return std::nullopt;
  if (settings.repeats < 1 || settings.slow_repeats < 1) throw Error(ExitCode::usage, "at least one run is needed");
  return settings;
}

} // namespace

int main(int argc, char** argv) {
  return slr_bench::bench_main(argc, argv, "bench_svd", MPI_COMM_WORLD, [&](const Communicator& comm) {
    const auto settings = parse(argc, argv);
    if (!settings) return;
    Table table(comm);
    table.head();
    run_precision<double>(comm, *settings, table);
    if (!settings->double_only) run_precision<float>(comm, *settings, table);
    if (comm.is_root() && !settings->csv.empty()) table.write_csv(settings->csv);
  });
}
