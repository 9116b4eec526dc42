#pragma once
/// \file
/// How messages name things of a network whose file is not trusted.
#include "slr/base/error.hpp"
#include "slr/graph/model.hpp"

#include <string>
#include <string_view>

namespace slr::graph {

/// 'name' with control characters replaced and at most 80 bytes: a hostile file cannot break the one line on stderr.
[[nodiscard]] std::string in_quotes(std::string_view name);

/// "node 'conv1' (Conv)".
[[nodiscard]] std::string words_for(const Node& node);

/// "2x3x4", "scalar" without dimensions.
[[nodiscard]] std::string words_for(const Dims& dims);

/// Error{bad_data} with the sentence.
[[nodiscard]] inline Error bad_data(const std::string& sentence) {
  return Error(ExitCode::bad_data, sentence);
}

/// Whether the node is that operator of ONNX itself, not one of the same name from another domain.
[[nodiscard]] inline bool is_op(const Node& node, std::string_view op) {
  return node.domain.empty() && node.op == op;
}

} // namespace slr::graph
