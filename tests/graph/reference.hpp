#pragma once
// A plain interpreter of ONNX nodes in double precision, written from the operators' definitions and independent of the
// module under test: it takes only the data model from it. Slow and complete enough for the networks of the tests.
#include "slr/graph/model.hpp"

#include <map>
#include <string>
#include <vector>

namespace slr::graph::reference {

struct Array {
  Dims dims;
  std::vector<double> values;
};

/// All values of the network by name, for the given inputs.
std::map<std::string, Array> run(const Model& model, const std::map<std::string, Array>& inputs);

/// Numbers in [-1, 1] that depend on nothing but the seed.
Array random_array(Dims dims, unsigned seed);

/// max |a - b| / max |a|; infinite if the dimensions differ.
double relative_difference(const Array& a, const Array& b);

} // namespace slr::graph::reference
