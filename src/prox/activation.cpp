#include "slr/prox/activation.hpp"

#include "slr/base/error.hpp"
#include "slr/base/wide_vectors.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <vector>

namespace slr {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// r(m) = slope m + offset on [low, high].
struct Piece {
  double low, high, slope, offset;
};

struct Pieces {
  std::array<Piece, 3> piece{};
  std::size_t count = 0;
};

Pieces pieces_of(const Activation& r) {
  switch (r.type) {
  case ActivationType::relu:
    return {{{{-infinity, 0, 0, 0}, {0, infinity, 1, 0}}}, 2};
  case ActivationType::leaky_relu:
    return {{{{-infinity, 0, r.alpha, 0}, {0, infinity, 1, 0}}}, 2};
  case ActivationType::clip: {
    Pieces result;
    if (std::isfinite(r.low)) result.piece[result.count++] = {-infinity, r.low, 0, r.low};
    result.piece[result.count++] = {r.low, r.high, 1, 0};
    if (std::isfinite(r.high)) result.piece[result.count++] = {r.high, infinity, 0, r.high};
    return result;
  }
  default:
    return {{{{-infinity, infinity, 1, 0}}}, 1};
  }
}

bool is_smooth(ActivationType type) {
  return type == ActivationType::sigmoid || type == ActivationType::tanh;
}

double squared(double x) {
  return x * x;
}

double prox_piecewise(const Pieces& pieces, double v, double y, double rho) {
  double best = 0, best_cost = infinity;
  for (std::size_t i = 0; i < pieces.count; ++i) {
    const Piece& p = pieces.piece[i];
    // On one piece: slope (slope m + offset - y) + rho (m - v) = 0, clamped to the piece.
    const double m = std::clamp((p.slope * (y - p.offset) + rho * v) / (squared(p.slope) + rho), p.low, p.high);
    const double cost = 0.5 * squared(y - p.slope * m - p.offset) + 0.5 * rho * squared(m - v);
    if (cost <= best_cost) { // pieces are ordered: ties go to the larger m
      best_cost = cost;
      best = m;
    }
  }
  return best;
}

using Polynomial = std::vector<double>; // coefficients, constant first

double evaluate(const Polynomial& p, double t) {
  double value = 0;
  for (auto it = p.rbegin(); it != p.rend(); ++it) value = value * t + *it;
  return value;
}

/// The points of (low, high) where a polynomial changes its sign, increasing: between neighbouring ones of its
/// derivative it is monotone, so bisection finds each.
std::vector<double> sign_changes(const Polynomial& p, double low, double high) {
  std::vector<double> edges{low};
  if (p.size() > 2) {
    Polynomial derivative;
    for (std::size_t i = 1; i < p.size(); ++i) derivative.push_back(static_cast<double>(i) * p[i]);
    const auto inner = sign_changes(derivative, low, high);
    edges.insert(edges.end(), inner.begin(), inner.end());
  }
  edges.push_back(high);
  std::vector<double> roots;
  for (std::size_t i = 0; i + 1 < edges.size(); ++i) {
    double a = edges[i], b = edges[i + 1];
    if (evaluate(p, a) * evaluate(p, b) >= 0) continue;
    const bool rising = evaluate(p, b) > 0;
    while (true) {
      const double middle = 0.5 * (a + b);
      if (middle <= a || middle >= b) break;
      ((evaluate(p, middle) > 0) == rising ? b : a) = middle;
    }
    roots.push_back(b);
  }
  return roots;
}

/// r, r' and r'' at m, and the inverse of r.
struct SmoothValue {
  double r, first, second;
};
SmoothValue smooth_value(ActivationType type, double m) {
  if (type == ActivationType::tanh) {
    const double t = std::tanh(m), slope = 1 - t * t;
    return {t, slope, -2 * t * slope};
  }
  const double t = m >= 0 ? 1 / (1 + std::exp(-m)) : std::exp(m) / (1 + std::exp(m));
  const double slope = t * (1 - t);
  return {t, slope, slope * (1 - 2 * t)};
}

double prox_smooth(ActivationType type, double v, double y, double rho) {
  const auto derivative = [&](double m) {
    const auto s = smooth_value(type, m);
    return (s.r - y) * s.first + rho * (m - v);
  };
  const auto curvature = [&](double m) {
    const auto s = smooth_value(type, m);
    return squared(s.first) + (s.r - y) * s.second + rho;
  };
  const auto cost = [&](double m) { return 0.5 * squared(y - smooth_value(type, m).r) + 0.5 * rho * squared(m - v); };
  // Every stationary point obeys |m - v| <= max |r - y| max r' / rho.
  const double reach = (1 + std::abs(y)) / rho;
  std::vector<double> edges{v - reach};
  // The curvature as a polynomial in t = r(m); it changes its sign where m -> derivative(m) turns.
  const bool is_tanh = type == ActivationType::tanh;
  const Polynomial q =
      is_tanh ? Polynomial{rho + 1, 2 * y, -4, -2 * y, 3} : Polynomial{rho, -y, 2 + 3 * y, -5 - 2 * y, 3};
  for (const double t : sign_changes(q, is_tanh ? -1 : 0, 1)) {
    const double m = is_tanh ? std::atanh(t) : std::log(t / (1 - t));
    if (m > edges.back() && m < v + reach) edges.push_back(m);
  }
  edges.push_back(v + reach);
  double best = v, best_cost = infinity;
  for (std::size_t i = 0; i + 1 < edges.size(); ++i) {
    double a = edges[i], b = edges[i + 1];
    if (derivative(a) > 0 || derivative(b) < 0) continue; // no minimum inside
    double m = std::clamp(v, a, b);
    for (int step = 0; step < 200; ++step) {
      const double d = derivative(m);
      (d > 0 ? b : a) = m;
      double next = m - d / curvature(m);
      if (!(next > a && next < b)) next = 0.5 * (a + b);
      if (next == m || std::abs(next - m) <= 1e-16 * (1 + std::abs(m))) break;
      m = next;
    }
    if (const double c = cost(m); c <= best_cost) {
      best_cost = c;
      best = m;
    }
  }
  return best;
}

/// The better of max(0, (y + rho v) / (1 + rho)) and min(0, v), element by element. Written in selections, without
/// branches, so that it becomes vector code.
template <class T>
void prox_relu(const T* __restrict v, const float* __restrict y, std::size_t count, T rho, T* __restrict m) {
  const T scale = 1 / (1 + rho);
  for (std::size_t i = 0; i < count; ++i) {
    const T target = y[i], here = v[i], free = (target + rho * here) * scale;
    const T positive = free > 0 ? free : 0, negative = here < 0 ? here : 0;
    const T off_target = target - positive, up = positive - here, down = negative - here;
    const T gain = (target * target + rho * down * down) - (off_target * off_target + rho * up * up);
    m[i] = gain >= 0 ? positive : negative;
  }
}

/// max(0, m).
SLR_WIDE_VECTORS
void apply_relu(std::size_t count, const float* __restrict m, float* __restrict r) {
  for (std::size_t i = 0; i < count; ++i) r[i] = m[i] < 0 ? 0.0F : m[i];
}

/// (max(0, m) - y) where m > 0, else 0. The difference is taken in any case: a branch per element, which nobody can
/// foresee, costs more than all else in a pass.
SLR_WIDE_VECTORS
void differentiate_relu_loss(std::size_t count, const float* __restrict m, const float* __restrict y,
                             float* __restrict g) {
  for (std::size_t i = 0; i < count; ++i) {
    const float difference = m[i] - y[i];
    g[i] = m[i] > 0 ? difference : 0.0F;
  }
}

std::string number_text(double value) {
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%.17g", value);
  return text.data();
}

} // namespace

