#include "hdf5_handle.hpp"

#include "slr/base/error.hpp"
#include "slr/base/narrow.hpp"
#include "slr/base/trace.hpp"

#include <algorithm>
#include <fcntl.h>
#include <set>

namespace slr::store {
namespace {

namespace fs = std::filesystem;

// Deflate cannot shrink more than this; what claims to be larger than its stored bytes could expand to is a lie.
constexpr std::int64_t largest_compression = 1100;
// HDF5 takes a whole chunk into memory to read any part of it; other programs choose about 1 MB.
constexpr std::int64_t largest_chunk_bytes = std::int64_t(1) << 29;

Error not_plausible(const std::string& name, const fs::path& file, const std::string& why) {
  return Error(ExitCode::bad_data, "dataset " + name + " of " + file.string() + " " + why + ": write the file again");
}

DatasetInfo describe(hid_t dataset, const std::string& name, const fs::path& file) {
  const Doing doing{false, "reading dataset " + name};
  DatasetInfo info;
  const auto space = owned<SpaceHandle>(H5Dget_space(dataset), doing, file);
  if (H5Sget_simple_extent_type(space.get()) == H5S_NULL) throw not_plausible(name, file, "has no extent");
  const int count = H5Sget_simple_extent_ndims(space.get());
  check_hdf5(count, doing, file);
  std::vector<hsize_t> dims(static_cast<std::size_t>(count));
  check_hdf5(H5Sget_simple_extent_dims(space.get(), dims.data(), nullptr), doing, file);
  for (const auto extent : dims) info.dims.push_back(narrow<std::int64_t>(extent, "an extent of " + name));

  const auto type = owned<TypeHandle>(H5Dget_type(dataset), doing, file);
  const auto type_class = H5Tget_class(type.get());
  if (type_class == H5T_INTEGER) {
    info.element_class = ElementClass::integer;
    info.is_signed = H5Tget_sign(type.get()) == H5T_SGN_2;
  } else if (type_class == H5T_FLOAT) {
    info.element_class = ElementClass::floating;
  }
  info.element_bytes = narrow<std::int64_t>(H5Tget_size(type.get()), "an element of " + name);
  return info;
}

bool can_shrink(hid_t properties) {
  const int filters = H5Pget_nfilters(properties);
  for (int i = 0; i < filters; ++i) {
    unsigned flags = 0;
    std::size_t values = 0;
    const auto filter =
        H5Pget_filter2(properties, static_cast<unsigned>(i), &flags, &values, nullptr, 0, nullptr, nullptr);
    if (filter != H5Z_FILTER_FLETCHER32 && filter != H5Z_FILTER_SHUFFLE) return true;
  }
  return false;
}

/// The name of one of the files behind a virtual dataset.
std::string source_name(hid_t properties, std::size_t number, const Doing& doing, const fs::path& file) {
  const auto length = H5Pget_virtual_filename(properties, number, nullptr, 0);
  if (length < 0 || length > 1 << 16) throw_hdf5(doing, file);
  std::string name(static_cast<std::size_t>(length) + 1, '\0');
  if (H5Pget_virtual_filename(properties, number, name.data(), name.size()) < 0) throw_hdf5(doing, file);
  name.pop_back();
  std::string unescaped; // "%%" is a '%'
  for (std::size_t i = 0; i < name.size(); ++i) {
    unescaped += name[i];
    if (name.compare(i, 2, "%%") == 0) ++i;
  }
  return unescaped;
}

/// The bytes of the files behind a virtual dataset, each once. They must lie in the file's folder.
std::int64_t source_bytes(hid_t properties, const std::string& name, const fs::path& file) {
  const Doing doing{false, "reading dataset " + name};
  std::size_t count = 0;
  check_hdf5(H5Pget_virtual_count(properties, &count), doing, file);
  std::set<std::string> seen;
  std::int64_t bytes = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const auto source = source_name(properties, i, doing, file);
    if (!seen.insert(source).second) continue;
    const fs::path relative(source);
    if (relative.is_absolute() || std::find(relative.begin(), relative.end(), "..") != relative.end())
      throw not_plausible(name, file, "takes values from a file outside of its folder");
    std::error_code error;
    const auto size = fs::file_size(source == "." ? file : file.parent_path() / relative, error);
    if (!error) bytes += static_cast<std::int64_t>(std::min<std::uintmax_t>(size, std::uintmax_t(1) << 50));
  }
  return bytes;
}

/// Holds the claimed extent against the bytes that are really stored, and notes the chunking.
void check_stored_bytes(hid_t dataset, DatasetInfo& info, const std::string& name, const fs::path& file,
                        std::int64_t file_bytes) {
  const auto properties =
      owned<PropertyHandle>(H5Dget_create_plist(dataset), Doing{false, "reading dataset " + name}, file);
  const auto layout = H5Pget_layout(properties.get());
  std::int64_t claimed = info.element_bytes;
  for (const auto extent : info.dims) claimed = checked_product(claimed, extent, "dataset " + name);
  if (H5Pget_external_count(properties.get()) != 0) throw not_plausible(name, file, "keeps its values in another file");
  if (layout == H5D_VIRTUAL) {
    if (claimed / largest_compression > source_bytes(properties.get(), name, file))
      throw not_plausible(name, file, "claims more values than its source files can hold");
    return;
  }
  std::int64_t expansion = 1;
  if (layout == H5D_CHUNKED) {
    std::vector<hsize_t> chunk(info.dims.size());
    if (chunk.empty() || H5Pget_chunk(properties.get(), static_cast<int>(chunk.size()), chunk.data()) < 0)
      throw not_plausible(name, file, "has unreadable chunks");
    info.chunk_rows = static_cast<std::int64_t>(chunk.front());
    std::int64_t chunk_bytes = info.element_bytes;
    for (const auto extent : chunk)
      chunk_bytes = checked_product(chunk_bytes, narrow<std::int64_t>(extent, "a chunk"), "a chunk of " + name);
    if (can_shrink(properties.get())) expansion = largest_compression;
    if (claimed > 0 && (chunk_bytes / expansion > file_bytes || chunk_bytes > largest_chunk_bytes))
      throw not_plausible(name, file, "claims chunks larger than the file or than 512 MB");
  }
  const auto stored = static_cast<std::int64_t>(std::min<hsize_t>(H5Dget_storage_size(dataset), INT64_MAX));
  if (stored > file_bytes || claimed / expansion > stored)
    throw not_plausible(name, file,
                        "claims " + std::to_string(claimed) + " bytes but stores " + std::to_string(stored) +
                            " (it is damaged or was not written completely)");
}

std::string words(ElementClass element_class, std::int64_t bytes) {
  if (element_class == ElementClass::integer) return "integers of " + std::to_string(bytes) + " bytes";
  if (element_class == ElementClass::floating) return "floating numbers of " + std::to_string(bytes) + " bytes";
  return "elements that are not numbers";
}

} // namespace

