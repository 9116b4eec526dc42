#include "value_kinds.hpp"

#include "slr/base/text.hpp"
#include "slr/run/json_text.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace slr::run {
namespace {

template <class Number>
std::optional<Number> parsed(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// What is in {a: .., b: ..} inside one value: the named part or nothing; other names are refused.
class Record {
public:
  Record(const Tree& tree, std::string key, const std::string& expected, std::vector<std::string> names)
      : tree_(tree), key_(std::move(key)) {
    if (tree.kind != Tree::Kind::mapping) refuse_value(tree, key_, expected);
    for (const auto& [name, value] : tree.entries) {
      if (std::find(names.begin(), names.end(), name) != names.end()) continue;
      const auto near = nearest_name(name, names);
      refuse(value.place, "unknown key \"" + key_ + "." + printable(name, 60) + "\"" +
                              (near.empty() ? ", expected " + expected : "; did you mean \"" + near + "\"?"));
    }
  }
  template <class Kind>
  [[nodiscard]] std::optional<typename Kind::Value> optional(const std::string& name, const Kind& kind) const {
    const auto* part = tree_.find(name);
    if (!part || part->kind == Tree::Kind::null) return std::nullopt;
    return kind.read(*part, key_ + "." + name);
  }
  template <class Kind>
  [[nodiscard]] typename Kind::Value required(const std::string& name, const Kind& kind) const {
    auto value = optional(name, kind);
    if (!value) refuse(tree_.place, key_ + "." + name + " is missing, expected " + kind.expected());
    return *value;
  }

private:
  const Tree& tree_;
  std::string key_;
};

struct Text {
  using Value = std::string;
  [[nodiscard]] static std::string expected() { return "a text"; }
  [[nodiscard]] static std::string read(const Tree& tree, const std::string& key) {
    if (tree.kind != Tree::Kind::scalar || tree.text.empty()) refuse_value(tree, key, expected());
    return tree.text;
  }
};

Target read_target(const Tree& tree, const std::string& key) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  if (tree.kind == Tree::Kind::mapping) {
    const Record record(tree, key, Targets::expected(), {"at_most"});
    return {std::nullopt, record.required("at_most", positive())};
  }
  return {Real{1, infinity, Targets::expected()}.read(tree, key), std::nullopt};
}

Json write_target(const Target& target) {
  if (target.factor) return *target.factor;
  return {{"at_most", target.at_most.value_or(0)}};
}

Choice<std::string> activations() {
  Choice<std::string> choice;
  for (const auto* name : {"identity", "relu", "relu6", "sigmoid", "tanh"}) choice.words.emplace_back(name, name);
  return choice;
}

} // namespace

void refuse_value(const Tree& tree, const std::string& key, const std::string& expected) {
  refuse(tree.place, key + " is " + words_for(tree) + ", expected " + expected);
}

std::optional<double> number_in(const Tree& tree) {
  if (tree.kind != Tree::Kind::scalar || !tree.is_plain) return std::nullopt;
  const auto value = parsed<double>(tree.text);
  return value && std::isfinite(*value) ? value : std::nullopt;
}

double Real::read(const Tree& tree, const std::string& key) const {
  const auto value = number_in(tree);
  if (!value || !(low < *value && *value < high)) refuse_value(tree, key, words);
  return *value;
}
Real fraction() {
  return {0, 1, "a number between 0 and 1, exclusive"};
}
Real positive() {
  return {0, std::numeric_limits<double>::infinity(), "a number > 0"};
}

std::optional<double> AutoOrNumber::read(const Tree& tree, const std::string& key) {
  if (tree.kind == Tree::Kind::scalar && tree.text == "auto") return std::nullopt;
  const auto number = number_in(tree);
  if (!number || !(*number >= 0)) refuse_value(tree, key, expected());
  return number;
}

std::string Integer::expected() const {
  const auto from = "an integer from " + std::to_string(low);
  return high == std::numeric_limits<std::int64_t>::max() ? from + " up" : from + " to " + std::to_string(high);
}
std::int64_t Integer::read(const Tree& tree, const std::string& key) const {
  std::optional<std::int64_t> value;
  if (tree.kind == Tree::Kind::scalar && tree.is_plain) value = parsed<std::int64_t>(tree.text);
  if (const auto real = value ? std::nullopt : number_in(tree)) // 28.0e6 counts as an integer, too
    if (std::trunc(*real) == *real && std::abs(*real) < 0x1p53) value = static_cast<std::int64_t>(*real);
  if (!value || *value < low || *value > high) refuse_value(tree, key, expected());
  return *value;
}

