#include "hdf5_handle.hpp"

#include "slr/base/error.hpp"
#include "slr/base/file.hpp"
#include "slr/base/narrow.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <sys/mman.h>
#include <unistd.h>

namespace slr::store {
namespace {

namespace fs = std::filesystem;

constexpr hsize_t page_bytes = 4096;
constexpr hsize_t aligned_from = 16 * page_bytes; ///< bytes of a chunk: smaller ones would leave much space unused

/// "/a/b/c" -> {"/a", "/a/b", "/a/b/c"}.
std::vector<std::string> prefixes(const std::string& object) {
  std::vector<std::string> all;
  for (std::size_t slash = object.find('/', 1); slash != std::string::npos; slash = object.find('/', slash + 1))
    all.push_back(object.substr(0, slash));
  if (object.size() > 1) all.push_back(object);
  return all;
}

PropertyHandle access_properties(const fs::path& file) {
  const Doing doing{false, "preparing the access"};
  auto access = owned<PropertyHandle>(H5Pcreate(H5P_FILE_ACCESS), doing, file);
  check_hdf5(H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG), doing, file);
  // Only the newer format has a checksum in every structure.
  check_hdf5(H5Pset_libver_bounds(access.get(), H5F_LIBVER_V110, H5F_LIBVER_LATEST), doing, file);
  // HDF5's own lock is a courtesy here (files are renamed when whole): file systems without locks must do.
  check_hdf5(H5Pset_file_locking(access.get(), true, true), doing, file);
  return access;
}

herr_t take_name(hid_t /*group*/, const char* name, const H5L_info_t* /*info*/, void* data) {
  try {
    static_cast<std::vector<std::string>*>(data)->emplace_back(name);
  } catch (...) {
    return -1;
  }
  return 0;
}

/// Lets HDF5 write the rest of a file that is given up into memory. To close it HDF5 writes what it holds back; if that
/// fails (the disk is full) it keeps the broken file, and crashes over it in MPI_Finalize.
void divert(hid_t file) {
  const int descriptor = descriptor_of(file);
  const int nowhere = descriptor < 0 ? -1 : memfd_create("given up", MFD_CLOEXEC);
  if (nowhere < 0) return;
  (void)dup2(nowhere, descriptor);
  (void)::close(nowhere);
}

/// Claims the space of all that HDF5 has still to write: a flush that fails half way leaves a file that it can never
/// close.
void reserve_space(hid_t file, const Doing& doing, const fs::path& path) {
  hsize_t bytes = 0;
  check_hdf5(H5Fget_filesize(file, &bytes), doing, path);
  const int descriptor = descriptor_of(file);
  if (descriptor < 0 || bytes == 0) return;
  while (fallocate(descriptor, FALLOC_FL_KEEP_SIZE, 0, narrow<off_t>(bytes, "the size of a file")) != 0) {
    if (errno == EINTR) continue;
    if (errno == EOPNOTSUPP || errno == ENOSYS) return; // some file systems cannot
    throw Error(ExitCode::io, "writing " + path.string() + " failed: " + std::strerror(errno) +
                                  ": check the free space and the rights of its folder");
  }
}

/// Nor after the creation of a file whose first bytes found no room.
void expect_some_space(const fs::path& temporary, const fs::path& path) {
  constexpr std::size_t page = 4096;
  errno = 0;
  {
    std::ofstream stream(temporary, std::ios::binary | std::ios::trunc);
    stream << std::string(page, '\0') << std::flush;
    if (stream) return; // the creation truncates it
  }
  const std::string reason = std::strerror(errno == 0 ? EIO : errno);
  std::error_code ignored;
  fs::remove(temporary, ignored);
  throw Error(ExitCode::io, "writing " + path.string() + " failed: " + reason +
                                ": check the free space and the rights of its folder");
}

} // namespace

int descriptor_of(hid_t file) {
  void* handle = nullptr;
  return H5Fget_vfd_handle(file, H5P_DEFAULT, &handle) >= 0 && handle ? *static_cast<int*>(handle) : -1;
}

