#include "schema.hpp"

#include "slr/base/text.hpp"
#include "slr/run/json_text.hpp"

#include <algorithm>

namespace slr::run {
namespace {

template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};

/// \param access  (auto& configuration) -> auto&, for both constnesses
template <class Kind, class Access>
Field field(std::string key, Kind kind, Access access, std::string doc) {
  Field result;
  result.expected = kind.expected();
  result.doc = std::move(doc);
  result.read = [=](const Tree& tree, Configuration& config) { access(config) = kind.read(tree, key); };
  result.write = [=](const Configuration& config, PathForm form) -> Json {
    const auto& value = access(config);
    // A kind of optional values that takes them whole has a word for none.
    constexpr bool is_whole = requires {
      kind.write(value, form);
    };
    if constexpr (IsOptional<std::decay_t<decltype(value)>>::value && !is_whole)
      return value ? kind.write(*value, form) : Json();
    else
      return kind.write(value, form);
  };
  result.key = std::move(key);
  return result;
}

Field not_hashed(Field entry) {
  entry.is_hashed = false;
  return entry;
}

/// Overrides of a batch: checked against the schema like the configuration itself, kept as canonical JSON.
struct Overrides {
  using Value = std::vector<Json>;
  [[nodiscard]] static std::string expected() { return "a list of mappings with any of the other keys"; }
  [[nodiscard]] static Value read(const Tree& tree, const std::string& key) {
    if (tree.kind != Tree::Kind::sequence) refuse_value(tree, key, expected());
    Value value;
    for (const auto& item : tree.items) {
      if (item.kind != Tree::Kind::mapping || item.entries.empty() || item.find("batch"))
        refuse_value(item, key + "[" + std::to_string(value.size()) + "]", "a mapping with any of the other keys");
      Configuration scratch;
      Json overrides;
      for (const auto* given : apply(item, scratch))
        put(overrides, given->key, given->write(scratch, PathForm::absolute));
      value.push_back(std::move(overrides));
    }
    return value;
  }
  [[nodiscard]] static Json write(const Value& value, PathForm) { return value.empty() ? Json() : Json(value); }
};

template <class Access>
void add_image_source(std::vector<Field>& fields, const std::string& section, Access access, const std::string& what) {
  const auto add = [&](const std::string& name, auto kind, auto member, const std::string& doc) {
    auto entry = field(
        section + "." + name, kind, [=](auto& c) -> auto& { return access(c).*member; }, doc);
    // A source that is not given has no values, not even defaults.
    entry.write = [=, write = entry.write](const Configuration& c, PathForm form) {
      return access(c).is_given() ? write(c, form) : Json();
    };
    fields.push_back(std::move(entry));
  };
  constexpr std::int64_t pixels = 1 << 16;
  using Source = ImageSource;
  add("images", Path{}, &Source::images,
      what + ": packed HDF5, a folder of JPEG/PNG, idx(.gz) or CIFAR-10 binary; alone it may stand for " + section);
  fields.back().is_shorthand = true;
  add("labels", Path{}, &Source::labels, "labels of an idx source");
  add("list", Path{}, &Source::list, "text file with a line NAME LABEL per image of a folder");
  add("first", Integer{0}, &Source::first, "first image used (0)");
  add("count", Integer{1}, &Source::count, "images used; all if absent");
  add("resize", Integer{1, pixels}, &Source::resize, "length of the short side in pixels; as they are if absent");
  add("crop", Integer{1, pixels}, &Source::crop, "side of the centre crop in pixels; none if absent");
}

#define SLR_AT(member)                                                                                                 \
  [](auto& c) -> auto& {                                                                                               \
    return c.member;                                                                                                   \
  }

void add_inputs(std::vector<Field>& t) {
  t.push_back(field("model", Path{}, SLR_AT(model), "the trained network, ONNX"));
  t.push_back(field("layers", OwnLayers{}, SLR_AT(layers), "instead of model: layers with features of your own"));
  add_image_source(t, "data.calibration", SLR_AT(data.calibration), "unlabelled images");
  add_image_source(t, "data.validation", SLR_AT(data.validation), "labelled images, only for the report");
  t.push_back(field("data.preprocess.scale", positive(), SLR_AT(data.preprocess.scale),
                    "pixels become (x * scale - mean) / std"));
  constexpr double infinity = std::numeric_limits<double>::infinity();
  t.push_back(field("data.preprocess.mean", PerChannel{{-infinity, infinity, "a number"}}, SLR_AT(data.preprocess.mean),
                    "per channel, after the scale"));
  t.push_back(field("data.preprocess.std", PerChannel{positive()}, SLR_AT(data.preprocess.deviation), "per channel"));
  t.push_back(field("data.preprocess.channels",
                    Choice<ChannelOrder>{{{"rgb", ChannelOrder::rgb}, {"bgr", ChannelOrder::bgr}}},
                    SLR_AT(data.preprocess.channels), "the order that the network was trained with"));
}

void add_calibration(std::vector<Field>& t) {
  using Inputs = CalibrationInputs;
  t.push_back(field("calibration.images", Integer{20}, SLR_AT(calibration.images),
                    "images that the layers are fitted, selected and judged on"));
  t.push_back(field("calibration.positions", Integer{1, 1 << 20}, SLR_AT(calibration.positions),
                    "sampled output positions per image and convolution"));
  t.push_back(field("calibration.inputs",
                    Choice<Inputs>{{{"compressed", Inputs::compressed}, {"original", Inputs::original}}},
                    SLR_AT(calibration.inputs),
                    "inputs that a layer is fitted on: of the partly compressed network or the original"));
  t.push_back(field("calibration.seed", Integer{0}, SLR_AT(calibration.seed), "of the sampled positions"));
  t.push_back(field("calibration.files", Choice<ShardsPer>{{{"rank", ShardsPer::rank}, {"node", ShardsPer::node}}},
                    SLR_AT(calibration.files), "one feature shard per rank or per node"));
  t.push_back(
      field("calibration.memory", Integer{1}, SLR_AT(calibration.memory_bytes),
            "bytes per node for activations between layers, and for layers traced at once; half of it if absent"));
}

void add_method(std::vector<Field>& t) {
  using Kind = MethodKind;
  t.push_back(field("method.kind", Choice<Kind>{{{"constrained", Kind::constrained}, {"relaxed", Kind::relaxed}}},
                    SLR_AT(method.kind),
                    "constrained: rank and groups from the budget; relaxed: nuclear and l2,1 norms"));
  t.push_back(field(
      "method.grouping",
      Choice<Grouping>{{{"channel", Grouping::channel}, {"column", Grouping::column}, {"filter", Grouping::filter}}},
      SLR_AT(method.grouping), "what the structured-sparse part keeps whole"));
  t.push_back(field("method.nuclear", fraction(), SLR_AT(method.nuclear),
                    "relaxed: weight of the nuclear norm, 1 = the low-rank part vanishes"));
  t.push_back(field("method.group", fraction(), SLR_AT(method.group),
                    "relaxed: weight of the l2,1 norm, 1 = the sparse part vanishes"));
  t.push_back(field("method.iterations", Integer{1, 1'000'000}, SLR_AT(method.iterations),
                    "limit per layer; 30 (constrained) or 300 (relaxed) if absent"));
  t.push_back(
      field("method.tolerance", fraction(), SLR_AT(method.tolerance), "relative residuals at which a layer is done"));
  t.push_back(field("method.svd",
                    Choice<SvdKind>{{{"auto", SvdKind::automatic},
                                     {"pdgesvd", SvdKind::pdgesvd},
                                     {"gram", SvdKind::gram},
                                     {"subspace", SvdKind::subspace}}},
                    SLR_AT(method.svd), "engine of the singular values"));
  t.push_back(
      field("method.least_squares",
            Choice<LeastSquares>{{{"auto", LeastSquares::automatic},
                                  {"gram", LeastSquares::gram},
                                  {"kernel", LeastSquares::kernel},
                                  {"ksp", LeastSquares::ksp}}},
            SLR_AT(method.least_squares),
            "constrained: second moments of the inputs or kernel of the samples factored, or conjugate gradients "
            "on the samples; the last two without kept groups"));
  t.push_back(field("method.refine.evaluations", Integer{0, 100'000}, SLR_AT(method.refine.evaluations),
                    "of a layer's true objective over its factors, behind the iteration; 0 = off"));
  t.push_back(field("method.refine.tao", TaoOptions{}, SLR_AT(method.refine.tao),
                    "options for PETSc/TAO, which minimises it; LMVM if absent"));
}

void add_budget(std::vector<Field>& t) {
  t.push_back(field("budget.parameters", Targets{}, SLR_AT(budget.parameters), "parameters of the whole network"));
  t.push_back(field("budget.macs", Targets{}, SLR_AT(budget.macs), "multiplications per image"));
  t.push_back(field("budget.bytes", Targets{}, SLR_AT(budget.bytes), "bytes of the weights as stored"));
  t.push_back(field("budget.latency", Targets{}, SLR_AT(budget.latency), "seconds per image"));
  t.push_back(field("budget.layers", FixedLayers{}, SLR_AT(budget.layers), "layers whose structure is fixed"));
  t.push_back(field("budget.spread", Choice<Spread>{{{"network", Spread::network}, {"uniform", Spread::uniform}}},
                    SLR_AT(budget.spread),
                    "constrained: by what the network's output loses, or every layer by the same factor"));
  t.push_back(field("budget.corrections", Integer{0, 100}, SLR_AT(budget.corrections),
                    "constrained: sweeps that may follow the first one, budget moved by what the network loses"));
  t.push_back(field("budget.minimum_rank", Integer{1}, SLR_AT(budget.minimum_rank),
                    "constrained: least rank of a layer that gets a low-rank part"));
  t.push_back(field("budget.multiple", Integer{1}, SLR_AT(budget.multiple),
                    "constrained: ranks and numbers of kept groups are multiples of it"));
  t.push_back(field("budget.keep", Texts{}, SLR_AT(budget.keep), "layers left dense: ONNX node names, globs allowed"));
}

void add_job(std::vector<Field>& t) {
  t.push_back(
      field("refine.images", Integer{20}, SLR_AT(refine.images), "images for the refinement of the whole network"));
  t.push_back(field("refine.epochs", Integer{0, 100'000}, SLR_AT(refine.epochs), "passes over them; 0 = off"));
  using Optimizer = refine::Optimizer;
  t.push_back(field("refine.optimizer",
                    Choice<Optimizer>{{{"auto", Optimizer::automatic},
                                       {"adam", Optimizer::adam},
                                       {"white_adam", Optimizer::white_adam},
                                       {"lmvm", Optimizer::lmvm}}},
                    SLR_AT(refine.optimizer),
                    "mini-batches, in coordinates where the layers' inputs are nearer to white "
                    "(white_adam) or not (adam), or quasi-Newton steps on all images (lmvm)"));
  t.push_back(field("refine.proximal", AutoOrNumber{}, SLR_AT(refine.proximal),
                    "pull towards the layers' own solutions; auto if absent"));
  t.push_back(field("refine.dense", Choice<bool>{{{"true", true}, {"false", false}}}, SLR_AT(refine.dense),
                    "whether layers left dense take part"));
  t.push_back(field("refine.mixup", Choice<bool>{{{"true", true}, {"false", false}}}, SLR_AT(refine.mixup),
                    "images are mixed in pairs, anew in every pass, and compared with the original's output of the "
                    "mixture: against overfitting in many passes (not with lmvm)"));
  t.push_back(field("pipeline.groups", AutoOrInteger{{1, 1 << 24}}, SLR_AT(pipeline.groups),
                    "groups of ranks, along nodes; auto: by counted work, one if sequential"));
  t.push_back(field(
      "pipeline.schedule",
      Choice<Schedule>{
          {{"sequential", Schedule::sequential}, {"parallel", Schedule::parallel}, {"pipelined", Schedule::pipelined}}},
      SLR_AT(pipeline.schedule),
      "layers one after the other; structures of all at once, then a refit; or a batch in stages of the network"));
  t.push_back(not_hashed(
      field("checkpoint.every", positive(), SLR_AT(checkpoint.every_seconds), "seconds between checkpoints")));
  t.push_back(not_hashed(field(
      "watchdog.seconds",
      Real{-std::numeric_limits<double>::min(), std::numeric_limits<double>::infinity(), "a number from 0 up"},
      SLR_AT(watchdog.seconds), "ranks that waited so long for others without a sign of life end the job; 0 = off")));
  t.push_back(field("on_failure", Choice<OnFailure>{{{"stop", OnFailure::stop}, {"keep_dense", OnFailure::keep_dense}}},
                    SLR_AT(on_failure), "what to do with a layer whose solve fails"));
  t.push_back(field("batch", Overrides{}, SLR_AT(batch), "several results in one job: each item overrides keys"));
  t.push_back(not_hashed(field("output", Path{"a folder"}, SLR_AT(output), "folder of the results")));
}

#undef SLR_AT

/// The names right below a section ("" for the whole), each once.
std::vector<std::string> names_below(const std::string& section) {
  const auto prefix = section.empty() ? "" : section + ".";
  std::vector<std::string> names;
  for (const auto& entry : schema()) {
    if (!entry.key.starts_with(prefix)) continue;
    const auto name = entry.key.substr(prefix.size(), entry.key.find('.', prefix.size()) - prefix.size());
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

/// `; did you mean "x.y"?`: a near name in the section, else a key elsewhere that ends in this very name, else a list.
std::string suggestion(const std::string& section, const std::string& name) {
  const auto prefix = section.empty() ? "" : section + ".";
  const auto names = names_below(section);
  if (name.find('.') != std::string::npos) return "; dotted keys are for --set, here sections are nested";
  if (const auto near = nearest_name(name, names); !near.empty()) return "; did you mean \"" + prefix + near + "\"?";
  for (const auto& entry : schema())
    if (entry.key.ends_with("." + name)) return "; did you mean \"" + entry.key + "\"?";
  std::string list;
  for (const auto& each : names) list += (list.empty() ? "" : ", ") + each;
  return "; the keys " + (section.empty() ? "are " : "of " + section + " are ") + list;
}

const Field* find_field(const std::string& key) {
  const auto at = std::find_if(schema().begin(), schema().end(), [&](const Field& entry) { return entry.key == key; });
  return at == schema().end() ? nullptr : &*at;
}
/// The field that a plain value in the place of the section means, if there is one.
const Field* shorthand_of(const std::string& section) {
  for (const auto& entry : schema())
    if (entry.is_shorthand && entry.key.substr(0, entry.key.rfind('.')) == section) return &entry;
  return nullptr;
}

void apply_section(const Tree& tree, const std::string& section, Configuration& config,
                   std::vector<const Field*>& given) {
  const auto read = [&](const Field& entry, const Tree& value) {
    if (value.kind == Tree::Kind::null) return; // the default
    entry.read(value, config);
    given.push_back(&entry);
  };
  for (const auto& [name, value] : tree.entries) {
    const auto key = section.empty() ? name : section + "." + name;
    const bool is_dotted = name.find('.') != std::string::npos;
    if (const auto* entry = is_dotted ? nullptr : find_field(key)) {
      read(*entry, value);
    } else if (is_dotted || names_below(key).empty()) {
      refuse(value.place, "unknown key \"" + printable(key, 100) + "\"" + suggestion(section, name));
    } else if (value.kind == Tree::Kind::mapping) {
      apply_section(value, key, config, given);
    } else if (const auto* meant = shorthand_of(key); meant && value.kind == Tree::Kind::scalar) {
      read(*meant, value);
    } else if (value.kind != Tree::Kind::null) {
      const auto names = names_below(key);
      std::string list;
      for (const auto& each : names) list += (list.empty() ? "" : ", ") + each;
      refuse_value(value, key, "a mapping with keys of " + list);
    }
  }
}

} // namespace

const std::vector<Field>& schema() {
  static const std::vector<Field> fields = [] {
    std::vector<Field> t;
    add_inputs(t);
    add_calibration(t);
    add_method(t);
    add_budget(t);
    add_job(t);
    return t;
  }();
  return fields;
}

std::vector<const Field*> apply(const Tree& tree, Configuration& config) {
  std::vector<const Field*> given;
  if (tree.kind == Tree::Kind::null) return given;
  if (tree.kind != Tree::Kind::mapping)
    refuse(tree.place, "this is " + words_for(tree) + ", expected a mapping of keys");
  apply_section(tree, "", config, given);
  return given;
}

void set_at(Tree& root, const std::string& dotted_key, Tree value) {
  Tree* node = &root;
  const Place place = value.place;
  std::size_t begin = 0;
  while (true) {
    if (node->kind != Tree::Kind::mapping) {
      Tree mapping;
      mapping.kind = Tree::Kind::mapping;
      mapping.place = place;
      if (const auto* meant = begin == 0 ? nullptr : shorthand_of(dotted_key.substr(0, begin - 1));
          meant && node->kind == Tree::Kind::scalar)
        mapping.entries.push_back({meant->key.substr(begin), *node});
      *node = std::move(mapping);
    }
    const auto dot = dotted_key.find('.', begin);
    const auto name = dotted_key.substr(begin, dot - begin);
    auto* child = node->find(name);
    if (!child) child = &node->entries.emplace_back(Tree::Entry{name, {}}).value;
    if (child->kind == Tree::Kind::null) child->place = place;
    node = child;
    if (dot == std::string::npos) break;
    begin = dot + 1;
  }
  *node = std::move(value);
}

void put(Json& root, const std::string& dotted_key, Json value) {
  Json* node = &root;
  std::size_t begin = 0;
  for (auto dot = dotted_key.find('.'); dot != std::string::npos; dot = dotted_key.find('.', begin)) {
    node = &(*node)[dotted_key.substr(begin, dot - begin)];
    begin = dot + 1;
  }
  (*node)[dotted_key.substr(begin)] = std::move(value);
}

} // namespace slr::run
