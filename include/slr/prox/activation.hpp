#pragma once
/// \file
/// Scalar activations and their proximal maps.
#include <limits>
#include <span>
#include <string>

namespace slr {

enum class ActivationType { identity, relu, leaky_relu, clip, sigmoid, tanh };

/// A scalar function r applied element by element to the output of a layer.
struct Activation {
  ActivationType type = ActivationType::identity;
  double alpha = 0.01;                                   ///< leaky_relu: slope below zero, in [0, 1]
  double low = -std::numeric_limits<double>::infinity(); ///< clip
  double high = std::numeric_limits<double>::infinity(); ///< clip

  [[nodiscard]] bool is_identity() const { return type == ActivationType::identity; }
  /// r(m). Local.
  [[nodiscard]] double operator()(double m) const;
  /// r of an array, element by element. Local, linear. @pre equal sizes
  void apply(std::span<const float> m, std::span<float> r) const;
  /// g = (r(m) - y) r'(m), the derivative of m -> 1/2 (y - r(m))^2, element by element; at a kink that of the piece
  /// below it. Local, linear. @pre equal sizes
  void differentiate_loss(std::span<const float> m, std::span<const float> y, std::span<float> g) const;
  /// The distance of `lambda` to the set of (generalised) derivatives of m -> 1/2 (y - r(m))^2 at m: zero at a
  /// stationary point of the loss minus lambda m. At a kink the set is the interval between the one-sided derivatives.
  /// Local.
  [[nodiscard]] double stationarity_distance(double m, double y, double lambda) const;

  /// "relu", "leaky_relu(0.1)", "clip(0,6)", ... and back. \throws Error{bad_data} for another text.
  [[nodiscard]] std::string to_text() const;
  [[nodiscard]] static Activation from_text(const std::string& text);
};

/// A global minimiser of  1/2 (y - r(m))^2 + rho/2 (m - v)^2  over m. Local.
///
/// Piecewise linear r: the minimiser of each piece, clamped to it, and the lowest objective wins; for ReLU these are
/// max(0, (y + rho v) / (1 + rho)) and min(0, v). Ties go to the larger m, on every rank alike.
/// Sigmoid and tanh: with t = r(m) the second derivative is a polynomial of degree four in t; between its roots the
/// first derivative is monotone, so every minimum is bracketed, found by Newton's method safeguarded by bisection, and
/// the lowest objective wins. For sigmoid and y in (0, 1) the objective is convex once rho > 0.097.
/// \pre rho > 0, all finite
[[nodiscard]] double prox_activation(const Activation& activation, double v, double y, double rho);

/// The same for arrays: m[i] = prox(v[i], y[i]). Local, linear.
void prox_activation(const Activation& activation, std::span<const double> v, std::span<const float> y, double rho,
                     std::span<double> m);
/// In single precision, for values that are stored so. Local, linear.
void prox_activation(const Activation& activation, std::span<const float> v, std::span<const float> y, float rho,
                     std::span<float> m);

} // namespace slr
