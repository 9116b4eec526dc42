#pragma once
/// \file
/// Running a network, or any part of it between two cuts.
#include "slr/infer/array.hpp"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace slr::infer {

struct ExecutorOptions {
  /// Images that go through the network together. Results may depend on it in the last bits, on nothing else.
  std::int64_t block = 8;
  /// OpenMP threads; more than one only to measure latencies.
  int threads = 1;
};

/// Sees a value of the images [first, first + images.images()) of a run where it lies in the working memory.
using Tap = std::function<void(const std::string& value, const StridedView& images, std::int64_t first)>;

/// A network prepared for running: oneDNN primitives and reordered weights are made once per set of fed and fetched
/// values and their shapes. Weights in the format in which the model stores them are shared with the model.
///
/// Independence of the batch: images are cut into blocks of `block` consecutive ones, the last one is filled up with
/// zeros, and every block runs through the same primitives on one thread. Convolutions and fully connected layers are
/// tried out once with a block of equal images; where their kernels do not give all of them the same bits (remainder
/// rows of a matrix product), they run image by image. So the result of an image has the same bits whatever else is in
/// the batch and wherever it stands. Operators that would mix images (a Softmax over the batch, a Reshape that moves
/// the first dimension) are refused.
///
/// Not for use by several threads at once: working memory belongs to the object.
class Executor {
public:
  /// Local; runs nothing yet. \pre options.block >= 1, options.threads >= 1
  explicit Executor(graph::Model model, ExecutorOptions options = {});
  ~Executor();
  Executor(Executor&&) noexcept;
  Executor& operator=(Executor&&) noexcept;

  /// The fetched values, each with all images of the feeds. Feeds are graph inputs or any intermediate values; only the
  /// nodes between feeds and fetches are computed, and only these must be runnable. All feeds have the same number of
  /// images N >= 0 as first dimension; the other dimensions are fixed by the network. A value may be fetched whether or
  /// not an operator could be fused into its producer: the fetch prevents the fusion. Local.
  ///
  /// Memory: working space for one block by liveness (`workspace_bytes`), the weights that oneDNN wants in an order of
  /// its own, and the results. Cost: the first call with new names or shapes prepares primitives. \throws
  /// Error{bad_data} naming node and operator for what cannot be run, contradicting shapes, a value that is neither fed
  /// nor can be computed from the feeds.
  [[nodiscard]] std::map<std::string, Array> run(const std::map<std::string, ArrayView>& feeds,
                                                 const std::vector<std::string>& fetches);

  /// The same computation; `tap` is shown every value named, a block of images after the other and within a block each
  /// value as soon as it is there, in the order that the library gave it. Nothing is copied. Local. \throws as `run`,
  /// and what the tap throws
  void show(const std::map<std::string, ArrayView>& feeds, const std::vector<std::string>& values, const Tap& tap);

  /// The only fetched value of `run`. Local.
  [[nodiscard]] Array run_one(const std::string& feed, const ArrayView& images, const std::string& fetch);

  [[nodiscard]] const graph::Model& model() const;
  /// Bytes of the working space that the largest of the runs so far needed for one block.
  [[nodiscard]] std::size_t workspace_bytes() const;
  /// Bytes of weights held in oneDNN's own order beside the model's.
  [[nodiscard]] std::size_t reordered_weight_bytes() const;

private:
  struct State;
  std::unique_ptr<State> state_;
};

} // namespace slr::infer
