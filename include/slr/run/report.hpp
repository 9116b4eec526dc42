#pragma once
/// \file
/// report.json, factors.h5 and manifest.json: what a job leaves behind beside the network.
#include "slr/base/hash.hpp"
#include "slr/base/trace.hpp"
#include "slr/run/evaluate.hpp"
#include "slr/run/output_folder.hpp"
#include "slr/run/refine_stage.hpp"
#include "slr/run/sweep.hpp"

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace slr::run {

/// Seconds per stage, in the order of the stages.
class StageClock {
public:
  /// Runs the stage and adds its wall-clock time.
  template <class Work>
  auto measure(const std::string& stage, Work&& work) {
    const Running running(*this, stage);
    const TraceSpan span(TraceKind::stage, stage);
    return std::forward<Work>(work)();
  }
  [[nodiscard]] nlohmann::ordered_json json() const;
  [[nodiscard]] double total_seconds() const;

private:
  struct Running {
    Running(StageClock& clock, std::string stage);
    ~Running();
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;
    StageClock& clock_;
    std::string stage_;
    double start_;
  };
  std::vector<std::pair<std::string, double>> stages_;
};

/// The whole of report.json, without `accuracy` where there is no network to judge. Collective (the peak memory is the
/// largest of all ranks).
[[nodiscard]] nlohmann::ordered_json make_report(const Communicator& comm, const Network& network,
                                                 const SweepResult& result, const std::optional<Accuracy>& accuracy,
                                                 const std::string& accuracy_on, const StageClock& clock,
                                                 const BudgetPoint& point, const Allotment& allotment);

/// report.json of a job with several results: a row per result, from their reports. Local.
[[nodiscard]] nlohmann::ordered_json make_summary(const std::vector<BudgetPoint>& points,
                                                  const std::vector<nlohmann::ordered_json>& reports);

/// factors.h5 with every compressed layer's factors and certificate, and what a refinement made of them (may be none).
/// Local, on one rank.
void write_factors(const SweepResult& result, const std::optional<RefineOutcome>& refined, const Network& network,
                   const std::string& config_hash, const std::filesystem::path& file);

/// The whole of manifest.json: resolved configuration, hashes of inputs, shards and outputs, versions of the libraries
/// that really ran, BLAS core type, ranks and seed. Local, on one rank.
[[nodiscard]] nlohmann::ordered_json make_manifest(const Communicator& comm, const Configuration& config,
                                                   const OutputFiles& files, const std::vector<BudgetPoint>& points,
                                                   FileHashes& hashes);

/// A manifest read back: `configuration`, `inputs` and `outputs` (SHA-256 by path) are objects, `mpi_ranks` is an
/// integer. Local. \throws Error{io}, Error{bad_data}
[[nodiscard]] nlohmann::ordered_json read_manifest(const std::filesystem::path& file);

/// SHA-256 of the files of a job that a repetition must give again, for the results of these names. Local.
[[nodiscard]] std::map<std::string, std::string>
output_hashes(const OutputFiles& files, const std::vector<std::string>& points, FileHashes& hashes);
/// SHA-256 of everything that a configuration reads, by path: model, image files, label and list files. Local.
[[nodiscard]] std::map<std::string, std::string> input_hashes(const Configuration& config, FileHashes& hashes);

} // namespace slr::run
