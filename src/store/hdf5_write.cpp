#include "hdf5_handle.hpp"

#include "slr/base/error.hpp"
#include "slr/base/narrow.hpp"

#include <algorithm>

namespace slr::store {

namespace fs = std::filesystem;

PropertyHandle timeless(hid_t property_class, const fs::path& file) {
  const Doing doing{true, "preparing the writing"};
  auto properties = owned<PropertyHandle>(H5Pcreate(property_class), doing, file);
  check_hdf5(H5Pset_obj_track_times(properties.get(), false), doing, file);
  return properties;
}

PropertyHandle chunked_and_checked(const std::vector<hsize_t>& chunk, hid_t type, const fs::path& file) {
  const Doing doing{true, "preparing the writing"};
  auto properties = timeless(H5P_DATASET_CREATE, file);
  check_hdf5(H5Pset_chunk(properties.get(), static_cast<int>(chunk.size()), chunk.data()), doing, file);
  check_hdf5(H5Pset_fletcher32(properties.get()), doing, file);
  const std::int64_t zero = 0; // all bits zero is the zero of every element type
  check_hdf5(H5Pset_fill_value(properties.get(), type, &zero), doing, file);
  check_hdf5(H5Pset_fill_time(properties.get(), H5D_FILL_TIME_ALLOC), doing, file);
  return properties;
}

std::int64_t rows_per_chunk(std::int64_t row_bytes, std::int64_t chunk_bytes) {
  return std::max<std::int64_t>(1, chunk_bytes / std::max<std::int64_t>(1, row_bytes));
}

template <Element T>
RowAppender<T>::RowAppender(Hdf5File& file, std::string dataset, Extent row_shape, std::int64_t chunk_bytes)
    : file_(&file), dataset_(std::move(dataset)), row_shape_(std::move(row_shape)) {
  for (const auto extent : row_shape_) row_elements_ = checked_product(row_elements_, extent, "a row of " + dataset_);
  require(row_elements_ > 0, "an appended dataset has empty rows");
  chunk_rows_ = rows_per_chunk(row_elements_ * static_cast<std::int64_t>(sizeof(T)), chunk_bytes);
}

template <Element T>
void RowAppender<T>::append(std::span<const T> values) {
  require(static_cast<std::int64_t>(values.size()) % row_elements_ == 0, "a piece of rows ends within a row");
  rows_ += static_cast<std::int64_t>(values.size()) / row_elements_;
  const auto chunk_elements = static_cast<std::size_t>(chunk_rows_ * row_elements_);
  while (!values.empty()) {
    if (waiting_.empty() && values.size() >= chunk_elements) {
      write_chunk(values.first(chunk_elements));
      values = values.subspan(chunk_elements);
      continue;
    }
    const auto taken = std::min(values.size(), chunk_elements - waiting_.size());
    waiting_.insert(waiting_.end(), values.begin(), values.begin() + static_cast<std::ptrdiff_t>(taken));
    values = values.subspan(taken);
    if (waiting_.size() == chunk_elements) {
      write_chunk(waiting_);
      waiting_.clear();
    }
  }
}

template <Element T>
void RowAppender<T>::finish() {
  // A dataset smaller than one chunk gets a chunk of its own size.
  if (written_rows_ == 0) chunk_rows_ = std::max<std::int64_t>(1, rows_);
  if (!waiting_.empty() || rows_ == 0) write_chunk(waiting_);
  waiting_ = {};
}

template <Element T>
void RowAppender<T>::write_chunk(std::span<const T> values) {
  const auto& path = file_->state_->path;
  const hid_t file = file_->state_->file.get();
  const Doing doing = file_->state_->writing("dataset " + dataset_);
  const auto rows = static_cast<hsize_t>(static_cast<std::int64_t>(values.size()) / row_elements_);
  std::vector<hsize_t> extent(row_shape_.begin(), row_shape_.end());
  extent.insert(extent.begin(), rows);
  const auto memory =
      owned<SpaceHandle>(H5Screate_simple(static_cast<int>(extent.size()), extent.data(), nullptr), doing, path);
  // The rows come in whole chunks: a cache would only keep a second copy.
  const auto access = owned<PropertyHandle>(H5Pcreate(H5P_DATASET_ACCESS), doing, path);
  check_hdf5(H5Pset_chunk_cache(access.get(), 1, 0, 1.0), doing, path);

  DatasetHandle dataset;
  if (written_rows_ == 0) {
    if (const auto slash = dataset_.rfind('/'); slash > 0) file_->make_group(dataset_.substr(0, slash));
    auto largest = extent, chunk = extent;
    largest[0] = H5S_UNLIMITED;
    chunk[0] = static_cast<hsize_t>(chunk_rows_);
    const auto space = owned<SpaceHandle>(
        H5Screate_simple(static_cast<int>(extent.size()), extent.data(), largest.data()), doing, path);
    const auto properties = chunked_and_checked(chunk, file_type<T>(), path);
    dataset = owned<DatasetHandle>(
        H5Dcreate2(file, dataset_.c_str(), file_type<T>(), space.get(), H5P_DEFAULT, properties.get(), access.get()),
        doing, path);
  } else {
    dataset = owned<DatasetHandle>(H5Dopen2(file, dataset_.c_str(), access.get()), doing, path);
    extent[0] += static_cast<hsize_t>(written_rows_);
    check_hdf5(H5Dset_extent(dataset.get(), extent.data()), doing, path);
    extent[0] = rows;
  }
  if (values.empty()) return;
  const auto space = owned<SpaceHandle>(H5Dget_space(dataset.get()), doing, path);
  std::vector<hsize_t> start(extent.size(), 0);
  start[0] = static_cast<hsize_t>(written_rows_);
  check_hdf5(H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start.data(), nullptr, extent.data(), nullptr), doing,
             path);
  check_hdf5(H5Dwrite(dataset.get(), memory_type<T>(), memory.get(), space.get(), H5P_DEFAULT, values.data()), doing,
             path);
  written_rows_ += static_cast<std::int64_t>(rows);
}

template class RowAppender<float>;
template class RowAppender<double>;
template class RowAppender<std::uint8_t>;
template class RowAppender<std::int32_t>;
template class RowAppender<std::int64_t>;

} // namespace slr::store
