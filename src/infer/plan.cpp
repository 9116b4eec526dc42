#include "plan.hpp"

#include "array_kernels.hpp"
#include "slr/base/error.hpp"

#include <algorithm>
#include <numeric>

namespace slr::infer {

namespace {

/// oneDNN's alignment of vectors and cache lines.
constexpr std::size_t alignment = 64;

std::size_t aligned(std::size_t bytes) {
  return (bytes + alignment - 1) / alignment * alignment;
}

bool live_together(const Storage& a, const Storage& b) {
  return a.first <= b.last && b.first <= a.last;
}

} // namespace

const dnnl::engine& cpu_engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::memory::desc plain_layout(const Dims& dims) {
  if (dims.size() > DNNL_MAX_NDIMS)
    throw Error(ExitCode::bad_data, "a value has " + std::to_string(dims.size()) + " dimensions; at most " +
                                        std::to_string(DNNL_MAX_NDIMS) + " can be run");
  if (dims.empty()) return plain_layout({1});
  dnnl::memory::dims strides(dims.size(), 1);
  for (std::size_t i = dims.size() - 1; i > 0; --i) strides[i - 1] = strides[i] * std::max<std::int64_t>(dims[i], 1);
  return {dims, dnnl::memory::data_type::f32, strides};
}

dnnl::memory::desc image_layout(const Dims& dims) {
  using tag = dnnl::memory::format_tag;
  if (dims.size() < 3 || dims.size() > 5) return plain_layout(dims);
  constexpr tag channels_last[] = {tag::nwc, tag::nhwc, tag::ndhwc};
  return {dims, dnnl::memory::data_type::f32, channels_last[dims.size() - 3]};
}

Dims View::strides() const {
  if (kind == Kind::integer || dims.empty()) return row_major_strides(dims);
  const auto& blocking = layout.data.format_desc.blocking;
  return {blocking.strides, blocking.strides + dims.size()};
}

bool View::lies_as(const dnnl::memory::desc& other) const {
  if (layout == other) return true;
  const auto &a = layout.data.format_desc.blocking, &b = other.data.format_desc.blocking;
  if (other.data.format_kind != dnnl_blocked || a.inner_nblks != 0 || b.inner_nblks != 0) return false;
  for (std::size_t d = 0; d < dims.size(); ++d)
    if (dims[d] != 1 && a.strides[d] != b.strides[d]) return false;
  return layout.get_size() == other.get_size();
}

std::size_t View::bytes() const {
  if (kind == Kind::real) return layout.get_size();
  return static_cast<std::size_t>(graph::element_count(dims)) * element_bytes(kind);
}

std::size_t Plan::add_storage(Storage storage) {
  storage.first = storage.last = steps_.size();
  storages_.push_back(std::move(storage));
  return storages_.size() - 1;
}

void Plan::touch(std::size_t storage) {
  storages_[storage].last = steps_.size();
}

std::byte* Plan::data(std::size_t storage, std::byte* workspace) const {
  const Storage& s = storages_[storage];
  // oneDNN's handles are not const; what is fixed is only ever read.
  return s.fixed ? const_cast<std::byte*>(s.fixed.get()) : workspace + s.offset;
}

dnnl::memory Plan::memory(const View& view) {
  const Storage& s = storages_[view.storage];
  if (s.fixed) return {view.layout, cpu_engine(), data(view.storage, nullptr)};
  handles_.push_back({{view.layout, cpu_engine(), DNNL_MEMORY_NONE}, view.storage});
  return handles_.back().memory;
}

void Plan::place() {
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < storages_.size(); ++i)
    if (!storages_[i].fixed) order.push_back(i);
  // The largest first, each at the lowest place that is free during its life.
  std::stable_sort(order.begin(), order.end(),
                   [this](std::size_t a, std::size_t b) { return storages_[a].bytes > storages_[b].bytes; });
  std::vector<std::size_t> placed; // by offset
  for (const std::size_t index : order) {
    Storage& s = storages_[index];
    std::size_t offset = 0;
    for (const std::size_t other : placed) {
      const Storage& o = storages_[other];
      if (!live_together(s, o)) continue;
      if (offset + aligned(s.bytes) <= o.offset) break;
      offset = std::max(offset, o.offset + aligned(o.bytes));
    }
    s.offset = offset;
    workspace_bytes_ = std::max(workspace_bytes_, offset + aligned(s.bytes));
    placed.insert(
        std::upper_bound(placed.begin(), placed.end(), index,
                         [this](std::size_t a, std::size_t b) { return storages_[a].offset < storages_[b].offset; }),
        index);
  }
}

void Plan::run(const Execution& execution, std::size_t steps) {
  if (bound_ != execution.workspace) {
    for (Handle& handle : handles_) handle.memory.set_data_handle(data(handle.storage, execution.workspace));
    bound_ = execution.workspace;
  }
  for (std::size_t i = 0; i < steps; ++i) steps_[i](execution);
}

} // namespace slr::infer
