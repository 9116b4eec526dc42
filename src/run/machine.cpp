#include "slr/run/machine.hpp"

#include "slr/base/file.hpp"
#include "slr/layer/block_sums.hpp"
#include "slr/linalg/blas.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/run/json_text.hpp"
#include "slr/run/layer_work.hpp"

#include <algorithm>
#include <array>
#include <chrono>

namespace slr::run {
namespace {

constexpr int repetitions = 7;

/// The time of some that is in the middle: what a job can expect, which runs for longer than the best moments last.
template <class Work>
double usual_seconds(Work&& work) {
  std::array<double, repetitions> seconds{};
  for (double& each : seconds) {
    const auto start = std::chrono::steady_clock::now();
    work();
    each = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  std::sort(seconds.begin(), seconds.end());
  return std::max(seconds[repetitions / 2], 1e-9);
}

/// Flops per second of a product of square matrices.
double square_product_rate() {
  constexpr std::int64_t size = 512;
  const std::vector<double> a(static_cast<std::size_t>(size * size), 1.0), b = a;
  std::vector<double> c(a.size());
  return 2.0 * size * size * size / usual_seconds([&] {
           blas::gemm(Op::none, Op::none, size, size, size, 1.0, a.data(), size, b.data(), size, 0.0, c.data(), size);
         });
}

/// Flops per second of the products of a basis with blocks of samples, more than a cache holds.
double sample_product_rate() {
  constexpr std::int64_t basis = 64, columns = 512, block = 512, blocks = 32;
  const std::vector<float> e(static_cast<std::size_t>(basis * columns), 1.0F),
      x(static_cast<std::size_t>(columns * block * blocks), 1.0F);
  std::vector<float> features(static_cast<std::size_t>(basis * block));
  return 2.0 * basis * columns * block * blocks / usual_seconds([&] {
           for (std::int64_t b = 0; b < blocks; ++b)
             blas::gemm(Op::none, Op::none, basis, block, columns, 1.0F, e.data(), basis,
                        x.data() + b * columns * block, columns, 0.0F, features.data(), basis);
         });
}

/// Elements per second that come from memory and are added to their sums.
double element_rate() {
  constexpr std::int64_t rows = 256, columns = 256, blocks = 64;
  const std::vector<int> exponents(static_cast<std::size_t>(rows), 0);
  const std::vector<float> products(static_cast<std::size_t>(rows * columns * blocks), 0.5F);
  BlockSums sums(exponents, exponents, repetitions * blocks);
  return double(rows * columns * blocks) / usual_seconds([&] {
           for (std::int64_t b = 0; b < blocks; ++b)
             sums.add(std::span(products).subspan(static_cast<std::size_t>(b * rows * columns),
                                                  static_cast<std::size_t>(rows * columns)));
         });
}

} // namespace

MachineRates measure_machine(const Communicator& comm) {
  comm.barrier(); // all at once: ranks share caches and memory
  MachineRates rates{sample_product_rate(), square_product_rate(), nominal_machine.bytes, nominal_machine.step_seconds,
                     element_rate()};
  for (double* rate : {&rates.single_precision, &rates.double_precision, &rates.elements})
    *rate = comm.allreduce_value(*rate, Reduction::min);
  if (comm.size() == 1) return rates;
  std::vector<double> values(std::size_t(1) << 17);
  const double large = usual_seconds([&] { comm.allreduce(std::span<double>(values)); });
  const double small = usual_seconds([&] { comm.allreduce(std::span<double>(values).first(1)); });
  double steps = 0;
  for (int ranks = 1; ranks < comm.size(); ranks *= 2) ++steps;
  rates.bytes = comm.broadcast_value(static_cast<double>(values.size() * sizeof(double)) / large);
  rates.step_seconds = comm.broadcast_value(small / steps);
  return rates;
}

std::optional<MachineRates> read_machine(const OutputFiles& files) {
  if (!std::filesystem::exists(files.machine())) return std::nullopt;
  const auto json = read_json(files.machine());
  if (json.is_object() && !json.contains("elements")) return std::nullopt; // of an earlier version
  MachineRates rates;
  for (const auto& [key, value] : {std::pair{"single_precision", &rates.single_precision},
                                   {"double_precision", &rates.double_precision},
                                   {"bytes", &rates.bytes},
                                   {"step_seconds", &rates.step_seconds},
                                   {"elements", &rates.elements}}) {
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
                                                      {"step_seconds", now.step_seconds},
                                                      {"elements", now.elements}}));
  });
  return now;
}

Split split_of(const Network& network, const Allotment& allotment, std::size_t i) {
  const auto& layer = network.layers[i];
  return allotment.splits[i].value_or(Split{
      0, std::max<std::int64_t>(1, allotment.parameters[i] / std::max<std::int64_t>(1, layer.rows + layer.cols))});
}

JobTimes layer_times(const Network& network, const std::vector<std::string>& dense_reasons, const Allotment& allotment,
                     const Configuration& config, Solution solution, const std::vector<int>& ranks_of_group,
                     const MachineRates& machine) {
  const NetworkWork count(network, dense_reasons, config);
  JobTimes times(network.layers.size(), std::vector<double>(ranks_of_group.size(), 0.0));
  for (std::size_t i = 0; i < times.size(); ++i) {
    if (!dense_reasons[i].empty()) continue;
    const auto work = count.of(i, split_of(network, allotment, i), solution);
    for (std::size_t g = 0; g < ranks_of_group.size(); ++g)
      times[i][g] = predict_seconds(work, ranks_of_group[g], machine);
  }
  return times;
}

} // namespace slr::run
