#include "slr/store/factors.hpp"

#include "slr/base/error.hpp"
#include "slr/base/text.hpp"
#include "slr/store/feature_shards.hpp"

#include <algorithm>
#include <cmath>

namespace slr::store {
namespace {

std::string group_of(const std::string& layer) {
  return "/" + escape_name(layer);
}

void write_matrix(Hdf5File& file, const std::string& name, const FactorMatrix& matrix) {
  file.write<float>(name, {matrix.rows, matrix.cols}, matrix.values);
}

class LayerInput {
public:
  LayerInput(const Hdf5File& file, std::string group) : file_(&file), group_(std::move(group)) {}

  [[nodiscard]] FactorMatrix matrix(const std::string& name) const {
    const auto dataset = file_->dataset(group_ + "/" + name);
    const auto& dims = dataset.info().dims;
    if (dims.size() != 2) throw wrong(name + " is not a matrix");
    FactorMatrix matrix{dims[0], dims[1], dataset.read<float>()};
    check_finite(matrix.values, name);
    return matrix;
  }
  [[nodiscard]] RefinedWeight weight(const std::string& name) const {
    const auto dataset = file_->dataset(group_ + "/" + name);
    RefinedWeight weight{dataset.info().dims, dataset.read<float>()};
    check_finite(weight.values, name);
    return weight;
  }
  template <Element T>
  [[nodiscard]] std::vector<T> list(const std::string& name) const {
    const auto dataset = file_->dataset(group_ + "/" + name);
    if (dataset.info().dims.size() != 1) throw wrong(name + " is not a list");
    return dataset.read<T>();
  }
  void check_finite(const std::vector<float>& values, const std::string& name) const {
    if (!std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); }))
      throw wrong(name + " has a value that is not finite");
  }
  [[nodiscard]] Error wrong(const std::string& what) const {
    return Error(ExitCode::bad_data, what + " in " + group_ + " of " + file_->path().string() + ": compress again");
  }

private:
  const Hdf5File* file_;
  std::string group_;
};

} // namespace

FactorsWriter::FactorsWriter(const std::filesystem::path& file, const std::map<std::string, AttributeValue>& notes)
    : file_(Hdf5File::create(file)) {
  file_.set_attribute("/", "schema", current_schema);
  for (const auto& [name, value] : notes) file_.set_attribute("/", name, value);
}

void FactorsWriter::write(const LayerFactors& layer) {
  require(!layer.name.empty(), "a layer of the factors has no name");
  const auto group = group_of(layer.name);
  file_.make_group(group);
  write_matrix(file_, group + "/U", layer.u);
  write_matrix(file_, group + "/V", layer.v);
  write_matrix(file_, group + "/B", layer.b);
  file_.write<std::int64_t>(group + "/kept_groups", {std::ssize(layer.kept_groups)}, layer.kept_groups);
  file_.write<float>(group + "/bias", {std::ssize(layer.bias)}, layer.bias);
  for (const auto& [name, value] : layer.certificate) file_.set_attribute(group, name, value);
  file_.make_group(group + "/trace");
  for (const auto& [name, values] : layer.traces)
    file_.write<double>(group + "/trace/" + escape_name(name), {std::ssize(values)}, values);
  if (layer.refined.empty()) return;
  file_.make_group(group + "/refined");
  for (const auto& [name, weight] : layer.refined)
    file_.write<float>(group + "/refined/" + escape_name(name), weight.dims, weight.values);
}

void FactorsWriter::commit() {
  file_.commit();
}

FactorsReader::FactorsReader(const std::filesystem::path& file) : file_(Hdf5File::open(file)) {
  const auto schema = file_.attribute_as<std::int64_t>("/", "schema").value_or(0);
  if (schema != FactorsWriter::current_schema)
    throw Error(ExitCode::bad_data, file.string() + " is not a file of factors that this program reads (schema " +
                                        std::to_string(schema) + ")");
}

std::map<std::string, AttributeValue> FactorsReader::notes() const {
  auto notes = file_.attributes("/");
  notes.erase("schema");
  return notes;
}

std::vector<std::string> FactorsReader::layers() const {
  auto names = file_.children("/");
  for (auto& name : names) name = unescape_name(name);
  std::sort(names.begin(), names.end());
  return names;
}

LayerFactors FactorsReader::read(const std::string& layer) const {
  const auto group = group_of(layer);
  if (!file_.is_group(group)) {
    const auto nearest = nearest_name(layer, layers());
    throw Error(ExitCode::bad_data, file_.path().string() + " has no layer " + layer +
                                        (nearest.empty() ? "" : "; did you mean " + nearest + "?"));
  }
  const LayerInput input(file_, group);
  LayerFactors factors{layer,
                       input.matrix("U"),
                       input.matrix("V"),
                       input.matrix("B"),
                       input.list<std::int64_t>("kept_groups"),
                       input.list<float>("bias"),
                       file_.attributes(group),
                       {},
                       {}};
  input.check_finite(factors.bias, "bias");
  if (factors.u.cols != factors.v.rows) throw input.wrong("U and V do not fit together");
  for (const auto& name : file_.children(group + "/trace"))
    factors.traces.emplace(unescape_name(name), input.list<double>("trace/" + name));
  if (!file_.is_group(group + "/refined")) return factors;
  for (const auto& name : file_.children(group + "/refined"))
    factors.refined.emplace(unescape_name(name), input.weight("refined/" + name));
  return factors;
}

} // namespace slr::store
