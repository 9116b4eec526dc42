#pragma once
// What an ONNX message consists of, found in its bytes before memory is spent on them.
#include <google/protobuf/io/coded_stream.h>

#include <cstdint>
#include <set>
#include <string>

namespace slr::graph {

struct PartSurvey {
  std::int64_t parts = 0;          ///< messages, repeated texts and unknown fields
  std::set<std::string> locations; ///< of external data, as the message writes them
};

/// Surveys the ModelProto that the stream holds, from here to its end; stops when there are more than `most_parts`.
/// What is nested deeper than 64 messages, or is no message at all, is surveyed as far as it has been understood:
/// parsing refuses it. A part takes two bytes in the file and some hundred in memory, which is why their number is
/// worth knowing first. Local. Cost: one pass over the bytes, none over weights.
[[nodiscard]] PartSurvey survey_parts(google::protobuf::io::CodedInputStream& stream, std::int64_t most_parts);

/// More nodes, attributes, names and so on than any network has, and less than 1 GB of memory in all.
inline constexpr std::int64_t most_parts_of_a_model = 1'000'000;

} // namespace slr::graph