std::optional<std::int64_t> AutoOrInteger::read(const Tree& tree, const std::string& key) const {
  if (tree.kind == Tree::Kind::scalar && tree.text == "auto") return std::nullopt;
  const auto is_number = tree.kind == Tree::Kind::scalar && number_in(tree);
  if (!is_number) refuse_value(tree, key, expected());
  return number.read(tree, key);
}

FilePath Path::read(const Tree& tree, const std::string& key) const {
  if (tree.kind != Tree::Kind::scalar || tree.text.empty()) refuse_value(tree, key, words);
  auto absolute = (tree.place.source->folder / tree.text).lexically_normal();
  if (!absolute.has_filename()) absolute = absolute.parent_path(); // "run/" and "run" are one folder
  return {tree.text, absolute};
}
Json Path::write(const FilePath& value, PathForm form) {
  if (value.empty()) return nullptr;
  return form == PathForm::as_given ? value.given : value.absolute.string();
}

TaoOptions::Value TaoOptions::read(const Tree& tree, const std::string& key) {
  auto words = Text::read(tree, key);
  if (!words.starts_with("-tao_")) refuse_value(tree, key, expected());
  return words;
}

Texts::Value Texts::read(const Tree& tree, const std::string& key) {
  if (tree.kind != Tree::Kind::sequence) return {Text::read(tree, key)};
  Value value;
  for (const auto& item : tree.items) value.push_back(Text::read(item, key));
  return value;
}
Json Texts::write(const Value& value, PathForm) {
  return value.empty() ? Json() : Json(value);
}

PerChannel::Value PerChannel::read(const Tree& tree, const std::string& key) const {
  if (tree.kind != Tree::Kind::sequence) return {element.read(tree, key)};
  if (tree.items.size() != 1 && tree.items.size() != 3)
    refuse(tree.place, key + " has " + std::to_string(tree.items.size()) + " elements, expected " + expected());
  Value value;
  for (const auto& item : tree.items) value.push_back(element.read(item, key));
  return value;
}

Targets::Value Targets::read(const Tree& tree, const std::string& key) {
  if (tree.kind != Tree::Kind::sequence) return {read_target(tree, key)};
  if (tree.items.empty()) refuse(tree.place, key + " is an empty list, expected " + expected());
  Value value;
  for (const auto& item : tree.items) value.push_back(read_target(item, key));
  return value;
}
Json Targets::write(const Value& value, PathForm) {
  if (value.empty()) return nullptr;
  if (value.size() == 1) return write_target(value.front());
  Json list = Json::array();
  for (const auto& target : value) list.push_back(write_target(target));
  return list;
}

FixedLayers::Value FixedLayers::read(const Tree& tree, const std::string& key) {
  if (tree.kind != Tree::Kind::mapping) refuse_value(tree, key, expected());
  Value value;
  for (const auto& [name, part] : tree.entries) {
    const auto here = key + "." + printable(name, 60);
    const Record record(part, here, "{rank: R, groups: G}", {"rank", "groups"});
    const FixedLayer layer{record.optional("rank", Integer{0}), record.optional("groups", Integer{0})};
    if (!layer.target_rank && !layer.groups) refuse(part.place, here + " fixes nothing, expected {rank: R, groups: G}");
    value.emplace(name, layer);
  }
  return value;
}
Json FixedLayers::write(const Value& value, PathForm) {
  Json result;
  for (const auto& [name, layer] : value) {
    auto& part = result[name];
    if (layer.target_rank) part["rank"] = *layer.target_rank;
    if (layer.groups) part["groups"] = *layer.groups;
  }
  return result;
}

OwnLayers::Value OwnLayers::read(const Tree& tree, const std::string& key) {
  if (tree.kind != Tree::Kind::sequence || tree.items.empty()) refuse_value(tree, key, expected());
  Value value;
  for (const auto& item : tree.items) {
    const auto here = key + "[" + std::to_string(value.size()) + "]";
    const Record record(item, here, "{name: N, weights: FILE, shards: GLOB, activation: A}",
                        {"name", "weights", "shards", "activation"});
    OwnLayer layer{record.required("name", Text{}), record.required("weights", Path{}),
                   record.required("shards", Path{"a glob of files"}), record.required("activation", activations())};
    if (std::any_of(value.begin(), value.end(), [&](const OwnLayer& other) { return other.name == layer.name; }))
      refuse(item.place, here + ".name is \"" + printable(layer.name, 60) + "\" like that of another layer");
    value.push_back(std::move(layer));
  }
  return value;
}
Json OwnLayers::write(const Value& value, PathForm form) {
  Json result;
  for (const auto& layer : value)
    result.push_back({{"name", layer.name},
                      {"weights", Path::write(layer.weights, form)},
                      {"shards", Path::write(layer.shards, form)},
                      {"activation", layer.activation}});
  return result;
}

} // namespace slr::run
