#pragma once
/// \file
/// Words for people: the nearest of some names, durations, byte counts.
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace slr {

/// The candidate with the smallest edit distance to `word`, empty if none is near (more than half of the word differs).
[[nodiscard]] std::string nearest_name(std::string_view word, std::span<const std::string> candidates);

/// "12 s", "3 min 05 s", "2 h 07 min".
[[nodiscard]] std::string words_for_seconds(double seconds);

/// "17 B", "1.2 kB", "34.5 MB", decimal prefixes.
[[nodiscard]] std::string words_for_bytes(double bytes);

/// Shell-style match: `*` any characters, `?` one.
[[nodiscard]] bool glob_match(std::string_view pattern, std::string_view text);

} // namespace slr