std::int64_t DatasetInfo::row_elements() const {
  std::int64_t elements = 1;
  for (std::size_t i = 1; i < dims.size(); ++i) elements = checked_product(elements, dims[i], "a row");
  return elements;
}

Hdf5Dataset::Hdf5Dataset(std::unique_ptr<State> state) : state_(std::move(state)) {}
Hdf5Dataset::~Hdf5Dataset() = default;
Hdf5Dataset::Hdf5Dataset(Hdf5Dataset&&) noexcept = default;
Hdf5Dataset& Hdf5Dataset::operator=(Hdf5Dataset&&) noexcept = default;
const DatasetInfo& Hdf5Dataset::info() const {
  return state_->info;
}

Hdf5Dataset Hdf5File::dataset(const std::string& name) const {
  if (!is_dataset(name))
    throw Error(ExitCode::bad_data, state_->path.string() + " has no dataset " + name + ": it is of another kind");
  auto dataset = std::make_unique<Hdf5Dataset::State>();
  dataset->path = state_->path;
  dataset->name = name;
  dataset->dataset = owned<DatasetHandle>(H5Dopen2(state_->file.get(), name.c_str(), H5P_DEFAULT),
                                          state_->reading("dataset " + name), state_->path);
  dataset->info = describe(dataset->dataset.get(), name, state_->path);
  check_stored_bytes(dataset->dataset.get(), dataset->info, name, state_->path, state_->file_bytes);
  return Hdf5Dataset(std::move(dataset));
}

