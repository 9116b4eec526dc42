// The unrestricted optimum of a made-up layer, where elimination starts.
#pragma once

#include "layer/problems.hpp"
#include "slr/layer/block_columns.hpp"
#include "slr/layer/splitting.hpp"

namespace slr::test {

/// H = (C + delta I)^-1, W = (P + delta W0) H, P and P + delta W0 of a made-up problem.
struct Optimum {
  DistMatrix<double> inverse, weights, cross, pulled;
};
inline Optimum optimum_of(const Communicator& comm, const Prepared& s, double delta) {
  const std::int64_t k = s.problem.cols;
  FixedStructure all(comm, s.problem, s.statistics, {{}, 1}, delta, Engine::automatic);
  auto cross = ActivationSplitting(comm, s.problem, s.scale, s.statistics).cross().p;
  Optimum result{
      make_block_columns(s.statistics.gram.grid(), k, k, s.problem.group_columns), {}, cross.clone(), cross.clone()};
  result.inverse.for_each_diagonal([](std::int64_t, double& v) { v = 1; });
  all.solve(result.inverse);
  result.pulled.for_each_local([&](GlobalRow i, GlobalCol j, double& v) {
    v += delta * s.problem.weights[std::size_t(j.value() * s.problem.rows + i.value())];
  });
  result.weights = result.pulled.clone();
  all.solve(result.weights);
  return result;
}

} // namespace slr::test
