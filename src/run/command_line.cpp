#include "slr/run/command_line.hpp"

#include "slr/base/error.hpp"
#include "slr/base/text.hpp"
#include "slr/run/json_text.hpp"

#include <boost/program_options.hpp>

#include <charconv>
#include <cmath>
#include <limits>
#include <sstream>

namespace slr::run {
namespace {

namespace po = boost::program_options;

/// What `--help` says about a program besides its options.
struct Program {
  const char* name;
  const char* positional; ///< "CONFIG.yaml", "" if there is none
  const char* summary;
  const char* examples;
};

constexpr std::int64_t unbounded = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t pixels = 1 << 16; ///< the longest side of an image

constexpr const char* exit_codes = R"(Exit codes:
  0 done   2 finished, but a target was missed   3 numerical failure   64 usage
  65 bad input data   70 a bug   74 reading or writing failed
  75 stopped at a checkpoint: run again   78 configuration invalid
)";

/// One command line: options are declared with the variable that they fill, then the arguments are parsed.
class CommandLine {
public:
  explicit CommandLine(const Program& program) : program_(program) {
    flag("help", help_, "print this and stop");
    flag("version", version_, "print the version and stop");
  }

  void flag(const std::string& name, bool& value, const char* doc) {
    options_.add_options()(name.c_str(), po::bool_switch(&value), doc);
  }
  void text(const std::string& name, std::string& value, const char* placeholder, const char* doc) {
    options_.add_options()(name.c_str(), po::value(&value)->value_name(placeholder), doc);
  }
  void overrides(std::vector<std::string>& values) {
    options_.add_options()("set", po::value(&values)->composing()->value_name("KEY=VALUE"),
                           "override a key of the configuration, e.g. budget.parameters=4.9; the value is YAML, paths "
                           "are relative to the current folder; may be repeated");
  }
  void integer(const std::string& name, std::int64_t low, std::int64_t high, std::optional<std::int64_t>& value,
               const char* doc) {
    const auto check = [=, this, &value](const std::string& word) {
      std::int64_t number = 0;
      const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
      if (error != std::errc{} || end != word.data() + word.size() || number < low || number > high)
        fail("--" + name + " is " + printable(word, 60) + ", expected an integer from " + std::to_string(low) +
             (high == unbounded ? " up" : " to " + std::to_string(high)));
      value = number;
    };
    options_.add_options()(name.c_str(), po::value<std::string>()->value_name("N")->notifier(check), doc);
  }
  void positive(const std::string& name, std::optional<double>& value, const char* doc) {
    const auto check = [=, this, &value](const std::string& word) {
      double number = 0;
      const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
      if (error != std::errc{} || end != word.data() + word.size() || !(number > 0) || !std::isfinite(number))
        fail("--" + name + " is " + printable(word, 60) + ", expected a number > 0");
      value = number;
    };
    options_.add_options()(name.c_str(), po::value<std::string>()->value_name("X")->notifier(check), doc);
  }
  void positional(std::string& value) { hidden_.add_options()("positional", po::value(&value)); }

  /// True if there is work to do; otherwise `common.text` is what to print.
  [[nodiscard]] bool parse(Arguments arguments, CommonOptions& common) {
    po::options_description all;
    all.add(options_).add(hidden_);
    po::positional_options_description places;
    if (*program_.positional) places.add("positional", 1);
    using namespace po::command_line_style;
    constexpr int style = unix_style & ~allow_guessing; // abbreviations would hide a slip
    const std::vector<std::string> words(arguments.begin(), arguments.end());
    try {
      po::variables_map values;
      po::store(po::command_line_parser(words).options(all).positional(places).style(style).run(), values);
      po::notify(values);
    } catch (const po::unknown_option& unknown) {
      refuse_unknown(unknown.get_option_name());
    } catch (const po::too_many_positional_options_error&) {
      const auto parsed = po::command_line_parser(words).options(all).style(style).run();
      const auto at_no_option = po::collect_unrecognized(parsed.options, po::include_positional);
      fail((*program_.positional ? std::string("more than one ") + program_.positional
                                 : std::string("an argument that belongs to no option")) +
           ": " + at_no_option.back());
    } catch (const po::error& problem) {
      fail(problem.what());
    }
    if (version_) common.text = std::string(program_.name) + " " SLR_VERSION "\n";
    if (help_) common.text = help();
    return common.text.empty();
  }