template <Element T>
void Hdf5Dataset::read_rows(std::int64_t first, std::int64_t count, std::span<T> out) const {
  const auto& info = state_->info;
  const Doing doing{false, "reading dataset " + state_->name};
  require(first >= 0 && count >= 0 && first <= info.rows() && count <= info.rows() - first,
          "rows outside a dataset were to be read");
  require(static_cast<std::int64_t>(out.size()) == count * info.row_elements(), "a row buffer has the wrong size");
  constexpr auto wanted = std::floating_point<T> ? ElementClass::floating : ElementClass::integer;
  // HDF5 would clamp integers that do not fit without a word.
  const bool fits = wanted == ElementClass::floating || info.element_bytes < static_cast<std::int64_t>(sizeof(T)) ||
                    (info.element_bytes == sizeof(T) && info.is_signed == std::is_signed_v<T>);
  if (info.element_class != wanted || !fits)
    throw Error(ExitCode::bad_data, "dataset " + state_->name + " of " + state_->path.string() + " holds " +
                                        words(info.element_class, info.element_bytes) + ", but " +
                                        words(wanted, sizeof(T)) + " are needed");
  if (out.empty()) return;

  std::vector<hsize_t> start(info.dims.size(), 0), extent(info.dims.begin(), info.dims.end());
  start[0] = static_cast<hsize_t>(first);
  extent[0] = static_cast<hsize_t>(count);
  const auto file_space = owned<SpaceHandle>(H5Dget_space(state_->dataset.get()), doing, state_->path);
  check_hdf5(H5Sselect_hyperslab(file_space.get(), H5S_SELECT_SET, start.data(), nullptr, extent.data(), nullptr),
             doing, state_->path);
  const auto memory_space = owned<SpaceHandle>(
      H5Screate_simple(static_cast<int>(extent.size()), extent.data(), nullptr), doing, state_->path);
  const TraceSpan span(TraceKind::file, "read", out.size_bytes());
  check_hdf5(
      H5Dread(state_->dataset.get(), memory_type<T>(), memory_space.get(), file_space.get(), H5P_DEFAULT, out.data()),
      doing, state_->path);
}

std::int64_t Hdf5Dataset::announce_rows(std::int64_t first, std::int64_t count) const {
  const auto& info = state_->info;
  require(first >= 0 && count >= 0 && first <= info.rows() && count <= info.rows() - first,
          "rows outside a dataset were announced");
  if (count == 0 || !info.is_chunked()) return 0;
  const FileHandle file(H5Iget_file_id(state_->dataset.get()));
  const int descriptor = file.is_valid() ? descriptor_of(file.get()) : -1;
  if (descriptor < 0) return 0;
  std::int64_t announced = 0;
  std::vector<hsize_t> corner(info.dims.size(), 0);
  for (auto row = first / info.chunk_rows * info.chunk_rows; row < first + count; row += info.chunk_rows) {
    corner[0] = static_cast<hsize_t>(row);
    unsigned filters = 0;
    haddr_t address = HADDR_UNDEF;
    hsize_t bytes = 0;
    const bool is_known =
        H5Dget_chunk_info_by_coord(state_->dataset.get(), corner.data(), &filters, &address, &bytes) >= 0;
    if (!is_known || address == HADDR_UNDEF) continue; // reading tells what is wrong
    if (posix_fadvise(descriptor, static_cast<off_t>(address), static_cast<off_t>(bytes), POSIX_FADV_WILLNEED) == 0)
      announced += static_cast<std::int64_t>(bytes);
  }
  return announced;
}

template <Element T>
std::vector<T> Hdf5Dataset::read() const {
  const auto elements = checked_product(state_->info.rows(), state_->info.row_elements(), "dataset " + state_->name);
  std::vector<T> values(static_cast<std::size_t>(elements));
  read_rows(0, state_->info.rows(), std::span<T>(values));
  return values;
}

template void Hdf5Dataset::read_rows(std::int64_t, std::int64_t, std::span<float>) const;
template void Hdf5Dataset::read_rows(std::int64_t, std::int64_t, std::span<double>) const;
template void Hdf5Dataset::read_rows(std::int64_t, std::int64_t, std::span<std::uint8_t>) const;
template void Hdf5Dataset::read_rows(std::int64_t, std::int64_t, std::span<std::int32_t>) const;
template void Hdf5Dataset::read_rows(std::int64_t, std::int64_t, std::span<std::int64_t>) const;
template std::vector<float> Hdf5Dataset::read() const;
template std::vector<double> Hdf5Dataset::read() const;
template std::vector<std::uint8_t> Hdf5Dataset::read() const;
template std::vector<std::int32_t> Hdf5Dataset::read() const;
template std::vector<std::int64_t> Hdf5Dataset::read() const;

} // namespace slr::store
