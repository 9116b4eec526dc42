#pragma once
/// \file
/// The kinds of value that configuration keys have: what each accepts, how it is read and how it is written.
///
/// A kind has `expected()`, words for messages and documentation; `read(tree, key)`, the value or a refusal at the
/// tree's place; `write(value, form)`, JSON that reads back as the same value, null if there is none.
#include "slr/run/configuration.hpp"
#include "yaml_tree.hpp"

#include <functional>
#include <limits>
#include <utility>

namespace slr::run {

using Json = nlohmann::ordered_json;

[[noreturn]] void refuse_value(const Tree& tree, const std::string& key, const std::string& expected);
/// A finite number written without quotes, or nothing.
[[nodiscard]] std::optional<double> number_in(const Tree& tree);

struct Real {
  using Value = double;
  double low, high;
  std::string words;
  [[nodiscard]] std::string expected() const { return words; }
  [[nodiscard]] double read(const Tree& tree, const std::string& key) const; ///< low < value < high
  [[nodiscard]] static Json write(double value, PathForm) { return value; }
};
[[nodiscard]] Real fraction();
[[nodiscard]] Real positive();

/// A number from 0 on, or the word auto, which is the same as no value.
struct AutoOrNumber {
  using Value = std::optional<double>;
  [[nodiscard]] static std::string expected() { return "auto or a number from 0 up"; }
  [[nodiscard]] static Value read(const Tree& tree, const std::string& key);
  [[nodiscard]] static Json write(double value, PathForm) { return value; }
};

struct Integer {
  using Value = std::int64_t;
  std::int64_t low, high = std::numeric_limits<std::int64_t>::max();
  [[nodiscard]] std::string expected() const;
  [[nodiscard]] std::int64_t read(const Tree& tree, const std::string& key) const; ///< low <= value <= high
  [[nodiscard]] static Json write(std::int64_t value, PathForm) { return value; }
};

/// An integer, or the word auto, which is the same as no value.
struct AutoOrInteger {
  using Value = std::optional<std::int64_t>;
  Integer number;
  [[nodiscard]] std::string expected() const { return "auto or " + number.expected(); }
  [[nodiscard]] Value read(const Tree& tree, const std::string& key) const;
  [[nodiscard]] static Json write(const Value& value, PathForm) { return value ? Json(*value) : Json("auto"); }
};

/// One word of a list; `T` is an enumeration or std::string.
template <class T>
struct Choice {
  using Value = T;
  std::vector<std::pair<std::string, T>> words;
  [[nodiscard]] std::string expected() const {
    std::string result = "one of ";
    for (const auto& [word, value] : words) result += (&word == &words.front().first ? "" : ", ") + word;
    return result;
  }
  [[nodiscard]] T read(const Tree& tree, const std::string& key) const {
    if (tree.kind == Tree::Kind::scalar)
      for (const auto& [word, value] : words)
        if (word == tree.text) return value;
    refuse_value(tree, key, expected());
  }
  [[nodiscard]] Json write(const T& value, PathForm) const {
    for (const auto& [word, candidate] : words)
      if (candidate == value) return word;
    return nullptr;
  }
};

struct Path {
  using Value = FilePath;
  std::string words = "a path";
  [[nodiscard]] std::string expected() const { return words; }
  [[nodiscard]] FilePath read(const Tree& tree, const std::string& key) const;
  [[nodiscard]] static Json write(const FilePath& value, PathForm form);
};

/// Options of PETSc's minimiser; PETSc itself is asked about them when a job begins (check_tao_options).
struct TaoOptions {
  using Value = std::optional<std::string>;
  [[nodiscard]] static std::string expected() { return "PETSc's words for TAO, such as \"-tao_type cg\""; }
  [[nodiscard]] static Value read(const Tree& tree, const std::string& key);
  [[nodiscard]] static Json write(const std::string& value, PathForm) { return value; }
};

/// One text or a list of texts.
struct Texts {
  using Value = std::vector<std::string>;
  [[nodiscard]] static std::string expected() { return "a name or a list of names"; }
  [[nodiscard]] static Value read(const Tree& tree, const std::string& key);
  [[nodiscard]] static Json write(const Value& value, PathForm);
};

/// A number for all channels, or one per channel of grey or RGB images.
struct PerChannel {
  using Value = std::vector<double>;
  Real element;
  [[nodiscard]] std::string expected() const { return element.words + ", or a list of 1 or 3"; }
  [[nodiscard]] Value read(const Tree& tree, const std::string& key) const;
  [[nodiscard]] static Json write(const Value& value, PathForm) { return value; }
};

struct Targets {
  using Value = std::vector<Target>;
  [[nodiscard]] static std::string expected() { return "a factor > 1, {at_most: N} with N > 0, or a list of these"; }
  [[nodiscard]] static Value read(const Tree& tree, const std::string& key);
  [[nodiscard]] static Json write(const Value& value, PathForm);
};

struct FixedLayers {
  using Value = std::map<std::string, FixedLayer>;
  [[nodiscard]] static std::string expected() {
    return "a mapping of layer names to {rank: R, groups: G}, integers from 0";
  }
  [[nodiscard]] static Value read(const Tree& tree, const std::string& key);
  [[nodiscard]] static Json write(const Value& value, PathForm);
};

struct OwnLayers {
  using Value = std::vector<OwnLayer>;
  [[nodiscard]] static std::string expected() {
    return "a list of {name: N, weights: FILE, shards: GLOB, activation: A}";
  }
  [[nodiscard]] static Value read(const Tree& tree, const std::string& key);
  [[nodiscard]] static Json write(const Value& value, PathForm form);
};

} // namespace slr::run