double Activation::operator()(double m) const {
  switch (type) {
  case ActivationType::identity:
    return m;
  case ActivationType::relu:
    return m > 0 ? m : 0.0;
  case ActivationType::leaky_relu:
    return m > 0 ? m : alpha * m;
  case ActivationType::clip:
    return std::clamp(m, low, high);
  case ActivationType::sigmoid:
  case ActivationType::tanh:
    return smooth_value(type, m).r;
  }
  return m;
}

void Activation::apply(std::span<const float> m, std::span<float> r) const {
  if (type == ActivationType::relu) return apply_relu(m.size(), m.data(), r.data());
  for (std::size_t i = 0; i < m.size(); ++i) r[i] = static_cast<float>((*this)(static_cast<double>(m[i])));
}

void Activation::differentiate_loss(std::span<const float> m, std::span<const float> y, std::span<float> g) const {
  if (type == ActivationType::relu) return differentiate_relu_loss(m.size(), m.data(), y.data(), g.data());
  const auto pieces = pieces_of(*this);
  for (std::size_t i = 0; i < m.size(); ++i) {
    const double at = m[i], target = y[i];
    if (is_smooth(type)) {
      const auto s = smooth_value(type, at);
      g[i] = static_cast<float>((s.r - target) * s.first);
      continue;
    }
    std::size_t here = 0;
    while (here + 1 < pieces.count && at > pieces.piece[here].high) ++here;
    const Piece& p = pieces.piece[here];
    g[i] = static_cast<float>((p.slope * at + p.offset - target) * p.slope);
  }
}

