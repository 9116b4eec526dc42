#include "slr/infer/executor.hpp"

#include "builder.hpp"
#include "workspace.hpp"

#include <algorithm>

namespace slr::infer {

namespace {

std::string words(const Dims& dims) {
  std::string text;
  for (const std::int64_t d : dims) text += (text.empty() ? "" : " x ") + std::to_string(d);
  return text;
}

/// The images of the feeds, which must agree. \throws Error{bad_data}
std::int64_t checked_images(const graph::Model& model, const std::map<std::string, ArrayView>& feeds) {
  if (feeds.empty()) throw Error(ExitCode::bad_data, "a network cannot be run without input");
  const std::int64_t images = feeds.begin()->second.images();
  for (const auto& [name, array] : feeds) {
    if (array.dims.empty() || array.images() != images)
      throw Error(ExitCode::bad_data, "the value '" + name + "' has another number of images than the other inputs");
    if (graph::element_count(array.dims) != static_cast<std::int64_t>(array.data.size()))
      throw Error(ExitCode::bad_data, "the value '" + name + "' has " + std::to_string(array.data.size()) +
                                          " numbers but dimensions " + words(array.dims));
    const auto declared = std::find_if(model.inputs.begin(), model.inputs.end(),
                                       [&name = name](const graph::Value& v) { return v.name == name; });
    if (declared == model.inputs.end() || declared->dims.empty()) continue;
    bool fits = declared->dims.size() == array.dims.size();
    for (std::size_t d = 1; fits && d < array.dims.size(); ++d)
      fits = declared->dims[d] < 0 || declared->dims[d] == array.dims[d];
    if (!fits)
      throw Error(ExitCode::bad_data, "the network's input '" + name + "' is " + words(declared->dims) +
                                          " (-1: free), but images of " + words(array.dims) + " were given");
  }
  return images;
}

/// Names and image dimensions, each with its length, so that no two different requests have the same key.
std::string plan_key(const std::map<std::string, ArrayView>& feeds, const std::vector<std::string>& fetches,
                     bool is_shown) {
  std::string key = is_shown ? "shown" : "copied";
  for (const auto& [name, array] : feeds) {
    key += std::to_string(name.size()) + ":" + name;
    for (std::size_t d = 1; d < array.dims.size(); ++d) key += "," + std::to_string(array.dims[d]);
    key += ";";
  }
  key += "->";
  for (const std::string& name : fetches) key += std::to_string(name.size()) + ":" + name + ";";
  return key;
}

} // namespace

struct Executor::State {
  graph::Model model;
  ExecutorOptions options;
  Preparations prepared;
  Workspace workspace;
  std::map<std::string, std::unique_ptr<Plan>> plans;

  Plan& plan_for(const std::map<std::string, ArrayView>& feeds, const std::vector<std::string>& fetches,
                 bool is_shown) {
    std::unique_ptr<Plan>& plan = plans[plan_key(feeds, fetches, is_shown)];
    if (plan) return *plan;
    Builder builder(model, prepared, options.block, fetches);
    if (is_shown) builder.show_fetches();
    std::size_t index = 0;
    for (const auto& [name, array] : feeds) builder.feed(index++, name, array.dims);
    plan = builder.build();
    return *plan;
  }

  /// Block after block.
  void run(Plan& plan, const std::map<std::string, ArrayView>& feeds, std::int64_t images, std::span<Array> results,
           const Show& show) {
    std::vector<ArrayView> sources;
    sources.reserve(feeds.size());
    for (const auto& [name, array] : feeds) sources.push_back(array);
    std::byte* bytes = workspace.at_least(plan.workspace_bytes());
    for (std::int64_t first = 0; first < images; first += options.block)
      plan.run({bytes, sources, results, first, std::min(options.block, images - first), &show});
  }
};

Executor::Executor(graph::Model model, ExecutorOptions options) : state_(std::make_unique<State>()) {
  require(options.block >= 1 && options.threads >= 1, "an executor needs at least one image per block and one thread");
  state_->model = std::move(model);
  state_->options = options;
}
Executor::~Executor() = default;
Executor::Executor(Executor&&) noexcept = default;
Executor& Executor::operator=(Executor&&) noexcept = default;

namespace {

std::vector<std::string> each_once(std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

} // namespace

std::map<std::string, Array> Executor::run(const std::map<std::string, ArrayView>& feeds,
                                           const std::vector<std::string>& fetches) {
  const std::int64_t images = checked_images(state_->model, feeds);
  const auto names = each_once(fetches);
  const ThreadCount threads(state_->options.threads);
  Plan& plan = state_->plan_for(feeds, names, false);
  std::vector<Array> results(names.size());
  for (std::size_t i = 0; i < names.size(); ++i) {
    results[i].dims = plan.result_dims[i];
    results[i].dims[0] = images;
    results[i].data.resize(static_cast<std::size_t>(graph::element_count(results[i].dims)));
  }
  state_->run(plan, feeds, images, results, {});
  std::map<std::string, Array> named;
  for (std::size_t i = 0; i < names.size(); ++i) named.emplace(names[i], std::move(results[i]));
  return named;
}

void Executor::show(const std::map<std::string, ArrayView>& feeds, const std::vector<std::string>& values,
                    const Tap& tap) {
  const std::int64_t images = checked_images(state_->model, feeds);
  const auto names = each_once(values);
  const ThreadCount threads(state_->options.threads);
  state_->run(state_->plan_for(feeds, names, true), feeds, images, {},
              [&](std::size_t index, const StridedView& view, std::int64_t first) { tap(names[index], view, first); });
}

Array Executor::run_one(const std::string& feed, const ArrayView& images, const std::string& fetch) {
  return std::move(run({{feed, images}}, {fetch}).begin()->second);
}

const graph::Model& Executor::model() const {
  return state_->model;
}
std::size_t Executor::workspace_bytes() const {
  return state_->workspace.bytes();
}
std::size_t Executor::reordered_weight_bytes() const {
  return state_->prepared.weights.bytes();
}

} // namespace slr::infer
