#include "slr/store/feature_set.hpp"

#include "hdf5_handle.hpp"
#include "slr/base/error.hpp"

#include <algorithm>
#include <limits>

namespace slr::store {
namespace {

namespace fs = std::filesystem;

/// Rows of one file that follow each other in increasing order while the positions do.
struct Mapping {
  std::int32_t file = 0;
  struct Run {
    std::int64_t position = 0, row = 0, count = 0;
  };
  std::vector<Run> runs;
};

/// One mapping per file, or more where a file's rows do not increase with the sample number.
std::vector<Mapping> mappings_of(std::span<const FeatureSet::Location> locations) {
  std::vector<Mapping> all;
  std::map<std::int32_t, std::size_t> last; // by file
  for (std::int64_t position = 0; position < std::ssize(locations); ++position) {
    const auto [file, row] = locations[static_cast<std::size_t>(position)];
    const auto found = last.find(file);
    if (found == last.end() || all[found->second].runs.back().row + all[found->second].runs.back().count > row) {
      last[file] = all.size();
      all.push_back({file, {{position, row, 1}}});
      continue;
    }
    auto& run = all[found->second].runs.back();
    if (run.position + run.count == position && run.row + run.count == row)
      ++run.count;
    else
      all[found->second].runs.push_back({position, row, 1});
  }
  return all;
}

void select(hid_t space, const std::vector<Mapping::Run>& runs, std::int64_t Mapping::Run::*first, hsize_t width,
            const Doing& doing, const fs::path& file) {
  check_hdf5(H5Sselect_none(space), doing, file);
  for (const auto& run : runs) {
    const hsize_t start[2] = {static_cast<hsize_t>(run.*first), 0};
    const hsize_t extent[2] = {static_cast<hsize_t>(run.count), width};
    check_hdf5(H5Sselect_hyperslab(space, H5S_SELECT_OR, start, nullptr, extent, nullptr), doing, file);
  }
}

std::int64_t rows_of(const FeatureSet& features, std::int32_t file, const std::string& group, Quantity quantity) {
  const auto shard = Hdf5File::open(features.files()[static_cast<std::size_t>(file)]);
  return shard.dataset(group + "/" + dataset_name(quantity)).info().rows();
}

} // namespace

/// The file in the making: the one writer that needs HDF5's own calls besides Hdf5File.
class VirtualFile {
public:
  VirtualFile(const FeatureSet& features, const fs::path& output)
      : features_(features), file_(Hdf5File::create(output)),
        folder_(fs::absolute(output).lexically_normal().parent_path()) {}

  void write() {
    file_.set_attribute("/", "model_sha256", features_.model_sha256());
    file_.set_attribute("/", "config_hash", features_.config_hash());
    for (const auto& layer : features_.layers()) write_layer(layer);
    file_.commit();
  }

private:
  void write_layer(const FeatureLayer& layer) {
    const std::string group = "/" + escape_name(layer.name);
    file_.make_group(group);
    file_.set_attribute(group, "name", layer.name);
    file_.set_attribute(group, "positions", layer.positions);
    file_.set_attribute(group, "kernel", layer.kernel);
    file_.set_attribute(group, "strides", layer.strides);
    file_.set_attribute(group, "pads", layer.pads);
    file_.set_attribute(group, "dilations", layer.dilations);
    file_.set_attribute(group, "activation", layer.activation);
    file_.set_attribute(group, "activation_parameters", layer.activation_parameters);
    const auto samples = features_.samples(layer.name);
    file_.write<std::int64_t>(group + "/sample", {std::ssize(samples)}, samples);
    for (const auto quantity : {Quantity::original_inputs, Quantity::inputs, Quantity::outputs})
      if (features_.has(layer.name, quantity)) write_virtual(layer, quantity, group + "/" + dataset_name(quantity));
  }

  void write_virtual(const FeatureLayer& layer, Quantity quantity, const std::string& name) {
    const auto& path = file_.state_->path;
    const Doing doing = file_.state_->writing("virtual dataset " + name);
    const auto width = static_cast<hsize_t>(quantity == Quantity::outputs ? layer.outputs : layer.inputs);
    const auto locations = features_.locations(layer.name, quantity);
    const hsize_t extent[2] = {locations.size(), width};
    const auto space = owned<SpaceHandle>(H5Screate_simple(2, extent, nullptr), doing, path);
    const auto properties = timeless(H5P_DATASET_CREATE, path);
    const float missing = std::numeric_limits<float>::quiet_NaN();
    check_hdf5(H5Pset_fill_value(properties.get(), H5T_NATIVE_FLOAT, &missing), doing, path);
    for (const auto& mapping : mappings_of(locations)) {
      const auto& group = features_.group(layer.name, mapping.file);
      const hsize_t rows[2] = {static_cast<hsize_t>(rows_of(features_, mapping.file, group, quantity)), width};
      const auto source = owned<SpaceHandle>(H5Screate_simple(2, rows, nullptr), doing, path);
      select(source.get(), mapping.runs, &Mapping::Run::row, width, doing, path);
      select(space.get(), mapping.runs, &Mapping::Run::position, width, doing, path);
      const std::string shard = relative(mapping.file);
      const std::string dataset = escape_percent(group + "/" + dataset_name(quantity));
      check_hdf5(H5Pset_virtual(properties.get(), space.get(), shard.c_str(), dataset.c_str(), source.get()), doing,
                 path);
    }
    check_hdf5(H5Sselect_all(space.get()), doing, path);
    const auto made = owned<DatasetHandle>(H5Dcreate2(file_.state_->file.get(), name.c_str(), H5T_IEEE_F32LE,
                                                      space.get(), H5P_DEFAULT, properties.get(), H5P_DEFAULT),
                                           doing, path);
  }

  [[nodiscard]] std::string relative(std::int32_t file) const {
    const auto shard = fs::absolute(features_.files()[static_cast<std::size_t>(file)]).lexically_normal();
    return escape_percent(shard.lexically_relative(folder_).string());
  }

  /// HDF5 takes "%b" in the names of sources as a pattern and "%%" as one '%'.
  [[nodiscard]] static std::string escape_percent(const std::string& text) {
    std::string escaped;
    for (const char c : text) escaped += c == '%' ? std::string("%%") : std::string(1, c);
    return escaped;
  }

  const FeatureSet& features_;
  Hdf5File file_;
  fs::path folder_;
};

void write_virtual_features(const FeatureSet& features, const fs::path& output) {
  VirtualFile(features, output).write();
}

} // namespace slr::store
