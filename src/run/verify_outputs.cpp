#include "slr/run/verify_outputs.hpp"

#include "layer_errors.hpp"
#include "slr/base/file.hpp"
#include "slr/graph/count.hpp"
#include "slr/graph/onnx_file.hpp"
#include "slr/graph/rewrite.hpp"
#include "slr/mpi/agree.hpp"

#include <algorithm>
#include <cmath>

namespace slr::run {
namespace {

Error wrong(const std::filesystem::path& file, const std::string& what) {
  return Error(ExitCode::io, file.string() + " was written, but read back " + what +
                                 ": look at the disk, then run the same command again");
}

/// Wide enough for the few samples of a small job: a file that is wrong is wrong by far.
bool is_close(double a, double b) {
  constexpr double relative = 0.02, absolute = 1e-6;
  return std::abs(a - b) <= relative * std::max(a, b) + absolute;
}

/// What reading says about damage is here a failure of the writing.
template <class Check>
void reading_back(const std::filesystem::path& file, Check&& check) {
  try {
    check();
  } catch (const Error& error) {
    if (error.code() != ExitCode::bad_data) throw;
    throw wrong(file, std::string("it is damaged (") + error.what() + ")");
  }
}

} // namespace

void verify_factors(const Communicator& comm, const SweepResult& result, const store::FeatureSet& features,
                    const std::filesystem::path& factors) {
  collectively(comm, [&] {
    reading_back(factors, [&] {
      const store::FactorsReader reader(factors);
      int turn = 0;
      for (const auto& layer : result.layers) {
        if (!layer.is_compressed || turn++ % comm.size() != comm.rank()) continue;
        const auto errors = layer_errors(features, reader.read(layer.name), Judged::heldout);
        if (!is_close(errors.heldout, layer.error_heldout))
          throw wrong(factors, "layer " + layer.name + " has a held-out error of " + std::to_string(errors.heldout) +
                                   " instead of " + std::to_string(layer.error_heldout));
      }
    });
  });
}

void verify_outputs(const Communicator& comm, const Network& network, const SweepResult& result,
                    const OutputFiles& files, const OutputFiles& unverified) {
  on_root(comm, [&] {
    reading_back(unverified.compressed(), [&] {
      const auto model = graph::read_model(unverified.compressed());
      (void)graph::infer_shapes(graph::fold(model));
      if (graph::count(model).parameters != graph::count(result.model).parameters)
        throw wrong(unverified.compressed(), "it has another number of parameters");
    });
  });
  const auto features = store::FeatureSet::open(comm, files.features().string());
  if (features.model_sha256() != network.sha256) throw wrong(files.features(), "the shards are of another model");
  verify_factors(comm, result, features, unverified.factors());
}

void publish(const OutputFiles& unverified, const OutputFiles& files) {
  std::vector<std::filesystem::path> names;
  for (const auto& entry : std::filesystem::directory_iterator(unverified.folder))
    if (entry.path().filename() != unverified.report().filename()) names.push_back(entry.path().filename());
  names.push_back(unverified.report().filename());
  for (const auto& name : names) commit_file(unverified.folder / name, files.folder / name);
  std::filesystem::remove(unverified.folder);
}

} // namespace slr::run
