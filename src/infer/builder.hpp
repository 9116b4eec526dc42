#pragma once
/// \file
/// Turns the nodes between feeds and fetches into a plan.
#include "image_primitive.hpp"
#include "plan.hpp"
#include "slr/base/error.hpp"

#include <map>
#include <optional>
#include <unordered_map>

namespace slr::infer {

/// Refuses the node being planned; `build` puts the node's name and operator in front of the sentence.
[[noreturn]] inline void refuse(const std::string& sentence) {
  throw Error(ExitCode::bad_data, sentence);
}

/// Runs `work` for a node; its refusals get the node's name and operator in front.
template <class Work>
void name_refusals(const graph::Node& node, Work work) {
  const std::string described = "node '" + node.name + "' (" + node.op + "): ";
  try {
    work();
  } catch (const dnnl::error& error) {
    refuse(described + "oneDNN cannot run it with these dimensions (" + error.what() + ")");
  } catch (const Error& error) {
    throw Error(error.code(), described + error.what());
  }
}

/// Weights in the order that oneDNN prefers, kept as long as the executor.
class WeightCache {
public:
  /// `plain` bytes (kept alive by the cache) in the layout `wanted`.
  [[nodiscard]] dnnl::memory reordered(const std::shared_ptr<const std::byte>& plain, const dnnl::memory::desc& layout,
                                       const dnnl::memory::desc& wanted);
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  /// Reorders the bytes once more that are not the same as when they came.
  void refresh(const std::byte* plain);

private:
  struct Entry {
    std::shared_ptr<const std::byte> source;
    dnnl::memory::desc layout;
    dnnl::memory memory;
  };
  std::unordered_multimap<const std::byte*, Entry> entries_;
  std::size_t bytes_ = 0;
};

/// What an executor prepares once for all its plans.
struct Preparations {
  WeightCache weights;
  ImageIndependence independence;
};

/// A scalar function that oneDNN applies element by element.
struct Eltwise {
  dnnl::algorithm algorithm;
  float alpha = 0, beta = 0;
};

/// Weights by name whose bytes change between two runs of a plan.
using TrainedWeights = std::map<std::string, std::shared_ptr<std::byte>>;

/// What a linear operator does after its sum: activations fused into it, and the name of the value that results.
struct Tail {
  std::string output;
  dnnl::post_ops post_ops;
};

/// The state of planning. Operators read their inputs as views, add steps and define their outputs. A step of
/// which all views are known runs at once instead; so every operator also folds constants.
class Builder {
public:
  Builder(const graph::Model& model, Preparations& prepared, std::int64_t block,
          const std::vector<std::string>& fetches);

  /// The plan is to be differentiated with respect to these weights (float32, kept alive by the caller): they are read
  /// where they lie at every run, activations are only fused where the derivative follows from the result, and blocks
  /// are run whole. Before everything else.
  void differentiate(const TrainedWeights& weights) { trained_ = &weights; }
  /// Fetched values are shown where they lie (Execution::show) instead of copied into results. Before everything else.
  void show_fetches() { are_fetches_shown_ = true; }
  /// A fed value; `index` numbers the feeds of an execution.
  void feed(std::size_t index, const std::string& name, const Dims& dims);
  /// Plans the nodes needed for the fetches, and the copies of these into the results. Once, after the feeds.
  [[nodiscard]] std::unique_ptr<Plan> build();
  /// The two halves of `build`, for those who add steps between them.
  void plan_nodes();
  [[nodiscard]] std::unique_ptr<Plan> finish();
  [[nodiscard]] bool is_needed(std::size_t node) const { return needed_[node]; }
  [[nodiscard]] std::size_t step_count() const { return plan_->step_count(); }

  // For the operators
  // ---------------------------------------------------------------------------------------------------
  [[nodiscard]] const graph::Model& model() const { return model_; }
  [[nodiscard]] std::int64_t block() const { return block_; }
  /// A value by its name. \throws Error{bad_data} if there is none by now (a node fused into its reader makes none).
  [[nodiscard]] View value(const std::string& name);
  [[nodiscard]] static bool has_input(const graph::Node& node, std::size_t index);
  [[nodiscard]] View input(const graph::Node& node, std::size_t index);
  /// An input that must be known while planning. \throws Error{bad_data} if it depends on the images.
  [[nodiscard]] View known_input(const graph::Node& node, std::size_t index, const std::string& what);
  [[nodiscard]] std::vector<std::int64_t> known_ints(const graph::Node& node, std::size_t index,
                                                     const std::string& what);
  [[nodiscard]] std::span<const float> known_floats(const View& view) const; ///< \pre known, plain, real

