#include "image_primitive.hpp"

#include <algorithm>
#include <cstring>

namespace slr::infer {

namespace {

/// Numbers in [-1, 1) by a linear congruential generator.
void fill(std::span<float> values, std::uint32_t& state) {
  for (float& value : values) {
    state = state * 1664525U + 1013904223U;
    value = static_cast<float>(state >> 8) * 0x1p-23F - 1.0F;
  }
}

bool treats_alike(const ImagePrimitive& p, std::size_t images) {
  // Two orders of summation may agree by chance in one number, hardly in thousands.
  constexpr std::size_t enough_numbers = 4096;
  std::vector<float> source(p.source.get_size() / sizeof(float)), target(p.target.get_size() / sizeof(float));
  const std::size_t per_source = source.size() / images, per_target = target.size() / images;
  std::unordered_map<int, dnnl::memory> arguments = p.fixed;
  arguments.emplace(DNNL_ARG_SRC, dnnl::memory(p.source, cpu_engine(), source.data()));
  arguments.emplace(DNNL_ARG_DST, dnnl::memory(p.target, cpu_engine(), target.data()));
  dnnl::stream stream(cpu_engine());
  std::uint32_t state = 1;
  for (std::size_t compared = 0; compared < enough_numbers; compared += std::max<std::size_t>(per_target, 1)) {
    fill(std::span(source).first(per_source), state);
    for (std::size_t i = 1; i < images; ++i)
      std::copy_n(source.begin(), per_source, source.begin() + static_cast<std::ptrdiff_t>(i * per_source));
    p.primitive.execute(stream, arguments);
    stream.wait();
    for (std::size_t i = 1; i < images; ++i)
      if (std::memcmp(target.data(), target.data() + i * per_target, per_target * sizeof(float)) != 0) return false;
  }
  return true;
}

} // namespace

bool ImageIndependence::holds(const std::string& key, const ImagePrimitive& primitive, std::int64_t images) {
  if (images == 1) return true;
  const auto known = answers_.find(key);
  if (known != answers_.end()) return known->second;
  return answers_.emplace(key, treats_alike(primitive, static_cast<std::size_t>(images))).first->second;
}

} // namespace slr::infer
