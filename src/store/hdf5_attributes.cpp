#include "hdf5_handle.hpp"

#include "slr/base/error.hpp"

#include <algorithm>
#include <cstring>

namespace slr::store {
namespace {

namespace fs = std::filesystem;

constexpr hssize_t most_elements = 1 << 20; // an attribute is a note, not a dataset

TypeHandle text_type(std::size_t bytes, const Doing& doing, const fs::path& file) {
  auto type = owned<TypeHandle>(H5Tcopy(H5T_C_S1), doing, file);
  check_hdf5(H5Tset_size(type.get(), bytes), doing, file);
  check_hdf5(H5Tset_cset(type.get(), H5T_CSET_UTF8), doing, file);
  check_hdf5(H5Tset_strpad(type.get(), H5T_STR_NULLPAD), doing, file);
  return type;
}

/// An AttributeValue in HDF5's terms: both types, the space and the address.
struct Stored {
  TypeHandle text;
  hid_t stored_type = H5I_INVALID_HID;
  hid_t value_type = H5I_INVALID_HID;
  SpaceHandle space;
  const void* data = nullptr;
  std::string padded;
};

template <Element T>
void describe_numbers(Stored& stored, const T* data) {
  stored.stored_type = file_type<T>();
  stored.value_type = memory_type<T>();
  stored.data = data;
}

struct Describe {
  Stored& stored;
  const Doing& doing;
  const fs::path& file;

