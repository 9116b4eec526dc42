#pragma once
/// \file
/// Channels of a rewritten network: those that nobody reads go, the others are put in the order in which they are read.
#include "slr/graph/model.hpp"

namespace slr::graph {

/// Removes every channel that no layer reads any more from the layers that make it: rows of their weights and biases,
/// and what belongs to the channel on the way (normalization, depthwise convolution, pooling, residual sums, Concat,
/// Split, Flatten). A Gather that is left with all channels in their order disappears. Outputs of the network, and
/// values that pass through an operator whose treatment of channels is not known, keep all of theirs; at least one
/// channel of a value always stays. The function of the network is unchanged, the numbers of every channel that stays
/// are the same bits as before. Local, linear in the nodes and weights.
void remove_unread_channels(Model& model);

/// Where a Gather only reorders all channels of a value, the layers that make the value deliver them in that order
/// instead (rows of their weights), all others who read it are adapted (columns of their weights, indices of their
/// Gathers), and the Gather disappears; of several Gathers of one value the first does. Where a Gather makes a value,
/// its readers take the channels as they come instead. Nothing is moved where the
/// value is an output of the network or passes through Concat, Split or an operator whose treatment of channels is not
/// known. The function of the network is unchanged up to the order of summation. Local, linear in the nodes and
/// weights.
void order_channels(Model& model);

} // namespace slr::graph