Hdf5File::State::~State() {
  if (!temporary.empty() && file.is_valid()) divert(file.get());
  file.reset();
  std::error_code ignored;
  if (!temporary.empty()) fs::remove(temporary, ignored);
}

H5I_type_t Hdf5File::State::type_of(const std::string& object) const {
  const auto handle = owned<ObjectHandle>(H5Oopen(file.get(), object.c_str(), H5P_DEFAULT), reading(object), path);
  return H5Iget_type(handle.get());
}

Hdf5File::Hdf5File(std::unique_ptr<State> state) : state_(std::move(state)) {}
Hdf5File::~Hdf5File() = default;
Hdf5File::Hdf5File(Hdf5File&&) noexcept = default;
Hdf5File& Hdf5File::operator=(Hdf5File&&) noexcept = default;
const fs::path& Hdf5File::path() const {
  return state_->path;
}

Hdf5File Hdf5File::create(const fs::path& file) {
  silence_hdf5();
  auto state = std::make_unique<State>();
  state->path = file;
  const auto properties = timeless(H5P_FILE_CREATE, file);
  const auto access = access_properties(file);
  // Chunks begin with a page: the system copies them in larger pieces.
  check_hdf5(H5Pset_alignment(access.get(), aligned_from, page_bytes), {false, "preparing the access"}, file);
  const auto temporary = temporary_name(file);
  expect_some_space(temporary, file);
  state->file = owned<FileHandle>(H5Fcreate(temporary.c_str(), H5F_ACC_TRUNC, properties.get(), access.get()),
                                  {true, "the creation"}, file);
  state->temporary = temporary;
  return Hdf5File(std::move(state));
}

Hdf5File Hdf5File::open(const fs::path& file) {
  silence_hdf5();
  if (!is_hdf5(file))
    throw Error(ExitCode::bad_data, file.string() + " is not an HDF5 file: give one, or check that it is whole");
  auto state = std::make_unique<State>();
  state->path = file;
  state->file_bytes = static_cast<std::int64_t>(fs::file_size(file));
  const auto access = access_properties(file);
  state->file = owned<FileHandle>(H5Fopen(file.c_str(), H5F_ACC_RDONLY, access.get()), {false, "the opening"}, file);
  return Hdf5File(std::move(state));
}

bool Hdf5File::is_hdf5(const fs::path& file) {
  std::error_code error;
  if (!fs::is_regular_file(file, error))
    throw Error(ExitCode::io, "cannot open " + file.string() + ": it does not exist or is not a file");
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw Error(ExitCode::io, "cannot open " + file.string() + " for reading: " + std::strerror(errno));
  char head[8] = {};
  stream.read(head, sizeof head);
  return stream.gcount() == 8 && std::memcmp(head, "\x89HDF\r\n\x1a\n", 8) == 0;
}

void Hdf5File::commit() {
  const Doing doing = state_->writing("the end");
  reserve_space(state_->file.get(), doing, state_->path);
  check_hdf5(H5Fflush(state_->file.get(), H5F_SCOPE_LOCAL), doing, state_->path);
  check_hdf5(state_->file.reset(), doing, state_->path);
  commit_file(state_->temporary, state_->path);
  state_->temporary.clear();
}

void Hdf5File::make_group(const std::string& group) {
  const Doing doing = state_->writing("group " + group);
  for (const auto& prefix : prefixes(group)) {
    if (exists(prefix)) continue;
    const auto properties = timeless(H5P_GROUP_CREATE, state_->path);
    const auto made =
        owned<GroupHandle>(H5Gcreate2(state_->file.get(), prefix.c_str(), H5P_DEFAULT, properties.get(), H5P_DEFAULT),
                           doing, state_->path);
  }
}

void Hdf5File::hard_link(const std::string& object, const std::string& new_name) {
  check_hdf5(H5Lcreate_hard(state_->file.get(), object.c_str(), state_->file.get(), new_name.c_str(), H5P_DEFAULT,
                            H5P_DEFAULT),
             state_->writing("link " + new_name), state_->path);
}

