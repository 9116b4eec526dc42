#include "slr/mpi/communicator.hpp"

#include "slr/base/narrow.hpp"
#include "slr/base/trace.hpp"
#include "slr/mpi/whereabouts.hpp"
#include "whole_job.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>

namespace slr {
namespace {

/// Pieces that any MPI implementation takes in one call.
constexpr std::size_t piece_bytes = std::size_t(1) << 30;

MPI_Op mpi_op(Reduction op) {
  switch (op) {
  case Reduction::sum:
    return MPI_SUM;
  case Reduction::min:
    return MPI_MIN;
  case Reduction::max:
    return MPI_MAX;
  }
  return MPI_SUM;
}

/// Ranks of the largest communicator there was: the job's.
std::atomic<int> all_ranks{0};

std::vector<int> displacements(std::span<const int> counts) {
  std::vector<int> at(counts.size(), 0);
  std::int64_t total = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    at[i] = narrow<int>(total, "a message");
    total += counts[i];
  }
  (void)narrow<int>(total, "a message");
  return at;
}

std::uint64_t bytes_of(std::span<const int> counts, MPI_Datatype type) {
  int size = 0;
  MPI_Type_size(type, &size);
  return std::accumulate(counts.begin(), counts.end(), std::uint64_t(0)) * static_cast<std::uint64_t>(size);
}

} // namespace

void check_mpi(int code, const char* operation) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  throw Error(ExitCode::io, std::string(operation) + " failed: " + std::string(text.data(), std::size_t(length)));
}

bool is_whole_job(const Communicator& comm) {
  return comm.size() == all_ranks;
}

Communicator::Communicator(MPI_Comm comm) {
  check_mpi(MPI_Comm_dup(comm, &comm_), "MPI_Comm_dup");
  MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
  MPI_Comm_rank(comm_, &rank_);
  MPI_Comm_size(comm_, &size_);
  all_ranks = std::max(all_ranks.load(), size_);
}

Communicator::Communicator(MPI_Comm comm, Adopt) : comm_(comm) {
  MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
  MPI_Comm_rank(comm_, &rank_);
  MPI_Comm_size(comm_, &size_);
}

Communicator::~Communicator() {
  release();
}

Communicator::Communicator(Communicator&& other) noexcept
    : comm_(std::exchange(other.comm_, MPI_COMM_NULL)), rank_(other.rank_), size_(other.size_) {}

Communicator& Communicator::operator=(Communicator&& other) noexcept {
  if (this != &other) {
    release();
    comm_ = std::exchange(other.comm_, MPI_COMM_NULL);
    rank_ = other.rank_;
    size_ = other.size_;
  }
  return *this;
}

void Communicator::release() noexcept {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (comm_ != MPI_COMM_NULL && !finalized) MPI_Comm_free(&comm_);
  comm_ = MPI_COMM_NULL;
}

Communicator Communicator::split(int color, int key) const {
  const Waiting waiting("MPI_Comm_split", is_whole_job(*this));
  // A rank without a colour still needs a communicator that it may ask for its size: its own.
  const int apart = allreduce_value(std::max(color, 0), Reduction::max) + 1 + rank_;
  MPI_Comm part = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split(comm_, color < 0 ? apart : color, key, &part), "MPI_Comm_split");
  return {part, Adopt{}};
}

Communicator Communicator::split_by_node() const {
  const Waiting waiting("MPI_Comm_split_type", is_whole_job(*this));
  MPI_Comm part = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(comm_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &part), "MPI_Comm_split_type");
  return {part, Adopt{}};
}

void Communicator::barrier() const {
  const TraceSpan span(TraceKind::communication, "barrier");
  const Waiting waiting("MPI_Barrier", is_whole_job(*this));
  check_mpi(MPI_Barrier(comm_), "MPI_Barrier");
}

void Communicator::idle_barrier() const {
  const TraceSpan span(TraceKind::communication, "barrier");
  const Waiting waiting("MPI_Ibarrier", is_whole_job(*this));
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(MPI_Ibarrier(comm_, &request), "MPI_Ibarrier");
  constexpr auto longest = std::chrono::milliseconds(2);
  int is_done = 0;
  for (std::chrono::microseconds pause(50);; pause = std::min<std::chrono::microseconds>(2 * pause, longest)) {
    check_mpi(MPI_Test(&request, &is_done, MPI_STATUS_IGNORE), "MPI_Test");
    if (is_done) return;
    std::this_thread::sleep_for(pause);
  }
}

std::string Communicator::broadcast_text(const std::string& text, int root) const {
  const auto length = broadcast_value(text.size(), root);
  std::string result = text;
  result.resize(length);
  broadcast_bytes(result.data(), length, root);
  return result;
}

