#include "hdf5_handle.hpp"

#include "slr/base/error.hpp"
#include "slr/base/narrow.hpp"
#include "slr/base/wide_vectors.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <fcntl.h>
#include <utility>

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

/// Bytes that the system is told to write out before more are handed to it: the disk works while this rank computes.
constexpr std::int64_t written_out_at_once = std::int64_t{2} << 20;
constexpr std::size_t copied_at_once = std::size_t{1} << 15; ///< bytes that a first cache holds

/// 1 .. 65535 for the same residue modulo 65535, and 0 for zeros alone.
std::uint64_t folded(std::uint64_t x) {
  return x == 0 ? 0 : (x - 1) % 65535 + 1;
}

constexpr std::size_t lanes = 16, lanes_together = 8; // as many as AVX2 has: wider ones GCC takes apart
using Words = std::uint16_t __attribute__((vector_size(2 * lanes_together)));
using Sums = std::uint32_t __attribute__((vector_size(4 * lanes_together)));

/// Of every lane.
struct LaneSums {
  std::uint32_t own[lanes];         ///< the sum of its words
  std::uint32_t after_steps[lanes]; ///< the sum of that after every step
};

/// Lane l has the words 16 s + l, s < steps. \pre steps <= 256: so many sums of 16 bits fit into 32
SLR_WIDE_VECTORS
void sum_lanes(const unsigned char* words, std::size_t steps, LaneSums& result) {
  Sums own[2] = {}, after_steps[2] = {};
  for (std::size_t step = 0; step < steps; ++step)
    for (int half = 0; half < 2; ++half, words += sizeof(Words)) {
      Words here;
      std::memcpy(&here, words, sizeof here);
      own[half] += __builtin_convertvector(here, Sums);
      after_steps[half] += own[half];
    }
  std::memcpy(result.own, own, sizeof own);
  std::memcpy(result.after_steps, after_steps, sizeof after_steps);
}

} // namespace

void Fletcher32::add(std::span<const std::byte> bytes) {
  // Swapping the bytes of a word is a multiplication by 256 modulo 65535: the sums are those of little-endian words,
  // and `value` swaps theirs. The lanes' sums give both: the word of lane l and step s counts 16 (steps - s) - l times.
  constexpr std::size_t most_steps = 256, step_bytes = 2 * lanes;
  const auto* at = reinterpret_cast<const unsigned char*>(bytes.data());
  auto left = bytes.size();
  const auto add_word = [&](std::uint64_t word) {
    sum_ = folded(sum_ + word);
    sums_ = folded(sums_ + sum_);
  };
  if (has_half_ && left > 0) {
    add_word(half_ | std::uint64_t(*at++) << 8);
    has_half_ = false;
    --left;
  }
  while (left >= step_bytes) {
    const auto steps = std::min(left / step_bytes, most_steps);
    LaneSums of{};
    sum_lanes(at, steps, of);
    at += steps * step_bytes;
    left -= steps * step_bytes;
    sums_ += lanes * steps * sum_;
    for (std::size_t l = 0; l < lanes; ++l) {
      sum_ += of.own[l];
      sums_ += lanes * std::uint64_t(of.after_steps[l]) - l * std::uint64_t(of.own[l]);
    }
    sum_ = folded(sum_);
    sums_ = folded(sums_);
  }
  for (; left >= 2; left -= 2, at += 2) add_word(at[0] | std::uint64_t(at[1]) << 8);
  if (left > 0) {
    half_ = *at;
    has_half_ = true;
  }
}

std::uint32_t Fletcher32::value() const {
  static_assert(std::endian::native == std::endian::little, "words are read as little-endian ones");
  if (!has_half_) return static_cast<std::uint32_t>(folded(sums_ << 8) << 16 | folded(sum_ << 8));
  auto whole = *this;
  const std::byte zero{};
  whole.add(std::span(&zero, 1));
  return whole.value();
}

void Hdf5File::State::write_out(std::int64_t bytes) {
  handed_over += bytes;
  if (handed_over < written_out_at_once) return;
  handed_over = 0;
  // A hint, which some file systems do not know: the end flushes everything and says what fails.
  if (const int descriptor = descriptor_of(file.get()); descriptor >= 0)
    (void)sync_file_range(descriptor, 0, 0, SYNC_FILE_RANGE_WRITE);
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
  const auto chunk_bytes = static_cast<std::size_t>(chunk_rows_ * row_elements_) * sizeof(T);
  auto bytes = std::as_bytes(values);
  if (!bytes.empty()) waiting_.reserve(chunk_bytes + sizeof(std::uint32_t));
  while (!bytes.empty()) {
    const auto taken = bytes.first(std::min({bytes.size(), chunk_bytes - waiting_.size(), copied_at_once}));
    waiting_.insert(waiting_.end(), taken.begin(), taken.end());
    sum_.add(taken); // while it is in the cache
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
  const auto filled = waiting_.size();
  waiting_.resize(static_cast<std::size_t>(chunk_rows_ * row_elements_) * sizeof(T)); // zeros behind the last row
  sum_.add(std::span(waiting_).subspan(filled));
  const auto sum = std::exchange(sum_, {}).value();
  const auto sum_bytes = std::as_bytes(std::span(&sum, 1));
  waiting_.insert(waiting_.end(), sum_bytes.begin(), sum_bytes.end());
  std::vector<hsize_t> start(extent.size(), 0);
  start[0] = static_cast<hsize_t>(written_rows_);
  check_hdf5(H5Dwrite_chunk(dataset.get(), H5P_DEFAULT, 0, start.data(), waiting_.size(), waiting_.data()), doing,
             path);
  file_->state_->write_out(std::ssize(waiting_));
  waiting_.clear();
  written_rows_ += rows;
}

template class RowAppender<float>;
template class RowAppender<double>;
template class RowAppender<std::uint8_t>;
template class RowAppender<std::int32_t>;
template class RowAppender<std::int64_t>;

} // namespace slr::store
