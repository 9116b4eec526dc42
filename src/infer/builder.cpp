#include "builder.hpp"

#include "operators.hpp"

#include <algorithm>
#include <cstring>
#include <new>

namespace slr::infer {

namespace {

constexpr std::size_t alignment = 64;
/// More than any network needs, few enough that byte counts cannot overflow.
constexpr std::int64_t most_elements = std::int64_t(1) << 36;

std::shared_ptr<std::byte> allocate(std::size_t bytes) {
  try {
    void* memory = ::operator new(std::max(bytes, alignment), std::align_val_t(alignment));
    return {static_cast<std::byte*>(memory), [](std::byte* p) { ::operator delete(p, std::align_val_t(alignment)); }};
  } catch (const std::bad_alloc&) {
    refuse("a value of " + std::to_string(bytes) + " bytes does not fit into memory");
  }
}

} // namespace

dnnl::memory WeightCache::reordered(const std::shared_ptr<const std::byte>& plain, const dnnl::memory::desc& layout,
                                    const dnnl::memory::desc& wanted) {
  dnnl::memory source(layout, cpu_engine(), const_cast<std::byte*>(plain.get())); // only read
  if (layout == wanted) return source;
  const auto [begin, end] = entries_.equal_range(plain.get());
  for (auto entry = begin; entry != end; ++entry)
    if (entry->second.layout == layout && entry->second.memory.get_desc() == wanted) return entry->second.memory;
  dnnl::memory target(wanted, cpu_engine());
  dnnl::stream stream(cpu_engine());
  dnnl::reorder(source, target).execute(stream, source, target);
  stream.wait();
  entries_.emplace(plain.get(), Entry{plain, layout, target});
  bytes_ += wanted.get_size();
  return target;
}

void WeightCache::refresh(const std::byte* plain) {
  dnnl::stream stream(cpu_engine());
  const auto [begin, end] = entries_.equal_range(plain);
  for (auto entry = begin; entry != end; ++entry) {
    dnnl::memory source(entry->second.layout, cpu_engine(), const_cast<std::byte*>(plain)); // only read
    dnnl::reorder(source, entry->second.memory).execute(stream, source, entry->second.memory);
  }
  stream.wait();
}

Builder::Builder(const graph::Model& model, Preparations& prepared, std::int64_t block,
                 const std::vector<std::string>& fetches)
    : model_(model), prepared_(prepared), block_(block), needed_(model.nodes.size()), done_(model.nodes.size()) {
  for (const std::string& name : fetches) fetches_.emplace(name, fetches_.size());
  plan_->result_dims.resize(fetches_.size());
  for (std::size_t i = 0; i < model.nodes.size(); ++i)
    for (const std::string& output : model.nodes[i].outputs)
      if (!output.empty()) producers_.emplace(output, i);
}

void Builder::feed(std::size_t index, const std::string& name, const Dims& dims) {
  Dims block_dims = dims;
  block_dims[0] = block_;
  const View view = make(block_dims, Kind::real, true);
  const std::size_t per_image = view.bytes() / static_cast<std::size_t>(block_);
  add_step(
      [index, per_image, bytes = view.bytes(), storage = view.storage, plan = plan_.get()](const Execution& run) {
        std::byte* to = plan->data(storage, run.workspace);
        const auto from = std::as_bytes(run.feeds[index].data);
        const std::size_t used = per_image * static_cast<std::size_t>(run.images);
        if (used > 0) std::memcpy(to, from.data() + per_image * static_cast<std::size_t>(run.first_image), used);
        std::memset(to + used, 0, bytes - used);
      },
      {view});
  define(name, view);
}

void Builder::mark_needed() {
  std::vector<std::string> open;
  for (const auto& [name, index] : fetches_) open.push_back(name);
  while (!open.empty()) {
    const std::string name = open.back();
    open.pop_back();
    if (values_.contains(name) || model_.initializers.contains(name)) continue;
    const auto producer = producers_.find(name);
    if (producer == producers_.end())
      refuse("the value '" + name + "' is neither fed nor made by a node of the network");
    if (needed_[producer->second]) continue;
    needed_[producer->second] = true;
    for (const std::string& input : model_.nodes[producer->second].inputs)
      if (!input.empty()) open.push_back(input);
  }
  for (std::size_t i = 0; i < needed_.size(); ++i)
    if (needed_[i])
      for (const std::string& input : model_.nodes[i].inputs) readers_[input].push_back(i);
}

std::unique_ptr<Plan> Builder::build() {
  plan_nodes();
  return finish();
}

void Builder::plan_nodes() {
  mark_needed();
  // Constants first: an activation may be fused before its bounds' turn in the order of the nodes.
  for (std::size_t i = 0; i < needed_.size(); ++i)
    if (needed_[i] && model_.nodes[i].op == "Constant") build_node(i);
  for (std::size_t i = 0; i < needed_.size(); ++i)
    if (needed_[i] && !done_[i]) build_node(i);
  for (const auto& [name, index] : fetches_)
    if (plan_->result_dims[index].empty())
      refuse("the value '" + name + "' does not depend on the images and cannot be fetched");
}

std::unique_ptr<Plan> Builder::finish() {
  plan_->place();
  return std::move(plan_);
}

void Builder::build_node(std::size_t index) {
  const graph::Node& node = model_.nodes[index];
  name_refusals(node, [&] { operator_of(node)(*this, node); });
  done_[index] = true;
}

bool Builder::has_input(const graph::Node& node, std::size_t index) {
  return index < node.inputs.size() && !node.inputs[index].empty();
}

View Builder::value(const std::string& name) {
  if (const auto found = values_.find(name); found != values_.end()) return found->second;
  const auto initializer = model_.initializers.find(name);
  if (initializer != model_.initializers.end() && trained_ != nullptr && trained_->contains(name)) {
    const Dims& dims = initializer->second.dims;
    View view{dims, Kind::real, plain_layout(dims), 0, false};
    view.storage = plan_->add_storage({trained_->at(name), view.bytes(), 0, 0, 0});
    return values_.emplace(name, view).first->second;
  }
  if (initializer == model_.initializers.end()) refuse("its input '" + name + "' was not made by an earlier node");
  return values_.emplace(name, known_value(initializer->second)).first->second;
}

View Builder::input(const graph::Node& node, std::size_t index) {
  if (!has_input(node, index)) refuse("input number " + std::to_string(index) + " is missing");
  return value(node.inputs[index]);
}

View Builder::known_input(const graph::Node& node, std::size_t index, const std::string& what) {
  const View view = input(node, index);
  if (view.runtime) refuse(what + " must be constant, but '" + node.inputs[index] + "' depends on the images");
  return plain(view);
}

std::vector<std::int64_t> Builder::known_ints(const graph::Node& node, std::size_t index, const std::string& what) {
  const View view = known_input(node, index, what);
  if (view.kind != Kind::integer) refuse(what + " must be integers");
  const auto* values = reinterpret_cast<const std::int64_t*>(plan_->data(view.storage, nullptr));
  return {values, values + graph::element_count(view.dims)};
}

std::span<const float> Builder::known_floats(const View& view) const {
  if (view.kind != Kind::real) refuse("floats are needed where it has integers");
  if (is_trained(view)) refuse("a weight that is trained cannot be used like this");
  return {reinterpret_cast<const float*>(plan_->data(view.storage, nullptr)),
          static_cast<std::size_t>(graph::element_count(view.dims))};
}

bool Builder::is_trained(const View& view) const {
  if (trained_ == nullptr || view.runtime) return false;
  const std::byte* bytes = plan_->storage(view.storage).fixed.get();
  return std::any_of(trained_->begin(), trained_->end(), [&](const auto& w) { return w.second.get() == bytes; });
}

bool Builder::is_known(const std::string& name) const {
  const auto found = values_.find(name);
  return found == values_.end() ? model_.initializers.contains(name) : !found->second.runtime;
}

View Builder::in_layout(const View& view, const dnnl::memory::desc& layout) {
  if (view.lies_as(layout)) {
    View same = view;
    same.layout = layout;
    return same;
  }
  const auto [begin, end] = copies_.equal_range(view.storage);
  for (auto copy = begin; copy != end; ++copy)
    if (copy->second.layout == layout) return copy->second;
  const View result = make(view.dims, layout, view.runtime);
  const dnnl::reorder::primitive_desc pd(cpu_engine(), view.layout, cpu_engine(), layout);
  add_primitive(dnnl::reorder(pd), {{DNNL_ARG_FROM, view}, {DNNL_ARG_TO, result}});
  copies_.emplace(view.storage, result);
  return result;
}

dnnl::memory Builder::weights(const View& view, const dnnl::memory::desc& logical, const dnnl::memory::desc& wanted) {
  return prepared_.weights.reordered(plan_->storage(view.storage).fixed, logical, wanted);
}

View Builder::make_value(View view) {
  if (const std::int64_t count = graph::element_count(view.dims); count > most_elements)
    refuse("a value would have " + std::to_string(count) + " elements");
  Storage storage;
  storage.bytes = view.bytes();
  if (!view.runtime) storage.fixed = allocate(storage.bytes);
  view.storage = plan_->add_storage(std::move(storage));
  return view;
}

View Builder::make(const Dims& dims, Kind kind, bool runtime) {
  return make_value({dims, kind, kind == Kind::real ? plain_layout(dims) : dnnl::memory::desc(), 0, runtime});
}

View Builder::make(const Dims& dims, const dnnl::memory::desc& layout, bool runtime) {
  return make_value({dims, Kind::real, layout, 0, runtime});
}

View Builder::known_value(const Dims& dims, std::span<const float> values) {
  const View view = make(dims, Kind::real, false);
  std::copy(values.begin(), values.end(), reinterpret_cast<float*>(plan_->data(view.storage, nullptr)));
  return view;
}

View Builder::known_value(const Dims& dims, std::span<const std::int64_t> values) {
  const View view = make(dims, Kind::integer, false);
  std::copy(values.begin(), values.end(), reinterpret_cast<std::int64_t*>(plan_->data(view.storage, nullptr)));
  return view;
}

View Builder::known_value(const graph::Tensor& tensor) {
  using graph::ElementType;
  if (tensor.type == ElementType::float32) {
    const std::span<const float> values = tensor.floats();
    if (values.empty()) return known_value(tensor.dims, values);
    View view{tensor.dims, Kind::real, plain_layout(tensor.dims), 0, false};
    Storage storage;
    // The model outlives the plan, and with it the bytes.
    storage.fixed = {std::shared_ptr<void>(), reinterpret_cast<const std::byte*>(values.data())};
    storage.bytes = values.size_bytes();
    view.storage = plan_->add_storage(std::move(storage));
    return view;
  }
  if (tensor.type == ElementType::float64) {
    const auto bytes = tensor.data.bytes();
    std::vector<float> values(static_cast<std::size_t>(tensor.size()));
    if (bytes.size() != values.size() * sizeof(double)) refuse("a constant has the wrong number of bytes");
    for (std::size_t i = 0; i < values.size(); ++i) {
      double number = 0;
      std::memcpy(&number, bytes.data() + i * sizeof number, sizeof number);
      values[i] = static_cast<float>(number);
    }
    return known_value(tensor.dims, std::span<const float>(values));
  }
  const std::vector<std::int64_t> values = tensor.int64s();
  return known_value(tensor.dims, std::span<const std::int64_t>(values));
}

View Builder::alias(const View& view, const Dims& dims) {
  require(view.is_plain() && graph::element_count(view.dims) == graph::element_count(dims),
          "a value was read under other dimensions than its own");
  View result = view;
  result.dims = dims;
  if (view.kind == Kind::real) result.layout = plain_layout(dims);
  return result;
}

void Builder::add_step(Plan::Step step, const std::vector<View>& used) {
  const bool known = std::all_of(used.begin(), used.end(), [](const View& view) { return !view.runtime; });
  if (known) {
    // What is computed now would not follow the weight.
    if (std::any_of(used.begin(), used.end(), [this](const View& view) { return is_trained(view); }))
      refuse("a weight that is trained cannot be scaled, moved or joined first");
    return step({});
  }
  for (const View& view : used) plan_->touch(view.storage);
  plan_->add_step(std::move(step));
}

void Builder::add_primitive(const dnnl::primitive& primitive, const Arguments& arguments,
                            const std::unordered_map<int, dnnl::memory>& fixed) {
  std::unordered_map<int, dnnl::memory> all = fixed;
  std::vector<View> used;
  for (const auto& [argument, view] : arguments) {
    all.emplace(argument, plan_->memory(view));
    used.push_back(view);
  }
  add_step(
      [primitive, all](const Execution&) {
        static const dnnl::stream stream(cpu_engine());
        primitive.execute(stream, all);
      },
      used);
}

void Builder::add_image_primitive(const std::string& name, const View& x, const View& y, const Prepare& prepare) {
  const std::int64_t images = x.runtime ? block_ : 1;
  const ImagePrimitive whole = prepare(x.dims[0]);
  std::string key = name;
  for (const std::int64_t d : x.dims) key += "," + std::to_string(d);
  // The gradient of a block is a sum over its images anyway.
  if (trained_ != nullptr || prepared_.independence.holds(key, whole, images))
    return add_primitive(whole.primitive, {{DNNL_ARG_SRC, x}, {DNNL_ARG_DST, y}}, whole.fixed);

  const ImagePrimitive single = prepare(x.dims[0] / images);
  const dnnl::memory source(single.source, cpu_engine(), DNNL_MEMORY_NONE);
  const dnnl::memory target(single.target, cpu_engine(), DNNL_MEMORY_NONE);
  std::unordered_map<int, dnnl::memory> all = single.fixed;
  all.emplace(DNNL_ARG_SRC, source);
  all.emplace(DNNL_ARG_DST, target);
  add_step(
      [primitive = single.primitive, all, source, target, images, from = x.storage, to = y.storage,
       plan = plan_.get()](const Execution& run) {
        static const dnnl::stream stream(cpu_engine());
        for (std::int64_t i = 0; i < images; ++i) {
          const auto index = static_cast<std::size_t>(i);
          source.set_data_handle(plan->data(from, run.workspace) + index * source.get_desc().get_size());
          target.set_data_handle(plan->data(to, run.workspace) + index * target.get_desc().get_size());
          primitive.execute(stream, all);
        }
      },
      {x, y});
}

void Builder::add_host(const std::vector<View>& inputs, const std::vector<View>& outputs, HostFunction function) {
  std::vector<View> used = inputs;
  used.insert(used.end(), outputs.begin(), outputs.end());
  std::vector<std::size_t> in, out;
  for (const View& view : inputs) in.push_back(view.storage);
  for (const View& view : outputs) out.push_back(view.storage);
  add_step(
      [plan = plan_.get(), in, out, run = std::move(function)](const Execution& execution) {
        std::vector<const std::byte*> from;
        std::vector<std::byte*> to;
        for (const std::size_t storage : in) from.push_back(plan->data(storage, execution.workspace));
        for (const std::size_t storage : out) to.push_back(plan->data(storage, execution.workspace));
        run(from, to);
      },
      used);
}

void Builder::define(const graph::Node& node, std::size_t index, const View& view) {
  if (index < node.outputs.size()) define(node.outputs[index], view);
}

void Builder::define(const std::string& name, const View& view) {
  if (name.empty()) return;
  // What keeps images apart: every operator maps image i of its inputs to image i of its output.
  if (view.runtime && (view.dims.empty() || view.dims[0] != block_))
    refuse("its output '" + name +
           "' does not have the images as first dimension; images cannot be mixed or reordered");
  if (!values_.emplace(name, view).second) return;
  if (fetches_.contains(name)) give_out(name, view);
}

void Builder::give_out(const std::string& name, const View& view) {
  if (!view.runtime) refuse("its output '" + name + "' does not depend on the images and cannot be fetched");
  if (view.kind != Kind::real) refuse("its output '" + name + "' is not float32 and cannot be fetched");
  const std::size_t index = fetches_.at(name);
  plan_->result_dims[index] = view.dims;
  if (are_fetches_shown_) {
    const View from = view.has_strides() ? view : plain(view);
    add_step(
        [index, dims = from.dims, strides = from.strides(), storage = from.storage,
         plan = plan_.get()](const Execution& run) {
          auto shown = dims;
          shown[0] = run.images;
          const auto* values = reinterpret_cast<const float*>(plan->data(storage, run.workspace));
          (*run.show)(index, {shown, strides, values}, run.first_image);
        },
        {from});
    return;
  }
  const View from = plain(view);
  const std::size_t per_image = from.bytes() / static_cast<std::size_t>(block_);
  add_step(
      [index, per_image, storage = from.storage, plan = plan_.get()](const Execution& run) {
        auto* to = reinterpret_cast<std::byte*>(run.results[index].data.data());
        const std::size_t bytes = per_image * static_cast<std::size_t>(run.images);
        if (bytes > 0)
          std::memcpy(to + per_image * static_cast<std::size_t>(run.first_image), plan->data(storage, run.workspace),
                      bytes);
      },
      {from});
}

std::optional<std::size_t> Builder::only_reader(const std::string& value) const {
  const auto found = readers_.find(value);
  if (found == readers_.end() || found->second.size() != 1 || fetches_.contains(value)) return std::nullopt;
  return found->second.front();
}

Tail Builder::fuse_tail(const graph::Node& node) {
  Tail tail;
  tail.output = node.outputs.empty() ? "" : node.outputs[0];
  constexpr int most_fused = 4;
  while (tail.post_ops.len() < most_fused) {
    const auto reader = only_reader(tail.output);
    if (!reader) return tail;
    const graph::Node& next = model_.nodes[*reader];
    const std::vector<Eltwise> functions = fusable_functions(*this, next);
    if (functions.empty() || next.inputs[0] != tail.output || next.outputs.empty()) return tail;
    if (trained_ != nullptr && !has_derivative_by_value(functions)) return tail;
    for (const Eltwise& f : functions) tail.post_ops.append_eltwise(1.0F, f.algorithm, f.alpha, f.beta);
    done_[*reader] = true;
    tail.output = next.outputs[0];
  }
  return tail;
}

} // namespace slr::infer
