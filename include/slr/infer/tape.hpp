#pragma once
/// \file
/// The gradient of a network's distance from given outputs, with respect to some of its weights.
#include "slr/infer/array.hpp"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace slr::infer {

/// What an image's output z is compared with its target t by.
enum class Loss {
  kullback_leibler, ///< sum p_t log(p_t / p_z), p = softmax, natural logarithm; outputs N x classes
  squared_error,    ///< mean over the outputs of (z - t)^2
};

/// What is differentiated.
struct TapeOptions {
  std::string input;  ///< the graph input that the images go to
  Dims image;         ///< dimensions of one image
  std::string output; ///< the value that is compared
  /// Names of float32 initializers, distinct, at least one. Each may be the weight or bias of Conv, Gemm (without
  /// factors) or MatMul nodes, or an operand of Add.
  std::vector<std::string> trained;
  Loss loss = Loss::kullback_leibler;
  /// Images that go through the network together; results may depend on it in the last bits.
  std::int64_t block = 32;
};

/// One of the trained weights, as a part of a flat vector of all of them.
struct TrainedTensor {
  std::string name;
  Dims dims;
  std::int64_t offset = 0, size = 0;
};

/// A network prepared for running forwards and backwards with oneDNN: primitives are made once, for one size of block;
/// the backward pass stops at the first trained weight. The trained weights are a flat vector in the order of
/// TapeOptions::trained, each row-major as the model stores it.
///
/// The result of a block is a function of its images, targets and the weights alone, with the same bits at every call.
/// Memory: the activations of one block that the backward pass needs, by liveness; weights in oneDNN's orders, and one
/// copy of the trained ones. Not for use by several threads at once.
class Tape {
public:
  /// Local. \pre options.block >= 1 \throws Error{bad_data} naming node and operator for what cannot be run or
  /// differentiated, and for a name of `trained` that is no float32 initializer or that the output does not depend on.
  Tape(const graph::Model& model, const TapeOptions& options);
  ~Tape();
  Tape(Tape&&) noexcept;
  Tape& operator=(Tape&&) noexcept;

  [[nodiscard]] const std::vector<TrainedTensor>& trained() const;
  [[nodiscard]] std::int64_t size() const; ///< of the flat vector
  [[nodiscard]] std::int64_t block() const;
  /// The present weights; at first the model's. Local.
  [[nodiscard]] std::vector<float> weights() const;
  /// Local. \pre as many as size()
  void set_weights(std::span<const float> weights);
  /// The model with the present weights. Local.
  [[nodiscard]] graph::Model model() const;

  /// The loss of each image of one block. Local. \pre 1 <= images.images() <= block(), the same number of targets;
  /// \throws Error{bad_data} if dimensions differ, Error{numerical} if an output is not finite.
  [[nodiscard]] std::vector<double> losses(const ArrayView& images, const ArrayView& targets);
  /// Called with the index of a trained tensor whose part of the gradient is finished, while the backward pass goes on.
  using Listener = std::function<void(std::size_t tensor)>;
  /// The same, and the gradient of their sum. The listener may throw; what it throws ends the pass.
  /// \pre gradient has size() elements; they are overwritten
  [[nodiscard]] std::vector<double> losses(const ArrayView& images, const ArrayView& targets, std::span<float> gradient,
                                           const Listener& listener = {});
  /// The trained tensors in the order in which their gradients are finished: roughly from the output to the input.
  [[nodiscard]] const std::vector<std::size_t>& gradient_order() const;

  /// Bytes of the working space for one block.
  [[nodiscard]] std::size_t workspace_bytes() const;

private:
  struct State;
  std::unique_ptr<State> state_;
};

} // namespace slr::infer