template <Element T>
void Hdf5File::write(const std::string& dataset, const Extent& dims, std::span<const T> values,
                     std::int64_t chunk_bytes) {
  require(!dims.empty(), "a dataset without dimensions was to be written");
  std::int64_t elements = 1;
  for (const auto extent : dims) elements = checked_product(elements, extent, "a dataset");
  require(elements == static_cast<std::int64_t>(values.size()), "a dataset's extent differs from its values");
  if (const auto slash = dataset.rfind('/'); slash > 0) make_group(dataset.substr(0, slash));

  const Doing doing = state_->writing("dataset " + dataset);
  std::vector<hsize_t> extent(dims.begin(), dims.end());
  const auto space = owned<SpaceHandle>(H5Screate_simple(static_cast<int>(extent.size()), extent.data(), nullptr),
                                        doing, state_->path);
  PropertyHandle properties;
  if (elements == 0) {
    properties = timeless(H5P_DATASET_CREATE, state_->path); // a chunk cannot be empty
  } else {
    auto chunk = extent;
    const auto row_bytes = elements / dims.front() * static_cast<std::int64_t>(sizeof(T));
    chunk[0] = static_cast<hsize_t>(std::min(dims.front(), rows_per_chunk(row_bytes, chunk_bytes)));
    properties = chunked_and_checked(chunk, file_type<T>(), state_->path);
  }
  const auto made = owned<DatasetHandle>(H5Dcreate2(state_->file.get(), dataset.c_str(), file_type<T>(), space.get(),
                                                    H5P_DEFAULT, properties.get(), H5P_DEFAULT),
                                         doing, state_->path);
  if (elements > 0)
    check_hdf5(H5Dwrite(made.get(), memory_type<T>(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), doing,
               state_->path);
}

bool Hdf5File::exists(const std::string& object) const {
  const Doing doing = state_->reading(object);
  for (const auto& prefix : prefixes(object)) { // HDF5 fails, instead of saying no, if a group above is missing
    const htri_t has_link = H5Lexists(state_->file.get(), prefix.c_str(), H5P_DEFAULT);
    // A damaged group must not pass for one without the link.
    check_hdf5(has_link, doing, state_->path);
    if (has_link == 0) return false;
    const htri_t has_object = H5Oexists_by_name(state_->file.get(), prefix.c_str(), H5P_DEFAULT);
    check_hdf5(has_object, doing, state_->path);
    if (has_object == 0) return false;
  }
  return true;
}

bool Hdf5File::is_group(const std::string& object) const {
  return exists(object) && state_->type_of(object) == H5I_GROUP;
}

bool Hdf5File::is_dataset(const std::string& object) const {
  return exists(object) && state_->type_of(object) == H5I_DATASET;
}

std::vector<std::string> Hdf5File::children(const std::string& group) const {
  const Doing doing = state_->reading("group " + group);
  const auto handle = owned<GroupHandle>(H5Gopen2(state_->file.get(), group.c_str(), H5P_DEFAULT), doing, state_->path);
  std::vector<std::string> names;
  check_hdf5(H5Literate(handle.get(), H5_INDEX_NAME, H5_ITER_INC, nullptr, take_name, &names), doing, state_->path);
  std::sort(names.begin(), names.end());
  return names;
}

template void Hdf5File::write(const std::string&, const Extent&, std::span<const float>, std::int64_t);
template void Hdf5File::write(const std::string&, const Extent&, std::span<const double>, std::int64_t);
template void Hdf5File::write(const std::string&, const Extent&, std::span<const std::uint8_t>, std::int64_t);
template void Hdf5File::write(const std::string&, const Extent&, std::span<const std::int32_t>, std::int64_t);
template void Hdf5File::write(const std::string&, const Extent&, std::span<const std::int64_t>, std::int64_t);

} // namespace slr::store
