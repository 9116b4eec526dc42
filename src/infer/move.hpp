#pragma once
/// \file
/// What forward and backward pass of operators that only move elements have in common.
#include "builder.hpp"

namespace slr::infer {

/// A part of a value: first element and step per dimension, and how many.
struct Box {
  Dims first, step, count;
};

/// Room for a value that is ordered like x, whose elements move into it.
[[nodiscard]] View make_like(Builder& builder, const View& x, const Dims& dims, bool runtime);
/// Copies the box out of x into a new value. \pre the box lies inside x
[[nodiscard]] View extracted(Builder& builder, const View& x, const Box& box);
[[nodiscard]] bool is_runtime(const std::vector<View>& values);
/// The inputs one behind the other along an axis, which makes a value of these dimensions.
[[nodiscard]] View joined(Builder& builder, const std::vector<View>& inputs, std::size_t axis, const Dims& dims);

/// What a Slice takes.
[[nodiscard]] Box slice_box(Builder& builder, const graph::Node& node);
/// The sizes of a Split's parts.
[[nodiscard]] std::vector<std::int64_t> split_sizes(Builder& builder, const graph::Node& node, std::int64_t size);

/// Begin and end padding per dimension.
struct Padding {
  Dims begin, end;
};
[[nodiscard]] Padding padding_of(Builder& builder, const graph::Node& node, std::size_t rank);

/// The dimensions of a Transpose's input in the order of its output.
[[nodiscard]] std::vector<std::int64_t> permutation_of(const graph::Node& node, std::size_t rank);

/// An array outer x size x run, of which rows of the middle dimension are taken.
struct Table {
  std::int64_t outer, size, run;
};
/// What a Gather takes: rows of a table.
struct Gathering {
  Dims dims; ///< of the result
  Table table;
  std::vector<std::int64_t> indices; ///< from 0 on
  bool is_channel;                   ///< the table is the input with its channels last
};
[[nodiscard]] Gathering gathering_of(Builder& builder, const graph::Node& node);

} // namespace slr::infer
