#pragma once
/// \file
/// Changing a network: folding what is constant, replacing a layer by its compressed form, removing what nobody reads.
#include "slr/graph/layers.hpp"
#include "slr/graph/model.hpp"

#include <span>

namespace slr::graph {

/// The same function with fewer nodes: constant subexpressions are evaluated where they are cheap to (Constant,
/// Identity, Shape-like chains of static shape), Dropout and Identity disappear, and a BatchNormalization that is the
/// only reader of a Conv, Gemm or MatMul layer's output moves into that layer's weights and bias (in double, rounded
/// once); dead nodes and initializers are removed. Local.
[[nodiscard]] Model fold(const Model& model);

/// What takes the place of W x + b: with S the columns of the kept groups and R the rest, both in increasing order,
///   y = B x_S + U (V x_R) + b;
/// with rows kept, y_F = B x + b_F and the others U V x + b. A group is one input channel (window_area() neighbouring
/// columns of W), one column, or one row. Row-major, of the dimensions of `factor_sizes`.
struct CompressedLayer {
  std::vector<std::int64_t> kept_groups; ///< increasing (within the convolution's group: groups == 1)
  std::int64_t rank = 0;                 ///< r >= 0
  std::vector<float> U;                  ///< rows x r, less the kept rows
  std::vector<float> V;                  ///< r x columns, less the kept ones
  std::vector<float> B;                  ///< the kept rows or columns
  std::vector<float> bias;               ///< rows
  Grouping grouping = Grouping::channel; ///< what a group is
};

/// How a compressed layer is written into the graph; the one with the fewest numbers is chosen, and among equals the
/// one with the fewest MACs.
enum class Form {
  dense,     ///< one node of the original shape (U V and B merged)
  low_rank,  ///< S empty: V (the kernel), then U (1x1)
  kept,      ///< r = 0: Gather of the kept channels, one node
  mixed,     ///< Gather orders the channels, Split, B on the kept ones, V then U on the rest, Add
  columns,   ///< per place of the kernel its kept channels are gathered and shifted (Pad), Concat, B as 1x1; V then U
             ///< on all channels if r > 0, Add
  filters,   ///< B and, V then U (r >= 1: zeros if need be), on all channels, Concat, Gather orders the rows
  bias_only, ///< r = 0 and S empty: one channel times zero gives the shape, to which the bias is added
};
struct FormCost {
  Form form = Form::dense;
  std::int64_t parameters = 0; ///< elements of floating initializers (the bias too) and of gather indices
  std::int64_t macs = 0;       ///< products for one output position (multiply by the positions for one image)
  std::int64_t bytes = 0;      ///< as stored: four per number, eight per index, size of a Split and number of a Pad
};
/// The cheapest form of a layer with that rank and these kept groups of layer.grouping. `mixed` and `filters` need no
/// Gather, and thus no indices, where the kept channels or rows are the first or the last ones. `columns` is taken only
/// where it needs fewer MACs than the dense layer and than keeping all channels of the kept columns, which is the other
/// way to write these. Equal to what `count` says of the rewritten model. Local, a pure function. \throws Error{bug}
/// unless the groups are increasing ones of the layer and the rank is not negative. \pre layer.groups == 1
[[nodiscard]] FormCost cheapest_form(const Layer& layer, std::int64_t rank, std::span<const std::int64_t> kept_groups);
/// The same where only their number is known: groups in general position, which is an upper bound. Local.
[[nodiscard]] FormCost cheapest_form(const Layer& layer, std::int64_t rank, std::int64_t kept_groups);

/// How long a form takes for one image on one core, in products at full speed: what `macs` leaves out, and small layers
/// feel. Libraries compute 16 channels at once, so ranks and channels count in whole sixteens (where they are not the
/// layer's own inputs); every node beside the first writes its output once more, 24 products an element, and costs
/// 50,000 to call. A rule of thumb, from the table that bench/latency/forms.py prints; the same number on every
/// machine, so that what is chosen by it can be reproduced. `positions`: of the output. Local.
[[nodiscard]] double products_of_time(const Layer& layer, Form form, std::int64_t rank, std::int64_t kept_groups,
                                      std::int64_t positions);

/// Writes the compressed layer in its cheapest form in place of the layer's node, and of its others', which read the
/// same initializers (their nodes are called after themselves); values named `layer.input` and `layer.linear` keep
/// their names and meaning. Returns the form. Indices of nodes change, but not the names of other layers: a list from
/// `find_layers` made before stays good for further calls. Dead nodes and initializers are removed.
///
/// The new nodes, their initializers (NODE.weight, NODE.bias; rows x columns as in CompressedLayer, except that MatMul
/// stores the transpose) and the values they make are called, with <layer> = layer.name:
///   dense      <layer>                                       the whole W and the bias
///   low_rank   <layer>/lowrank_v, <layer>/lowrank_u          the bias on u
///   kept       <layer>/order (.indices), <layer>/kept        the bias on kept
///   mixed      <layer>/order (.indices; not if the kept channels are first or last), <layer>/split (.sizes from
///   operator
///              set 13 on), <layer>/kept, <layer>/lowrank_v, <layer>/lowrank_u, <layer>/add      the bias on kept
///   columns    <layer>/order_P (.indices; not for all channels), <layer>/shift_P (.pads from operator set 11 on; not
///              without a shift) for the places P of the kernel, <layer>/columns, <layer>/kept, and as in mixed
///              <layer>/lowrank_v, <layer>/lowrank_u, <layer>/add                                the bias on kept
///   filters    <layer>/kept, <layer>/lowrank_v, <layer>/lowrank_u, <layer>/join, <layer>/order (.indices; not if the
///              kept rows are first or last)                                          the bias on kept and lowrank_u
///   bias_only  <layer>/order (.indices; not for one channel), <layer>/zero, <layer>/add (.bias)
/// A bias behind a MatMul is an Add called NODE/bias; V behind a Gemm is a MatMul before operator set 11, where Gemm
/// must have a bias. Local. \throws Error{bug} if the factors' sizes contradict the layer or the layer is not in the
/// model. \pre layer.groups == 1
Form replace_layer(Model& model, const Layer& layer, const CompressedLayer& compressed);

/// Removes nodes whose outputs nobody reads and initializers that no node reads. Local.
void remove_dead(Model& model);

} // namespace slr::graph
