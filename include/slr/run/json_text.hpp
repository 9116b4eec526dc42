#pragma once
/// \file
/// Text that is safe to show and to store: JSON files, and names that come from input files.
#include <cstddef>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace slr::run {

/// The text on one line of at most `limit` bytes (at least 4): control characters (line ends, terminal escapes) become
/// '?', bytes that are not UTF-8 too, and a longer text ends in "...". Local.
[[nodiscard]] std::string printable(std::string_view text, std::size_t limit = 2000);
[[nodiscard]] bool is_utf8(std::string_view text);

/// Indented JSON with a line end, the same bytes for the same value. Numbers round-trip. Local.
[[nodiscard]] std::string json_text(const nlohmann::ordered_json& value);
/// The text as JSON; `what` names it in messages. Local. \throws Error{bad_data} if it is none or nested more than 64
/// levels deep.
[[nodiscard]] nlohmann::ordered_json parse_json(const std::string& text, const std::string& what);
/// The file likewise. Local. \throws Error{io} if it cannot be read, Error{bad_data} also above 64 MB.
[[nodiscard]] nlohmann::ordered_json read_json(const std::filesystem::path& file);

} // namespace slr::run
