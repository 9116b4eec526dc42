#include "output_probe.hpp"

#include "slr/infer/metrics.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/mpi/exact_sum.hpp"

#include <algorithm>

namespace slr::run {

OutputProbe::OutputProbe(const Communicator& comm, const Network& network, const ImageFeed& feed, std::int64_t images)
    : comm_(comm), network_(network) {
  const auto share = share_of_rank(comm, images);
  std::vector<std::int64_t> numbers;
  for (auto image = share.first; image < share.first + share.count; ++image)
    if (role_of_image(image) == Role::selection) numbers.push_back(image);
  count_ = std::ssize(numbers);
  if (count_ == 0) return;
  values_[network.input] = feed.read(numbers).input;
  executor_.emplace(network.model);
  logits_ = executor_->run_one(network.input, values_.at(network.input), network.logits);
}

void OutputProbe::advance(const graph::Layer& layer) {
  if (count_ == 0) return;
  values_ = advance_values(*executor_, values_, live_before(network_.model, layer.node));
}

double OutputProbe::kl_of(graph::Model model) const {
  ExactSum sum;
  collectively(comm_, [&] {
    if (count_ == 0) return;
    infer::Executor executor(std::move(model));
    const auto candidate = executor.run(views(values_), {network_.logits});
    for (const double kl : infer::compare(logits_, candidate.at(network_.logits)).kl) sum.add(kl);
  });
  const auto total = allreduce_exact(comm_, std::span<const ExactSum>(&sum, 1))[0];
  return total / static_cast<double>(std::max<std::int64_t>(1, comm_.allreduce_value(count_)));
}

double OutputProbe::kl_with(const graph::Layer& layer, const graph::CompressedLayer& replacement) const {
  graph::Model model;
  collectively(comm_, [&] {
    if (count_ == 0) return;
    model = network_.model;
    (void)graph::replace_layer(model, layer, replacement);
  });
  return kl_of(std::move(model));
}

} // namespace slr::run
