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

/// A part of a network, ready to be run and timed.
class Timed {
public:
  Timed(const graph::Model& model, std::map<std::string, Array> images, std::string fetch,
        const LatencyOptions& options)
      : images_(std::move(images)), feeds_(images_.begin(), images_.end()), fetches_{std::move(fetch)},
        executor_(model, {.block = 1, .threads = options.threads}), options_(options) {
    require(options.repeats >= 1, "a latency needs at least one run");
    for (int i = 0; i < options.warm_up; ++i) (void)executor_.run(feeds_, fetches_);
  }
  void run() {
    const auto start = std::chrono::steady_clock::now();
    (void)executor_.run(feeds_, fetches_);
    seconds_.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  [[nodiscard]] Latency result() {
    std::sort(seconds_.begin(), seconds_.end());
    const std::size_t half = seconds_.size() / 2;
    const double median = seconds_.size() % 2 == 1 ? seconds_[half] : (seconds_[half - 1] + seconds_[half]) / 2;
    return {median, seconds_.front(), seconds_.back(), options_.repeats, options_.threads};
  }

private:
  std::map<std::string, Array> images_;
  std::map<std::string, ArrayView> feeds_;
  std::vector<std::string> fetches_;
  Executor executor_;
  LatencyOptions options_;
  std::vector<double> seconds_;
};

Timed whole(const graph::Model& model, const LatencyOptions& options) {
  std::map<std::string, Array> images;
  for (const graph::Value& input : model.inputs) images.emplace(input.name, single_image(input));
  return {model, std::move(images), runnable_output(model), options};
}

} // namespace

Latency measure_latency(const graph::Model& model, const LatencyOptions& options) {
  auto timed = whole(model, options);
  for (int i = 0; i < options.repeats; ++i) timed.run();
  return timed.result();
}

std::pair<Latency, Latency> measure_latencies(const graph::Model& first, const graph::Model& second,
                                              const LatencyOptions& options) {
  auto a = whole(first, options), b = whole(second, options);
  for (int i = 0; i < options.repeats; ++i) {
    a.run();
    b.run();
  }
  return {a.result(), b.result()};
}

Latency measure_latency(const graph::Model& model, const std::string& feed, const Dims& dims, const std::string& fetch,
                        const LatencyOptions& options) {
  Timed timed(model, {{feed, pseudo_random(dims)}}, fetch, options);
  for (int i = 0; i < options.repeats; ++i) timed.run();
  return timed.result();
}

} // namespace slr::infer
