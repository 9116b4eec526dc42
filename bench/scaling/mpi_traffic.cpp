#include "mpi_traffic.hpp"

#include <mpi.h>
#include <numeric>

namespace slr_bench {
namespace {

std::map<std::string, Traffic>& counted() {
  static std::map<std::string, Traffic> only;
  return only;
}

/// Counts a call whose ranks together send `share` times (p - 1) `bytes` / p, the mean over the p ranks.
void count(const char* name, MPI_Comm comm, double elements, MPI_Datatype type, double share) {
  int ranks = 0, size = 0;
  PMPI_Comm_size(comm, &ranks);
  if (ranks < 2) return;
  PMPI_Type_size(type, &size);
  auto& here = counted()[name];
  ++here.calls;
  here.bytes += share * elements * size * (ranks - 1) / ranks;
}

void count_message(const char* name, MPI_Comm comm, int elements, MPI_Datatype type, int destination) {
  int ranks = 0, me = 0, size = 0;
  PMPI_Comm_size(comm, &ranks);
  if (ranks < 2) return;
  PMPI_Comm_rank(comm, &me);
  PMPI_Type_size(type, &size);
  auto& here = counted()[name];
  ++here.calls;
  if (destination != MPI_PROC_NULL && destination != me) here.bytes += double(elements) * size;
}

double sum_of(const int* counts, MPI_Comm comm) {
  int ranks = 0;
  PMPI_Comm_size(comm, &ranks);
  return std::accumulate(counts, counts + ranks, 0.0);
}

double times_ranks(int elements, MPI_Comm comm) {
  int ranks = 0;
  PMPI_Comm_size(comm, &ranks);
  return double(elements) * ranks;
}

} // namespace

const std::map<std::string, Traffic>& mpi_traffic() {
  return counted();
}

} // namespace slr_bench

using slr_bench::count, slr_bench::count_message, slr_bench::sum_of, slr_bench::times_ranks;

extern "C" {

int MPI_Allreduce(const void* from, void* to, int n, MPI_Datatype type, MPI_Op op, MPI_Comm comm) {
  count("allreduce", comm, n, type, 2);
  return PMPI_Allreduce(from, to, n, type, op, comm);
}
int MPI_Reduce(const void* from, void* to, int n, MPI_Datatype type, MPI_Op op, int root, MPI_Comm comm) {
  count("reduce", comm, n, type, 1);
  return PMPI_Reduce(from, to, n, type, op, root, comm);
}
int MPI_Bcast(void* data, int n, MPI_Datatype type, int root, MPI_Comm comm) {
  count("broadcast", comm, n, type, 1);
  return PMPI_Bcast(data, n, type, root, comm);
}
int MPI_Reduce_scatter(const void* from, void* to, const int* n, MPI_Datatype type, MPI_Op op, MPI_Comm comm) {
  count("reduce_scatter", comm, sum_of(n, comm), type, 1);
  return PMPI_Reduce_scatter(from, to, n, type, op, comm);
}
int MPI_Allgather(const void* from, int n, MPI_Datatype type, void* to, int m, MPI_Datatype into, MPI_Comm comm) {
  count("allgather", comm, times_ranks(m, comm), into, 1);
  return PMPI_Allgather(from, n, type, to, m, into, comm);
}
int MPI_Allgatherv(const void* from, int n, MPI_Datatype type, void* to, const int* m, const int* at, MPI_Datatype into,
                   MPI_Comm comm) {
  count("allgather", comm, sum_of(m, comm), into, 1);
  return PMPI_Allgatherv(from, n, type, to, m, at, into, comm);
}
int MPI_Alltoallv(const void* from, const int* n, const int* n_at, MPI_Datatype type, void* to, const int* m,
                  const int* m_at, MPI_Datatype into, MPI_Comm comm) {
  count("alltoall", comm, sum_of(n, comm), type, 1);
  return PMPI_Alltoallv(from, n, n_at, type, to, m, m_at, into, comm);
}
int MPI_Barrier(MPI_Comm comm) {
  count("barrier", comm, 0, MPI_BYTE, 0);
  return PMPI_Barrier(comm);
}
int MPI_Send(const void* data, int n, MPI_Datatype type, int to, int tag, MPI_Comm comm) {
  count_message("message", comm, n, type, to);
  return PMPI_Send(data, n, type, to, tag, comm);
}
int MPI_Isend(const void* data, int n, MPI_Datatype type, int to, int tag, MPI_Comm comm, MPI_Request* request) {
  count_message("message", comm, n, type, to);
  return PMPI_Isend(data, n, type, to, tag, comm, request);
}
int MPI_Sendrecv(const void* data, int n, MPI_Datatype type, int to, int tag, void* into, int m, MPI_Datatype as,
                 int from, int from_tag, MPI_Comm comm, MPI_Status* status) {
  count_message("message", comm, n, type, to);
  return PMPI_Sendrecv(data, n, type, to, tag, into, m, as, from, from_tag, comm, status);
}
}