void Communicator::broadcast_bytes(void* data, std::size_t bytes, int root) const {
  const TraceSpan span(TraceKind::communication, "broadcast", bytes);
  const Waiting waiting("MPI_Bcast", is_whole_job(*this));
  auto* at = static_cast<char*>(data);
  for (std::size_t done = 0; done < bytes; done += piece_bytes)
    check_mpi(MPI_Bcast(at + done, int(std::min(piece_bytes, bytes - done)), MPI_BYTE, root, comm_), "MPI_Bcast");
}

void Communicator::allreduce_raw(void* data, std::size_t count, MPI_Datatype type, std::size_t size,
                                 Reduction op) const {
  const TraceSpan span(TraceKind::communication, "allreduce", count * size);
  const Waiting waiting("MPI_Allreduce", is_whole_job(*this));
  auto* at = static_cast<char*>(data);
  const std::size_t piece = piece_bytes / size;
  for (std::size_t done = 0; done < count; done += piece)
    check_mpi(
        MPI_Allreduce(MPI_IN_PLACE, at + done * size, int(std::min(piece, count - done)), type, mpi_op(op), comm_),
        "MPI_Allreduce");
}

void Communicator::reduce_raw(void* data, std::size_t count, MPI_Datatype type, std::size_t size, Reduction op,
                              int root) const {
  const TraceSpan span(TraceKind::communication, "reduce", count * size);
  const Waiting waiting("MPI_Reduce", is_whole_job(*this));
  auto* at = static_cast<char*>(data);
  const std::size_t piece = piece_bytes / size;
  for (std::size_t done = 0; done < count; done += piece) {
    void* here = at + done * size;
    check_mpi(MPI_Reduce(rank_ == root ? MPI_IN_PLACE : here, here, int(std::min(piece, count - done)), type,
                         mpi_op(op), root, comm_),
              "MPI_Reduce");
  }
}

void Communicator::reduce_scatter_raw(const void* all, void* mine, std::span<const int> counts,
                                      MPI_Datatype type) const {
  const TraceSpan span(TraceKind::communication, "reduce_scatter", bytes_of(counts, type));
  const Waiting waiting("MPI_Reduce_scatter", is_whole_job(*this));
  (void)displacements(counts);
  check_mpi(MPI_Reduce_scatter(all, mine, counts.data(), type, MPI_SUM, comm_), "MPI_Reduce_scatter");
}

void Communicator::allgather_raw(const void* mine, std::size_t count, void* all, std::span<const int> counts,
                                 MPI_Datatype type) const {
  const TraceSpan span(TraceKind::communication, "allgather", bytes_of(counts, type));
  const Waiting waiting("MPI_Allgatherv", is_whole_job(*this));
  const auto at = displacements(counts);
  check_mpi(MPI_Allgatherv(mine, narrow<int>(count, "a message"), type, all, counts.data(), at.data(), type, comm_),
            "MPI_Allgatherv");
}

std::vector<std::byte> Communicator::gather_bytes(std::span<const std::byte> mine, int root) const {
  const auto lengths = allgather_value(static_cast<std::int64_t>(mine.size()));
  std::vector<std::byte> all;
  if (rank_ != root) {
    send_bytes(mine, root, 0);
    return all;
  }
  all.resize(static_cast<std::size_t>(std::accumulate(lengths.begin(), lengths.end(), std::int64_t(0))));
  std::size_t at = 0;
  for (int source = 0; source < size_; ++source) {
    const auto length = static_cast<std::size_t>(lengths[static_cast<std::size_t>(source)]);
    const std::span<std::byte> here(all.data() + at, length);
    if (source == root)
      std::copy(mine.begin(), mine.end(), here.begin());
    else
      receive_bytes(here, source, 0);
    at += length;
  }
  return all;
}

void Communicator::send_bytes(std::span<const std::byte> bytes, int destination, int tag) const {
  const TraceSpan span(TraceKind::communication, "send", bytes.size());
  const Waiting waiting("MPI_Send", false);
  for (std::size_t done = 0; done < bytes.size(); done += piece_bytes)
    check_mpi(MPI_Send(bytes.data() + done, int(std::min(piece_bytes, bytes.size() - done)), MPI_BYTE, destination, tag,
                       comm_),
              "MPI_Send");
}

void Communicator::receive_bytes(std::span<std::byte> bytes, int source, int tag) const {
  const TraceSpan span(TraceKind::communication, "receive", bytes.size());
  const Waiting waiting("MPI_Recv", false);
  for (std::size_t done = 0; done < bytes.size(); done += piece_bytes)
    check_mpi(MPI_Recv(bytes.data() + done, int(std::min(piece_bytes, bytes.size() - done)), MPI_BYTE, source, tag,
                       comm_, MPI_STATUS_IGNORE),
              "MPI_Recv");
}

} // namespace slr