  [[noreturn]] void fail(const std::string& sentence) const {
    throw Error(ExitCode::usage, printable(sentence, 300) + "; see " + program_.name + " --help");
  }

private:
  [[noreturn]] void refuse_unknown(const std::string& option) const {
    std::vector<std::string> names;
    for (const auto& each : options_.options()) names.push_back("--" + each->long_name());
    const auto near = nearest_name(option.substr(0, option.find('=')), names);
    fail("unknown option " + option + (near.empty() ? "" : "; did you mean " + near + "?"));
  }

  [[nodiscard]] std::string help() const {
    std::ostringstream out;
    out << "Usage: " << program_.name << (*program_.positional ? " " : "") << program_.positional << " [OPTION]...\n"
        << program_.summary << "\n\nOptions:\n";
    options_.print(out);
    out << "\nExamples:\n" << program_.examples << "\n" << exit_codes;
    return out.str();
  }

  const Program& program_;
  po::options_description options_{100, 60};
  po::options_description hidden_;
  bool help_ = false, version_ = false;
};

constexpr Program compress{
    "slr_compress", "CONFIG.yaml",
    "Compresses a trained neural network (ONNX) as CONFIG.yaml says: captures feature maps, solves every\n"
    "layer, writes the smaller network and a report. Runs alone or under mpirun or srun with any number of\n"
    "ranks. Started again, it resumes an unfinished run, or prints the report of a finished one.",
    "  mpirun -n 4 slr_compress configs/fashion_mnist.yaml\n"
    "  slr_compress vgg.yaml --set budget.parameters=4.9 --set output=run/vgg-4.9\n"
    "  slr_compress vgg.yaml --print-config\n"};
constexpr Program calibrate{
    "slr_calibrate", "CONFIG.yaml",
    "Only the first stage of slr_compress: captures the feature maps that the layers are fitted on.",
    "  mpirun -n 4 slr_calibrate vgg.yaml\n"};
constexpr Program evaluate{
    "slr_evaluate", "CONFIG.yaml",
    "Measures a network on data.validation of CONFIG.yaml: top-1 and top-5, and against a reference network\n"
    "the KL divergence and the agreement.",
    "  slr_evaluate vgg.yaml\n"
    "  mpirun -n 4 slr_evaluate vgg.yaml --model run/vgg/compressed.onnx --reference vgg.onnx --json accuracy.json\n"};
constexpr Program pack{
    "slr_pack", "",
    "Packs images into an HDF5 file: a folder of JPEG/PNG (with --list), idx or idx.gz, or CIFAR-10 binary.",
    "  slr_pack --images photos/ --list photos.txt --resize 256 --crop 224 --output photos.h5\n"
    "  slr_pack --images t10k-images-idx3-ubyte.gz --labels t10k-labels-idx1-ubyte.gz --output t10k.h5\n"};
constexpr Program inspect{
    "slr_inspect", "FILE",
    "Tells what is in a model, packed images, a feature shard, factors, a checkpoint or a manifest.",
    "  slr_inspect run/vgg/compressed.onnx\n"
    "  slr_inspect run/vgg/factors.h5 --verify\n"};

} // namespace

