#include "slr/run/evaluate.hpp"

#include "slr/infer/executor.hpp"
#include "slr/infer/metrics.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/mpi/exact_sum.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace slr::run {
namespace {

constexpr std::int64_t most_images_at_once = 8 * images_per_block;

/// Counts over images; a difference of two hits is -1, 0 or 1, so sums and sums of squares are integers.
struct Counts {
  std::int64_t images = 0, top1 = 0, top5 = 0, reference_top1 = 0, reference_top5 = 0;
  std::int64_t changed_top1 = 0, changed_top5 = 0, agreement = 0;

  void sum_over(const Communicator& comm) {
    std::array fields{&images,         &top1,         &top5,         &reference_top1,
                      &reference_top5, &changed_top1, &changed_top5, &agreement};
    std::array<std::int64_t, fields.size()> values{};
    std::transform(fields.begin(), fields.end(), values.begin(), [](const auto* field) { return *field; });
    comm.allreduce(std::span<std::int64_t>(values));
    for (std::size_t i = 0; i < fields.size(); ++i) *fields[i] = values[i];
  }
};

nlohmann::ordered_json or_null(const std::optional<double>& value) {
  nlohmann::ordered_json json;
  if (value) json = *value;
  return json;
}

std::optional<double> paired_error(double after, double before, std::int64_t changed, std::int64_t images) {
  if (images < 2) return std::nullopt;
  const double n = static_cast<double>(images), mean = after - before;
  const double variance = (static_cast<double>(changed) - n * mean * mean) / (n - 1);
  return std::sqrt(std::max(0.0, variance) / n);
}

} // namespace

Accuracy evaluate(const Communicator& comm, const Network& candidate, const Network* reference, const ImageFeed& feed,
                  std::int64_t images, const ImageFilter& filter, Progress& progress, const EvaluationSink& sink,
                  const Checkpoints* checkpoints) {
  const auto share = share_of_rank(comm, images);
  std::vector<std::int64_t> wanted;
  for (auto image = share.first; image < share.first + share.count; ++image)
    if (!filter || filter(image)) wanted.push_back(image);
  Counts counts;
  counts.images = std::ssize(wanted);
  ExactSum kl;
  progress.stage("evaluate", counts.images);
  collectively(comm, [&] {
    if (wanted.empty()) return;
    infer::Executor executor(candidate.model);
    std::optional<infer::Executor> reference_executor;
    if (reference) reference_executor.emplace(reference->model);
    const auto images_at_once = batch_images(candidate, most_images_at_once);
    for (std::int64_t done = 0; done < counts.images; done += images_at_once) {
      if (checkpoints) checkpoints->stop_if_asked();
      const auto count = std::min(images_at_once, counts.images - done);
      const auto batch = feed.read(std::span(wanted).subspan(static_cast<std::size_t>(done), std::size_t(count)));
      const auto logits = executor.run_one(candidate.input, batch.input, candidate.logits);
      if (sink) sink(batch.input, logits);
      infer::Array reference_logits;
      if (reference) {
        reference_logits = reference_executor->run_one(reference->input, batch.input, reference->logits);
        const auto comparison = infer::compare(reference_logits, logits);
        for (const double each : comparison.kl) kl.add(each);
        for (const auto each : comparison.agreement) counts.agreement += each;
      }
      if (!feed.has_labels()) continue;
      const auto hits = infer::hits(logits, batch.labels);
      const auto reference_hits = reference ? infer::hits(reference_logits, batch.labels) : hits;
      for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
        counts.top1 += hits.top1[i];
        counts.top5 += hits.top5[i];
        counts.reference_top1 += reference_hits.top1[i];
        counts.reference_top5 += reference_hits.top5[i];
        counts.changed_top1 += hits.top1[i] != reference_hits.top1[i] ? 1 : 0;
        counts.changed_top5 += hits.top5[i] != reference_hits.top5[i] ? 1 : 0;
      }
      progress.advance(done + count);
    }
  });
  counts.sum_over(comm);
  const double total_kl = allreduce_exact(comm, std::span<const ExactSum>(&kl, 1))[0];

  Accuracy result;
  result.images = counts.images;
  if (counts.images == 0) return result;
  const auto share_of = [&](std::int64_t n) { return static_cast<double>(n) / static_cast<double>(counts.images); };
  if (feed.has_labels()) {
    result.top1 = share_of(counts.top1);
    result.top5 = share_of(counts.top5);
    if (reference) {
      result.reference_top1 = share_of(counts.reference_top1);
      result.reference_top5 = share_of(counts.reference_top5);
      result.top1_standard_error =
          paired_error(*result.top1, *result.reference_top1, counts.changed_top1, counts.images);
      result.top5_standard_error =
          paired_error(*result.top5, *result.reference_top5, counts.changed_top5, counts.images);
    }
  }
  if (reference) {
    result.kl = total_kl / static_cast<double>(counts.images);
    result.agreement = share_of(counts.agreement);
  }
  return result;
}

nlohmann::ordered_json before_after_json(const Accuracy& a) {
  return {{"top1_before", or_null(a.reference_top1)},
          {"top1_after", or_null(a.top1)},
          {"top1_standard_error", or_null(a.top1_standard_error)},
          {"top5_before", or_null(a.reference_top5)},
          {"top5_after", or_null(a.top5)},
          {"top5_standard_error", or_null(a.top5_standard_error)},
          {"kl", or_null(a.kl)},
          {"agreement", or_null(a.agreement)},
          {"images", a.images}};
}

nlohmann::ordered_json plain_json(const Accuracy& a) {
  return {{"top1", or_null(a.top1)},
          {"top5", or_null(a.top5)},
          {"kl", or_null(a.kl)},
          {"agreement", or_null(a.agreement)},
          {"images", a.images}};
}

} // namespace slr::run
