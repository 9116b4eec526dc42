#include "slr/run/plan_job.hpp"

#include "slr/base/file.hpp"
#include "slr/linalg/blas.hpp"
#include "slr/run/json_text.hpp"
#include "slr/run/layer_work.hpp"
#include "slr/run/sweep.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

namespace slr::run {
namespace {

/// Flops per second of one product of this size, the best of three.
template <class T>
double product_rate() {
  constexpr std::int64_t size = 512;
  const std::vector<T> a(static_cast<std::size_t>(size * size), T(1)), b = a;
  std::vector<T> c(a.size());
  double best = 0;
  for (int i = 0; i < 3; ++i) {
    const auto start = std::chrono::steady_clock::now();
    blas::gemm(Op::none, Op::none, size, size, size, T(1), a.data(), size, b.data(), size, T(0), c.data(), size);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = std::max(best, 2.0 * size * size * size / std::max(seconds, 1e-9));
  }
  return best;
}

/// The curves of an earlier start with this configuration, if there are any.
std::optional<Curves> curves_of(const Network& network, const Configuration& config) {
  const OutputFiles files{config.output.absolute};
  if (!std::filesystem::exists(files.curves()) || !std::filesystem::exists(files.job())) return std::nullopt;
  const auto job = read_json(files.job());
  if (!job.contains("configuration") || first_difference(job["configuration"], config) ||
      job.value("model_sha256", "") != network.sha256)
    return std::nullopt;
  auto curves = curves_from_text(read_file(files.curves()));
  if (curves.layers.size() != network.layers.size()) return std::nullopt;
  return curves;
}

} // namespace

std::string plan_text(const Network& network, const std::vector<std::string>& dense_reasons,
                      const std::vector<BudgetPoint>& points, const Configuration& config, std::int64_t ranks) {
  const LayerCosts costs(network);
  const double single_rate = product_rate<float>(), double_rate = product_rate<double>();
  const auto curves = config.method.kind == MethodKind::constrained ? curves_of(network, config) : std::nullopt;
  std::string text;
  for (const auto& point : points) {
    if (!point.name.empty()) text += point.name + "\n";
    const auto limit = point.limit_of(Resource::parameters);
    Allotment allotment = no_limit(network);
    if (curves)
      allotment = allot(network, dense_reasons, *curves, point, config);
    else if (limit)
      allotment = allot_uniformly(network, dense_reasons, *limit);
    text += fmt::format("{:<24} {:>13} {:>6} {:>7} {:>12} {:>12} {:>10} {:>12}\n", "layer", "n x k", "rank", "groups",
                        "before", "after", "seconds", "MB per rank");
    double seconds = 0, bytes = 0;
    std::int64_t after = costs.whole()[index_of(Resource::parameters)];
    for (std::size_t i = 0; i < network.layers.size(); ++i) {
      const auto& layer = network.layers[i];
      const auto before = costs.dense(i)[index_of(Resource::parameters)], now = allotment.parameters[i];
      after += now - before;
      const bool is_dense = !dense_reasons[i].empty() || now >= before;
      // Without curves the split is open: count with low rank alone.
      const Split split = allotment.splits[i].value_or(
          Split{0, std::max<std::int64_t>(1, now / std::max<std::int64_t>(1, layer.rows + layer.cols))});
      const auto work = work_of(layer, split, config);
      const auto flops = count_flops(work);
      const double time = is_dense ? 0
                                   : (flops.single_precision / single_rate + flops.double_precision / double_rate) /
                                         static_cast<double>(ranks);
      const double memory = is_dense ? 0 : count_bytes(work, ranks);
      seconds += time;
      bytes = std::max(bytes, memory);
      const auto known = [&](std::int64_t value) {
        return is_dense ? std::string("dense") : curves ? std::to_string(value) : std::string("-");
      };
      text += fmt::format("{:<24} {:>13} {:>6} {:>7} {:>12} {:>12} {:>10.2g} {:>12.0f}\n", printable(layer.name, 24),
                          fmt::format("{} x {}", layer.rows, layer.cols), known(split.rank), known(split.groups),
                          before, now, time, memory / 1e6);
    }
    text +=
        fmt::format("parameters {} -> {}; solve about {:.2g} s on {} ranks of this kind, at most {:.0f} MB per rank "
                    "for a layer beside the network and its activations\n",
                    costs.whole()[index_of(Resource::parameters)], after, seconds, ranks, bytes / 1e6);
    text += curves ? fmt::format("predicted KL divergence {:.3g}, from the curves in {}\n\n", allotment.predicted_kl,
                                 config.output.given)
                   : std::string("no curves of this configuration in the output folder yet: an even split, costs "
                                 "alone; the job itself measures them first\n\n");
  }
  return text;
}

} // namespace slr::run
