#pragma once
/// \file
/// All shards of a run as one table per layer, whatever number of ranks wrote them.
#include "slr/mpi/communicator.hpp"
#include "slr/store/feature_shards.hpp"

#include <deque>

namespace slr::store {

/// The features of some layers, indexed by sample. The rows of a layer are in the order of their sample numbers; a
/// "position" counts in this order, 0 .. samples(layer).size() - 1. Opening is collective, reading is Local. Memory: 16
/// bytes per sample and quantity plus 8 per sample.
class FeatureSet {
public:
  /// Opens all shards of a place: a folder (its `shard-*.h5`, with the inputs folders below it; if it has none, every
  /// `*.h5`), a file, or a pattern with `*` and `?`. Collective: the files are looked at in turns, each by one rank.
  ///
  /// Checked: all shards that belong together are there (0 .. count - 1 in every folder, unless another program wrote
  /// them), one model and one configuration, equal sizes and attributes of a layer in all files, no sample twice, the
  /// same samples for X, X0 and Y. Files without sample numbers are numbered through in the order of their names.
  /// \throws Error{bad_data} naming file and layer, Error{io}; the same on every rank.
  [[nodiscard]] static FeatureSet open(const Communicator& comm, const std::string& place);
  /// The same for given files, each taken once. Collective; the list is that of the root.
  [[nodiscard]] static FeatureSet open_files(const Communicator& comm, std::vector<std::filesystem::path> files);

  [[nodiscard]] const std::vector<std::filesystem::path>& files() const { return files_; }
  /// SHA-256 of the model and hash of the configuration that wrote the shards; empty if another program did.
  [[nodiscard]] const std::string& model_sha256() const { return model_sha256_; }
  [[nodiscard]] const std::string& config_hash() const { return config_hash_; }

  /// In the order of their names.
  [[nodiscard]] std::vector<FeatureLayer> layers() const;
  /// \throws Error{bad_data} naming the nearest one if there is no such layer.
  [[nodiscard]] const FeatureLayer& layer(const std::string& name) const;
  [[nodiscard]] bool has(const std::string& layer, Quantity quantity) const;
  /// The sample numbers, increasing. \throws as `layer`.
  [[nodiscard]] std::span<const std::int64_t> samples(const std::string& layer) const;

  /// The rows at positions [first, first + count), row-major, count x (k or n). Every chunk touched is read once.
  /// \pre 0 <= first, 0 <= count, first + count <= samples(layer).size().
  /// \throws Error{bad_data} if the quantity is missing or damaged, Error{numerical} if it is not finite (naming file,
  /// layer, dataset and sample), Error{io}.
  [[nodiscard]] std::vector<float> read(const std::string& layer, Quantity quantity, std::int64_t first,
                                        std::int64_t count) const;
  /// The rows of the samples with these numbers, in this order. \throws as above, also if there is no such sample.
  [[nodiscard]] std::vector<float> read(const std::string& layer, Quantity quantity,
                                        std::span<const std::int64_t> sample_numbers) const;

  /// Has the system fetch the rows at these positions while this rank computes, so that `read` finds them in memory.
  /// Local; see Hdf5Dataset::announce_rows. A quantity that is missing is passed over. \pre as `read` \throws as `read`
  void announce(const std::string& layer, Quantity quantity, std::int64_t first, std::int64_t count) const;

  /// Where a row lies.
  struct Location {
    std::int32_t file = 0; ///< index into files()
    std::int64_t row = 0;
  };
  /// By position; empty if the quantity is missing.
  [[nodiscard]] std::span<const Location> locations(const std::string& layer, Quantity quantity) const;
  /// The group of the layer in a file that has it.
  [[nodiscard]] const std::string& group(const std::string& layer, std::int32_t file) const;

private:
  struct Table {
    FeatureLayer layer;
    std::vector<std::int64_t> samples;
    bool has[3] = {};                           ///< by Quantity, like the next
    std::vector<Location> locations[3];         ///< by position
    std::map<std::int32_t, std::string> groups; ///< by file
  };
  friend class FeatureSetBuilder;

  FeatureSet() = default;
  [[nodiscard]] const Table& table(const std::string& layer) const;
  [[nodiscard]] std::vector<float> read_positions(const Table& table, Quantity quantity,
                                                  std::span<const std::int64_t> positions) const;
  [[nodiscard]] const ShardReader& reader(std::int32_t file) const;

  std::vector<std::filesystem::path> files_;
  std::string model_sha256_, config_hash_;
  std::map<std::string, Table> tables_;
  mutable std::deque<std::pair<std::int32_t, ShardReader>> open_; ///< the last few files used
};

/// The files that `FeatureSet::open` takes at a place. Local. \throws Error{bad_data} if there are none, Error{io}.
[[nodiscard]] std::vector<std::filesystem::path> shard_files(const std::string& place);

/// Writes `output`, a file of virtual datasets over the shards, for people and Python: the groups and attributes of the
/// shards, all rows in the order of their sample numbers, `sample` itself stored. It refers to the shards by paths
/// relative to its own folder; what is missing of them reads as NaN. Local, on one rank. \throws Error{io}
void write_virtual_features(const FeatureSet& features, const std::filesystem::path& output);

} // namespace slr::store
