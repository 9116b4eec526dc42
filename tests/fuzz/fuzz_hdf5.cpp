// Any bytes as an HDF5 file: a feature shard, packed images, factors.
#include "slr/store/factors.hpp"
#include "slr/store/feature_shards.hpp"
#include "slr/store/image_source.hpp"
#include "target.hpp"

#include <algorithm>

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slr::store;
  const slr::fuzz::MemoryFile file(slr::fuzz::text_of(data, size));
  constexpr std::int64_t most = 20;
  slr::fuzz::answers([&] {
    const ShardReader shard(file.path());
    for (const auto& found : shard.layers()) {
      if (found.has_samples) static_cast<void>(shard.samples(found.layer.name));
      for (const auto quantity : {Quantity::original_inputs, Quantity::inputs, Quantity::outputs})
        if (found.has(quantity))
          static_cast<void>(shard.read(found.layer.name, quantity, 0, std::min(most, found.rows)));
    }
  });
  slr::fuzz::answers([&] {
    ImageSource source;
    source.images = file.path();
    const auto images = open_images(source);
    static_cast<void>(images->read(0, std::min(most, images->size())));
  });
  slr::fuzz::answers([&] {
    const FactorsReader factors(file.path());
    static_cast<void>(factors.notes());
    for (const auto& name : factors.layers()) static_cast<void>(factors.read(name));
  });
  return 0;
}
