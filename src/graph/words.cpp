#include "words.hpp"

namespace slr::graph {

std::string in_quotes(std::string_view name) {
  constexpr std::size_t longest = 80;
  std::string text = "'";
  for (const char c : name.substr(0, longest)) {
    const auto byte = static_cast<unsigned char>(c);
    text += byte < 0x20 || byte == 0x7f ? '?' : c;
  }
  if (name.size() > longest) text += "...";
  return text + "'";
}

std::string words_for(const Node& node) {
  return "node " + in_quotes(node.name) + " (" + in_quotes(node.op) + ")";
}

std::string words_for(const Dims& dims) {
  std::string text;
  for (const auto dim : dims) text += (text.empty() ? "" : "x") + std::to_string(dim);
  return text.empty() ? "scalar" : text;
}

} // namespace slr::graph
