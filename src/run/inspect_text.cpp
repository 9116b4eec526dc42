#include "inspect_parts.hpp"

#include "slr/run/json_text.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace slr::run {
namespace {

constexpr std::size_t cell_limit = 60;

/// Characters, not bytes: names may hold any UTF-8.
std::size_t width(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80; }));
}

} // namespace

std::string fact(const std::string& label, const std::string& value) {
  return fmt::format("  {:<16}{}\n", printable(label), printable(value));
}

std::string counted(std::int64_t count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

std::string figure(double value) {
  return fmt::format("{:.6g}", value);
}

void TextTable::add(std::vector<std::string> row) {
  row.resize(rows_.front().size());
  for (auto& cell : row) cell = printable(cell.empty() ? "-" : cell, cell_limit);
  rows_.push_back(std::move(row));
}

std::string TextTable::text() const {
  const auto& heading = rows_.front();
  std::vector<std::size_t> widths(heading.size(), 0);
  std::vector<bool> is_number(heading.size(), rows_.size() > 1);
  for (const auto& row : rows_)
    for (std::size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], width(row[i]));
      const bool is_figure = row[i].find_first_of("0123456789+-") == 0;
      if (&row != &heading && !is_figure) is_number[i] = false;
    }
  is_number[0] = false; // names, even those that begin with a digit
  std::string text;
  for (const auto& row : rows_) {
    std::string line = " ";
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string space(widths[i] - width(row[i]), ' ');
      line += (i == 0 ? " " : "  ") + (is_number[i] ? space + row[i] : row[i] + space);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

} // namespace slr::run
