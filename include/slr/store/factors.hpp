#pragma once
/// \file
/// factors.h5: the result of every layer, in a group of its own, with its certificate.
#include "slr/store/hdf5.hpp"

#include <map>
#include <string>
#include <vector>

namespace slr::store {

/// A small dense matrix, row-major.
struct FactorMatrix {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::vector<float> values; ///< rows * cols

  bool operator==(const FactorMatrix&) const = default;
};

/// A weight of the network after its refinement, as ONNX has it: row-major.
struct RefinedWeight {
  std::vector<std::int64_t> dims;
  std::vector<float> values;

  bool operator==(const RefinedWeight&) const = default;
};

/// What replaces a layer's W: U V on the columns that are left, B on those that are kept (the attribute `grouping` is
/// "filter": rows instead of columns). Empty matrices say that the part is absent. Stored as `/<layer>/U`, `V`, `B`
/// float32, `kept_groups` int64, `bias` float32; the certificate as attributes of the group; traces as float64 datasets
/// `/<layer>/trace/<name>`. U, V, B and bias are the layer's own solution, on which errors and certificate are; what
/// the refinement of the whole network made of them is beside them, `/<layer>/refined/<name>` float32, as the network's
/// file has it.
struct LayerFactors {
  std::string name;
  FactorMatrix u; ///< rows (that are not kept) x r
  FactorMatrix v; ///< r x columns (that are not kept)
  FactorMatrix b; ///< rows x kept columns, or kept rows x columns
  std::vector<std::int64_t> kept_groups;
  std::vector<float> bias;
  std::map<std::string, AttributeValue> certificate;
  std::map<std::string, std::vector<double>> traces;
  std::map<std::string, RefinedWeight> refined{};

  bool operator==(const LayerFactors&) const = default;
};

/// Writes a file of factors layer by layer; there is nothing under its name before `commit()`. The same calls give the
/// same bytes. Local, on one rank.
class FactorsWriter {
public:
  static constexpr std::int64_t current_schema = 1;

  /// `notes` become attributes of the root (model SHA-256, configuration hash). \throws Error{io}
  explicit FactorsWriter(const std::filesystem::path& file, const std::map<std::string, AttributeValue>& notes = {});
  /// \pre the name is new and not empty, the matrices hold rows * cols values. \throws Error{io}
  void write(const LayerFactors& layer);
  /// \throws Error{io}
  void commit();

private:
  Hdf5File file_;
};

/// Reads a file of factors. Local. \throws Error{io}, Error{bad_data}
class FactorsReader {
public:
  explicit FactorsReader(const std::filesystem::path& file);
  [[nodiscard]] std::map<std::string, AttributeValue> notes() const;
  /// By name. \throws Error{bad_data}
  [[nodiscard]] std::vector<std::string> layers() const;
  /// \throws Error{bad_data} if there is no such layer, or if its parts do not fit together or are not finite.
  [[nodiscard]] LayerFactors read(const std::string& layer) const;

private:
  Hdf5File file_;
};

} // namespace slr::store
