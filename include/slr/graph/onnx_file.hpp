#pragma once
/// \file
/// ONNX files.
#include "slr/graph/model.hpp"

#include <filesystem>
#include <string_view>
#include <vector>

namespace slr::graph {

/// Reads and checks a model: sizes before they are allocated, types, missing inputs, cycles, duplicate names; external
/// data only inside the model's folder. Operator sets 7 to 21; any operator is carried through, but no subgraphs (If,
/// Loop, Scan), functions, sparse tensors or element types other than those of ElementType. Nodes out of order are
/// sorted. Local. Memory: the weights once (numbers that are not raw at most at eight times their bytes), plus at most
/// about 0.5 GB of everything else: more than a million parts (messages, names) are refused before they are parsed.
/// \throws Error{io} if the file cannot be read, Error{bad_data} with one sentence naming the file, node and defect.
[[nodiscard]] Model read_model(const std::filesystem::path& file);

/// The same from bytes in memory; `folder` is where external data may lie, `what` names the model in messages. Local.
[[nodiscard]] Model parse_model(std::string_view bytes, const std::filesystem::path& folder, const std::string& what);

/// The files beside the model in which it keeps external data, each once, by name. Local. Cost: one pass over the file,
/// no memory for weights. \throws as read_model
[[nodiscard]] std::vector<std::filesystem::path> external_files(const std::filesystem::path& file);

/// The file's bytes, deterministic for equal models (stable order, no time stamps). Local. \throws Error{bad_data}
/// above 2 GB.
[[nodiscard]] std::string serialize_model(const Model& model);

/// What one protobuf message, thus one file with its weights inside, may hold.
inline constexpr std::size_t inline_limit_bytes = 2'000'000'000;

/// Written beside its final name and renamed; above `limit_bytes` (2 GB) the weights go to `FILE.data` as external
/// data, which is in place before the model that refers to it. Local. \throws Error{io}, Error{bad_data} as
/// serialize_model.
void write_model(const Model& model, const std::filesystem::path& file, std::size_t limit_bytes = inline_limit_bytes);

} // namespace slr::graph
