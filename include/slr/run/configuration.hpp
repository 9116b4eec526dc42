#pragma once
/// \file
/// The configuration of a job: what the YAML file says, with every default filled in.
#include "slr/base/grouping.hpp"
#include "slr/layer/statistics.hpp"
#include "slr/mpi/communicator.hpp"
#include "slr/refine/refine.hpp"

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace slr::run {

enum class ChannelOrder { rgb, bgr };
enum class CalibrationInputs { compressed, original };
enum class ShardsPer { rank, node };
enum class MethodKind { constrained, relaxed };
enum class SvdKind { automatic, pdgesvd, gram, subspace };
enum class Spread { network, uniform };
enum class Schedule { sequential, parallel, pipelined };
enum class OnFailure { stop, keep_dense };

/// The method of a configuration that names none.
inline constexpr MethodKind default_method_kind = MethodKind::constrained;
/// Passes of the refinement over its images in a configuration that names none; 0 is off.
inline constexpr std::int64_t default_refine_epochs = 0;

/// Evaluations of a layer's true objective in a configuration that says nothing of them; 0 is none.
inline constexpr std::int64_t default_descent_evaluations = 0;

/// A path as the user wrote it, and what it means: relative to the configuration file, or, in `--set`, to the current
/// folder.
struct FilePath {
  std::string given;
  std::filesystem::path absolute;
  [[nodiscard]] bool empty() const { return given.empty(); }
};

/// Packed images, or what they are packed from.
struct ImageSource {
  FilePath images, labels, list;
  std::int64_t first = 0;
  std::optional<std::int64_t> count, resize, crop; ///< absent: all images; no resizing; no cropping
  [[nodiscard]] bool is_given() const { return !images.empty(); }
};

/// x -> (x * scale - mean) / deviation per channel, the channels in the named order. `mean` and `deviation` have one
/// element (for every channel) or one per channel.
struct Preprocess {
  double scale = 1.0 / 255;
  std::vector<double> mean{0.0}, deviation{1.0};
  ChannelOrder channels = ChannelOrder::rgb;
};

struct Data {
  ImageSource calibration, validation;
  Preprocess preprocess;
};

struct Calibration {
  std::int64_t images = 2000;
  std::int64_t positions = 10; ///< per image and convolution
  CalibrationInputs inputs = CalibrationInputs::compressed;
  std::int64_t seed = 1;
  ShardsPer files = ShardsPer::rank;
  std::optional<std::int64_t> memory_bytes; ///< per node, for boundary activations; absent: half of the node's memory
};

struct Method {
  MethodKind kind = default_method_kind;
  Grouping grouping = Grouping::channel;
  double nuclear = 0.05; ///< lambda_1 as a fraction of the value at which A vanishes
  double group = 0.05;   ///< lambda_2 likewise for B
  std::optional<std::int64_t> iterations;
  double tolerance = 1.0e-4;
  SvdKind svd = SvdKind::automatic;
  LeastSquares least_squares = LeastSquares::automatic;
  struct {
    std::int64_t evaluations = default_descent_evaluations; ///< of a layer's true objective, behind the iteration
    std::optional<std::string> tao;                         ///< PETSc's words for its minimisation
  } refine;
  /// `iterations`, else what is usual for the kind.
  [[nodiscard]] std::int64_t iteration_limit() const {
    return iterations.value_or(kind == MethodKind::constrained ? 30 : 300);
  }
};

/// A factor by which a quantity of the whole network shrinks, or an absolute bound; exactly one is set.
struct Target {
  std::optional<double> factor, at_most;
};

/// A layer whose structure the user fixes.
struct FixedLayer {
  std::optional<std::int64_t> target_rank, groups;
};

struct Budget {
  std::vector<Target> parameters, macs, bytes, latency; ///< one result per element
  std::map<std::string, FixedLayer> layers;             ///< by layer name
  std::vector<std::string> keep;                        ///< globs of layer names
  Spread spread = Spread::network;                      ///< by what the output loses, or every layer by one factor
  std::int64_t minimum_rank = 1;                        ///< of a layer that has a low-rank part
  std::int64_t corrections = 0;                         ///< sweeps that may follow the first one
  std::int64_t multiple = 1;                            ///< ranks and numbers of kept groups are multiples of it
};

/// A layer of any network, with feature shards of the user's own.
struct OwnLayer {
  std::string name;
  FilePath weights;
  FilePath shards; ///< a glob
  std::string activation;
};

struct Refine {
  std::int64_t images = 10000;
  std::int64_t epochs = default_refine_epochs;
  refine::Optimizer optimizer = refine::Optimizer::automatic;
  std::optional<double> proximal; ///< absent: chosen by the program
  bool dense = false;             ///< layers left dense take part
  bool mixup = false;             ///< images are mixed in pairs
};

struct Pipeline {
  std::optional<std::int64_t> groups; ///< absent: chosen by the program
  Schedule schedule = Schedule::sequential;
};

struct Checkpoint {
  double every_seconds = 60;
};

struct WatchdogSettings {
  double seconds = 1800; ///< 0: off
};

struct Configuration {
  FilePath model;
  std::vector<OwnLayer> layers; ///< instead of `model`
  Data data;
  Calibration calibration;
  Method method;
  Budget budget;
  Refine refine;
  Pipeline pipeline;
  Checkpoint checkpoint;
  WatchdogSettings watchdog;
  OnFailure on_failure = OnFailure::stop;
  std::vector<nlohmann::ordered_json> batch; ///< overrides, each a nested object of the keys that it sets
  FilePath output;

  /// Where each key that was given stands: dotted key -> "vgg.yaml, line 12" or "--set a.b=value". No part of the
  /// value.
  std::map<std::string, std::string> origins;
  /// What the configuration is called in messages: the file's name as given.
  std::string source_name;
  /// Where a key was given, or the file if it was not: the beginning of a message about its value. Local.
  [[nodiscard]] std::string where(const std::string& key) const;
};

/// What a program needs; anything else may be missing from its configuration.
enum class Require : unsigned {
  nothing = 0,
  model = 1,           ///< `model`
  model_or_layers = 2, ///< `model` or `layers`
  calibration = 4,     ///< `data.calibration`, unless `layers` bring their own features
  validation = 8,      ///< `data.validation`
  preprocess = 16,     ///< `data.preprocess`, at least `{}`, wherever images are used
  output = 32,         ///< `output`
};
[[nodiscard]] constexpr Require operator|(Require a, Require b) {
  return static_cast<Require>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}
[[nodiscard]] constexpr bool requires_any(Require all, Require some) {
  return (static_cast<unsigned>(all) & static_cast<unsigned>(some)) != 0;
}
inline constexpr Require required_by_compress =
    Require::model_or_layers | Require::calibration | Require::preprocess | Require::output;
inline constexpr Require required_by_calibrate =
    Require::model | Require::calibration | Require::preprocess | Require::output;
inline constexpr Require required_by_evaluate = Require::model | Require::validation | Require::preprocess;

/// The configuration that a YAML text and the values of `--set` describe. Local, pure.
///
/// Strict: what is unknown, doubled, of the wrong type or out of range is refused. `--set a.b=value` replaces the value
/// at a.b by the YAML value on the right (nothing or null: back to the default); of an image source that is a plain
/// path it makes the mapping {images: path} first. Hostile text is bounded: 1 MB, 32 levels, 10,000 values, no anchors.
/// \param name     the file in messages
/// \param folder   absolute: relative paths of the file start here
/// \param current  absolute: relative paths of `--set` start here
/// \throws Error{configuration} naming the file, the line, the key and what was expected; Error{usage} for a `--set`
///         without key or equals sign.
[[nodiscard]] Configuration parse_configuration(const std::string& text, const std::string& name,
                                                const std::filesystem::path& folder,
                                                std::span<const std::string> overrides,
                                                const std::filesystem::path& current, Require require);

/// Reads the file on the root, parses it on every rank: the same configuration or the same error everywhere.
/// Collective. \throws Error as parse_configuration; Error{io} if the file cannot be read.
[[nodiscard]] Configuration load_configuration(const Communicator& comm, const std::filesystem::path& file,
                                               std::span<const std::string> overrides, Require require);

/// Refuses what the configuration language has and this version of the program does not do yet. Local.
/// \throws Error{configuration} naming the first such key and where it was given.
void check_supported(const Configuration& config);

enum class PathForm { as_given, absolute };
/// Every key that has a value, defaults included, in the order of the documentation. Local, deterministic.
[[nodiscard]] nlohmann::ordered_json resolved_json(const Configuration& config, PathForm form = PathForm::absolute);
/// The same as YAML with a word on every key; parsing it gives the same configuration from any folder. Local.
[[nodiscard]] std::string resolved_yaml(const Configuration& config);

/// SHA-256 over every resolved key (paths absolute) except `output`, `checkpoint` and `watchdog`. Local.
[[nodiscard]] std::string configuration_hash(const Configuration& config);

/// The same over what the captured features and the curves depend on: jobs with the same one can share them. Local.
[[nodiscard]] std::string first_stages_hash(const Configuration& config);

/// A key in which two configurations differ, and both values as text ("not set" where there is none).
struct Difference {
  std::string key, there, here;
  /// "differs in KEY: A there, B here". Local.
  [[nodiscard]] std::string sentence() const;
};
/// The first key, in the order of the documentation, that counts in the hash and differs between a resolved
/// configuration read back (`there`, from a manifest) and this one. Local.
[[nodiscard]] std::optional<Difference> first_difference(const nlohmann::json& there, const Configuration& here);

/// Every key with what it accepts, its default and a word on it, as a Markdown table: the README's. Local.
[[nodiscard]] std::string configuration_reference();

} // namespace slr::run
