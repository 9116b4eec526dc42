#include "shape_table.hpp"
#include "words.hpp"

#include <algorithm>
#include <limits>

namespace slr::graph {
namespace {

void flatten(NodeView& view) {
  const auto* x = view.shape(0);
  if (!x) return;
  const auto n = static_cast<std::int64_t>(x->size());
  const auto axis = view.node().int_or("axis", 1);
  if (axis < -n || axis > n) view.fail("has axis " + std::to_string(axis) + " on " + std::to_string(n) + " dimensions");
  const auto split = static_cast<std::size_t>(axis < 0 ? axis + n : axis);
  view.set_shape(0, {extent_of(product_of(*x, 0, split)), extent_of(product_of(*x, split, x->size()))});
}

/// a / b if b divides a, symbols included.
std::optional<ExtentProduct> quotient(const ExtentProduct& a, const ExtentProduct& b) {
  ExtentProduct result;
  if (b.known == 0 || a.known % b.known != 0) return std::nullopt;
  result.known = a.known / b.known;
  if (!std::ranges::includes(a.symbols, b.symbols)) return std::nullopt;
  std::ranges::set_difference(a.symbols, b.symbols, std::back_inserter(result.symbols));
  return result;
}

void reshape(NodeView& view) {
  const auto* x = view.shape(0);
  const auto* target = view.integers(1);
  if (!x || !target) return;
  const bool zero_copies = view.node().int_or("allowzero", 0) == 0;
  Shape result = target->values, read, made; // read and made: what is left when copied dimensions are taken out
  std::optional<std::size_t> open;
  std::vector<bool> is_copied(x->size(), false);
  for (std::size_t i = 0; i < result.size(); ++i) {
    if (result[i].is(-1)) {
      if (open) view.fail("leaves two dimensions of its shape open");
      open = i;
    } else if (result[i].is(0) && zero_copies) {
      if (i >= x->size()) view.fail("copies a dimension that its input does not have");
      result[i] = (*x)[i];
      is_copied[i] = true;
    } else {
      if (result[i].is_known() && result[i].value() < 0) view.fail("has a negative dimension in its shape");
      made.push_back(result[i]);
    }
  }
  for (std::size_t i = 0; i < x->size(); ++i)
    if (!is_copied[i]) read.push_back((*x)[i]);
  const auto all = product_of(read, 0, read.size()), given = product_of(made, 0, made.size());
  if (all && given) {
    const bool are_numbers = all->symbols.empty() && given->symbols.empty();
    const bool fits = open ? given->known != 0 && all->known % given->known == 0 : all->known == given->known;
    if (are_numbers && !fits)
      view.fail("cannot give " + std::to_string(all->known) + " elements a shape of " + std::to_string(given->known));
    if (open) result[*open] = extent_of(quotient(*all, *given));
  } else if (open) {
    result[*open] = Extent();
  }
  view.set_shape(0, result);
}

void transpose(NodeView& view) {
  const auto* x = view.shape(0);
  if (!x) return;
  std::vector<std::int64_t> order(x->size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int64_t>(order.size() - 1 - i);
  order = view.node().ints_or("perm", order);
  auto sorted = order;
  std::ranges::sort(sorted);
  Shape result;
  for (std::size_t i = 0; i < sorted.size(); ++i)
    if (sorted.size() != x->size() || sorted[i] != static_cast<std::int64_t>(i))
      view.fail("has a perm that is no order of its input's dimensions");
  for (const auto axis : order) result.push_back((*x)[static_cast<std::size_t>(axis)]);
  view.set_shape(0, result);
}

/// The inputs of a Concat as one list of integers, if they all are.
std::optional<Integers> joined_integers(const NodeView& view) {
  Integers all;
  for (std::size_t i = 0; i < view.node().inputs.size(); ++i) {
    const auto* part = view.integers(i);
    if (!part || part->dims.size() != 1) return std::nullopt;
    all.type = part->type;
    all.values.insert(all.values.end(), part->values.begin(), part->values.end());
    if (static_cast<std::int64_t>(all.values.size()) > most_integers) return std::nullopt;
  }
  all.dims = {static_cast<std::int64_t>(all.values.size())};
  return all;
}

Extent sum_of(const NodeView& view, const Extent& a, const Extent& b) {
  if (!a.is_known() || !b.is_known()) return {};
  std::int64_t sum = 0;
  if (__builtin_add_overflow(a.value(), b.value(), &sum)) view.fail("makes an absurdly large value");
  return Extent::of(sum);
}

void concat(NodeView& view) {
  std::optional<Shape> result;
  for (std::size_t i = 0; i < view.node().inputs.size(); ++i) {
    const auto* x = view.shape(i);
    if (!x) return;
    const auto axis = view.axis(view.node().int_or("axis", 1), x->size());
    if (!result) {
      result = *x;
      continue;
    }
    if (x->size() != result->size()) view.fail("joins values of different numbers of dimensions");
    for (std::size_t d = 0; d < x->size(); ++d)
      (*result)[d] = d == axis ? sum_of(view, (*result)[d], (*x)[d]) : joined(view, (*result)[d], (*x)[d]);
  }
  if (!result) return;
  view.set_shape(0, *result);
  if (auto integers = joined_integers(view)) view.set_integers(0, std::move(*integers));
}

/// How a Slice goes through one dimension.
struct Cut {
  std::int64_t axis, start, end, step;
};

/// The cuts, none if they are not known before the network runs.
std::optional<std::vector<Cut>> read_cuts(const NodeView& view, std::size_t dimensions) {
  bool is_known = true;
  const auto starts = view.list("starts", 1, is_known), ends = view.list("ends", 2, is_known);
  const auto axes = view.list("axes", 3, is_known), steps = view.list("steps", 4, is_known);
  if (!is_known || !starts || !ends) return std::nullopt;
  const auto n = starts->size();
  if (ends->size() != n || (axes && axes->size() != n) || (steps && steps->size() != n) || n > dimensions)
    view.fail("has starts, ends, axes and steps that do not go together");
  std::vector<Cut> cuts;
  for (std::size_t i = 0; i < n; ++i) {
    const auto axis =
        static_cast<std::int64_t>(view.axis(axes ? (*axes)[i] : static_cast<std::int64_t>(i), dimensions));
    const auto step = steps ? (*steps)[i] : 1;
    if (step == 0 || step == std::numeric_limits<std::int64_t>::min()) view.fail("has an impossible step");
    cuts.push_back({axis, (*starts)[i], (*ends)[i], step});
  }
  return cuts;
}

/// First index and number of indices of a cut through `size` elements.
std::pair<std::int64_t, std::int64_t> cut_range(const Cut& cut, std::int64_t size) {
  const auto placed = [&](std::int64_t at, std::int64_t low, std::int64_t high) {
    return std::clamp(at < 0 ? at + size : at, low, high);
  };
  if (cut.step > 0) {
    const auto start = placed(cut.start, 0, size), end = placed(cut.end, 0, size);
    return {start, end <= start ? 0 : (end - start - 1) / cut.step + 1};
  }
  const auto start = placed(cut.start, -1, size - 1), end = placed(cut.end, -1, size - 1);
  return {start, end >= start ? 0 : (start - end - 1) / -cut.step + 1};
}

void slice(NodeView& view) {
  const auto* x = view.shape(0);
  if (!x) return;
  const auto cuts = read_cuts(view, x->size());
  if (!cuts) return;
  Shape result = *x;
  for (const auto& cut : *cuts) {
    auto& extent = result[static_cast<std::size_t>(cut.axis)];
    const bool is_whole = cut.start == 0 && cut.step == 1 && cut.end >= std::numeric_limits<std::int32_t>::max();
    if (extent.is_known())
      extent = Extent::of(cut_range(cut, extent.value()).second);
    else if (!is_whole)
      extent = Extent();
  }
  view.set_shape(0, result);
  const auto* integers = view.integers(0);
  if (!integers || integers->dims.size() != 1 || cuts->size() > 1) return;
  Integers part{integers->type, {}, integers->values};
  for (const auto& cut : *cuts) {
    const auto [start, count] = cut_range(cut, integers->dims[0]);
    part.values.clear();
    for (std::int64_t i = 0; i < count; ++i)
      part.values.push_back(integers->values[static_cast<std::size_t>(start + i * cut.step)]);
  }
  part.dims = {static_cast<std::int64_t>(part.values.size())};
  view.set_integers(0, std::move(part));
}

void split(NodeView& view) {
  const auto* x = view.shape(0);
  bool is_known = true;
  const auto sizes = view.list("split", 1, is_known);
  if (!x || !is_known) return;
  const auto axis = view.axis(view.node().int_or("axis", 0), x->size());
  const auto parts = static_cast<std::int64_t>(view.node().outputs.size());
  const auto& whole = (*x)[axis];
  if (sizes && static_cast<std::int64_t>(sizes->size()) != parts)
    view.fail("has " + std::to_string(parts) + " outputs but " + std::to_string(sizes->size()) + " sizes");
  if (!sizes && !whole.is_known()) return;
  std::int64_t left = whole.is_known() ? whole.value() : 0;
  const auto share = parts > 0 ? left / parts + (left % parts != 0 ? 1 : 0) : 0;
  for (std::int64_t i = 0; i < parts; ++i) {
    const auto size = sizes ? (*sizes)[static_cast<std::size_t>(i)] : std::min(share, left);
    if (size < 0 || (whole.is_known() && size > left)) view.fail("has sizes that do not fit its input");
    left -= whole.is_known() ? size : 0;
    Shape result = *x;
    result[axis] = Extent::of(size);
    view.set_shape(static_cast<std::size_t>(i), result);
  }
  if (whole.is_known() && left != 0) view.fail("has sizes that do not fill its input");
}

void pad(NodeView& view) {
  const auto* x = view.shape(0);
  bool is_known = true;
  const auto pads = view.list("pads", 1, is_known), axes = view.list("axes", 3, is_known);
  if (!x || !is_known || !pads) return;
  const auto n = axes ? axes->size() : x->size();
  if (pads->size() != 2 * n)
    view.fail("has " + std::to_string(pads->size()) + " pads for " + std::to_string(n) + " dimensions");
  Shape result = *x;
  for (std::size_t i = 0; i < n; ++i) {
    auto& extent = result[view.axis(axes ? (*axes)[i] : static_cast<std::int64_t>(i), x->size())];
    if ((*pads)[i] == 0 && (*pads)[n + i] == 0) continue;
    extent = sum_of(view, sum_of(view, extent, Extent::of((*pads)[i])), Extent::of((*pads)[n + i]));
  }
  view.set_shape(0, result);
}

void squeeze(NodeView& view) {
  const auto* x = view.shape(0);
  bool is_known = true;
  const auto axes = view.list("axes", 1, is_known);
  if (!x || !is_known || (!axes && !known_dims(*x))) return;
  std::vector<bool> goes(x->size(), false);
  for (std::size_t i = 0; i < x->size() && !axes; ++i) goes[i] = (*x)[i].is(1);
  if (axes)
    for (const auto axis : *axes) goes[view.axis(axis, x->size())] = true;
  Shape result;
  for (std::size_t i = 0; i < x->size(); ++i) {
    if (!goes[i])
      result.push_back((*x)[i]);
    else if ((*x)[i].is_known() && !(*x)[i].is(1))
      view.fail("removes a dimension that is not 1");
  }
  view.set_shape(0, result);
  if (const auto* integers = view.integers(0); integers && integers->values.size() == 1 && result.empty())
    view.set_integers(0, {integers->type, {}, integers->values});
}

void unsqueeze(NodeView& view) {
  const auto* x = view.shape(0);
  bool is_known = true;
  const auto axes = view.list("axes", 1, is_known);
  if (!x || !is_known || !axes) return;
  if (axes->size() > 64) view.fail("adds an absurd number of dimensions");
  std::vector<bool> is_new(x->size() + axes->size(), false);
  for (const auto axis : *axes) is_new[view.axis(axis, is_new.size())] = true;
  if (std::ranges::count(is_new, true) != static_cast<std::ptrdiff_t>(axes->size()))
    view.fail("adds one dimension twice");
  Shape result;
  auto next = x->begin();
  for (const bool fresh : is_new) result.push_back(fresh ? Extent::of(1) : *next++);
  view.set_shape(0, result);
  if (const auto* integers = view.integers(0); integers && integers->dims.empty() && result.size() == 1)
    view.set_integers(0, {integers->type, {1}, integers->values});
}

void gather(NodeView& view) {
  const auto *x = view.shape(0), *indices = view.shape(1);
  if (!x || !indices) return;
  const auto axis = view.axis(view.node().int_or("axis", 0), x->size());
  const auto at = view.known_integers(1);
  const auto& extent = (*x)[axis];
  if (at && extent.is_known())
    for (const auto index : *at)
      if (index < -extent.value() || index >= extent.value())
        view.fail("gathers element " + std::to_string(index) + " of " + std::to_string(extent.value()));
  Shape result(x->begin(), x->begin() + static_cast<std::ptrdiff_t>(axis));
  result.insert(result.end(), indices->begin(), indices->end());
  result.insert(result.end(), x->begin() + static_cast<std::ptrdiff_t>(axis) + 1, x->end());
  view.set_shape(0, result);
  const auto* integers = view.integers(0);
  if (!integers || integers->dims.size() != 1 || !at) return;
  Integers part{integers->type, *known_dims(*indices), {}};
  for (const auto index : *at)
    part.values.push_back(integers->values[static_cast<std::size_t>(index < 0 ? index + integers->dims[0] : index)]);
  view.set_integers(0, std::move(part));
}

void expand(NodeView& view) {
  const auto* x = view.shape(0);
  const auto* target = view.integers(1);
  if (x && target) view.set_shape(0, broadcast(view, *x, target->values));
}

} // namespace

void add_reshape_rules(Rules& rules) {
  rules["Flatten"] = flatten;
  rules["Reshape"] = reshape;
  rules["Transpose"] = transpose;
  rules["Concat"] = concat;
  rules["Slice"] = slice;
  rules["Split"] = split;
  rules["Pad"] = pad;
  rules["Squeeze"] = squeeze;
  rules["Unsqueeze"] = unsqueeze;
  rules["Gather"] = gather;
  rules["Expand"] = expand;
}

} // namespace slr::graph
