#include "losses.hpp"

#include "slr/base/error.hpp"

#include <algorithm>
#include <cmath>

namespace slr::infer {

namespace {

struct LogSoftmax {
  double largest, log_sum;
  explicit LogSoftmax(std::span<const float> logits)
      : largest(static_cast<double>(*std::max_element(logits.begin(), logits.end()))), log_sum(0) {
    double sum = 0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
    log_sum = std::log(sum);
  }
  [[nodiscard]] double at(float logit) const { return static_cast<double>(logit) - largest - log_sum; }
};

/// sum p_t (log p_t - log p_z); its derivative by z is p_z - p_t.
double kullback_leibler(std::span<const float> output, std::span<const float> target, std::span<float> gradient) {
  const LogSoftmax of_output(output), of_target(target);
  double kl = 0;
  for (std::size_t i = 0; i < output.size(); ++i) {
    const double log_p = of_output.at(output[i]), log_reference = of_target.at(target[i]);
    const double reference = std::exp(log_reference);
    kl += reference * (log_reference - log_p);
    gradient[i] = static_cast<float>(std::exp(log_p) - reference);
  }
  return std::max(kl, 0.0);
}

double squared_error(std::span<const float> output, std::span<const float> target, std::span<float> gradient) {
  const double share = 1.0 / static_cast<double>(output.size());
  double sum = 0;
  for (std::size_t i = 0; i < output.size(); ++i) {
    const double difference = static_cast<double>(output[i]) - static_cast<double>(target[i]);
    sum += difference * difference;
    gradient[i] = static_cast<float>(2 * share * difference);
  }
  return sum * share;
}

bool is_finite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

} // namespace

double loss_of_image(Loss loss, std::span<const float> output, std::span<const float> target,
                     std::span<float> gradient) {
  if (output.empty()) return 0;
  if (!is_finite(output) || !is_finite(target))
    throw Error(ExitCode::numerical, "an output of the network is not finite");
  return loss == Loss::kullback_leibler ? kullback_leibler(output, target, gradient)
                                        : squared_error(output, target, gradient);
}

} // namespace slr::infer
