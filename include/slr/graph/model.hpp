#pragma once
/// \file
/// A neural network as the program sees it: ONNX without protobuf.
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace slr::graph {

/// ONNX element types, with ONNX's own numbers.
enum class ElementType : int {
  undefined = 0,
  float32 = 1,
  uint8 = 2,
  int8 = 3,
  int32 = 6,
  int64 = 7,
  boolean = 9,
  float16 = 10,
  float64 = 11,
};
/// Bytes of one element; 0 for `undefined`.
[[nodiscard]] std::size_t element_size(ElementType type);

using Dims = std::vector<std::int64_t>;
/// Product of the dimensions (1 for a scalar). \throws Error{bad_data} if negative or above 2^62.
[[nodiscard]] std::int64_t element_count(const Dims& dims);

/// Immutable bytes with a shared owner: copies of a model share the weights that they have in common.
class Buffer {
public:
  Buffer() = default;
  explicit Buffer(std::vector<std::byte> bytes);
  /// A view of memory that `owner` keeps alive (a mapped file, a window shared by the ranks of a node).
  Buffer(std::span<const std::byte> bytes, std::shared_ptr<const void> owner);
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

private:
  std::span<const std::byte> bytes_;
  std::shared_ptr<const void> owner_;
};

/// A constant: element type, dimensions, little-endian row-major bytes.
struct Tensor {
  ElementType type = ElementType::undefined;
  Dims dims;
  Buffer data;

  /// \throws Error{bug} if there are not as many values as the dimensions say (likewise for integers).
  [[nodiscard]] static Tensor of_floats(Dims dims, std::span<const float> values);
  [[nodiscard]] static Tensor of_int64s(Dims dims, std::span<const std::int64_t> values);
  [[nodiscard]] std::int64_t size() const { return element_count(dims); }
  [[nodiscard]] std::span<const float> floats() const;    ///< \throws Error{bad_data} if not float32
  [[nodiscard]] std::vector<std::int64_t> int64s() const; ///< of int32 or int64; \throws Error{bad_data}
};

using Attribute = std::variant<std::int64_t, float, std::string, std::vector<std::int64_t>, std::vector<float>,
                               std::vector<std::string>, Tensor>;

/// One operator. An empty input or output name is an absent optional one, as in ONNX.
struct Node {
  std::string name; ///< unique in the graph (made from the first output where the file has none)
  std::string op;   ///< ONNX operator type
  std::string domain;
  std::vector<std::string> inputs;
  std::vector<std::string> outputs;
  std::map<std::string, Attribute> attributes;
  bool is_named = true; ///< false where `name` was made up, because the file has none

  /// The attribute, or `otherwise` where the node has none. \throws Error{bad_data} if it is of another kind.
  [[nodiscard]] std::int64_t int_or(const std::string& key, std::int64_t otherwise) const;
  [[nodiscard]] float float_or(const std::string& key, float otherwise) const;
  [[nodiscard]] std::string string_or(const std::string& key, const std::string& otherwise) const;
  [[nodiscard]] std::vector<std::int64_t> ints_or(const std::string& key, std::vector<std::int64_t> otherwise) const;
};

/// A graph input or output. A free dimension is -1 and keeps its name.
struct Value {
  std::string name;
  ElementType type = ElementType::undefined;
  Dims dims;
  std::vector<std::string> dim_names; ///< parallel to dims, empty where the dimension is a number
  bool has_shape = true;              ///< false where the file says nothing about the dimensions
};

/// A network. Nodes are in topological order; every input of a node is a graph input, an initializer or an output of an
/// earlier node; names of values are unique. `read_model` establishes this, the rewriting functions keep it.
struct Model {
  std::int64_t ir_version = 0;                ///< 4 or more: older files are lifted to 4 when they are read
  std::map<std::string, std::int64_t> opsets; ///< by domain; "" is ONNX's own
  std::string producer;
  std::string name;
  std::vector<Value> inputs; ///< without the initializers that old files repeat here
  std::vector<Value> outputs;
  std::vector<Node> nodes;
  std::map<std::string, Tensor> initializers;
  std::map<std::string, std::string> metadata;

  [[nodiscard]] std::int64_t opset() const; ///< of the default domain
  /// Index of the node that makes the value, none for inputs and initializers. Linear in the nodes.
  [[nodiscard]] std::optional<std::size_t> producer_of(const std::string& value) const;
  /// Indices of the nodes that read the value, in order. Linear in the nodes.
  [[nodiscard]] std::vector<std::size_t> consumers_of(const std::string& value) const;
  [[nodiscard]] bool is_output(const std::string& value) const;
};

} // namespace slr::graph
