#pragma once
// Parts of networks with weights to train.
#include "network.hpp"
#include "slr/infer/tape.hpp"

namespace slr::test {

/// A 3x3 convolution with the weights "w" + to and "b" + to.
inline Network& convolution(Network& n, const std::string& from, const std::string& to, std::int64_t in,
                            std::int64_t out, std::uint32_t seed) {
  n.constant("w" + to, array({out, in, 3, 3}, seed)).constant("b" + to, array({out}, seed + 1));
  return n.node("Conv", {from, "w" + to, "b" + to}, {to}, {{"pads", Ints{1, 1, 1, 1}}});
}

/// A convolution, ReLU, and a fully connected layer with 5 outputs, w_gemm and b_gemm, from 3 x 6 x 6 images.
inline auto flat_gemm(std::int64_t transposed) {
  return [transposed](Network& n) {
    convolution(n, "x", "c", 3, 2, 2);
    n.node("Relu", {"c"}, {"r"}).node("Flatten", {"r"}, {"f"});
    n.constant("w_gemm", array(transposed ? Dims{5, 72} : Dims{72, 5}, 8)).constant("b_gemm", array({5}, 9));
    n.node("Gemm", {"f", "w_gemm", "b_gemm"}, {"y"}, {{"transB", transposed}});
  };
}

} // namespace slr::test
