#include "slr/mpi/parcels.hpp"

#include "slr/base/trace.hpp"
#include "slr/mpi/whereabouts.hpp"

#include <algorithm>
#include <chrono>
#include <thread>

namespace slr {
namespace {

constexpr std::size_t piece_bytes = std::size_t(1) << 30;

/// Waits, asleep most of the time, for a request or for the failure of another group.
bool is_done_before_failure(const NodeGroups& groups, MPI_Request& request) {
  auto pause = std::chrono::microseconds(20);
  while (true) {
    int done = 0;
    check_mpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test");
    if (done) return true;
    if (groups.has_other_failed()) return false;
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, std::chrono::microseconds(5'000));
  }
}

} // namespace

/// Its length, then the bytes in pieces.
struct Outbox::Parcel {
  std::string bytes;
  std::uint64_t length = 0;
  std::vector<MPI_Request> requests;
};

Outbox::Outbox(const NodeGroups& groups) : groups_(groups) {}

Outbox::~Outbox() {
  for (auto& parcel : parcels_) {
    const bool is_taken = std::all_of(parcel->requests.begin(), parcel->requests.end(),
                                      [](MPI_Request r) { return r == MPI_REQUEST_NULL; });
    if (is_taken) continue;
    // The job ends early: nobody waits for these messages, but their memory may still be read.
    for (auto& request : parcel->requests)
      if (request != MPI_REQUEST_NULL) MPI_Request_free(&request);
    (void)parcel.release();
  }
}

void Outbox::send(std::string bytes, int destination, int tag) {
  const TraceSpan span(TraceKind::communication, "send to a group", bytes.size());
  auto& parcel = *parcels_.emplace_back(std::make_unique<Parcel>());
  parcel.bytes = std::move(bytes);
  parcel.length = parcel.bytes.size();
  const auto begin = [&](const void* data, std::size_t size) {
    parcel.requests.push_back(MPI_REQUEST_NULL);
    check_mpi(MPI_Isend(data, static_cast<int>(size), MPI_BYTE, destination, tag, groups_.messages().handle(),
                        &parcel.requests.back()),
              "MPI_Isend");
  };
  begin(&parcel.length, sizeof(parcel.length));
  for (std::size_t at = 0; at < parcel.bytes.size(); at += piece_bytes)
    begin(parcel.bytes.data() + at, std::min(piece_bytes, parcel.bytes.size() - at));
}

void Outbox::finish() {
  const TraceSpan span(TraceKind::communication, "wait for the next group");
  const Waiting waiting("MPI_Isend", false);
  for (auto& parcel : parcels_)
    for (auto& request : parcel->requests)
      if (!is_done_before_failure(groups_, request)) throw NodeGroups::other_failed();
  parcels_.clear();
}

std::string receive_parcel(const NodeGroups& groups, int source, int tag) {
  const TraceSpan span(TraceKind::communication, "wait for a group");
  const Waiting waiting("MPI_Irecv", false);
  const auto receive = [&](void* data, std::size_t size) {
    MPI_Request request = MPI_REQUEST_NULL;
    check_mpi(MPI_Irecv(data, static_cast<int>(size), MPI_BYTE, source, tag, groups.messages().handle(), &request),
              "MPI_Irecv");
    if (is_done_before_failure(groups, request)) return;
    MPI_Cancel(&request);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    throw NodeGroups::other_failed();
  };
  std::uint64_t length = 0;
  receive(&length, sizeof(length));
  std::string bytes(length, '\0');
  for (std::size_t at = 0; at < bytes.size(); at += piece_bytes)
    receive(bytes.data() + at, std::min(piece_bytes, bytes.size() - at));
  return bytes;
}

} // namespace slr
