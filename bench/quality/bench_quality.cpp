// What a network loses by this program and by its peers, at equal stored numbers per layer and on the same shards.
//
//   mpirun -n 2 bench_quality NAME FILE.csv CONFIG.yaml [--set KEY=VALUE]...
//
// Runs the job of the configuration (constrained), then every peer: the layers in order, each on the inputs that the
// layers replaced before it deliver, with at most the parameters that ours has in that layer; then the relaxed method
// within the same total, whose runs are by far the longest. Appends to FILE.csv a row per layer and one for the network
// (layer *), and to FILE.csv.differences the KL divergence and top-1 of each method minus ours on the same images, with
// the 95 % interval of a paired bootstrap.
#include "peers.hpp"
#include "slr/base/file.hpp"
#include "slr/graph/count.hpp"
#include "slr/infer/metrics.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/run/compressed_layer.hpp"
#include "slr/run/job.hpp"
#include "slr/run/json_text.hpp"
#include "slr/run/output_folder.hpp"
#include "slr/run/program.hpp"
#include "slr/run/solver_options.hpp"
#include "slr/run/sweep.hpp"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iostream>
#include <random>
#include <sstream>

namespace {

using namespace slr;
using namespace slr::run;
using namespace slr_bench;
namespace fs = std::filesystem;

struct Options : CommonOptions {
  std::string network, csv;
  CompressOptions job;
};

Options parse(Arguments arguments) {
  Options options;
  if (arguments.size() < 3) throw Error(ExitCode::usage, "expected NAME FILE.csv CONFIG.yaml [--set KEY=VALUE]...");
  options.network = arguments[0];
  options.csv = arguments[1];
  options.job = parse_compress(arguments.subspan(2));
  return options;
}

struct LayerRow {
  std::string name;
  std::int64_t parameters = 0, macs = 0;
  double error_heldout = 0, seconds = 0;
};

/// One method on one network.
struct Outcome {
  std::string method;
  std::vector<LayerRow> layers;
  graph::Counts counts;
  double seconds = 0;
  std::vector<double> kl, hit; ///< per validation image, on the root
};

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += v;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

/// KL divergence from the original and top-1, image by image. Collective; the root has all.
void judge(const Communicator& comm, const Network& original, const graph::Model& model, const ImageFeed& feed,
           Outcome& outcome) {
  constexpr std::int64_t at_once = 64;
  const auto share = share_of_rank(comm, feed.size());
  std::vector<double> kl, hit;
  collectively(comm, [&] {
    infer::Executor before(original.model), after(model);
    const auto logits = infer::logits_value(model);
    for (std::int64_t done = 0; done < share.count; done += at_once) {
      const auto batch = feed.read(share.first + done, std::min(at_once, share.count - done));
      const auto now = after.run_one(original.input, batch.input, logits);
      const auto comparison = infer::compare(before.run_one(original.input, batch.input, original.logits), now);
      const auto hits = infer::hits(now, batch.labels);
      kl.insert(kl.end(), comparison.kl.begin(), comparison.kl.end());
      hit.insert(hit.end(), hits.top1.begin(), hits.top1.end());
    }
  });
  outcome.kl = comm.gather(std::span<const double>(kl));
  outcome.hit = comm.gather(std::span<const double>(hit));
}

/// MACs of a layer in the cheapest form of its structure, for one image.
std::int64_t macs_of(const Network& network, const LayerCosts& costs, const std::string& name, Split split) {
  for (std::size_t i = 0; i < network.layers.size(); ++i)
    if (network.layers[i].name == name) return costs.of(i, split)[static_cast<std::size_t>(Resource::macs)];
  throw Error(ExitCode::bad_data, "the network has no layer " + name);
}

/// What a finished run of slr_compress says. Collective.
Outcome outcome_of_run(const Communicator& comm, const std::string& method, const Network& original,
                       const OutputFiles& files, const ImageFeed& validation) {
  std::string text;
  on_root(comm, [&] { text = read_file(files.report()); });
  const auto report = nlohmann::json::parse(comm.broadcast_text(text));
  const LayerCosts costs(original);
  Outcome outcome;
  outcome.method = method;
  for (const auto& layer : report.at("layers"))
    if (!layer.at("error_heldout").is_null())
      outcome.layers.push_back({layer.at("name"), layer.at("parameters_after"),
                                macs_of(original, costs, layer.at("name"), {layer.at("kept_groups"), layer.at("rank")}),
                                layer.at("error_heldout"), layer.at("seconds")});
  outcome.seconds = report.at("run").at("seconds");
  const auto compressed = load_network(comm, files.compressed());
  outcome.counts = graph::count(compressed.model);
  judge(comm, original, compressed.model, validation, outcome);
  return outcome;
}

/// The largest number in [0, most] whose cost fits.
template <class CostOf>
std::int64_t largest_within(std::int64_t most, std::int64_t allowance, CostOf&& cost) {
  while (most > 0 && cost(most) > allowance) --most;
  return most;
}

/// One peer over the whole network, on the layers that ours replaced and with their numbers of parameters. Collective.
Outcome run_peer(const Communicator& comm, const Peer& peer, const Network& network, const Outcome& ours,
                 const store::FeatureSet& features, const ImageFeed& calibration, const ImageFeed& validation,
                 const Configuration& config) {
  const auto row_grid = ProcessGrid::row(comm);
  const auto share = share_of_rank(comm, config.calibration.images);
  const infer::Sampling sampling{static_cast<std::uint64_t>(config.calibration.seed), config.calibration.positions};
  const LayerCosts costs(network);
  Outcome outcome;
  outcome.method = peer.name;
  auto model = network.model;
  const auto place = scratch_place(comm, config);
  auto frontier = collectively(comm, [&] { return Frontier(network, calibration, share, place); });
  for (const auto& layer : network.layers) {
    const auto as_ours = std::find_if(ours.layers.begin(), ours.layers.end(),
                                      [&](const LayerRow& row) { return row.name == layer.name; });
    if (as_ours == ours.layers.end()) continue; // dense in ours
    const double start = now_seconds();
    const auto inputs = collectively(comm, [&] { return frontier.inputs_of(model, layer.name, sampling); });
    const auto [problem, scale] = prepare_problem(comm, network, layer, features, share, inputs);
    const auto statistics = measure_statistics(comm, row_grid, problem);
    const auto cost = [&](std::int64_t target_rank, std::int64_t groups) {
      return graph::cheapest_form(layer, target_rank, groups).parameters;
    };
    PeerTask task{comm, problem, scale, statistics, 0, 0, constrained_options(config)};
    task.target_rank = std::max<std::int64_t>(
        1, largest_within(std::min(layer.rows, layer.cols), as_ours->parameters, [&](auto r) { return cost(r, 0); }));
    task.groups = std::max<std::int64_t>(
        1, largest_within(problem.groups() - 1, as_ours->parameters, [&](auto g) { return cost(0, g); }));
    const auto factors = peer.solve(task);
    const double error = relative_error(comm, problem, problem.report, factors);
    const auto now = graph::find_layers(model);
    const auto here = std::find_if(now.begin(), now.end(), [&](const auto& l) { return l.name == layer.name; });
    require(here != now.end(), "layer " + layer.name + " disappeared from the network");
    (void)graph::replace_layer(model, *here, compressed_layer(factors, layer));
    const auto exported = graph::cheapest_form(layer, factors.numerical_rank, factors.kept_groups);
    const Split split{std::ssize(factors.kept_groups), factors.numerical_rank};
    outcome.layers.push_back(
        {layer.name, exported.parameters, macs_of(network, costs, layer.name, split), error, now_seconds() - start});
    outcome.seconds += outcome.layers.back().seconds;
  }
  outcome.counts = graph::count(model);
  judge(comm, network, model, validation, outcome);
  return outcome;
}

/// Mean of the differences and the 95 % interval of 2000 resamplings of the images.
struct Interval {
  double mean = 0, low = 0, high = 0;
};
Interval bootstrap(const std::vector<double>& theirs, const std::vector<double>& ours) {
  constexpr std::size_t resamplings = 2000;
  std::vector<double> difference(ours.size());
  for (std::size_t i = 0; i < ours.size(); ++i) difference[i] = theirs[i] - ours[i];
  std::mt19937_64 random(1);
  std::vector<double> means;
  for (std::size_t b = 0; b < resamplings && !ours.empty(); ++b) {
    double sum = 0;
    for (std::size_t i = 0; i < ours.size(); ++i) sum += difference[random() % ours.size()];
    means.push_back(sum / static_cast<double>(ours.size()));
  }
  if (means.empty()) return {};
  std::sort(means.begin(), means.end());
  return {mean(difference), means[resamplings / 40], means[resamplings - 1 - resamplings / 40]};
}

void append(const fs::path& file, const std::string& heading, const std::string& lines) {
  const bool is_new = !fs::exists(file);
  std::ofstream out(file, std::ios::app);
  out << (is_new ? heading + "\n" : "") << lines;
  if (!out.flush()) throw Error(ExitCode::io, "cannot write " + file.string());
  std::cout << lines << std::flush;
}

void write(const Options& options, const Outcome& outcome, const Outcome& ours) {
  std::ostringstream rows, difference;
  const auto begin = options.network + ",";
  for (const auto& layer : outcome.layers)
    rows << begin << layer.name << ',' << outcome.method << ',' << layer.parameters << ',' << layer.macs << ','
         << layer.error_heldout << ",,," << layer.seconds << '\n';
  rows << begin << "*," << outcome.method << ',' << outcome.counts.parameters << ',' << outcome.counts.macs << ",,"
       << mean(outcome.kl) << ',' << mean(outcome.hit) << ',' << outcome.seconds << '\n';
  append(options.csv, "network,layer,method,parameters,macs,error_heldout,kl,top1,seconds", rows.str());
  if (&outcome == &ours) return;
  const auto kl = bootstrap(outcome.kl, ours.kl), hit = bootstrap(outcome.hit, ours.hit);
  difference << begin << outcome.method << ',' << kl.mean << ',' << kl.low << ',' << kl.high << ',' << hit.mean << ','
             << hit.low << ',' << hit.high << '\n';
  append(options.csv + ".differences", "network,method,kl,kl_low,kl_high,top1,top1_low,top1_high", difference.str());
}

ExitCode work(const Communicator& comm, const Options& options) {
  (void)run_compress(comm, options.job);
  const auto config =
      load_configuration(comm, options.job.config, options.job.overrides, required_by_compress | required_by_evaluate);
  const OutputFiles files{config.output.absolute};
  const auto network = load_network(comm, config.model.absolute);
  const auto open = [&](const store::ImageSource& source) {
    return collectively(comm, [&] { return ImageFeed(source, config.data.preprocess, network); });
  };
  auto calibration_source = image_source(config.data.calibration);
  if (fs::exists(files.calibration())) { // packed by the job
    calibration_source = {};
    calibration_source.images = files.calibration();
  }
  const auto calibration = open(calibration_source), validation = open(image_source(config.data.validation));
  if (!validation.has_labels()) throw Error(ExitCode::configuration, "data.validation has no labels");
  const auto features = store::FeatureSet::open(comm, files.features().string());

  const auto ours = outcome_of_run(comm, "constrained", network, files, validation);
  const auto show = [&](const Outcome& outcome) { on_root(comm, [&] { write(options, outcome, ours); }); };
  show(ours);
  for (const auto& peer : peers()) show(run_peer(comm, peer, network, ours, features, calibration, validation, config));
  auto relaxed_job = options.job;
  const auto relaxed_output = config.output.absolute.string() + "-relaxed";
  for (const auto* set : {"method.kind=relaxed", "method.iterations="}) relaxed_job.overrides.emplace_back(set);
  relaxed_job.overrides.push_back("output=" + relaxed_output);
  (void)run_compress(comm, relaxed_job);
  show(outcome_of_run(comm, "relaxed", network, {relaxed_output}, validation));
  return ExitCode::done;
}

} // namespace

int main(int argc, char** argv) {
  return run_program(argc, argv, {"bench_quality", MPI_COMM_WORLD}, parse, work);
}
