#pragma once
/// \file
/// Results are read back before they get their names.
#include "slr/run/output_folder.hpp"
#include "slr/run/sweep.hpp"

namespace slr::run {

/// Reads every layer's factors back (every checksum), and recomputes its error on the held-out images from them and the
/// shards; layers are dealt to the ranks. Collective. \throws Error{io} naming the layer if a file is not what was
/// solved.
void verify_factors(const Communicator& comm, const SweepResult& result, const store::FeatureSet& features,
                    const std::filesystem::path& factors);

/// The same for a result with a network, whose inputs were written below `files`; and compressed.onnx can be read, is
/// whole, and has the parameters of the result. Collective. \throws Error{io}
void verify_outputs(const Communicator& comm, const Network& network, const SweepResult& result,
                    const OutputFiles& files, const OutputFiles& unverified);

/// Gives all files their names, the report last. Local. \throws Error{io}
void publish(const OutputFiles& unverified, const OutputFiles& files);

} // namespace slr::run
