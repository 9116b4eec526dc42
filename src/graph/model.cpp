#include "slr/graph/model.hpp"

#include "words.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace slr::graph {

static_assert(std::endian::native == std::endian::little, "ONNX stores little-endian numbers, which are used in place");

std::size_t element_size(ElementType type) {
  switch (type) {
  case ElementType::float64:
  case ElementType::int64:
    return 8;
  case ElementType::float32:
  case ElementType::int32:
    return 4;
  case ElementType::float16:
    return 2;
  case ElementType::uint8:
  case ElementType::int8:
  case ElementType::boolean:
    return 1;
  case ElementType::undefined:
    break;
  }
  return 0;
}

std::int64_t element_count(const Dims& dims) {
  constexpr std::int64_t limit = std::int64_t(1) << 62;
  for (const auto dim : dims)
    if (dim < 0) throw bad_data("the dimensions " + words_for(dims) + " have a negative one");
  // A zero makes the product zero, however large the others are.
  if (std::ranges::find(dims, 0) != dims.end()) return 0;
  std::int64_t count = 1;
  for (const auto dim : dims)
    if (__builtin_mul_overflow(count, dim, &count) || count > limit)
      throw bad_data("the dimensions " + words_for(dims) + " are absurdly large");
  return count;
}

Buffer::Buffer(std::vector<std::byte> bytes) {
  auto owner = std::make_shared<const std::vector<std::byte>>(std::move(bytes));
  bytes_ = *owner;
  owner_ = std::move(owner);
}

Buffer::Buffer(std::span<const std::byte> bytes, std::shared_ptr<const void> owner)
    : bytes_(bytes), owner_(std::move(owner)) {}

namespace {

template <class T>
Tensor tensor_of(ElementType type, Dims dims, std::span<const T> values) {
  require(element_count(dims) == static_cast<std::int64_t>(values.size()),
          "a tensor's values do not fill its dimensions");
  const auto bytes = std::as_bytes(values);
  return {type, std::move(dims), Buffer(std::vector<std::byte>(bytes.begin(), bytes.end()))};
}

template <class T>
std::vector<std::int64_t> widened(std::span<const std::byte> bytes) {
  std::vector<std::int64_t> values;
  values.reserve(bytes.size() / sizeof(T));
  for (std::size_t i = 0; i + sizeof(T) <= bytes.size(); i += sizeof(T)) {
    T value;
    std::memcpy(&value, bytes.data() + i, sizeof(T));
    values.push_back(value);
  }
  return values;
}

template <class T>
T attribute_or(const Node& node, const std::string& key, T otherwise, const char* kind) {
  const auto found = node.attributes.find(key);
  if (found == node.attributes.end()) return otherwise;
  if (const auto* value = std::get_if<T>(&found->second)) return *value;
  throw bad_data("the attribute " + in_quotes(key) + " of " + words_for(node) + " is not " + kind);
}

} // namespace

Tensor Tensor::of_floats(Dims dims, std::span<const float> values) {
  return tensor_of(ElementType::float32, std::move(dims), values);
}

Tensor Tensor::of_int64s(Dims dims, std::span<const std::int64_t> values) {
  return tensor_of(ElementType::int64, std::move(dims), values);
}

std::span<const float> Tensor::floats() const {
  if (type != ElementType::float32)
    throw bad_data("a tensor of 32-bit floating numbers is needed where one of another type stands");
  const auto bytes = data.bytes();
  require(reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(float) == 0, "a tensor's memory is not aligned");
  return {reinterpret_cast<const float*>(bytes.data()), bytes.size() / sizeof(float)};
}

std::vector<std::int64_t> Tensor::int64s() const {
  if (type == ElementType::int64) return widened<std::int64_t>(data.bytes());
  if (type == ElementType::int32) return widened<std::int32_t>(data.bytes());
  throw bad_data("a tensor of 32 or 64-bit integers is needed where one of another type stands");
}

std::int64_t Node::int_or(const std::string& key, std::int64_t otherwise) const {
  return attribute_or(*this, key, otherwise, "an integer");
}

float Node::float_or(const std::string& key, float otherwise) const {
  return attribute_or(*this, key, otherwise, "a floating number");
}

std::string Node::string_or(const std::string& key, const std::string& otherwise) const {
  return attribute_or(*this, key, otherwise, "a text");
}

std::vector<std::int64_t> Node::ints_or(const std::string& key, std::vector<std::int64_t> otherwise) const {
  return attribute_or(*this, key, std::move(otherwise), "a list of integers");
}

std::int64_t Model::opset() const {
  const auto found = opsets.find("");
  if (found == opsets.end())
    throw bad_data("the model " + in_quotes(name) + " does not say which ONNX operator set it uses");
  return found->second;
}

std::optional<std::size_t> Model::producer_of(const std::string& value) const {
  if (value.empty()) return std::nullopt;
  for (std::size_t i = 0; i < nodes.size(); ++i)
    if (std::ranges::find(nodes[i].outputs, value) != nodes[i].outputs.end()) return i;
  return std::nullopt;
}

std::vector<std::size_t> Model::consumers_of(const std::string& value) const {
  std::vector<std::size_t> readers;
  if (value.empty()) return readers;
  for (std::size_t i = 0; i < nodes.size(); ++i)
    if (std::ranges::find(nodes[i].inputs, value) != nodes[i].inputs.end()) readers.push_back(i);
  return readers;
}

bool Model::is_output(const std::string& value) const {
  return std::ranges::any_of(outputs, [&](const Value& output) { return output.name == value; });
}

} // namespace slr::graph
