#include "onnx_parts.hpp"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/wire_format_lite.h>
#include <onnx/onnx_pb.h>

namespace slr::graph {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::internal::WireFormatLite;

constexpr int deepest_message = 64;

class PartSurveyor {
public:
  PartSurveyor(google::protobuf::io::CodedInputStream& stream, std::int64_t limit) : stream_(stream), limit_(limit) {}

  /// Up to the end of the message; false at the first thing that cannot be.
  bool walk(const Descriptor& message, int depth) {
    while (const auto tag = stream_.ReadTag()) {
      const auto* field = message.FindFieldByNumber(WireFormatLite::GetTagFieldNumber(tag));
      if (!walk_field(field, WireFormatLite::GetTagWireType(tag), depth) || survey_.parts > limit_) return false;
    }
    return true;
  }
  PartSurvey take() { return std::move(survey_); }

private:
  bool walk_field(const FieldDescriptor* field, WireFormatLite::WireType type, int depth) {
    const bool is_message = field && field->type() == FieldDescriptor::TYPE_MESSAGE;
    const bool is_text = field && field->type() == FieldDescriptor::TYPE_STRING;
    if (!field || is_message || ((is_text || field->type() == FieldDescriptor::TYPE_BYTES) && field->is_repeated()))
      ++survey_.parts;
    std::uint64_t number = 0;
    std::uint32_t word = 0;
    switch (type) {
    case WireFormatLite::WIRETYPE_VARINT:
      return stream_.ReadVarint64(&number);
    case WireFormatLite::WIRETYPE_FIXED64:
      return stream_.ReadLittleEndian64(&number);
    case WireFormatLite::WIRETYPE_FIXED32:
      return stream_.ReadLittleEndian32(&word);
    case WireFormatLite::WIRETYPE_LENGTH_DELIMITED:
      break;
    case WireFormatLite::WIRETYPE_START_GROUP:
    case WireFormatLite::WIRETYPE_END_GROUP: // both are counted, and what is between them like the rest
      return true;
    default:
      return false;
    }
    int length = 0;
    if (!stream_.ReadVarintSizeAsInt(&length)) return false;
    if (!is_message) return stream_.Skip(length);
    if (depth == deepest_message) return false;
    if (field->containing_type() == onnx::TensorProto::descriptor() &&
        field->number() == onnx::TensorProto::kExternalDataFieldNumber)
      return note_location(length);
    const auto outer = stream_.PushLimit(length);
    const bool is_whole = walk(*field->message_type(), depth + 1) && stream_.BytesUntilLimit() == 0;
    stream_.PopLimit(outer);
    return is_whole;
  }

  /// One entry of a tensor's external data.
  bool note_location(int length) {
    std::string bytes;
    onnx::StringStringEntryProto entry;
    if (!stream_.ReadString(&bytes, length) || !entry.ParseFromString(bytes)) return false;
    if (entry.key() == "location") survey_.locations.insert(entry.value());
    return true;
  }

  google::protobuf::io::CodedInputStream& stream_;
  std::int64_t limit_;
  PartSurvey survey_;
};

} // namespace

PartSurvey survey_parts(google::protobuf::io::CodedInputStream& stream, std::int64_t most_parts) {
  PartSurveyor surveyor(stream, most_parts);
  static_cast<void>(surveyor.walk(*onnx::ModelProto::descriptor(), 0));
  return surveyor.take();
}

} // namespace slr::graph
