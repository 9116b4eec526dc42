#pragma once
/// \file
/// A YAML text as a small tree that knows where each value stands, read with bounds.
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace slr::run {

/// A text that values come from: a file, or one `--set`.
struct Source {
  std::string name;             ///< in messages
  std::filesystem::path folder; ///< relative paths start here
  bool has_lines = true;
};

struct Place {
  std::shared_ptr<const Source> source;
  int line = 0; ///< from 1
  /// "vgg.yaml, line 12", or "--set a.b=value".
  [[nodiscard]] std::string words() const;
};

/// Throws Error{configuration}: the place, then the sentence.
[[noreturn]] void refuse(const Place& place, const std::string& sentence);

struct Tree {
  enum class Kind { null, scalar, sequence, mapping };
  struct Entry;

  Kind kind = Kind::null;
  std::string text;      ///< of a scalar
  bool is_plain = false; ///< a scalar without quotes
  Place place;           ///< in a mapping: of the key
  std::vector<Tree> items;
  std::vector<Entry> entries; ///< in the order of the text, no key twice

  [[nodiscard]] Tree* find(std::string_view key);
  [[nodiscard]] const Tree* find(std::string_view key) const;
};
struct Tree::Entry {
  std::string key;
  Tree value;
};

/// `"text"` shortened, "a list", "a mapping" or "nothing": the value in a message.
[[nodiscard]] std::string words_for(const Tree& tree);

inline constexpr std::size_t yaml_bytes_limit = 1'000'000;
inline constexpr std::size_t yaml_depth_limit = 32;
inline constexpr std::size_t yaml_values_limit = 10'000;
/// YAML takes no longer ones back that were written with escapes: 1,024 bytes.
inline constexpr std::size_t yaml_key_limit = 500;

/// The only document of the text (null if it is empty). Local.
/// \throws Error{configuration} naming the line: no YAML, a key twice, an anchor or alias, a tag, more than one
/// document,
///         a limit exceeded, not UTF-8.
[[nodiscard]] Tree parse_yaml(const std::string& text, std::shared_ptr<const Source> source);

} // namespace slr::run
