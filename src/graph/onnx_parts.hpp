#pragma once
// The number of parts of an ONNX message, counted in its bytes before memory is spent on them.
#include <google/protobuf/io/coded_stream.h>

#include <cstdint>

namespace slr::graph {

/// Messages, repeated texts and unknown fields of the ModelProto that the stream holds, from here to its end; the
/// counting stops above `limit`. What is nested deeper than 64 messages, or is no message at all, counts as little as
/// has been understood of it: parsing refuses it. A part takes two bytes in the file and some hundred in memory, which
/// is why their number is worth knowing first. Local. Cost: one pass over the bytes, none over weights.
[[nodiscard]] std::int64_t count_parts(google::protobuf::io::CodedInputStream& stream, std::int64_t limit);

} // namespace slr::graph
