#include "slr/mpi/node_groups.hpp"

#include "slr/base/narrow.hpp"
#include "slr/mpi/last_meeting.hpp"
#include "slr/mpi/whereabouts.hpp"

#include <algorithm>
#include <map>
#include <numeric>

namespace slr {
namespace {

/// The place where part `i` of `parts` begins among `total`.
std::size_t begin_of_part(std::size_t i, std::size_t parts, std::size_t total) {
  return i * total / parts;
}

/// How many groups each node gets where there are more groups than nodes: at least one and at most one per rank; the
/// next group goes to the node whose groups are the largest.
std::vector<std::size_t> groups_of_nodes(const std::vector<std::vector<std::size_t>>& nodes, std::size_t groups) {
  std::vector<std::size_t> result(nodes.size(), 1);
  for (auto left = groups - nodes.size(); left > 0; --left) {
    std::size_t best = 0;
    for (std::size_t n = 1; n < nodes.size(); ++n)
      if (nodes[n].size() * result[best] > nodes[best].size() * result[n]) best = n;
    ++result[best];
  }
  return result;
}

/// The first node of every group where whole nodes make a group: each boundary is as near as can be to where ranks
/// would be cut evenly, and every group has a node.
std::vector<std::size_t> first_nodes(const std::vector<std::vector<std::size_t>>& nodes, std::size_t groups) {
  std::vector<std::size_t> before(nodes.size() + 1, 0); // ranks
  for (std::size_t n = 0; n < nodes.size(); ++n) before[n + 1] = before[n] + nodes[n].size();
  std::vector<std::size_t> first{0};
  for (std::size_t g = 1; g < groups; ++g) {
    const auto ideal = begin_of_part(g, groups, before.back());
    auto at = first.back() + 1;
    const auto off = [&](std::size_t node) {
      return before[node] > ideal ? before[node] - ideal : ideal - before[node];
    };
    while (at + (groups - g) < nodes.size() && off(at + 1) < off(at)) ++at;
    first.push_back(at);
  }
  return first;
}

} // namespace

std::vector<int> deal_ranks(std::span<const int> node_of_rank, int groups) {
  require(groups >= 1 && groups <= static_cast<int>(node_of_rank.size()), "more groups than ranks");
  std::map<int, std::size_t> places;
  std::vector<std::vector<std::size_t>> nodes; // their ranks, in the order of the first ones
  for (std::size_t r = 0; r < node_of_rank.size(); ++r) {
    const auto [place, is_new] = places.emplace(node_of_rank[r], nodes.size());
    if (is_new) nodes.emplace_back();
    nodes[place->second].push_back(r);
  }
  std::vector<int> result(node_of_rank.size());
  const auto wanted = static_cast<std::size_t>(groups);
  if (wanted <= nodes.size()) {
    const auto first = first_nodes(nodes, wanted);
    for (std::size_t n = 0; n < nodes.size(); ++n) {
      const auto group = std::upper_bound(first.begin(), first.end(), n) - first.begin() - 1;
      for (const auto member : nodes[n]) result[member] = static_cast<int>(group);
    }
    return result;
  }
  const auto parts = groups_of_nodes(nodes, wanted);
  int group = 0;
  for (std::size_t n = 0; n < nodes.size(); ++n)
    for (std::size_t part = 0; part < parts[n]; ++part, ++group)
      for (auto i = begin_of_part(part, parts[n], nodes[n].size());
           i < begin_of_part(part + 1, parts[n], nodes[n].size()); ++i)
        result[nodes[n][i]] = group;
  return result;
}

std::vector<int> nodes_of(const Communicator& world) {
  const auto node = world.split_by_node();
  return world.allgather_value(node.broadcast_value(world.rank()));
}

std::vector<int> group_sizes(std::span<const int> node_of_rank, int groups) {
  std::vector<int> sizes(static_cast<std::size_t>(groups), 0);
  for (const int group : deal_ranks(node_of_rank, groups)) ++sizes[static_cast<std::size_t>(group)];
  return sizes;
}

namespace {

std::vector<std::vector<int>> members_of(const Communicator& world, int groups) {
  const auto dealt = deal_ranks(nodes_of(world), groups);
  std::vector<std::vector<int>> members(static_cast<std::size_t>(groups));
  for (int r = 0; r < world.size(); ++r)
    members[static_cast<std::size_t>(dealt[static_cast<std::size_t>(r)])].push_back(r);
  return members;
}

int group_of(const std::vector<std::vector<int>>& members, int member) {
  for (std::size_t g = 0; g < members.size(); ++g)
    if (std::find(members[g].begin(), members[g].end(), member) != members[g].end()) return static_cast<int>(g);
  return 0;
}

} // namespace

NodeGroups::NodeGroups(const Communicator& world, int groups)
    : world_(world), members_(members_of(world, groups)),
      group_(world.split(group_of(members_, world.rank()), world.rank())), alerts_(world.handle()),
      parcels_(world.handle()) {
  mine_ = group_of(members_, world.rank());
}

std::vector<int> NodeGroups::sizes() const {
  std::vector<int> result;
  for (int g = 0; g < count(); ++g) result.push_back(size(g));
  return result;
}

bool NodeGroups::has_other_failed() const {
  if (has_heard_) return true;
  int heard = 0;
  check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, 0, alerts_.handle(), &heard, MPI_STATUS_IGNORE), "MPI_Iprobe");
  has_heard_ = heard != 0;
  return has_heard_;
}

Error NodeGroups::other_failed() {
  return {ExitCode::stopped, "another group of ranks has failed"};
}

void NodeGroups::meet(std::optional<Error> mine) const {
  if (mine && mine->what() == std::string(other_failed().what())) mine.reset(); // that group tells why
  if (mine && group_.is_root())
    for (int g = 0; g < count(); ++g) {
      if (g == mine_) continue;
      for (const int other : members(g)) { // empty messages are sent eagerly: nobody has to receive them
        MPI_Request sent = MPI_REQUEST_NULL;
        check_mpi(MPI_Isend(nullptr, 0, MPI_BYTE, other, 0, alerts_.handle(), &sent), "MPI_Isend");
        MPI_Request_free(&sent);
      }
    }
  {
    const Waiting waiting("the meeting of all groups", true);
    LastMeeting meeting(alerts_);
    const auto patience =
        std::chrono::duration_cast<LastMeeting::Clock::duration>(std::chrono::duration<double>(patience_seconds));
    // A stop is heeded by all, at the end of what they are at; else this rank may have failed without its group.
    const bool has_failed = mine && mine->code() != ExitCode::stopped;
    const auto end = has_failed ? LastMeeting::Clock::now() + patience : LastMeeting::Clock::time_point::max();
    if (!meeting.wait_until(end)) throw *mine;
  }
  agree(world_, mine);
}

} // namespace slr
