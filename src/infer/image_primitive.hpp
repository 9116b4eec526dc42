#pragma once
/// \file
/// Primitives that take a whole block of images, and whether they treat all of them alike.
#include "plan.hpp"

#include <map>
#include <unordered_map>

namespace slr::infer {

/// A primitive with one input and one output whose images follow each other in memory.
struct ImagePrimitive {
  dnnl::primitive primitive;
  dnnl::memory::desc source, target;
  std::unordered_map<int, dnnl::memory> fixed; ///< weights, bias
};

/// Matrix kernels compute their first rows and what is left over at the end in different orders, so that the last bits
/// of an image's result may depend on its place in the block. Which primitives do so differs between processors;
/// therefore each is asked once: pseudo-random images that are all the same must give the same bits.
class ImageIndependence {
public:
  /// Whether every image of `images` gives the same bits. Answers are remembered under the key. Local.
  /// Cost: at least one run of the primitive.
  [[nodiscard]] bool holds(const std::string& key, const ImagePrimitive& primitive, std::int64_t images);

private:
  std::map<std::string, bool> answers_;
};

} // namespace slr::infer
