#include "slr/plan/forecast.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace slr {

double basis_size(const LayerWork& w) {
  return w.rank == 0 ? 0 : static_cast<double>(w.rank + std::max<std::int64_t>(4, w.rank / 8));
}

double basis_iterations(const LayerWork& w) {
  return static_cast<double>(std::bit_width(static_cast<std::uint64_t>(std::max<std::int64_t>(0, w.iterations))));
}

namespace {

/// Of factors, inverses and eliminations, which reach half the rate of a product.
double factoring_flops(const LayerWork& w) {
  const auto n = static_cast<double>(w.rows), k = static_cast<double>(w.cols);
  const double elimination = w.kept_columns > 0 ? k * k * (5 * k / 3 + 2 * n) : 0;
  return w.is_implicit ? 0 : static_cast<double>(w.factorizations) * k * k * k / 3 + elimination;
}

} // namespace

Flops count_flops(const LayerWork& w) {
  const auto n = static_cast<double>(w.rows), k = static_cast<double>(w.cols), samples = static_cast<double>(w.samples);
  const auto s = static_cast<double>(w.kept_columns), r = static_cast<double>(w.rank);
  const double q = basis_size(w), fit = fit_share * samples, judged = selection_share * samples;
  const auto iterations = static_cast<double>(w.iterations), factors = static_cast<double>(w.factorizations);
  const double moves = basis_iterations(w);
  Flops flops;
  flops.single_precision = 2 * samples * n * k + 4 * w.network_products +
                           iterations * (2 * fit * 2 * n * (q + s) + 2 * judged * n * (q + s)) +
                           moves * (2 * fit * q * (n + 2 * k) + 2 * judged * q * k);
  const double blocks = fit / static_cast<double>(w.block_samples);
  flops.elements = 20 * samples * (n + k) + iterations * (7 * fit * n + 4 * judged * n + blocks * n * (q + s)) +
                   moves * (fit * k / 2 + blocks * q * k);
  if (w.is_implicit) {
    flops.double_precision = k * (n * n + 2 * samples * samples + 4 * samples * n) +
                             factors * (4 * n * n * samples + 4 * n * n * n / 3) + moves * 2 * n * n * q;
    flops.single_precision += 2 * q * k * (n + samples) * factors + moves * 2 * q * k * (2 * n + samples);
  } else {
    flops.double_precision = 2 * fit * k * k + 2 * fit * n * k + 2 * samples * (r * (n + k) + n * s) +
                             factoring_flops(w) + factors * n * k * k + moves * 4 * q * k * k;
  }
  return flops;
}

double predict_seconds(const LayerWork& w, int ranks, const MachineRates& machine) {
  constexpr double collectives_per_iteration = 12;
  const auto n = static_cast<double>(w.rows), k = static_cast<double>(w.cols), s = static_cast<double>(w.kept_columns);
  const double q = basis_size(w), p = ranks;
  const auto iterations = static_cast<double>(w.iterations), factors = static_cast<double>(w.factorizations);
  auto flops = count_flops(w);
  flops.double_precision += factoring_flops(w);
  double on_one_rank = 0;
  if (!w.is_implicit && k <= one_rank_columns)
    on_one_rank = factors * 2 * k * k * k / 3 + basis_iterations(w) * 4 * q * k * k;
  const double seconds = flops.single_precision / p / machine.single_precision +
                         (on_one_rank + (flops.double_precision - on_one_rank) / p) / machine.double_precision +
                         flops.elements / p / machine.elements;
  if (ranks == 1) return seconds;
  const auto samples = static_cast<double>(w.samples), moves = basis_iterations(w);
  double bytes = 0, collectives = (iterations + factors) * collectives_per_iteration;
  if (w.is_implicit) {
    bytes = 8 * (n * n + samples * samples + factors * (n * n + 2 * n * samples)) +
            (factors + iterations) * (4 * q * k + 8 * q * (n + 2 * samples));
  } else {
    bytes = 8 * (k * k + n * k + factors * n * k + iterations * (2 * q * n + n * s) + moves * 2 * q * k);
    if (k > one_rank_columns) { // the factor by rows, and solves with it
      bytes += 8 * (factors * (k * k / p + 2 * n * k) + moves * 7 * q * k);
      collectives += (2 * factors + 4 * moves) * std::ceil(k / solve_columns);
    }
  }
  return seconds + bytes / machine.bytes + collectives * std::log2(p) * machine.step_seconds;
}

double count_bytes(const LayerWork& w, std::int64_t ranks) {
  const auto n = static_cast<double>(w.rows), k = static_cast<double>(w.cols);
  const double samples = static_cast<double>(w.samples) / static_cast<double>(ranks);
  if (w.is_implicit)
    return samples * (4 * (2 * k + 4 * n) + 8 * 4 * n) + 4 * n * k + 3 * 8 * n * n / static_cast<double>(ranks) +
           3 * 8 * basis_size(w) * k;
  return samples * 4 * (2 * k + 4 * n + (fit_share + selection_share) * basis_size(w)) +
         2 * 8 * k * k / static_cast<double>(ranks) + 8 * k * k + 3 * 8 * n * k;
}

} // namespace slr
