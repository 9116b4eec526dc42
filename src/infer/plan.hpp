#pragma once
/// \file
/// A prepared computation: where every value lives and the steps that make it.
#include "slr/infer/array.hpp"

#include <oneapi/dnnl/dnnl.hpp>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace slr::infer {

/// What the elements of a value are inside the executor: float32, or int64 for everything that counts.
enum class Kind { real, integer };
[[nodiscard]] constexpr std::size_t element_bytes(Kind kind) {
  return kind == Kind::real ? 4 : 8;
}

[[nodiscard]] const dnnl::engine& cpu_engine();

/// Row-major; a scalar counts as one dimension of 1 because oneDNN has no scalars.
[[nodiscard]] dnnl::memory::desc plain_layout(const Dims& dims);
/// The layout in which oneDNN's convolutions are fastest: channels last for images (three to five dimensions),
/// row-major for the rest. A function of the dimensions only, so that pooling and the like meet the same layout, and
/// give the same bits, wherever the network is cut.
[[nodiscard]] dnnl::memory::desc image_layout(const Dims& dims);

/// A value: how the bytes of a storage are to be read. Several views may share a storage (Reshape, Identity).
struct View {
  Dims dims;
  Kind kind = Kind::real;
  dnnl::memory::desc layout; ///< of real values; integers are row-major
  std::size_t storage = 0;
  bool runtime = false; ///< depends on the fed values; otherwise it is known while planning

  /// Whether every dimension has one distance between its neighbours; otherwise there are blocks. \pre real
  [[nodiscard]] bool has_strides() const {
    return layout.data.format_kind == dnnl_blocked && layout.data.format_desc.blocking.inner_nblks == 0;
  }
  /// Distance in elements between neighbours along each dimension. \pre integer or has_strides()
  [[nodiscard]] Dims strides() const;
  /// Whether the elements lie in memory as `other` would have them (dimensions of one have no order). \pre real
  [[nodiscard]] bool lies_as(const dnnl::memory::desc& other) const;
  [[nodiscard]] bool is_plain() const { return kind == Kind::integer || lies_as(plain_layout(dims)); }
  [[nodiscard]] std::size_t bytes() const;
};

/// Bytes of a value: fixed ones outside the workspace, or a place in it for the steps first..last.
struct Storage {
  std::shared_ptr<const std::byte> fixed; ///< null for a place in the workspace
  std::size_t bytes = 0;
  std::size_t offset = 0;
  std::size_t first = 0, last = 0;
};

/// Is given a fetched value, by its place among the fetches, of a block's images, the first of which has this number.
using Show = std::function<void(std::size_t index, const StridedView& images, std::int64_t first)>;

/// What a run gives to the steps.
struct Execution {
  std::byte* workspace = nullptr;
  std::span<const ArrayView> feeds;
  std::span<Array> results;
  std::int64_t first_image = 0;
  std::int64_t images = 0;    ///< of this block; the rest of the block is filling
  const Show* show = nullptr; ///< of a plan that shows its fetches
};

class Plan {
public:
  using Step = std::function<void(const Execution&)>;

  std::size_t add_storage(Storage storage);
  void add_step(Step step) { steps_.push_back(std::move(step)); }
  [[nodiscard]] std::size_t step_count() const { return steps_.size(); }
  /// Tells the liveness analysis that the step being added uses the storage.
  void touch(std::size_t storage);
  /// The storage's bytes; those of the workspace once `workspace` is given.
  [[nodiscard]] std::byte* data(std::size_t storage, std::byte* workspace) const;
  [[nodiscard]] const Storage& storage(std::size_t index) const { return storages_[index]; }
  /// A oneDNN handle that follows the workspace.
  [[nodiscard]] dnnl::memory memory(const View& view);

  /// Gives every storage its place so that values that live at the same time do not overlap. Once, after the last step.
  void place();
  [[nodiscard]] std::size_t workspace_bytes() const { return workspace_bytes_; }
  /// Runs the steps (the first `steps` of them) for one block. \pre place()
  void run(const Execution& execution) { run(execution, steps_.size()); }
  void run(const Execution& execution, std::size_t steps);

  std::vector<Dims> result_dims; ///< of one block, in the order of the fetches

private:
  struct Handle {
    dnnl::memory memory;
    std::size_t storage;
  };
  std::vector<Storage> storages_;
  std::vector<Step> steps_;
  std::vector<Handle> handles_;
  std::size_t workspace_bytes_ = 0;
  std::byte* bound_ = nullptr;
};

} // namespace slr::infer
