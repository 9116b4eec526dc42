#include "slr/refine/examples.hpp"

#include "slr/infer/executor.hpp"
#include "slr/mpi/agree.hpp"

#include <algorithm>
#include <random>

namespace slr::refine {

namespace {

/// The first block of a rank when blocks are dealt in rank order.
std::int64_t first_block(const Communicator& comm, std::int64_t blocks, int rank) {
  return rank * blocks / comm.size();
}

} // namespace

Examples::Examples(const Communicator& comm, Source source, const Reference& reference, bool mixes)
    : source_(std::move(source)), reference_input_(reference.input), reference_output_(reference.output),
      kept_(static_cast<std::size_t>(blocks())) {
  std::vector<float> mine;
  graph::Dims dims;
  collectively(comm, [&] {
    const auto executor =
        std::make_shared<infer::Executor>(reference.model, infer::ExecutorOptions{images_per_block, 1});
    if (mixes) reference_ = executor;
    const auto run = [&](const infer::ArrayView& images) {
      return executor->run_one(reference.input, images, reference.output);
    };
    const std::int64_t end = first_block(comm, blocks(), comm.rank() + 1);
    for (std::int64_t b = first_block(comm, blocks(), comm.rank()); b < end; ++b) {
      const infer::Array output = run(*images_in(b));
      dims = output.dims;
      mine.insert(mine.end(), output.data.begin(), output.data.end());
    }
    if (dims.empty() && images() > 0) dims = run(*images_in(0)).dims; // more ranks than blocks
  });
  if (images() == 0) return;
  target_dims_.assign(dims.begin() + 1, dims.end());
  const std::int64_t per_image = graph::element_count(target_dims_);
  targets_.resize(static_cast<std::size_t>(images() * per_image));
  std::vector<int> counts(static_cast<std::size_t>(comm.size()));
  const auto images_before = [&](int rank) {
    return std::min(images(), first_block(comm, blocks(), rank) * images_per_block);
  };
  for (int rank = 0; rank < comm.size(); ++rank)
    counts[static_cast<std::size_t>(rank)] =
        static_cast<int>((images_before(rank + 1) - images_before(rank)) * per_image);
  comm.allgather(std::span<const float>(mine), std::span<float>(targets_), counts);
}

std::shared_ptr<const infer::Array> Examples::images_in(std::int64_t block) const {
  auto& kept = kept_[static_cast<std::size_t>(block)];
  if (kept) return kept;
  auto images = std::make_shared<const infer::Array>(source_.read(block * images_per_block, images_of(block)));
  const std::size_t bytes = images->data.size() * sizeof(float);
  if (kept_bytes_ + bytes > source_.memory_bytes) return images;
  kept_bytes_ += bytes;
  kept = images;
  return images;
}

Examples::Block Examples::block(std::int64_t index) const {
  graph::Dims dims = target_dims_;
  dims.insert(dims.begin(), images_of(index));
  const auto per_image = static_cast<std::size_t>(graph::element_count(target_dims_));
  const std::span<const float> all(targets_);
  return {images_in(index),
          {dims, all.subspan(static_cast<std::size_t>(index * images_per_block) * per_image,
                             static_cast<std::size_t>(images_of(index)) * per_image)}};
}

Examples::Block Examples::mixed(std::int64_t index, std::uint64_t seed) const {
  require(reference_ != nullptr, "there is no reference network for mixtures");
  std::mt19937_64 random(seed + static_cast<std::uint64_t>(index) * 0xbf58476d1ce4e5b9U);
  const auto partner = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(blocks()));
  const auto with = images_in(partner);
  auto images = std::make_shared<infer::Array>(*images_in(index));
  const auto count = images_of(index), partners = images_of(partner);
  const auto size = images->data.size() / static_cast<std::size_t>(count);
  for (std::int64_t i = 0; i < count; ++i) {
    const float share = 0x1p-24F * static_cast<float>(random() >> 40);
    float* const a = images->data.data() + static_cast<std::size_t>(i) * size;
    const float* const b = with->data.data() + static_cast<std::size_t>(i % partners) * size;
    for (std::size_t j = 0; j < size; ++j) a[j] += share * (b[j] - a[j]);
  }
  auto outputs =
      std::make_shared<const infer::Array>(reference_->run_one(reference_input_, *images, reference_output_));
  const infer::ArrayView targets = *outputs;
  return {std::move(images), targets, std::move(outputs)};
}

} // namespace slr::refine
