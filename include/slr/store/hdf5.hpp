#pragma once
/// \file
/// HDF5 files as this program writes and reads them: typed datasets by path, attributes, whole-file commits.
///
/// What is written is the same bytes for the same calls (no times are stored) and every byte of it is guarded: data are
/// chunked with a Fletcher32 checksum, metadata use the format of HDF5 1.10, whose every structure carries one. Files
/// are written beside their final name and renamed. What is read is taken as hostile: a size that a file claims is held
/// against the bytes that it has before anything is allocated. Everything here is Local and uses the default driver; a
/// file is used by one thread. HDF5's own error printing is switched off; its innermost reason ends up in the sentence.
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace slr::store {

/// Dimensions of a dataset, slowest first (row-major). The first one counts the rows.
using Extent = std::vector<std::int64_t>;

/// Bytes of a chunk unless somebody says otherwise.
inline constexpr std::int64_t default_chunk_bytes = 1 << 20;

template <class T>
concept Element = std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, std::uint8_t> ||
    std::same_as<T, std::int32_t> || std::same_as<T, std::int64_t>;

enum class ElementClass { integer, floating, other };

/// What a dataset says about itself.
struct DatasetInfo {
  Extent dims;
  ElementClass element_class = ElementClass::other;
  std::int64_t element_bytes = 0;
  bool is_signed = true;
  std::int64_t chunk_rows = 0; ///< rows of one chunk; 0 if the dataset is not chunked

  [[nodiscard]] std::int64_t rows() const { return dims.empty() ? 0 : dims.front(); }
  /// Elements of one row. \throws Error{bad_data} on overflow.
  [[nodiscard]] std::int64_t row_elements() const;
  [[nodiscard]] bool is_chunked() const { return chunk_rows > 0; }
};

/// A number, a text or a short list of numbers at an object. Texts are stored in UTF-8 with a fixed length.
using AttributeValue = std::variant<std::int64_t, double, std::string, std::vector<std::int64_t>, std::vector<double>>;

class Hdf5File;

/// An open dataset of an open file. Movable; must not outlive the file.
class Hdf5Dataset {
public:
  ~Hdf5Dataset();
  Hdf5Dataset(Hdf5Dataset&&) noexcept;
  Hdf5Dataset& operator=(Hdf5Dataset&&) noexcept;

  [[nodiscard]] const DatasetInfo& info() const;

  /// Rows [first, first + count) converted to T, row-major, into `out` of count * row_elements() elements.
  /// \pre 0 <= first, first + count <= rows().
  /// \throws Error{bad_data} if the stored elements are of another class than T or the checksum is wrong, Error{io}.
  template <Element T>
  void read_rows(std::int64_t first, std::int64_t count, std::span<T> out) const;

  /// Has the system fetch the stored bytes of these rows while this rank computes: what `read_rows` then finds in
  /// memory. Returns how many bytes were asked for; never fails. Local; a slow disk may take a while to accept the
  /// request. \pre as read_rows
  std::int64_t announce_rows(std::int64_t first, std::int64_t count) const;

  /// The whole dataset. \throws as read_rows.
  template <Element T>
  [[nodiscard]] std::vector<T> read() const;

private:
  friend class Hdf5File;
  struct State;
  explicit Hdf5Dataset(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// An open file, for reading or in the making. Objects are named by their full path ("/conv1/X0"). Movable.
class Hdf5File {
public:
  /// A new file under a temporary name beside `file`; it exists as `file` after `commit()`, and without that leaves
  /// nothing behind. \throws Error{io}
  [[nodiscard]] static Hdf5File create(const std::filesystem::path& file);
  /// An existing file, for reading. \throws Error{io} if it cannot be opened, Error{bad_data} if it is not HDF5 or is
  /// truncated.
  [[nodiscard]] static Hdf5File open(const std::filesystem::path& file);
  /// True if the file starts with HDF5's signature. \throws Error{io} if it cannot be read.
  [[nodiscard]] static bool is_hdf5(const std::filesystem::path& file);

  ~Hdf5File();
  Hdf5File(Hdf5File&&) noexcept;
  Hdf5File& operator=(Hdf5File&&) noexcept;

  [[nodiscard]] const std::filesystem::path& path() const; ///< the final name

  /// Closes the file, flushes it to the disk and renames it. Nothing may be called afterwards but `path()`.
  /// \throws Error{io}
  void commit();

  /// Creates the group and those above it; one that exists is left alone.
  void make_group(const std::string& group);
  /// Gives the object a second name. \pre the group of the new name exists.
  void hard_link(const std::string& object, const std::string& new_name);

  /// A new dataset with all its values: chunked along rows in about `chunk_bytes`, checksummed. An extent with a zero
  /// stores an empty dataset. The groups above it are created. \pre product of dims == values.size(), dims not empty.
  template <Element T>
  void write(const std::string& dataset, const Extent& dims, std::span<const T> values,
             std::int64_t chunk_bytes = default_chunk_bytes);

  /// Replaces the attribute of that name. Text ends at its first zero byte.
  void set_attribute(const std::string& object, const std::string& name, const AttributeValue& value);

  /// False for a link that leads nowhere. \throws Error{bad_data} if the groups on the way are damaged, like the next
  /// two.
  [[nodiscard]] bool exists(const std::string& object) const;
  [[nodiscard]] bool is_group(const std::string& object) const;   ///< false if it does not exist
  [[nodiscard]] bool is_dataset(const std::string& object) const; ///< false if it does not exist
  /// Names of the links of a group, in the order of their bytes. \throws Error{bad_data}
  [[nodiscard]] std::vector<std::string> children(const std::string& group) const;

  /// \throws Error{bad_data} if there is no such dataset, or if it claims more elements than its stored bytes can hold
  /// (or was not written completely).
  [[nodiscard]] Hdf5Dataset dataset(const std::string& name) const;

  /// The attribute, nothing if it is absent. Variable-length texts, as h5py writes them, are understood.
  /// \throws Error{bad_data} if it is of a type that AttributeValue does not have.
  [[nodiscard]] std::optional<AttributeValue> attribute(const std::string& object, const std::string& name) const;
  /// The attribute as a T; an integer also serves as a double and a number as a list of one.
  /// \throws Error{bad_data} if it is something else.
  template <class T>
  [[nodiscard]] std::optional<T> attribute_as(const std::string& object, const std::string& name) const;
  /// All attributes of types that AttributeValue has.
  [[nodiscard]] std::map<std::string, AttributeValue> attributes(const std::string& object) const;

private:
  template <Element T>
  friend class RowAppender;
  friend class VirtualFile;
  struct State;
  explicit Hdf5File(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// The checksum that HDF5's filter of this name appends (Fletcher 1982), of bytes that come in pieces: modulo 65535,
/// with 65535 in the place of 0 unless there are zeros alone, the sum of the big-endian 16-bit words and, above it, the
/// sum of that sum after every word; a last odd byte is the upper half of a word. Local.
class Fletcher32 {
public:
  void add(std::span<const std::byte> bytes);
  [[nodiscard]] std::uint32_t value() const; ///< of what was added

private:
  std::uint64_t sum_ = 0, sums_ = 0;
  unsigned char half_ = 0; ///< of a word
  bool has_half_ = false;
};

/// A dataset that grows row by row. Rows are collected into whole chunks, so the file does not depend on the sizes of
/// the pieces in which they came; memory: one chunk. The chunk is about `chunk_bytes`, or the whole dataset if that is
/// smaller. Nothing of the dataset is there before `finish()`. Must not outlive the file.
template <Element T>
class RowAppender {
public:
  /// A row has `row_shape` (empty: one element). The groups above the dataset are created at the first write.
  /// \pre no zero in row_shape.
  RowAppender(Hdf5File& file, std::string dataset, Extent row_shape, std::int64_t chunk_bytes = default_chunk_bytes);
  /// \pre values.size() is a multiple of the elements of a row. \throws Error{io}
  void append(std::span<const T> values);
  /// Writes what is left. Nothing may be appended afterwards. \throws Error{io}
  void finish();
  [[nodiscard]] std::int64_t rows() const { return rows_; }

private:
  void write_chunk();

  Hdf5File* file_;
  std::string dataset_;
  Extent row_shape_;
  std::int64_t row_elements_ = 1;
  std::int64_t chunk_rows_ = 1;
  std::int64_t rows_ = 0;
  std::int64_t written_rows_ = 0;
  std::vector<std::byte> waiting_; ///< less than a chunk
  Fletcher32 sum_;                 ///< of these
};

} // namespace slr::store
