#pragma once
/// \file
/// ONNX files.
#include "slr/graph/model.hpp"

#include <filesystem>
#include <string_view>

namespace slr::graph {

/// Reads and checks a model: sizes before they are allocated, types, missing inputs, cycles, duplicate names; external
/// data only inside the model's folder. Local.
/// \throws Error{io} if the file cannot be read, Error{bad_data} with one sentence naming the file, node and defect.
[[nodiscard]] Model read_model(const std::filesystem::path& file);

/// The same from bytes in memory; `folder` is where external data may lie, `what` names the model in messages. Local.
[[nodiscard]] Model parse_model(std::string_view bytes, const std::filesystem::path& folder, const std::string& what);

/// The file's bytes, deterministic for equal models (stable order, no time stamps). Local. \throws Error{bad_data} above 2 GB.
[[nodiscard]] std::string serialize_model(const Model& model);

/// Written beside its final name and renamed; above 2 GB the weights go to `FILE.data` as external data. Local.
void write_model(const Model& model, const std::filesystem::path& file);

} // namespace slr::graph
