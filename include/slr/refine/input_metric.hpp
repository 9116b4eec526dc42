#pragma once
/// \file
/// Coordinates of weights in which the inputs of a layer are nearer to white.
#include "slr/infer/tape.hpp"
#include "slr/refine/examples.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace slr::refine {

/// For every trained weight W that multiplies a node's inputs x, with the inputs' second moments C = E[x x^T] in the
/// network at hand and d their mean diagonal,
///
///   S = (C / d + 1e-3 I)^(-1/4),      W = V S.
///
/// A gradient G of W is G S in these coordinates, and a step D of V is D S of W: applied twice, S is half of the way
/// (in logarithms of the spectrum) from a plain gradient step to one in the metric of the outputs, C^-1, which K-FAC
/// takes for its input side (Martens, Grosse: Optimizing Neural Networks with Kronecker-factored Approximate Curvature,
/// 2015). The inputs of convolutions are neighbouring pixels behind a ReLU, so their moments differ by orders of
/// magnitude, and with plain steps the small ones are hardly learned.
///
/// C acts on all columns of W (channels x kernel) up to `most_columns` of them, beyond that on the channels alone, the
/// same for every position of the kernel; weights with more channels than that, biases and the weights of grouped
/// convolutions stay as they are. C is measured on up to `most_images` fit images, at up to 10 positions of each; sums
/// are exact, so S has the same bits for every number of ranks.
class InputMetric {
public:
  static constexpr std::int64_t most_columns = 1'536, most_images = 512, positions = 10;

  /// Collective: a forward pass of these images, dealt to the ranks; the weights' eigenproblems likewise (about 9 m^3
  /// flops for size m), and a broadcast of m^2 floats for each. \throws Error{bad_data} for what cannot be run.
  InputMetric(const Communicator& comm, const graph::Model& model, const std::string& input,
              const std::vector<infer::TrainedTensor>& trained, const Examples& fit);

  /// Every weight of a flat vector V becomes V S. Local, 2 n k m flops for an n x k weight, in single precision.
  void multiply(std::span<double> weights) const;
  /// Every weight W becomes V = W S^-1. Local, n k m.
  void divide(std::span<double> weights) const;

private:
  /// A weight as `outer` matrices of size x inner, row-major: S acts on the rows.
  struct Part {
    std::size_t offset = 0;
    std::int64_t outer = 0, size = 0, inner = 0;
    std::vector<float> root, inverse; ///< S and S^-1, size x size
  };
  static void find_roots(std::vector<double>& moments, Part& part);
  static void apply(const Part& part, const std::vector<float>& matrix, std::span<double> weights);

  std::vector<Part> parts_;
};

} // namespace slr::refine
