#include "slr/base/grouping.hpp"

namespace slr {

std::string to_text(Grouping grouping) {
  switch (grouping) {
  case Grouping::channel:
    return "channel";
  case Grouping::column:
    return "column";
  case Grouping::filter:
    return "filter";
  }
  return "channel";
}

std::optional<Grouping> grouping_from_text(const std::string& word) {
  for (const auto grouping : {Grouping::channel, Grouping::column, Grouping::filter})
    if (word == to_text(grouping)) return grouping;
  return std::nullopt;
}

} // namespace slr
