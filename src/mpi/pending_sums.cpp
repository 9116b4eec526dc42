#include "slr/mpi/pending_sums.hpp"

#include "slr/base/trace.hpp"
#include "slr/mpi/whereabouts.hpp"
#include "whole_job.hpp"

#include <algorithm>

namespace slr {
namespace {

/// Elements that any MPI implementation takes in one call.
constexpr std::size_t piece = (std::size_t(1) << 30) / sizeof(double);

int count_of(const std::vector<MPI_Request>& requests) {
  return static_cast<int>(requests.size());
}

} // namespace

PendingSums::~PendingSums() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (!finalized && !requests_.empty()) MPI_Waitall(count_of(requests_), requests_.data(), MPI_STATUSES_IGNORE);
}

void PendingSums::begin(std::span<double> values) {
  for (std::size_t done = 0; done < values.size(); done += piece) {
    requests_.push_back(MPI_REQUEST_NULL);
    check_mpi(MPI_Iallreduce(MPI_IN_PLACE, values.data() + done,
                             static_cast<int>(std::min(piece, values.size() - done)), MPI_DOUBLE, MPI_SUM,
                             comm_.handle(), &requests_.back()),
              "MPI_Iallreduce");
  }
  bytes_ += values.size_bytes();
}

void PendingSums::progress() {
  int is_done = 0;
  if (!requests_.empty())
    check_mpi(MPI_Testall(count_of(requests_), requests_.data(), &is_done, MPI_STATUSES_IGNORE), "MPI_Testall");
  if (is_done) requests_.clear();
}

void PendingSums::finish() {
  const TraceSpan span(TraceKind::communication, "finish sums", bytes_);
  const Waiting waiting("MPI_Iallreduce", is_whole_job(comm_));
  check_mpi(MPI_Waitall(count_of(requests_), requests_.data(), MPI_STATUSES_IGNORE), "MPI_Iallreduce");
  requests_.clear();
  bytes_ = 0;
}

} // namespace slr
