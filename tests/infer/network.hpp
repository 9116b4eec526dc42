#pragma once
// Small networks built in memory, and their plain reference computations.
#include "slr/base/error.hpp"
#include "slr/infer/executor.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace slr::test {

using infer::Array;
using infer::Dims;
using Ints = std::vector<std::int64_t>;

inline constexpr double unit_roundoff = std::numeric_limits<float>::epsilon() / 2.0;

/// Numbers in [-1, 1) that look random and are the same everywhere.
inline std::vector<float> numbers(std::int64_t count, std::uint32_t seed = 1) {
  std::vector<float> values(static_cast<std::size_t>(count));
  std::uint32_t state = seed * 2654435761U + 12345U;
  for (float& value : values) {
    state = state * 1664525U + 1013904223U;
    value = static_cast<float>(state >> 8) * 0x1p-23F - 1.0F;
  }
  return values;
}

inline Array array(const Dims& dims, std::uint32_t seed = 1) {
  return {dims, numbers(graph::element_count(dims), seed)};
}

/// Writes a model node by node. The input is called "x"; nodes are named after their operator and first output.
class Network {
public:
  explicit Network(const Dims& image_dims, std::int64_t opset = 13) {
    Dims dims = image_dims;
    dims.insert(dims.begin(), -1);
    model_.opsets[""] = opset;
    model_.inputs.push_back({"x", graph::ElementType::float32, dims, std::vector<std::string>(dims.size())});
  }
  Network& constant(const std::string& name, const Dims& dims, const std::vector<float>& values) {
    model_.initializers[name] = graph::Tensor::of_floats(dims, values);
    return *this;
  }
  Network& constant(const std::string& name, const Array& values) { return constant(name, values.dims, values.data); }
  Network& integers(const std::string& name, const Ints& values) {
    model_.initializers[name] = graph::Tensor::of_int64s({static_cast<std::int64_t>(values.size())}, values);
    return *this;
  }
  Network& node(const std::string& op, const std::vector<std::string>& inputs, const std::vector<std::string>& outputs,
                const std::map<std::string, graph::Attribute>& attributes = {}) {
    model_.nodes.push_back({op + "_" + outputs[0], op, "", inputs, outputs, attributes});
    return *this;
  }
  [[nodiscard]] graph::Model model(const std::string& output = "y") const {
    graph::Model result = model_;
    result.outputs.push_back({output, graph::ElementType::float32, {}, {}});
    return result;
  }
  [[nodiscard]] Array run(const Array& x, const std::string& output = "y") const {
    return infer::Executor(model(output)).run_one("x", x, output);
  }

private:
  graph::Model model_;
};

/// A value in double and a bound of what float32 may differ from it.
struct Reference {
  Dims dims;
  std::vector<double> value, bound;
  void add(double v, double b) {
    value.push_back(v);
    bound.push_back(b);
  }
};

inline void expect_near(const Array& got, const Reference& reference) {
  ASSERT_EQ(got.dims, reference.dims);
  ASSERT_EQ(got.data.size(), reference.value.size());
  for (std::size_t i = 0; i < got.data.size(); ++i)
    ASSERT_NEAR(static_cast<double>(got.data[i]), reference.value[i], reference.bound[i]) << "element " << i;
}

inline void expect_equal(const Array& got, const Dims& dims, const std::vector<float>& values) {
  ASSERT_EQ(got.dims, dims);
  ASSERT_EQ(got.data, values);
}

/// The message of the Error{bad_data} that running the network throws.
template <class F>
std::string refusal(F run) {
  try {
    (void)run();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::bad_data);
    return error.what();
  }
  ADD_FAILURE() << "nothing was refused";
  return "";
}

} // namespace slr::test
