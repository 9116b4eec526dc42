#include "yaml_tree.hpp"

#include "slr/base/error.hpp"
#include "slr/run/json_text.hpp"

#include <algorithm>
#include <sstream>
#include <utility>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

namespace slr::run {
namespace {

/// Builds the tree from the parser's events, so that every bound holds before memory is spent.
class TreeBuilder : public YAML::EventHandler {
public:
  explicit TreeBuilder(std::shared_ptr<const Source> source) : source_(std::move(source)) {
    root_.place = {source_, 1};
  }
  Tree take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnAnchor(const YAML::Mark& mark, const std::string&) override { refuse_sharing(mark); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { refuse_sharing(mark); }

  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override {
    if (expects_key()) refuse(place_of(mark), "an empty key");
    add(mark, Tree::Kind::null);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t, const std::string& value) override {
    refuse_tag(mark, tag);
    if (expects_key()) {
      if (value.size() > yaml_key_limit || printable(value, yaml_key_limit) != value)
        refuse(place_of(mark), "the key \"" + printable(value, 60) + "\" is longer than " +
                                   std::to_string(yaml_key_limit) + " bytes or has control characters");
      open_.back().key = value;
      open_.back().key_place = place_of(mark);
      if (const auto* first = open_.back().tree->find(value))
        refuse(place_of(mark), "the key \"" + printable(value, 60) + "\" occurs twice, first in line " +
                                   std::to_string(first->place.line) + "; keep one of them");
      open_.back().has_key = true;
      return;
    }
    auto& node = add(mark, Tree::Kind::scalar);
    node.text = value;
    node.is_plain = tag == "?";
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, Tree::Kind::sequence);
  }
  void OnSequenceEnd() override { open_.pop_back(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t, YAML::EmitterStyle::value) override {
    open(mark, tag, Tree::Kind::mapping);
  }
  void OnMapEnd() override { open_.pop_back(); }

private:
  struct Open {
    Tree* tree; ///< stays where it is while it is open: only the innermost open vector grows
    bool has_key = false;
    std::string key;
    Place key_place;
  };

  [[nodiscard]] Place place_of(const YAML::Mark& mark) const { return {source_, mark.line + 1}; }
  [[nodiscard]] bool expects_key() const {
    return !open_.empty() && open_.back().tree->kind == Tree::Kind::mapping && !open_.back().has_key;
  }
  void refuse_sharing(const YAML::Mark& mark) const {
    refuse(place_of(mark), "anchors and aliases (& and *) are not part of this configuration language; write the value "
                           "out, or put quotes around a text that begins so");
  }
  void refuse_tag(const YAML::Mark& mark, const std::string& tag) const {
    if (tag != "?" && tag != "!" && !tag.empty())
      refuse(place_of(mark), "the tag \"" + printable(tag, 60) + "\" is not part of this configuration language");
  }

  Tree& add(const YAML::Mark& mark, Tree::Kind kind) {
    if (++values_ > yaml_values_limit)
      refuse(place_of(mark), "more than " + std::to_string(yaml_values_limit) + " values");
    Tree* node = &root_;
    Place place = place_of(mark);
    if (!open_.empty()) {
      auto& parent = open_.back();
      if (parent.tree->kind == Tree::Kind::sequence) {
        node = &parent.tree->items.emplace_back();
      } else {
        place = parent.key_place;
        node = &parent.tree->entries.emplace_back(Tree::Entry{parent.key, {}}).value;
        parent.has_key = false;
      }
    }
    node->kind = kind;
    node->place = std::move(place);
    return *node;
  }
  void open(const YAML::Mark& mark, const std::string& tag, Tree::Kind kind) {
    refuse_tag(mark, tag);
    if (expects_key()) refuse(place_of(mark), "a list or mapping cannot be a key; is a bracket not closed?");
    if (open_.size() >= yaml_depth_limit)
      refuse(place_of(mark), "more than " + std::to_string(yaml_depth_limit) + " levels of nesting");
    open_.push_back({&add(mark, kind), false, {}, {}});
  }

  std::shared_ptr<const Source> source_;
  Tree root_;
  std::vector<Open> open_;
  std::size_t values_ = 0;
};

} // namespace

std::string Place::words() const {
  return source->has_lines ? source->name + ", line " + std::to_string(line) : source->name;
}

void refuse(const Place& place, const std::string& sentence) {
  throw Error(ExitCode::configuration, place.words() + ": " + sentence);
}

const Tree* Tree::find(std::string_view key) const {
  const auto at = std::find_if(entries.begin(), entries.end(), [&](const Entry& entry) { return entry.key == key; });
  return at == entries.end() ? nullptr : &at->value;
}
Tree* Tree::find(std::string_view key) {
  return const_cast<Tree*>(std::as_const(*this).find(key));
}

std::string words_for(const Tree& tree) {
  switch (tree.kind) {
  case Tree::Kind::null:
    return "nothing";
  case Tree::Kind::scalar:
    return "\"" + printable(tree.text, 60) + "\"";
  case Tree::Kind::sequence:
    return "a list";
  case Tree::Kind::mapping:
    return "a mapping";
  }
  return {};
}

Tree parse_yaml(const std::string& text, std::shared_ptr<const Source> source) {
  const Place whole{source, 1};
  if (text.size() > yaml_bytes_limit)
    refuse(whole, "more than " + std::to_string(yaml_bytes_limit) + " bytes, too long for a configuration");
  if (!is_utf8(text) || text.find('\0') != std::string::npos) refuse(whole, "not UTF-8 text");
  std::istringstream stream(text);
  TreeBuilder builder(source);
  try {
    YAML::Parser parser(stream);
    parser.HandleNextDocument(builder);
    TreeBuilder rest(source);
    if (parser.HandleNextDocument(rest)) refuse(whole, "more than one YAML document; keep one");
  } catch (const YAML::Exception& exception) {
    refuse({source, std::max(exception.mark.line, 0) + 1}, "not valid YAML: " + exception.msg);
  }
  return builder.take();
}

} // namespace slr::run
