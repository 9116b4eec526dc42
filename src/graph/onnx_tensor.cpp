#include "onnx_tensor.hpp"

#include "words.hpp"

#include <charconv>
#include <cstring>
#include <fstream>
#include <map>

namespace slr::graph {
namespace {

namespace fs = std::filesystem;
using onnx::TensorProto;

/// Whole numbers of the external data's entries, which the file writes as text.
std::uint64_t parsed_number(const std::string& text, const std::string& what) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    throw bad_data(what + " gives " + in_quotes(text) + " as a place in its external file, which is no whole number");
  return value;
}

Buffer read_external(const TensorProto& proto, const fs::path& folder, std::size_t bytes, const std::string& what) {
  std::map<std::string, std::string> entries;
  for (const auto& entry : proto.external_data()) entries[entry.key()] = entry.value();
  const auto file = external_file(entries["location"], folder, what);
  const auto offset = entries.contains("offset") ? parsed_number(entries["offset"], what) : 0;
  if (entries.contains("length") && parsed_number(entries["length"], what) != bytes)
    throw bad_data(what + " has external data of another length than its dimensions say");
  std::error_code error;
  const auto size = fs::file_size(file, error);
  if (error || offset > size || bytes > size - offset)
    throw bad_data(what + " needs " + std::to_string(bytes) + " bytes from byte " + std::to_string(offset) + " of " +
                   file.string() + ", which is shorter");
  std::vector<std::byte> data(bytes);
  std::ifstream stream(file, std::ios::binary);
  stream.seekg(static_cast<std::streamoff>(offset));
  stream.read(reinterpret_cast<char*>(data.data()), static_cast<std::streamsize>(bytes));
  if (!stream || stream.gcount() != static_cast<std::streamsize>(bytes))
    throw Error(ExitCode::io, "reading " + file.string() + " failed");
  return Buffer(std::move(data));
}

template <class To, class Field>
Buffer narrowed(const Field& values, const std::string& what) {
  std::vector<std::byte> data(static_cast<std::size_t>(values.size()) * sizeof(To));
  std::size_t place = 0;
  for (const auto value : values) {
    const auto number = static_cast<To>(value);
    if (static_cast<decltype(value)>(number) != value && value == value)
      throw bad_data(what + " holds a number that its element type cannot");
    std::memcpy(data.data() + place, &number, sizeof(To));
    place += sizeof(To);
  }
  return Buffer(std::move(data));
}

/// The data from the field that goes with the element type, empty if it stands elsewhere.
Buffer typed_data(const TensorProto& proto, ElementType type, const std::string& what) {
  switch (type) {
  case ElementType::float32:
    return narrowed<float>(proto.float_data(), what);
  case ElementType::float64:
    return narrowed<double>(proto.double_data(), what);
  case ElementType::int64:
    return narrowed<std::int64_t>(proto.int64_data(), what);
  case ElementType::int32:
    return narrowed<std::int32_t>(proto.int32_data(), what);
  case ElementType::int8:
    return narrowed<std::int8_t>(proto.int32_data(), what);
  case ElementType::uint8:
  case ElementType::boolean:
    return narrowed<std::uint8_t>(proto.int32_data(), what);
  case ElementType::float16:
    return narrowed<std::uint16_t>(proto.int32_data(), what);
  case ElementType::undefined:
    break;
  }
  return {};
}

/// In how many of its fields the message holds data: more than one is a contradiction.
int filled_fields(const TensorProto& proto) {
  return (proto.raw_data().empty() ? 0 : 1) + (proto.float_data().empty() ? 0 : 1) +
         (proto.double_data().empty() ? 0 : 1) + (proto.int32_data().empty() ? 0 : 1) +
         (proto.int64_data().empty() ? 0 : 1) + (proto.string_data().empty() ? 0 : 1) +
         (proto.uint64_data().empty() ? 0 : 1) + (proto.external_data().empty() ? 0 : 1);
}

std::int64_t count_of(const Dims& dims, const std::string& what) {
  try {
    return element_count(dims);
  } catch (const Error& error) {
    throw bad_data(what + ": " + error.what());
  }
}

} // namespace

fs::path external_file(const std::string& location, const fs::path& folder, const std::string& what) {
  const fs::path relative(location);
  bool escapes = location.empty() || relative.is_absolute() || location.find('\0') != std::string::npos;
  for (const auto& part : relative) escapes = escapes || part == "..";
  if (escapes)
    throw bad_data(what + " keeps its data in " + in_quotes(location) + ", which is not inside the model's folder");
  std::error_code error;
  const auto base = fs::canonical(folder.empty() ? "." : folder, error);
  const auto file = error ? fs::path() : fs::canonical(base / relative, error);
  if (error || !fs::is_regular_file(file, error))
    throw bad_data(what + " keeps its data in " + in_quotes(location) + ", which is missing from the model's folder");
  const auto inside = fs::relative(file, base, error);
  if (error || inside.empty() || *inside.begin() == "..")
    throw bad_data(what + " keeps its data in " + in_quotes(location) + ", which leads out of the model's folder");
  return file;
}

ElementType element_type(int number, const std::string& what) {
  const auto type = static_cast<ElementType>(number);
  switch (type) {
  case ElementType::float32:
  case ElementType::uint8:
  case ElementType::int8:
  case ElementType::int32:
  case ElementType::int64:
  case ElementType::boolean:
  case ElementType::float16:
  case ElementType::float64:
    return type;
  case ElementType::undefined:
    break;
  }
  throw bad_data(what + " has elements of ONNX type " + std::to_string(number) + ", which this program does not read");
}

Tensor take_tensor(TensorProto& proto, const fs::path& folder, const std::string& what) {
  Tensor tensor;
  tensor.type = element_type(proto.data_type(), what);
  tensor.dims.assign(proto.dims().begin(), proto.dims().end());
  if (proto.has_segment()) throw bad_data(what + " is stored in segments, which this program does not read");
  std::size_t bytes = 0;
  const auto count = static_cast<std::size_t>(count_of(tensor.dims, what));
  if (__builtin_mul_overflow(count, element_size(tensor.type), &bytes)) throw bad_data(what + " is absurdly large");
  if (filled_fields(proto) > 1) throw bad_data(what + " holds its data in more than one field");
  if (proto.data_location() == TensorProto::EXTERNAL) {
    tensor.data = read_external(proto, folder, bytes, what);
  } else if (!proto.raw_data().empty()) {
    const std::shared_ptr<const std::string> owner(proto.release_raw_data());
    tensor.data = Buffer(std::as_bytes(std::span(*owner)), owner);
  } else {
    tensor.data = typed_data(proto, tensor.type, what);
  }
  if (tensor.data.bytes().size() != bytes)
    throw bad_data(what + " has " + std::to_string(tensor.data.bytes().size()) +
                   " bytes of data where its dimensions " + words_for(tensor.dims) + " need " + std::to_string(bytes));
  return tensor;
}

void fill_header(TensorProto& proto, const std::string& name, const Tensor& tensor) {
  if (!name.empty()) proto.set_name(name);
  proto.set_data_type(static_cast<int>(tensor.type));
  for (const auto dim : tensor.dims) proto.add_dims(dim);
}

void fill_tensor(TensorProto& proto, const std::string& name, const Tensor& tensor) {
  fill_header(proto, name, tensor);
  const auto bytes = tensor.data.bytes();
  proto.set_raw_data(bytes.data(), bytes.size());
}

} // namespace slr::graph
