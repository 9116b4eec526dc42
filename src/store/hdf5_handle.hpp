#pragma once
// Owners of HDF5 identifiers and the sentences for HDF5's failures. Private to the module: the only header that lets
// hdf5.h in.
#include "slr/store/hdf5.hpp"

#include <hdf5.h>

#include <filesystem>
#include <string>
#include <utility>

namespace slr::store {

/// An HDF5 identifier that closes itself.
template <herr_t (*Close)(hid_t)>
class Handle {
public:
  Handle() = default;
  explicit Handle(hid_t id) : id_(id) {}
  ~Handle() { reset(); }
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, H5I_INVALID_HID)) {}
  Handle& operator=(Handle&& other) noexcept {
    if (this != &other) {
      reset();
      id_ = std::exchange(other.id_, H5I_INVALID_HID);
    }
    return *this;
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  [[nodiscard]] hid_t get() const { return id_; }
  [[nodiscard]] bool is_valid() const { return id_ >= 0; }
  /// Closes; negative if HDF5 could not.
  herr_t reset() noexcept {
    const hid_t id = std::exchange(id_, H5I_INVALID_HID);
    return id >= 0 ? Close(id) : 0;
  }

private:
  hid_t id_ = H5I_INVALID_HID;
};

using FileHandle = Handle<H5Fclose>;
using GroupHandle = Handle<H5Gclose>;
using DatasetHandle = Handle<H5Dclose>;
using SpaceHandle = Handle<H5Sclose>;
using TypeHandle = Handle<H5Tclose>;
using AttributeHandle = Handle<H5Aclose>;
using PropertyHandle = Handle<H5Pclose>;
using ObjectHandle = Handle<H5Oclose>;

/// Stops HDF5 from printing its errors and from following links into other files. Called wherever a file is opened or
/// created.
void silence_hdf5();

/// What was being done when HDF5 failed.
struct Doing {
  bool is_writing = false;
  std::string what; ///< "reading dataset /a/X"
};

/// Throws the sentence for HDF5's last failure: Error{io} when writing or when the system could not read, else
/// Error{bad_data}.
[[noreturn]] void throw_hdf5(const Doing& doing, const std::filesystem::path& file);

/// The owner of the identifier, or the sentence if it is not one.
template <class Owner>
[[nodiscard]] Owner owned(hid_t id, const Doing& doing, const std::filesystem::path& file) {
  if (id < 0) throw_hdf5(doing, file);
  return Owner(id);
}
inline void check_hdf5(herr_t status, const Doing& doing, const std::filesystem::path& file) {
  if (status < 0) throw_hdf5(doing, file);
}

template <Element T>
[[nodiscard]] hid_t memory_type() {
  if constexpr (std::same_as<T, float>)
    return H5T_NATIVE_FLOAT;
  else if constexpr (std::same_as<T, double>)
    return H5T_NATIVE_DOUBLE;
  else if constexpr (std::same_as<T, std::uint8_t>)
    return H5T_NATIVE_UINT8;
  else if constexpr (std::same_as<T, std::int32_t>)
    return H5T_NATIVE_INT32;
  else
    return H5T_NATIVE_INT64;
}
template <Element T>
[[nodiscard]] hid_t file_type() {
  if constexpr (std::same_as<T, float>)
    return H5T_IEEE_F32LE;
  else if constexpr (std::same_as<T, double>)
    return H5T_IEEE_F64LE;
  else if constexpr (std::same_as<T, std::uint8_t>)
    return H5T_STD_U8LE;
  else if constexpr (std::same_as<T, std::int32_t>)
    return H5T_STD_I32LE;
  else
    return H5T_STD_I64LE;
}

/// The descriptor that HDF5 reads and writes a file through; -1 if it does not tell.
[[nodiscard]] int descriptor_of(hid_t file);

/// Creation properties of a group, dataset or file without the times that would differ from run to run.
[[nodiscard]] PropertyHandle timeless(hid_t property_class, const std::filesystem::path& file);
/// Creation properties of a dataset in chunks, checksummed, zeros in what a last chunk has too much.
[[nodiscard]] PropertyHandle chunked_and_checked(const std::vector<hsize_t>& chunk, hid_t type,
                                                 const std::filesystem::path& file);
/// Rows of one chunk of about `chunk_bytes`; at least one.
[[nodiscard]] std::int64_t rows_per_chunk(std::int64_t row_bytes, std::int64_t chunk_bytes);

struct Hdf5File::State {
  std::filesystem::path path;      ///< final name
  std::filesystem::path temporary; ///< empty when reading or committed
  FileHandle file;
  std::int64_t file_bytes = 0;  ///< when reading
  std::int64_t handed_over = 0; ///< bytes that the system was not yet asked to write out

  ~State();
  /// So many bytes more were handed to the system; has it begin to write them out when there are enough.
  void write_out(std::int64_t bytes);
  [[nodiscard]] H5I_type_t type_of(const std::string& object) const;
  [[nodiscard]] Doing reading(const std::string& what) const { return {false, "reading " + what}; }
  [[nodiscard]] Doing writing(const std::string& what) const { return {true, "writing " + what}; }
};

struct Hdf5Dataset::State {
  std::filesystem::path path;
  std::string name;
  DatasetHandle dataset;
  DatasetInfo info;
};

} // namespace slr::store
