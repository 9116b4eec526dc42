#include "slr/infer/latency.hpp"

#include "slr/base/error.hpp"
#include "slr/infer/executor.hpp"
#include "slr/infer/metrics.hpp"

#include <algorithm>
#include <chrono>

namespace slr::infer {

namespace {

/// Numbers in [-1, 1) by a linear congruential generator: time depends on the weights' sizes, hardly on the values.
Array pseudo_random(const Dims& dims) {
  Array array{dims, {}};
  array.data.resize(static_cast<std::size_t>(graph::element_count(dims)));
  std::uint32_t state = 1;
  for (float& value : array.data) {
    state = state * 1664525U + 1013904223U;
    value = static_cast<float>(state >> 8) * 0x1p-23F - 1.0F;
  }
  return array;
}

Array single_image(const graph::Value& input) {
  Dims dims = input.dims;
  if (dims.empty()) throw Error(ExitCode::bad_data, "the network's input '" + input.name + "' has no batch dimension");
  dims[0] = 1;
  if (std::any_of(dims.begin(), dims.end(), [](std::int64_t d) { return d < 1; }))
    throw Error(ExitCode::bad_data, "the network's input '" + input.name + "' has a free dimension besides the batch");
  return pseudo_random(dims);
}

Latency time_runs(const graph::Model& model, const std::map<std::string, Array>& images,
                  const std::vector<std::string>& fetches, const LatencyOptions& options) {
  require(options.repeats >= 1, "a latency needs at least one run");
  const std::map<std::string, ArrayView> feeds(images.begin(), images.end());
  Executor executor(model, {.block = 1, .threads = options.threads});
  for (int i = 0; i < options.warm_up; ++i) (void)executor.run(feeds, fetches);
  std::vector<double> seconds;
  for (int i = 0; i < options.repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    (void)executor.run(feeds, fetches);
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(seconds.begin(), seconds.end());
  const std::size_t half = seconds.size() / 2;
  const double median = seconds.size() % 2 == 1 ? seconds[half] : (seconds[half - 1] + seconds[half]) / 2;
  return {median, seconds.front(), seconds.back(), options.repeats, options.threads};
}

} // namespace

Latency measure_latency(const graph::Model& model, const LatencyOptions& options) {
  std::map<std::string, Array> images;
  for (const graph::Value& input : model.inputs) images.emplace(input.name, single_image(input));
  return time_runs(model, images, {runnable_output(model)}, options);
}

Latency measure_latency(const graph::Model& model, const std::string& feed, const Dims& dims, const std::string& fetch,
                        const LatencyOptions& options) {
  return time_runs(model, {{feed, pseudo_random(dims)}}, {fetch}, options);
}

} // namespace slr::infer
