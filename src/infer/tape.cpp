#include "slr/infer/tape.hpp"

#include "backward.hpp"
#include "losses.hpp"
#include "workspace.hpp"

#include <algorithm>
#include <cstring>

namespace slr::infer {

namespace {

/// The fed targets; no value of a network is called like this, because a name in a file has no control characters that
/// begin it.
const std::string target_name = "\1target";

/// What a run tells the steps.
struct Run {
  std::int64_t images = 0;
  std::vector<double> losses;
  std::span<float> gradient; ///< empty: only the losses
  Tape::Listener listener;
};

} // namespace

struct Tape::State {
  graph::Model model; ///< with the weights that it came with
  TapeOptions options;
  std::vector<TrainedTensor> trained;
  std::int64_t size = 0;
  TrainedWeights weights;
  std::vector<std::vector<float>> bytes; ///< of the weights
  Preparations prepared;
  std::unique_ptr<Plan> plan;
  std::size_t forward_steps = 0;
  Dims target; ///< dimensions of one image's output
  std::vector<std::size_t> gradient_order;
  Workspace workspace;
  Run run;

  void take_weights();
  void build();
  [[nodiscard]] Dims output_dims();
  [[nodiscard]] View add_loss(Builder& builder);
  void add_gradient(Builder& builder, std::size_t tensor, const View& gradient);
  void check(const ArrayView& array, const Dims& one, const std::string& what) const;
};

void Tape::State::take_weights() {
  bytes.reserve(options.trained.size());
  for (const std::string& name : options.trained) {
    const auto found = model.initializers.find(name);
    if (found == model.initializers.end() || found->second.type != graph::ElementType::float32)
      refuse("the network has no float32 weight '" + name + "' that could be trained");
    const std::span<const float> values = found->second.floats();
    bytes.emplace_back(values.begin(), values.end());
    trained.push_back({name, found->second.dims, size, static_cast<std::int64_t>(values.size())});
    size += trained.back().size;
    // The tape owns the bytes, and outlives the plan.
    weights.emplace(
        name, std::shared_ptr<std::byte>(std::shared_ptr<void>(), reinterpret_cast<std::byte*>(bytes.back().data())));
  }
  require(!trained.empty() && weights.size() == trained.size(), "trained weights must be distinct and some");
}

/// Planned once for nothing else: the targets are fed and have the output's dimensions.
Dims Tape::State::output_dims() {
  Builder builder(model, prepared, options.block, {options.output});
  builder.differentiate(weights);
  Dims dims = options.image;
  dims.insert(dims.begin(), options.block);
  builder.feed(0, options.input, dims);
  builder.plan_nodes();
  return builder.value(options.output).dims;
}

View Tape::State::add_loss(Builder& builder) {
  const View output = builder.plain(builder.value(options.output)), wanted = builder.value(target_name);
  const View gradient = builder.make(output.dims, Kind::real, true);
  const auto per_image = static_cast<std::size_t>(graph::element_count(target));
  builder.add_host({output, wanted}, {gradient}, [this, per_image](auto from, auto to) {
    const auto *z = reinterpret_cast<const float*>(from[0]), *t = reinterpret_cast<const float*>(from[1]);
    auto* g = reinterpret_cast<float*>(to[0]);
    const auto images = static_cast<std::size_t>(run.images);
    run.losses.resize(images);
    for (std::size_t i = 0; i < images; ++i)
      run.losses[i] = loss_of_image(options.loss, {z + i * per_image, per_image}, {t + i * per_image, per_image},
                                    {g + i * per_image, per_image});
    // What fills up the block counts for nothing.
    std::fill(g + images * per_image, g + static_cast<std::size_t>(options.block) * per_image, 0.0F);
  });
  return gradient;
}

void Tape::State::add_gradient(Builder& builder, std::size_t tensor, const View& gradient) {
  builder.add_host({builder.plain(gradient)}, {}, [this, tensor](auto from, auto) {
    const TrainedTensor& t = trained[tensor];
    std::memcpy(run.gradient.data() + t.offset, from[0], static_cast<std::size_t>(t.size) * sizeof(float));
    if (run.listener) run.listener(tensor);
  });
  gradient_order.push_back(tensor);
}

void Tape::State::build() {
  target = output_dims();
  Builder builder(model, prepared, options.block, {options.output});
  builder.differentiate(weights);
  Dims dims = options.image;
  dims.insert(dims.begin(), options.block);
  builder.feed(0, options.input, dims);
  builder.feed(1, target_name, target);
  target.erase(target.begin());
  builder.plan_nodes();
  const View gradient = add_loss(builder);
  forward_steps = builder.step_count();
  Backward back(builder, weights);
  std::map<std::string, std::size_t> index;
  for (std::size_t i = 0; i < trained.size(); ++i) index[trained[i].name] = i;
  back.run(options.output, gradient,
           [&](const std::string& weight, const View& finished) { add_gradient(builder, index.at(weight), finished); });
  for (const TrainedTensor& tensor : trained)
    if (!back.gradient_of(tensor.name))
      refuse("the value '" + options.output + "' does not depend on the weight '" + tensor.name + "'");
  plan = builder.finish();
}

void Tape::State::check(const ArrayView& array, const Dims& one, const std::string& what) const {
  const bool fits = array.dims.size() == one.size() + 1 && std::equal(one.begin(), one.end(), array.dims.begin() + 1) &&
                    graph::element_count(array.dims) == static_cast<std::int64_t>(array.data.size());
  if (!fits) throw Error(ExitCode::bad_data, what + " of a training step have other dimensions than the network's");
}

Tape::Tape(const graph::Model& model, const TapeOptions& options) : state_(std::make_unique<State>()) {
  require(options.block >= 1, "a tape needs at least one image per block");
  state_->model = model;
  state_->options = options;
  const ThreadCount threads(1);
  state_->take_weights();
  state_->build();
}
Tape::~Tape() = default;
Tape::Tape(Tape&&) noexcept = default;
Tape& Tape::operator=(Tape&&) noexcept = default;

const std::vector<TrainedTensor>& Tape::trained() const {
  return state_->trained;
}
std::int64_t Tape::size() const {
  return state_->size;
}
std::int64_t Tape::block() const {
  return state_->options.block;
}

std::vector<float> Tape::weights() const {
  std::vector<float> all;
  all.reserve(static_cast<std::size_t>(state_->size));
  for (const auto& values : state_->bytes) all.insert(all.end(), values.begin(), values.end());
  return all;
}

void Tape::set_weights(std::span<const float> weights) {
  require(static_cast<std::int64_t>(weights.size()) == state_->size, "a tape was given another number of weights");
  const ThreadCount threads(1);
  for (std::size_t i = 0; i < state_->trained.size(); ++i) {
    const TrainedTensor& tensor = state_->trained[i];
    std::copy_n(weights.begin() + tensor.offset, tensor.size, state_->bytes[i].begin());
    state_->prepared.weights.refresh(state_->weights.at(tensor.name).get());
  }
}

graph::Model Tape::model() const {
  graph::Model result = state_->model;
  for (std::size_t i = 0; i < state_->trained.size(); ++i)
    result.initializers[state_->trained[i].name] = graph::Tensor::of_floats(state_->trained[i].dims, state_->bytes[i]);
  return result;
}

std::vector<double> Tape::losses(const ArrayView& images, const ArrayView& targets) {
  return losses(images, targets, {});
}

const std::vector<std::size_t>& Tape::gradient_order() const {
  return state_->gradient_order;
}

std::vector<double> Tape::losses(const ArrayView& images, const ArrayView& targets, std::span<float> gradient,
                                 const Listener& listener) {
  State& s = *state_;
  s.check(images, s.options.image, "the images");
  s.check(targets, s.target, "the targets");
  require(images.images() >= 1 && images.images() <= s.options.block && targets.images() == images.images() &&
              (gradient.empty() || static_cast<std::int64_t>(gradient.size()) == s.size),
          "a block of a training step has the wrong size");
  const ThreadCount threads(1);
  std::vector<Array> results(1);
  results[0].dims = s.plan->result_dims[0];
  results[0].data.resize(static_cast<std::size_t>(graph::element_count(results[0].dims)));
  const std::vector<ArrayView> feeds{images, targets};
  s.run = {images.images(), {}, gradient, listener};
  const Execution execution{s.workspace.at_least(s.plan->workspace_bytes()), feeds, results, 0, images.images()};
  if (gradient.empty())
    s.plan->run(execution, s.forward_steps);
  else
    s.plan->run(execution);
  return std::move(s.run.losses);
}

std::size_t Tape::workspace_bytes() const {
  return state_->plan->workspace_bytes();
}

} // namespace slr::infer