double Activation::stationarity_distance(double m, double y, double lambda) const {
  if (is_smooth(type)) {
    const auto s = smooth_value(type, m);
    return std::abs((s.r - y) * s.first - lambda);
  }
  // The interval between the one-sided derivatives (one point away from a kink).
  double low_end = infinity, high_end = -infinity;
  const auto pieces = pieces_of(*this);
  for (std::size_t i = 0; i < pieces.count; ++i) {
    const Piece& p = pieces.piece[i];
    if (m < p.low || m > p.high) continue;
    const double derivative = p.slope * (p.slope * m + p.offset - y);
    low_end = std::min(low_end, derivative);
    high_end = std::max(high_end, derivative);
  }
  return std::max({low_end - lambda, lambda - high_end, 0.0});
}

std::string Activation::to_text() const {
  switch (type) {
  case ActivationType::identity:
    return "identity";
  case ActivationType::relu:
    return "relu";
  case ActivationType::leaky_relu:
    return "leaky_relu(" + number_text(alpha) + ")";
  case ActivationType::clip:
    return "clip(" + number_text(low) + "," + number_text(high) + ")";
  case ActivationType::sigmoid:
    return "sigmoid";
  case ActivationType::tanh:
    return "tanh";
  }
  return "identity";
}

Activation Activation::from_text(const std::string& text) {
  Activation r;
  double a = 0, b = 0;
  int used = 0;
  const auto whole = [&] { return used == static_cast<int>(text.size()); };
  if (text == "identity") return r;
  if (text == "relu")
    r.type = ActivationType::relu;
  else if (text == "sigmoid")
    r.type = ActivationType::sigmoid;
  else if (text == "tanh")
    r.type = ActivationType::tanh;
  else if (std::sscanf(text.c_str(), "leaky_relu(%lf)%n", &a, &used) == 1 && whole() && a >= 0 && a <= 1) {
    r.type = ActivationType::leaky_relu;
    r.alpha = a;
  } else if (std::sscanf(text.c_str(), "clip(%lf,%lf)%n", &a, &b, &used) == 2 && whole() && a < b) {
    r.type = ActivationType::clip;
    r.low = a;
    r.high = b;
  } else {
    throw Error(ExitCode::bad_data, "the activation '" + text +
                                        "' is not one of identity, relu, leaky_relu(SLOPE), "
                                        "clip(LOW,HIGH), sigmoid, tanh");
  }
  return r;
}

double prox_activation(const Activation& activation, double v, double y, double rho) {
  if (is_smooth(activation.type)) return prox_smooth(activation.type, v, y, rho);
  return prox_piecewise(pieces_of(activation), v, y, rho);
}

void prox_activation(const Activation& activation, std::span<const double> v, std::span<const float> y, double rho,
                     std::span<double> m) {
  if (activation.type == ActivationType::relu) { // the common case, without the loop over pieces
    prox_relu(v.data(), y.data(), v.size(), rho, m.data());
    return;
  }
  for (std::size_t i = 0; i < v.size(); ++i) m[i] = prox_activation(activation, v[i], static_cast<double>(y[i]), rho);
}

void prox_activation(const Activation& activation, std::span<const float> v, std::span<const float> y, float rho,
                     std::span<float> m) {
  if (activation.type == ActivationType::relu) {
    prox_relu(v.data(), y.data(), v.size(), rho, m.data());
    return;
  }
  for (std::size_t i = 0; i < v.size(); ++i)
    m[i] = static_cast<float>(
        prox_activation(activation, static_cast<double>(v[i]), static_cast<double>(y[i]), static_cast<double>(rho)));
}

} // namespace slr
