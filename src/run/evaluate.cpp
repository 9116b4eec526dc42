#include "slr/run/evaluate.hpp"

#include "image_batches.hpp"
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

  [[nodiscard]] std::vector<std::int64_t> list() const {
    return {images, top1, top5, reference_top1, reference_top5, changed_top1, changed_top5, agreement};
  }
  [[nodiscard]] static Counts of(const std::vector<std::int64_t>& list) {
    return {list.at(0), list.at(1), list.at(2), list.at(3), list.at(4), list.at(5), list.at(6), list.at(7)};
  }
  [[nodiscard]] Counts summed_over(const Communicator& comm) const {
    auto values = list();
    comm.allreduce(std::span(values));
    return of(values);
  }
};

/// What is known of the images seen so far, on this rank; the totals of an earlier start count for the root.
struct Evaluation {
  Counts counts;
  ExactSum kl;
  std::vector<std::int64_t> images; ///< their numbers

  void save(const Communicator& comm, StateWriter& to) const {
    to.put_integers("counts", counts.summed_over(comm).list());
    std::vector<double> digits(ExactSum::digits);
    kl.pack(digits);
    comm.allreduce(std::span(digits));
    to.put_doubles("kl", digits);
    to.put_part("images", std::span(images));
  }
  void restore(const Communicator& comm, StateReader& from) {
    const auto list = from.get<std::int64_t>("counts");
    const auto digits = from.get<double>("kl");
    images = from.get<std::int64_t>("images");
    std::sort(images.begin(), images.end());
    if (digits.size() != std::size_t{ExactSum::digits} || list.size() != Counts().list().size())
      throw Error(ExitCode::bad_data, "the checkpoint's evaluation is damaged; use --fresh to start anew");
    if (!comm.is_root()) return;
    counts = Counts::of(list);
    kl = ExactSum::unpack(digits);
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
                  Checkpoints* checkpoints) {
  const auto share = share_of_rank(comm, images);
  Evaluation seen;
  if (const auto saved = take(checkpoints, "evaluation")) seen.restore(comm, *saved);
  auto left = images_left(share, seen.images);
  if (filter) std::erase_if(left, [&](std::int64_t image) { return !filter(image); });
  if (!comm.is_root()) seen.images.clear(); // the root's list keeps those of an earlier start
  const auto kept = keep(checkpoints, "evaluation", [&comm, &seen](StateWriter& to) { seen.save(comm, to); });

  std::optional<infer::Executor> executor, reference_executor;
  progress.stage("evaluate", std::ssize(left));
  std::int64_t done = 0;
  in_batches(comm, left, batch_images(candidate, most_images_at_once), checkpoints,
             [&](std::span<const std::int64_t> numbers) {
               if (!executor) executor.emplace(candidate.model);
               if (!reference_executor && reference) reference_executor.emplace(reference->model);
               const auto batch = feed.read(numbers);
               const auto logits = executor->run_one(candidate.input, batch.input, candidate.logits);
               if (sink) sink(batch.input, logits);
               auto& counts = seen.counts;
               infer::Array reference_logits;
               if (reference) {
                 reference_logits = reference_executor->run_one(reference->input, batch.input, reference->logits);
                 const auto comparison = infer::compare(reference_logits, logits);
                 for (const double each : comparison.kl) seen.kl.add(each);
                 for (const auto each : comparison.agreement) counts.agreement += each;
               }
               if (feed.has_labels()) {
                 const auto hits = infer::hits(logits, batch.labels);
                 const auto reference_hits = reference ? infer::hits(reference_logits, batch.labels) : hits;
                 for (std::size_t i = 0; i < numbers.size(); ++i) {
                   counts.top1 += hits.top1[i];
                   counts.top5 += hits.top5[i];
                   counts.reference_top1 += reference_hits.top1[i];
                   counts.reference_top5 += reference_hits.top5[i];
                   counts.changed_top1 += hits.top1[i] != reference_hits.top1[i] ? 1 : 0;
                   counts.changed_top5 += hits.top5[i] != reference_hits.top5[i] ? 1 : 0;
                 }
               }
               counts.images += std::ssize(numbers);
               seen.images.insert(seen.images.end(), numbers.begin(), numbers.end());
               done += std::ssize(numbers);
               progress.advance(done);
             });
  const auto counts = seen.counts.summed_over(comm);
  const double total_kl = allreduce_exact(comm, std::span<const ExactSum>(&seen.kl, 1))[0];

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
