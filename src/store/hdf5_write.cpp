#include "hdf5_handle.hpp"

#include "slr/base/error.hpp"
#include "slr/base/narrow.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

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

namespace {

/// The checksum that HDF5's filter appends (Fletcher 1982): modulo 65535, with 65535 in the place of 0 unless there are
/// zeros alone, the sum of the big-endian 16-bit words and, above it, the sum of that sum after every word.
std::uint32_t fletcher32(std::span<const std::byte> bytes) {
  // Lane l of step s has word 16 s + l of a block. Its own sum and the sum of that after every step give both sums of
  // the block: the word counts 16 (steps - s) - l times. 256 steps of 16 bits fit into the 32 bits of a lane.
  constexpr std::size_t lanes = 16, steps = 256;
  using Words = std::uint16_t __attribute__((vector_size(2 * lanes)));
  using Sums = std::uint32_t __attribute__((vector_size(4 * lanes)));
  const auto folded = [](std::uint64_t x) { return x == 0 ? 0 : (x - 1) % 65535 + 1; };
  std::uint64_t sum = 0, sums = 0;
  const auto* at = reinterpret_cast<const unsigned char*>(bytes.data());
  auto words = bytes.size() / 2;
  for (; words >= lanes * steps; words -= lanes * steps) {
    Sums own{}, after_steps{};
    for (std::size_t step = 0; step < steps; ++step, at += sizeof(Words)) {
      Words here;
      std::memcpy(&here, at, sizeof here);
      own += __builtin_convertvector(here << 8 | here >> 8, Sums);
      after_steps += own;
    }
    sums += lanes * steps * sum;
    for (std::size_t l = 0; l < lanes; ++l) {
      sum += own[l];
      sums += lanes * std::uint64_t(after_steps[l]) - l * std::uint64_t(own[l]);
    }
    sum = folded(sum);
    sums = folded(sums);
  }
  for (; words > 0; --words, at += 2) {
    sum += std::uint64_t(at[0]) << 8 | at[1];
    sums += sum;
  }
  if (bytes.size() % 2 != 0) {
    sum += std::uint64_t(at[0]) << 8;
    sums += sum;
  }
  return static_cast<std::uint32_t>(folded(sums) << 16 | folded(sum));
}

} // namespace

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
  const auto chunk_bytes = static_cast<std::size_t>(chunk_rows_ * row_elements_) * sizeof(T);
  auto bytes = std::as_bytes(values);
  while (!bytes.empty()) {
    const auto taken = bytes.first(std::min(bytes.size(), chunk_bytes - waiting_.size()));
    waiting_.insert(waiting_.end(), taken.begin(), taken.end());
    bytes = bytes.subspan(taken.size());
    if (waiting_.size() == chunk_bytes) write_chunk();
  }
}

template <Element T>
void RowAppender<T>::finish() {
  // A dataset smaller than one chunk gets a chunk of its own size.
  if (written_rows_ == 0) chunk_rows_ = std::max<std::int64_t>(1, rows_);
  if (!waiting_.empty() || rows_ == 0) write_chunk();
  waiting_ = {};
}

template <Element T>
void RowAppender<T>::write_chunk() {
  static_assert(std::endian::native == std::endian::little, "files hold little-endian numbers");
  const auto& path = file_->state_->path;
  const hid_t file = file_->state_->file.get();
  const Doing doing = file_->state_->writing("dataset " + dataset_);
  const auto rows = static_cast<std::int64_t>(waiting_.size() / sizeof(T)) / row_elements_;
  std::vector<hsize_t> extent(row_shape_.begin(), row_shape_.end());
  extent.insert(extent.begin(), static_cast<hsize_t>(written_rows_ + rows));
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
        H5Dcreate2(file, dataset_.c_str(), file_type<T>(), space.get(), H5P_DEFAULT, properties.get(), H5P_DEFAULT),
        doing, path);
  } else {
    dataset = owned<DatasetHandle>(H5Dopen2(file, dataset_.c_str(), H5P_DEFAULT), doing, path);
    check_hdf5(H5Dset_extent(dataset.get(), extent.data()), doing, path);
  }
  if (rows == 0) return;
  // The chunk as the filters would leave it: they would copy it twice, and sum it up more slowly.
  waiting_.resize(static_cast<std::size_t>(chunk_rows_ * row_elements_) * sizeof(T)); // zeros behind the last row
  const auto sum = fletcher32(waiting_);
  const auto sum_bytes = std::as_bytes(std::span(&sum, 1));
  waiting_.insert(waiting_.end(), sum_bytes.begin(), sum_bytes.end());
  std::vector<hsize_t> start(extent.size(), 0);
  start[0] = static_cast<hsize_t>(written_rows_);
  check_hdf5(H5Dwrite_chunk(dataset.get(), H5P_DEFAULT, 0, start.data(), waiting_.size(), waiting_.data()), doing,
             path);
  waiting_.clear();
  written_rows_ += rows;
}

template class RowAppender<float>;
template class RowAppender<double>;
template class RowAppender<std::uint8_t>;
template class RowAppender<std::int32_t>;
template class RowAppender<std::int64_t>;

} // namespace slr::store