  [[nodiscard]] View plain(const View& view) {
    return view.kind == Kind::integer ? view : in_layout(view, plain_layout(view.dims));
  }
  /// The value in another layout: itself, a copy made before, or a new reorder step. \pre real
  [[nodiscard]] View in_layout(const View& view, const dnnl::memory::desc& layout);
  /// A known weight in the layout that a primitive wants; `logical` tells how its plain bytes are to be read.
  [[nodiscard]] dnnl::memory weights(const View& view, const dnnl::memory::desc& logical,
                                     const dnnl::memory::desc& wanted);
  /// Room for a new value, row-major or in a layout; `runtime` if it is computed from values that depend on the images.
  [[nodiscard]] View make(const Dims& dims, Kind kind, bool runtime);
  [[nodiscard]] View make(const Dims& dims, const dnnl::memory::desc& layout, bool runtime);
  [[nodiscard]] View known_value(const Dims& dims, std::span<const float> values);
  [[nodiscard]] View known_value(const Dims& dims, std::span<const std::int64_t> values);
  /// A tensor of the model without a copy where its elements are float32, converted otherwise.
  [[nodiscard]] View known_value(const graph::Tensor& tensor);
  /// The same bytes under other dimensions. \pre view.is_plain() and equal element counts
  [[nodiscard]] static View alias(const View& view, const Dims& dims);

  using Arguments = std::vector<std::pair<int, View>>;
  /// A oneDNN primitive; `fixed` are arguments that no view describes (weights).
  void add_primitive(const dnnl::primitive& primitive, const Arguments& arguments,
                     const std::unordered_map<int, dnnl::memory>& fixed = {});
  /// A primitive that works on whole blocks. `prepare` makes it for a given first dimension of x and y; if it does not
  /// treat all images of a block alike, it is run image by image. \pre layouts in which images follow each other
  using Prepare = std::function<ImagePrimitive(std::int64_t)>;
  void add_image_primitive(const std::string& name, const View& x, const View& y, const Prepare& prepare);
  /// A function of row-major bytes.
  using HostFunction =
      std::function<void(std::span<const std::byte* const> inputs, std::span<std::byte* const> outputs)>;
  void add_host(const std::vector<View>& inputs, const std::vector<View>& outputs, HostFunction function);

  /// Names the node's output (nothing happens for an absent one).
  void define(const graph::Node& node, std::size_t index, const View& view);
  void define(const std::string& name, const View& view);

  /// Whether the value is known while planning by now (an initializer, or defined and independent of the images).
  [[nodiscard]] bool is_known(const std::string& name) const;
  /// The activations that can be fused into the node's output: each the only reader of a value that is not fetched.
  [[nodiscard]] Tail fuse_tail(const graph::Node& node);

private:
  void mark_needed();
  void build_node(std::size_t index);
  [[nodiscard]] std::optional<std::size_t> only_reader(const std::string& value) const;
  void add_step(Plan::Step step, const std::vector<View>& used);
  [[nodiscard]] View make_value(View view);
  [[nodiscard]] bool is_trained(const View& view) const;
  void give_out(const std::string& name, const View& view);

  const graph::Model& model_;
  Preparations& prepared_;
  std::int64_t block_;
  std::map<std::string, std::size_t> fetches_; ///< and their place among the results
  bool are_fetches_shown_ = false;
  std::unique_ptr<Plan> plan_ = std::make_unique<Plan>();
  std::map<std::string, View> values_;
  std::map<std::string, std::size_t> producers_;
  std::map<std::string, std::vector<std::size_t>> readers_; ///< among the needed nodes
  std::vector<bool> needed_, done_;
  const TrainedWeights* trained_ = nullptr;
  std::unordered_multimap<std::size_t, View> copies_; ///< the same value in other layouts, by the original's storage
};

} // namespace slr::infer
