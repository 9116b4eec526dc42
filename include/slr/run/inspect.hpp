#pragma once
/// \file
/// The work of `slr_inspect`: what is in a file or folder, and whether it still is what it claims to be.
#include "slr/base/error.hpp"
#include "slr/mpi/communicator.hpp"
#include "slr/run/command_line.hpp"

namespace slr::run {

/// Describes `options.file` on standard output: an ONNX model, packed images, a feature shard, a folder of shards or
/// their joint view, factors, a manifest, a report, or the output folder of a run. What it is follows from its content,
/// not from its name. Collective; only the root reads and prints.
///
/// With `verify`, moreover:
/// - a model is folded, the dimensions of its values are inferred, and its weights are finite;
/// - images, shards and factors are read to the last byte: checksums, finiteness, sizes that fit together;
/// - a run (its folder, manifest, report or factors) is held against its manifest and its report: SHA-256 of inputs,
///   shards and outputs, the counts of the compressed network, and the errors of every layer, computed anew from
///   shards and factors alone (run/layer_errors.hpp).
///
/// Everything is printed before the first difference, or their number, is thrown. Memory: one layer's factors and a few
/// megabytes of samples; for a model its weights. Time of verifying a run: one pass over all its files, and
/// 2 samples (r (n + k) + n kept) flops per layer.
/// \throws Error{bad_data} in one sentence if the content is none of these, is damaged or differs; Error{io}.
[[nodiscard]] ExitCode run_inspect(const Communicator& comm, const InspectOptions& options);

} // namespace slr::run
