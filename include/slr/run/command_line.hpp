#pragma once
/// \file
/// The command lines of the five programs.
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace slr::run {

/// The arguments after the program's name.
using Arguments = std::span<const std::string>;

/// What every command line can hold: `--help` and `--version` leave a text to print instead of work to do.
struct CommonOptions {
  std::string text; ///< to be printed on standard output, once; the program then ends with 0
};

struct CompressOptions : CommonOptions {
  std::string config;
  std::vector<std::string> overrides;                          ///< key=value
  std::optional<std::int64_t> plan_ranks, plan_ranks_per_node; ///< with `plan`
  std::optional<double> max_hours;
  bool plan = false, resume = false, fresh = false, print_config = false;
  std::string reproduce; ///< a manifest, instead of `config`
  std::string trace;     ///< where the timeline goes; empty: none
};
struct CalibrateOptions : CommonOptions {
  std::string config;
  std::vector<std::string> overrides;
  bool fresh = false;
};
struct EvaluateOptions : CommonOptions {
  std::string config;
  std::vector<std::string> overrides;
  std::string model, reference, json, dump_inputs, dump_logits; ///< paths from the current folder; empty: not given
};
struct PackOptions : CommonOptions {
  std::string images, labels, list, output;
  std::int64_t first = 0;
  std::optional<std::int64_t> count, resize, crop;
  bool strict = false;
};
struct InspectOptions : CommonOptions {
  std::string file;
  bool verify = false;
};

/// The options of one command line. Local, pure.
/// \throws Error{usage} naming the argument, the nearest option for an unknown one, and `--help`.
[[nodiscard]] CompressOptions parse_compress(Arguments arguments);
[[nodiscard]] CalibrateOptions parse_calibrate(Arguments arguments);
[[nodiscard]] EvaluateOptions parse_evaluate(Arguments arguments);
[[nodiscard]] PackOptions parse_pack(Arguments arguments);
[[nodiscard]] InspectOptions parse_inspect(Arguments arguments);

} // namespace slr::run
