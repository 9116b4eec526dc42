#include "slr/mpi/last_meeting.hpp"

#include <algorithm>
#include <thread>

namespace slr {

LastMeeting::LastMeeting(const Communicator& comm) : comm_(comm) {
  check_mpi(MPI_Ibarrier(comm.handle(), &request_), "MPI_Ibarrier");
}

bool LastMeeting::wait_until(Clock::time_point end) {
  auto pause = std::chrono::microseconds(50);
  while (true) {
    int done = 0;
    check_mpi(MPI_Test(&request_, &done, MPI_STATUS_IGNORE), "MPI_Test");
    if (done) return true;
    if (Clock::now() >= end) return false;
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, std::chrono::microseconds(20'000));
  }
}

void LastMeeting::tell_larger_ranks() const {
  for (int other = comm_.rank() + 1; other < comm_.size(); ++other) {
    MPI_Request sent = MPI_REQUEST_NULL;
    check_mpi(MPI_Isend(nullptr, 0, MPI_BYTE, other, 0, comm_.handle(), &sent), "MPI_Isend");
    MPI_Request_free(&sent);
  }
}

bool LastMeeting::has_heard_of_smaller_rank() const {
  int heard = 0;
  check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, 0, comm_.handle(), &heard, MPI_STATUS_IGNORE), "MPI_Iprobe");
  return heard != 0;
}

} // namespace slr
