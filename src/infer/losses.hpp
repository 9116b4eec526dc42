#pragma once
/// \file
/// The losses of a Tape with their derivatives.
#include "slr/infer/tape.hpp"

namespace slr::infer {

/// The loss of one image, and its derivatives by the outputs. Local. \pre output, target and gradient have one size
/// \throws Error{numerical} if an output or target is not finite.
[[nodiscard]] double loss_of_image(Loss loss, std::span<const float> output, std::span<const float> target,
                                   std::span<float> gradient);

} // namespace slr::infer
