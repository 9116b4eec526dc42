#include "slr/run/machine.hpp"

#include "slr/base/file.hpp"
#include "slr/linalg/blas.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/run/json_text.hpp"
#include "slr/run/layer_work.hpp"

#include <algorithm>
#include <chrono>

namespace slr::run {
namespace {

constexpr int repetitions = 3;

/// The best time of some.
template <class Work>
double least_seconds(Work&& work) {
  double best = 1e300;
  for (int i = 0; i < repetitions; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return std::max(best, 1e-9);
}

/// Flops per second of one product of this size.
template <class T>
double product_rate() {
  constexpr std::int64_t size = 512;
  const std::vector<T> a(static_cast<std::size_t>(size * size), T(1)), b = a;
  std::vector<T> c(a.size());
  return 2.0 * size * size * size / least_seconds([&] {
           blas::gemm(Op::none, Op::none, size, size, size, T(1), a.data(), size, b.data(), size, T(0), c.data(), size);
         });
}

} // namespace

MachineRates measure_machine(const Communicator& comm) {
  comm.barrier(); // all at once: ranks share caches and memory
  MachineRates rates{product_rate<float>(), product_rate<double>(), nominal_machine.bytes,
                     nominal_machine.step_seconds};
  rates.single_precision = comm.allreduce_value(rates.single_precision, Reduction::min);
  rates.double_precision = comm.allreduce_value(rates.double_precision, Reduction::min);
  if (comm.size() == 1) return rates;
  std::vector<double> values(std::size_t(1) << 17);
  const double large = least_seconds([&] { comm.allreduce(std::span<double>(values)); });
  const double small = least_seconds([&] { comm.allreduce(std::span<double>(values).first(1)); });
  double steps = 0;
  for (int ranks = 1; ranks < comm.size(); ranks *= 2) ++steps;
  rates.bytes = comm.broadcast_value(static_cast<double>(values.size() * sizeof(double)) / large);
  rates.step_seconds = comm.broadcast_value(small / steps);
  return rates;
}

std::optional<MachineRates> read_machine(const OutputFiles& files) {
  if (!std::filesystem::exists(files.machine())) return std::nullopt;
  const auto json = read_json(files.machine());
  MachineRates rates;
  for (const auto& [key, value] : {std::pair{"single_precision", &rates.single_precision},
                                   {"double_precision", &rates.double_precision},
                                   {"bytes", &rates.bytes},
                                   {"step_seconds", &rates.step_seconds}}) {
    *value = json.is_object() && json.contains(key) && json[key].is_number() ? json[key].get<double>() : 0;
    if (!(*value > 0)) throw Error(ExitCode::bad_data, files.machine().string() + " is damaged; remove it");
  }
  return rates;
}

MachineRates open_machine(const Communicator& comm, const OutputFiles& files) {
  std::optional<MachineRates> rates;
  on_root(comm, [&] { rates = read_machine(files); });
  if (comm.broadcast_value(rates.has_value())) return comm.broadcast_value(rates.value_or(MachineRates{}));
  const auto now = measure_machine(comm);
  on_root(comm, [&] {
    write_file_atomically(files.machine(), json_text({{"single_precision", now.single_precision},
                                                      {"double_precision", now.double_precision},
                                                      {"bytes", now.bytes},
                                                      {"step_seconds", now.step_seconds}}));
  });
  return now;
}

Split split_of(const Network& network, const Allotment& allotment, std::size_t i) {
  const auto& layer = network.layers[i];
  return allotment.splits[i].value_or(Split{
      0, std::max<std::int64_t>(1, allotment.parameters[i] / std::max<std::int64_t>(1, layer.rows + layer.cols))});
}

LayerWork work_of(const graph::Layer& layer, Split split, const Configuration& config, Solution solution) {
  auto work = work_of(layer, split, config);
  if (solution == Solution::whole) return work;
  const ConstrainedOptions options;
  const auto last = config.method.kind == MethodKind::relaxed ? options.iterations : config.method.iteration_limit();
  const auto trials = work.factorizations * options.trial_iterations; // one for every strength of the pull
  if (solution == Solution::first) {
    work.iterations = trials + (config.method.kind == MethodKind::relaxed ? config.method.iteration_limit() : 0);
  } else {
    work.iterations = last;
    work.factorizations = 1;
  }
  return work;
}

JobTimes layer_times(const Network& network, const std::vector<std::string>& dense_reasons, const Allotment& allotment,
                     const Configuration& config, Solution solution, const std::vector<int>& ranks_of_group,
                     const MachineRates& machine) {
  JobTimes times(network.layers.size(), std::vector<double>(ranks_of_group.size(), 0.0));
  for (std::size_t i = 0; i < times.size(); ++i) {
    if (!dense_reasons[i].empty()) continue;
    const auto work = work_of(network.layers[i], split_of(network, allotment, i), config, solution);
    for (std::size_t g = 0; g < ranks_of_group.size(); ++g)
      times[i][g] = predict_seconds(work, ranks_of_group[g], machine);
  }
  return times;
}

} // namespace slr::run
