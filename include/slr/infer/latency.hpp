#pragma once
/// \file
/// How long one image takes.
#include "slr/infer/array.hpp"

#include <string>
#include <utility>

namespace slr::infer {

struct LatencyOptions {
  int warm_up = 3;  ///< runs that do not count
  int repeats = 20; ///< runs that count
  int threads = 1;
};

/// Wall-clock times of one image from the model's inputs to its (runnable) output.
struct Latency {
  double median_seconds = 0;
  double minimum_seconds = 0;
  double maximum_seconds = 0;
  int repeats = 0;
  int threads = 1;
};

/// Runs the model at batch 1 on fixed pseudo-random inputs. Local; meaningful only if nothing else uses the cores.
/// \pre options.repeats >= 1
/// \throws Error{bad_data} if the model cannot be run or an input has a free dimension besides the batch.
[[nodiscard]] Latency measure_latency(const graph::Model& model, const LatencyOptions& options = {});

/// Of two models that are run in turns, so that what slows the machine down for a while slows both. Local.
[[nodiscard]] std::pair<Latency, Latency> measure_latencies(const graph::Model& first, const graph::Model& second,
                                                            const LatencyOptions& options = {});

/// The same for the part of the model between one value (`feed`, of these dimensions for one image, batch first) and
/// another (`fetch`). Local.
[[nodiscard]] Latency measure_latency(const graph::Model& model, const std::string& feed, const Dims& dims,
                                      const std::string& fetch, const LatencyOptions& options = {});

} // namespace slr::infer
