#include "slr/run/curves.hpp"

#include <algorithm>
#include <cmath>

namespace slr::run {
namespace {

constexpr std::int64_t groups_between_rows = 3;               // interpolated
constexpr double smallest_kl = 1e-12, smallest_error = 1e-12; // of which a logarithm is taken

/// The logarithm of the KL divergence as a function of the error's.
class HarmLaw {
public:
  /// Through a row's measured points: log KL = a + b log error for one or two of them, with the slope before where they
  /// tell none; for more, lines from each to the next, and on beyond the outer ones.
  HarmLaw(const CurveRow& row, double slope_before) : slope_(slope_before) {
    for (const auto& point : row)
      if (point.kl)
        knots_.emplace_back(std::log(std::max(point.error_selection, smallest_error)),
                            std::log(std::max(*point.kl, smallest_kl)));
    std::sort(knots_.begin(), knots_.end());
    if (!knots_.empty()) slope_ = slope(knots_.front(), knots_.back());
  }
  [[nodiscard]] bool is_measured() const { return !knots_.empty(); }
  [[nodiscard]] double slope() const { return slope_; }
  [[nodiscard]] double at(double log_error) const {
    if (knots_.empty()) return log_error;
    if (knots_.size() < 3) { // through their middle
      const auto [x0, y0] = knots_.front();
      const auto [x1, y1] = knots_.back();
      return (y0 + y1) / 2 + slope_ * (log_error - (x0 + x1) / 2);
    }
    if (log_error <= knots_.front().first) return beyond(knots_[0], knots_[1], knots_.front(), log_error);
    const auto right =
        std::find_if(knots_.begin() + 1, knots_.end() - 1, [&](const Knot& knot) { return knot.first >= log_error; });
    const auto left = right - 1;
    if (log_error >= knots_.back().first) return beyond(*left, *right, knots_.back(), log_error);
    return std::lerp(left->second, right->second, (log_error - left->first) / (right->first - left->first));
  }

private:
  using Knot = std::pair<double, double>;
  [[nodiscard]] double slope(const Knot& a, const Knot& b) const {
    return b.first - a.first > 0.1 ? std::clamp((b.second - a.second) / (b.first - a.first), 0.5, 2.0) : slope_;
  }
  [[nodiscard]] double beyond(const Knot& a, const Knot& b, const Knot& end, double log_error) const {
    return end.second + slope(a, b) * (log_error - end.first);
  }
  std::vector<Knot> knots_; ///< by error
  double slope_;
};

/// A row at every rank, descending.
std::vector<PredictedPoint> predict_row(const CurveRow& row, const HarmLaw& law) {
  // A row's latency is a line in the rank through its measured points.
  std::vector<std::pair<double, double>> timed;
  for (const auto& point : row)
    if (point.latency) timed.emplace_back(static_cast<double>(point.split.rank), *point.latency);
  const auto latency_at = [&](std::int64_t rank) {
    if (timed.empty()) return 0.0;
    const auto [r0, t0] = timed.front();
    const auto [r1, t1] = timed.back();
    const double slope = r0 > r1 ? std::max(0.0, (t0 - t1) / (r0 - r1)) : 0.0; // ranks descend
    return std::max(t1 + slope * (static_cast<double>(rank) - r1), 0.5 * t1);
  };
  const auto at = [&](Split split, double log_error) {
    return PredictedPoint{split, std::exp(log_error), std::exp(law.at(log_error)), latency_at(split.rank)};
  };
  std::vector<PredictedPoint> result;
  for (std::size_t i = 0; i < row.size(); ++i) {
    const double here = std::log(std::max(row[i].error_selection, smallest_error));
    result.push_back(at(row[i].split, here));
    if (i + 1 == row.size()) break;
    const double next = std::log(std::max(row[i + 1].error_selection, smallest_error));
    const auto high = row[i].split.rank, low = row[i + 1].split.rank;
    for (auto rank = high - 1; rank > low; --rank)
      result.push_back(at({row[i].split.groups, rank},
                          std::lerp(here, next, static_cast<double>(high - rank) / static_cast<double>(high - low))));
  }
  return result;
}

} // namespace

std::vector<PredictedPoint> predict(const LayerCurve& curve) {
  std::vector<PredictedPoint> result, before;
  std::optional<HarmLaw> law;
  for (const auto& row : curve.rows) {
    HarmLaw next(row, law ? law->slope() : 1);
    if (!law || next.is_measured()) law = std::move(next); // else that of the row before
    const auto now = predict_row(row, *law);
    // Ranks that both rows have: both lists are consecutive and descending.
    for (const auto& a : before) {
      const auto offset = now.empty() ? -1 : now.front().split.rank - a.split.rank;
      if (offset < 0 || offset >= std::ssize(now)) continue;
      const auto& b = now[static_cast<std::size_t>(offset)];
      const auto between = std::min(groups_between_rows, b.split.groups - a.split.groups - 1);
      for (std::int64_t i = 1; i <= between; ++i) {
        const double t = static_cast<double>(i) / static_cast<double>(between + 1);
        const auto mean = [&](double x, double y) { return std::exp(std::lerp(std::log(x), std::log(y), t)); };
        const auto groups =
            a.split.groups +
            static_cast<std::int64_t>(std::llround(t * static_cast<double>(b.split.groups - a.split.groups)));
        result.push_back(
            {{groups, a.split.rank}, mean(a.error, b.error), mean(a.kl, b.kl), std::lerp(a.latency, b.latency, t)});
      }
    }
    result.insert(result.end(), now.begin(), now.end());
    before = now;
  }
  return result;
}

} // namespace slr::run
