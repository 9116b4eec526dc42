#pragma once
/// \file
/// Feature shards: what one rank saw of the layers' inputs and outputs, in a file of its own.
///
/// A group per layer (its name escaped, see `escape_name`) holds
/// - `X0` float32 samples x k: input patches in the original network,
/// - `X`  float32 samples x k: the inputs that are fitted; a second name of X0 where they are the same,
/// - `Y`  float32 samples x n: outputs of the original network after the activation,
/// - `sample` int64 samples: global number of each row, image * positions + position,
/// and the attributes of FeatureLayer; the root has those of ShardHeader. All chunked along samples, checksummed.
/// A file is written once and never changed: compressed inputs, known only later, go into shards of their own
/// (`inputs_folder`), which may be split among another number of ranks; FeatureSet puts all together.
///
/// Files that other programs wrote are understood if they have such groups (nested ones are named by their path): X or
/// X0 and Y of any floating type, chunked or contiguous; `sample` and all attributes may be missing.
#include "slr/store/hdf5.hpp"

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace slr::store {

/// The three matrices of a layer; rows are samples.
enum class Quantity { original_inputs, inputs, outputs };
/// "X0", "X", "Y".
[[nodiscard]] const char* dataset_name(Quantity quantity);

/// A layer as the shards describe it. Sizes that a file does not give are 0, lists and texts empty.
struct FeatureLayer {
  std::string name;
  std::int64_t inputs = 0;    ///< k
  std::int64_t outputs = 0;   ///< n
  std::int64_t positions = 0; ///< samples per image
  std::vector<std::int64_t> kernel, strides, pads, dilations;
  std::string activation;                    ///< name, as the network calls it
  std::vector<double> activation_parameters; ///< in the order of that activation

  bool operator==(const FeatureLayer&) const = default;
};

/// Who wrote a shard.
struct ShardHeader {
  static constexpr std::int64_t current_schema = 1;
  std::string model_sha256;
  std::string config_hash;
  std::int64_t index = 0; ///< 0 .. count - 1
  std::int64_t count = 1;

  bool operator==(const ShardHeader&) const = default;
};

/// `name` with '%' and '/' written as "%25" and "%2F" ("." as "%2E"): one link name in HDF5, one file name.
[[nodiscard]] std::string escape_name(const std::string& name);
/// The name again; other texts (of other programs) pass unchanged unless they contain these three codes.
[[nodiscard]] std::string unescape_name(const std::string& escaped);

/// folder/shard-00003-of-00064.h5. \pre 0 <= index < count.
[[nodiscard]] std::filesystem::path shard_file(const std::filesystem::path& folder, std::int64_t index,
                                               std::int64_t count);
/// The folder for the shards with the compressed inputs of one layer: folder/inputs/NAME.
[[nodiscard]] std::filesystem::path inputs_folder(const std::filesystem::path& folder, const std::string& layer);

/// A shard in the making, under a temporary name until `commit()`; without that it leaves nothing. Local. Memory: one
/// chunk (about 1 MB) per dataset begun.
class ShardWriter {
public:
  /// Creates the folder if it is missing. \throws Error{io}
  ShardWriter(const std::filesystem::path& file, const ShardHeader& header);
  ShardWriter(const ShardWriter&) = delete;
  ShardWriter& operator=(const ShardWriter&) = delete;

  /// \pre the name is not empty and new here; inputs, outputs >= 1 for the quantities that are appended.
  void begin_layer(const FeatureLayer& layer);
  /// Rows of one quantity, row-major (k or n values each), as many at a time as convenient; an empty piece says that
  /// the quantity belongs to the shard even if no row follows. \throws Error{io}
  void append(const std::string& layer, Quantity quantity, std::span<const float> rows);
  /// The global numbers of the rows, in the same order. \throws Error{io}
  void append_samples(const std::string& layer, std::span<const std::int64_t> numbers);
  /// The inputs that are fitted are the original ones: X becomes a second name of X0.
  void link_inputs(const std::string& layer);

  /// Writes what is left and gives the file its name. Every quantity must have as many rows as there are sample
  /// numbers. \throws Error{io}
  void commit();
  /// SHA-256 of the committed file, 64 hexadecimal digits. Reads it. \throws Error{io}
  [[nodiscard]] std::string sha256() const;

private:
  struct OpenLayer {
    FeatureLayer layer;
    std::map<Quantity, RowAppender<float>> rows;
    RowAppender<std::int64_t> samples;
    bool is_linked = false;
  };
  [[nodiscard]] OpenLayer& open_layer(const std::string& name);

  Hdf5File file_;
  std::map<std::string, OpenLayer> layers_;
};

/// An open shard. Local.
class ShardReader {
public:
  /// A layer as found in one file.
  struct Layer {
    FeatureLayer layer;
    std::string group;
    std::int64_t rows = 0;
    bool has_quantity[3] = {}; ///< by Quantity
    bool has_samples = false;

    [[nodiscard]] bool has(Quantity quantity) const { return has_quantity[static_cast<int>(quantity)]; }
  };
  /// Row `row` of the file goes to row `to` of the caller.
  struct RowCopy {
    std::int64_t row = 0;
    std::int64_t to = 0;
  };

  /// Opens the file and reads its structure. \throws Error{io}, Error{bad_data} if it is damaged or if the datasets of
  /// a layer contradict each other or the attributes.
  explicit ShardReader(const std::filesystem::path& file);

  [[nodiscard]] const std::filesystem::path& path() const { return file_.path(); }
  /// Nothing in a file of another program.
  [[nodiscard]] const std::optional<ShardHeader>& header() const { return header_; }
  [[nodiscard]] const std::vector<Layer>& layers() const { return layers_; } ///< by name
  /// \throws Error{bad_data} if the file does not have it.
  [[nodiscard]] const Layer& layer(const std::string& name) const;
  /// The numbers of the rows. \pre layer(name).has_samples. \throws Error{bad_data}
  [[nodiscard]] std::vector<std::int64_t> samples(const std::string& layer) const;

  /// Rows [first, first + count), row-major. \throws Error{bad_data} naming file, dataset and sample if a value is not
  /// finite; see Hdf5Dataset::read_rows.
  [[nodiscard]] std::vector<float> read(const std::string& layer, Quantity quantity, std::int64_t first,
                                        std::int64_t count) const;
  /// Some rows to given rows of `out`. Every chunk that is touched is read once. Memory: one chunk.
  /// \pre `rows` increase in RowCopy::row and lie in the dataset; out holds every RowCopy::to. \throws as `read`.
  void read(const std::string& layer, Quantity quantity, std::span<const RowCopy> rows, std::span<float> out) const;

  /// Has the system fetch rows [first, first + count) of a quantity that is there, see Hdf5Dataset::announce_rows.
  void announce(const std::string& layer, Quantity quantity, std::int64_t first, std::int64_t count) const;

private:
  void find_layers(const std::string& group, int depth);
  [[nodiscard]] Layer describe_layer(const std::string& group) const;
  [[noreturn]] void throw_not_finite(const Layer& layer, Quantity quantity, std::int64_t row) const;

  Hdf5File file_;
  std::optional<ShardHeader> header_;
  std::vector<Layer> layers_;
};

} // namespace slr::store
