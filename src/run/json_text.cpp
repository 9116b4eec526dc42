#include "slr/run/json_text.hpp"

#include "slr/base/error.hpp"
#include "slr/base/file.hpp"

namespace slr::run {
namespace {

/// Length of the UTF-8 character at the beginning of the text, 0 if there is none.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(0);
  const std::size_t length = first < 0x80   ? 1
                             : first < 0xC2 ? 0
                             : first < 0xE0 ? 2
                             : first < 0xF0 ? 3
                             : first < 0xF5 ? 4
                                            : 0;
  if (length == 0 || length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xC0U) != 0x80) return 0;
  // Overlong forms, surrogates and what lies above U+10FFFF show in the second byte.
  if ((first == 0xE0 && byte(1) < 0xA0) || (first == 0xED && byte(1) > 0x9F) || (first == 0xF0 && byte(1) < 0x90) ||
      (first == 0xF4 && byte(1) > 0x8F))
    return 0;
  return length;
}

/// C0 and C1 controls: what a terminal may obey.
bool is_control(std::string_view character) {
  const auto first = static_cast<unsigned char>(character[0]);
  return first < 0x20 || first == 0x7F || (first == 0xC2 && static_cast<unsigned char>(character[1]) < 0xA0);
}

constexpr std::size_t json_bytes_limit = 64'000'000;
constexpr int json_depth_limit = 64; // copies and texts are made by functions that call themselves

} // namespace

bool is_utf8(std::string_view text) {
  for (std::size_t length = 0; !text.empty(); text.remove_prefix(length))
    if ((length = utf8_length(text)) == 0) return false;
  return true;
}

std::string printable(std::string_view text, std::size_t limit) {
  std::string result;
  std::size_t fits = 0; // what can stay when "..." has to follow
  while (!text.empty()) {
    const auto length = utf8_length(text);
    const auto character = length == 0 || is_control(text.substr(0, length)) ? "?" : text.substr(0, length);
    if (result.size() + 3 <= limit) fits = result.size();
    if (result.size() + character.size() > limit) return result.substr(0, fits) + "...";
    result += character;
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return result;
}

std::string json_text(const nlohmann::ordered_json& value) {
  return value.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

nlohmann::ordered_json parse_json(const std::string& text, const std::string& what) {
  const auto bound = [&](int depth, nlohmann::ordered_json::parse_event_t, nlohmann::ordered_json&) {
    if (depth > json_depth_limit)
      throw Error(ExitCode::bad_data, what + " nests its values too deeply to be a file of slr_compress");
    return true;
  };
  try {
    return nlohmann::ordered_json::parse(text, bound);
  } catch (const nlohmann::json::exception& exception) {
    throw Error(ExitCode::bad_data, what + " is not valid JSON: " + printable(exception.what(), 300));
  }
}

nlohmann::ordered_json read_json(const std::filesystem::path& file) {
  return parse_json(read_file(file, json_bytes_limit), file.string());
}

} // namespace slr::run
