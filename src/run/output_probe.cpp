#include "output_probe.hpp"

#include "slr/base/trace.hpp"
#include "slr/infer/metrics.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/mpi/exact_sum.hpp"

#include <algorithm>

namespace slr::run {

namespace {
/// A rank has few images, and what does not fill a block is computed for nothing.
constexpr infer::ExecutorOptions small_blocks{.block = 4};
} // namespace

OutputProbe::OutputProbe(const Communicator& comm, const Network& network, const ImageFeed& feed, std::int64_t images)
    : comm_(comm), network_(network) {
  const auto share = share_of_rank(comm, images);
  std::vector<std::int64_t> numbers;
  for (auto image = share.first; image < share.first + share.count; ++image)
    if (role_of_image(image) == Role::selection) numbers.push_back(image);
  count_ = std::ssize(numbers);
  if (count_ == 0) return;
  values_[network.input] = feed.read(numbers).input;
  executor_.emplace(network.model, small_blocks);
  logits_ = executor_->run_one(network.input, values_.at(network.input), network.logits);
}

template <class Run>
double OutputProbe::mean_kl(Run&& run) const {
  const TraceSpan span(TraceKind::step, "network with a layer replaced");
  ExactSum sum;
  collectively(comm_, [&] {
    if (count_ == 0) return;
    const auto candidate = run();
    for (const double kl : infer::compare(logits_, candidate.at(network_.logits)).kl) sum.add(kl);
  });
  const auto total = allreduce_exact(comm_, std::span<const ExactSum>(&sum, 1))[0];
  return total / static_cast<double>(std::max<std::int64_t>(1, comm_.allreduce_value(count_)));
}

void OutputProbe::advance(const graph::Layer& layer) {
  if (count_ == 0) return;
  values_ = advance_values(*executor_, values_, live_before(network_.model, layer.node));
}

double OutputProbe::kl_of(graph::Model model) const {
  return mean_kl([&] {
    infer::Executor executor(std::move(model), small_blocks);
    return executor.run(views(values_), {network_.logits});
  });
}

double OutputProbe::kl_with(const graph::Layer& layer, const graph::CompressedLayer& replacement) {
  return mean_kl([&] {
    auto model = network_.model;
    (void)graph::replace_layer(model, layer, replacement);
    infer::Executor replaced(std::move(model), small_blocks);
    // A second use of the weights may lie behind the first.
    if (!layer.others.empty()) return replaced.run(views(values_), {network_.logits});
    auto outputs = replaced.run(views(values_), {layer.linear});
    if (layer.linear == network_.logits) return outputs;
    // The rest of the network is prepared once for all replacements.
    auto feeds = views(values_);
    for (const auto& [name, output] : outputs) feeds[name] = output;
    return executor_->run(feeds, {network_.logits});
  });
}

} // namespace slr::run