  void scalar() const { stored.space = owned<SpaceHandle>(H5Screate(H5S_SCALAR), doing, file); }
  void line(std::size_t count) const {
    const hsize_t extent = count;
    stored.space = owned<SpaceHandle>(H5Screate_simple(1, &extent, nullptr), doing, file);
  }
  void operator()(const std::int64_t& value) const {
    scalar();
    describe_numbers(stored, &value);
  }
  void operator()(const double& value) const {
    scalar();
    describe_numbers(stored, &value);
  }
  void operator()(const std::vector<std::int64_t>& values) const {
    line(values.size());
    describe_numbers(stored, values.data());
  }
  void operator()(const std::vector<double>& values) const {
    line(values.size());
    describe_numbers(stored, values.data());
  }
  void operator()(const std::string& text) const {
    scalar();
    stored.padded = text.c_str(); // ends at the first zero
    stored.text = text_type(std::max<std::size_t>(1, stored.padded.size()), doing, file);
    stored.stored_type = stored.value_type = stored.text.get();
    stored.data = stored.padded.c_str();
  }
};

std::string read_text(hid_t attribute, hid_t type, const Doing& doing, const fs::path& file) {
  if (H5Tis_variable_str(type) > 0) {
    char* text = nullptr;
    const auto memory = owned<TypeHandle>(H5Tcopy(H5T_C_S1), doing, file);
    check_hdf5(H5Tset_size(memory.get(), H5T_VARIABLE), doing, file);
    check_hdf5(H5Tset_cset(memory.get(), H5Tget_cset(type)), doing, file);
    check_hdf5(H5Aread(attribute, memory.get(), static_cast<void*>(&text)), doing, file);
    const std::unique_ptr<char, herr_t (*)(void*)> owner(text, H5free_memory);
    return text == nullptr ? "" : text;
  }
  const auto bytes = H5Tget_size(type);
  if (bytes > static_cast<std::size_t>(most_elements))
    throw Error(ExitCode::bad_data, doing.what + " of " + file.string() + " failed: the text is too long");
  std::string text(bytes, '\0');
  check_hdf5(H5Aread(attribute, type, text.data()), doing, file);
  text.resize(::strnlen(text.data(), text.size()));
  if (H5Tget_strpad(type) == H5T_STR_SPACEPAD) text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

template <Element T>
AttributeValue read_numbers(hid_t attribute, bool is_scalar, std::size_t count, const Doing& doing,
                            const fs::path& file) {
  std::vector<T> values(count);
  if (count > 0) check_hdf5(H5Aread(attribute, memory_type<T>(), values.data()), doing, file);
  if (is_scalar) return values.front();
  return values;
}

/// Nothing if the attribute is of a type that AttributeValue does not have.
std::optional<AttributeValue> read_attribute(hid_t attribute, const Doing& doing, const fs::path& file) {
  const auto type = owned<TypeHandle>(H5Aget_type(attribute), doing, file);
  const auto space = owned<SpaceHandle>(H5Aget_space(attribute), doing, file);
  const auto points = H5Sget_simple_extent_npoints(space.get());
  const auto dimensions = H5Sget_simple_extent_ndims(space.get());
  if (points < 0 || points > most_elements || dimensions > 1 || H5Sget_simple_extent_type(space.get()) == H5S_NULL)
    return std::nullopt;
  const bool is_scalar = dimensions == 0;
  switch (H5Tget_class(type.get())) {
  case H5T_STRING:
    if (!is_scalar) return std::nullopt;
    return read_text(attribute, type.get(), doing, file);
  case H5T_INTEGER:
    return read_numbers<std::int64_t>(attribute, is_scalar, static_cast<std::size_t>(points), doing, file);
  case H5T_FLOAT:
    return read_numbers<double>(attribute, is_scalar, static_cast<std::size_t>(points), doing, file);
  default:
    return std::nullopt;
  }
}

herr_t take_name(hid_t /*object*/, const char* name, const H5A_info_t* /*info*/, void* data) {
  try {
    static_cast<std::vector<std::string>*>(data)->emplace_back(name);
  } catch (...) {
    return -1;
  }
  return 0;
}

template <class T>
std::optional<T> as(const AttributeValue& value) {
  if (const auto* same = std::get_if<T>(&value)) return *same;
  const auto* integer = std::get_if<std::int64_t>(&value);
  const auto* number = std::get_if<double>(&value);
  if constexpr (std::same_as<T, double>) {
    if (integer) return static_cast<double>(*integer);
  } else if constexpr (std::same_as<T, std::vector<std::int64_t>>) {
    if (integer) return T{*integer};
  } else if constexpr (std::same_as<T, std::vector<double>>) {
    if (number) return T{*number};
    if (integer) return T{static_cast<double>(*integer)};
    if (const auto* integers = std::get_if<std::vector<std::int64_t>>(&value))
      return T(integers->begin(), integers->end());
  }
  return std::nullopt;
}

} // namespace

void Hdf5File::set_attribute(const std::string& object, const std::string& name, const AttributeValue& value) {
  const Doing doing = state_->writing("attribute " + name + " of " + object);
  Stored stored;
  std::visit(Describe{stored, doing, state_->path}, value);
  const auto owner = owned<ObjectHandle>(H5Oopen(state_->file.get(), object.c_str(), H5P_DEFAULT), doing, state_->path);
  if (H5Aexists(owner.get(), name.c_str()) > 0) check_hdf5(H5Adelete(owner.get(), name.c_str()), doing, state_->path);
  const auto attribute = owned<AttributeHandle>(
      H5Acreate2(owner.get(), name.c_str(), stored.stored_type, stored.space.get(), H5P_DEFAULT, H5P_DEFAULT), doing,
      state_->path);
  if (H5Sget_simple_extent_npoints(stored.space.get()) > 0)
    check_hdf5(H5Awrite(attribute.get(), stored.value_type, stored.data), doing, state_->path);
}

std::optional<AttributeValue> Hdf5File::attribute(const std::string& object, const std::string& name) const {
  const Doing doing = state_->reading("attribute " + name + " of " + object);
  const auto owner = owned<ObjectHandle>(H5Oopen(state_->file.get(), object.c_str(), H5P_DEFAULT), doing, state_->path);
  const htri_t is_there = H5Aexists(owner.get(), name.c_str());
  check_hdf5(is_there, doing, state_->path);
  if (is_there == 0) return std::nullopt;
  const auto attribute = owned<AttributeHandle>(H5Aopen(owner.get(), name.c_str(), H5P_DEFAULT), doing, state_->path);
  auto value = read_attribute(attribute.get(), doing, state_->path);
  if (!value)
    throw Error(ExitCode::bad_data, "attribute " + name + " of " + object + " in " + state_->path.string() +
                                        " is neither a number nor a text nor a short list of numbers");
  return value;
}

template <class T>
std::optional<T> Hdf5File::attribute_as(const std::string& object, const std::string& name) const {
  const auto value = attribute(object, name);
  if (!value) return std::nullopt;
  auto converted = as<T>(*value);
  if (!converted)
    throw Error(ExitCode::bad_data, "attribute " + name + " of " + object + " in " + state_->path.string() +
                                        " is of another type than expected");
  return converted;
}

std::map<std::string, AttributeValue> Hdf5File::attributes(const std::string& object) const {
  const Doing doing = state_->reading("attributes of " + object);
  const auto owner = owned<ObjectHandle>(H5Oopen(state_->file.get(), object.c_str(), H5P_DEFAULT), doing, state_->path);
  std::vector<std::string> names;
  check_hdf5(H5Aiterate2(owner.get(), H5_INDEX_NAME, H5_ITER_INC, nullptr, take_name, &names), doing, state_->path);
  std::map<std::string, AttributeValue> all;
  for (const auto& name : names) {
    const auto attribute = owned<AttributeHandle>(H5Aopen(owner.get(), name.c_str(), H5P_DEFAULT), doing, state_->path);
    if (auto value = read_attribute(attribute.get(), doing, state_->path)) all.emplace(name, std::move(*value));
  }
  return all;
}

template std::optional<std::int64_t> Hdf5File::attribute_as(const std::string&, const std::string&) const;
template std::optional<double> Hdf5File::attribute_as(const std::string&, const std::string&) const;
template std::optional<std::string> Hdf5File::attribute_as(const std::string&, const std::string&) const;
template std::optional<std::vector<std::int64_t>> Hdf5File::attribute_as(const std::string&, const std::string&) const;
template std::optional<std::vector<double>> Hdf5File::attribute_as(const std::string&, const std::string&) const;

} // namespace slr::store