CompressOptions parse_compress(Arguments arguments) {
  CompressOptions o;
  CommandLine line(compress);
  line.positional(o.config);
  line.overrides(o.overrides);
  line.flag("plan", o.plan, "print structures, cost, time and memory per rank as far as they are known, and stop");
  line.integer("ranks", 1, unbounded, o.plan_ranks, "with --plan: for so many ranks instead of those it runs on");
  line.integer("ranks-per-node", 1, unbounded, o.plan_ranks_per_node, "with --plan: so many of them on a node");
  line.flag("resume", o.resume, "continue an unfinished run (also the default); without one, start");
  line.positive("max-hours", o.max_hours, "stop at a checkpoint (exit code 75) before so many hours are over");
  line.flag("fresh", o.fresh, "remove what this program wrote to the output folder and start anew");
  line.text("reproduce", o.reproduce, "MANIFEST", "repeat the run of a manifest.json and compare the results' hashes");
  line.flag("print-config", o.print_config, "print the complete configuration and stop");
  line.text("trace", o.trace, "FILE", "write a timeline of all ranks, in the Chrome trace format");
  if (!line.parse(arguments, o)) return o;
  if (o.config.empty() == o.reproduce.empty())
    line.fail(o.config.empty() ? "CONFIG.yaml is missing" : "both CONFIG.yaml and --reproduce, which names its own");
  if (o.resume && o.fresh) line.fail("--resume and --fresh contradict each other");
  if (o.plan && o.print_config) line.fail("--plan and --print-config, expected one of them");
  return o;
}

CalibrateOptions parse_calibrate(Arguments arguments) {
  CalibrateOptions o;
  CommandLine line(calibrate);
  line.positional(o.config);
  line.overrides(o.overrides);
  line.flag("fresh", o.fresh, "remove what this program wrote to the output folder and start anew");
  if (line.parse(arguments, o) && o.config.empty()) line.fail("CONFIG.yaml is missing");
  return o;
}

EvaluateOptions parse_evaluate(Arguments arguments) {
  EvaluateOptions o;
  CommandLine line(evaluate);
  line.positional(o.config);
  line.overrides(o.overrides);
  line.text("model", o.model, "FILE", "the network to measure, instead of the configuration's model");
  line.text("reference", o.reference, "FILE", "the network to compare with");
  line.text("json", o.json, "FILE", "write the figures as JSON too");
  line.text("dump-inputs", o.dump_inputs, "FILE", "write the preprocessed inputs, raw float32");
  line.text("dump-logits", o.dump_logits, "FILE", "write the logits, raw float32");
  if (line.parse(arguments, o) && o.config.empty()) line.fail("CONFIG.yaml is missing");
  return o;
}

PackOptions parse_pack(Arguments arguments) {
  PackOptions o;
  std::optional<std::int64_t> first;
  CommandLine line(pack);
  line.text("images", o.images, "PATH", "a folder of JPEG/PNG, an idx(.gz) file, or a CIFAR-10 binary file");
  line.text("labels", o.labels, "FILE", "labels of an idx source, idx(.gz)");
  line.text("list", o.list, "FILE", "a line NAME LABEL per image of a folder; the order of the images");
  line.integer("first", 0, unbounded, first, "first image packed (0)");
  line.integer("count", 1, unbounded, o.count, "images packed (all)");
  line.integer("resize", 1, pixels, o.resize, "length of the short side in pixels");
  line.integer("crop", 1, pixels, o.crop, "side of the centre crop in pixels");
  line.flag("strict", o.strict, "refuse an image that cannot be read, instead of leaving it out with a warning");
  line.text("output", o.output, "FILE.h5", "the packed images");
  if (!line.parse(arguments, o)) return o;
  o.first = first.value_or(0);
  if (o.images.empty()) line.fail("--images is missing");
  if (o.output.empty()) line.fail("--output is missing");
  if (!o.labels.empty() && !o.list.empty()) line.fail("both --labels and --list, expected one of them");
  if (o.resize && o.crop && *o.crop > *o.resize) line.fail("--crop is larger than --resize");
  return o;
}

InspectOptions parse_inspect(Arguments arguments) {
  InspectOptions o;
  CommandLine line(inspect);
  line.positional(o.file);
  line.flag("verify", o.verify, "recompute checksums and layer errors");
  if (line.parse(arguments, o) && o.file.empty()) line.fail("FILE is missing");
  return o;
}

} // namespace slr::run
