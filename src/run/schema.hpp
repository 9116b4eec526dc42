#pragma once
/// \file
/// The one description of the configuration language: every key with its kind, its place in `Configuration` and a word
/// on it. Defaults are those of the struct.
#include "value_kinds.hpp"

namespace slr::run {

struct Field {
  std::string key;      ///< dotted
  std::string expected; ///< words
  std::string doc;      ///< one line
  std::function<void(const Tree&, Configuration&)> read;
  std::function<Json(const Configuration&, PathForm)> write; ///< null: no value
  bool is_hashed = true;
  bool is_shorthand = false; ///< a plain value in the place of the section means this key
};

/// In the order of the documentation. Built once.
[[nodiscard]] const std::vector<Field>& schema();

/// Reads what the tree gives into the configuration and returns the fields given, in the tree's order. Local.
/// \throws Error{configuration}: a key that is not in the schema, with the nearest that is; a refused value.
std::vector<const Field*> apply(const Tree& tree, Configuration& config);

/// Puts `value` at the dotted key of the tree, making mappings on the way (of a plain value in the place of a section:
/// the mapping that it stands for). Whether the key is known is seen when the tree is applied. Local.
void set_at(Tree& root, const std::string& dotted_key, Tree value);

/// Writes the value at the dotted key of a nested object. Local.
void put(Json& root, const std::string& dotted_key, Json value);

} // namespace slr::run
