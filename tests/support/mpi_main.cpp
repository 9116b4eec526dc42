// main() of every distributed test: a failure on any rank is printed by rank 0, with the rank's number, and fails the
// whole entry; a test is a success only if it succeeded on every rank.
#include "slr/mpi/session.hpp"

#include <gtest/gtest.h>
#include <mpi.h>

#include <iostream>
#include <sstream>
#include <string>
#include <vector>

namespace {

class CollectivePrinter : public testing::EmptyTestEventListener {
public:
  explicit CollectivePrinter(bool* any_failed) : any_failed_(any_failed) {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
  }

  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    text_ << "rank " << rank_ << ": " << (result.file_name() ? result.file_name() : "?") << ":" << result.line_number()
          << ": " << result.message() << "\n";
  }

  void OnTestEnd(const testing::TestInfo& info) override {
    const std::string mine = text_.str();
    text_.str({});
    const int length = static_cast<int>(mine.size());
    std::vector<int> lengths(static_cast<std::size_t>(size_)), at(static_cast<std::size_t>(size_), 0);
    MPI_Allgather(&length, 1, MPI_INT, lengths.data(), 1, MPI_INT, MPI_COMM_WORLD);
    int total = 0;
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      at[i] = total;
      total += lengths[i];
    }
    std::string all(static_cast<std::size_t>(total), ' ');
    MPI_Gatherv(mine.data(), length, MPI_CHAR, all.data(), lengths.data(), at.data(), MPI_CHAR, 0, MPI_COMM_WORLD);
    if (total > 0) *any_failed_ = true;
    if (rank_ == 0)
      std::cout << (total > 0 ? "[  FAILED  ] " : "[       OK ] ") << info.test_suite_name() << "." << info.name()
                << "\n"
                << all << std::flush;
  }

private:
  bool* any_failed_;
  int rank_ = 0;
  int size_ = 1;
  std::ostringstream text_;
};

} // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const slr::MpiSession session(argc, argv);
  bool any_failed = false;
  auto& listeners = testing::UnitTest::GetInstance()->listeners();
  delete listeners.Release(listeners.default_result_printer());
  listeners.Append(new CollectivePrinter(&any_failed));
  const int mine = RUN_ALL_TESTS();
  return mine != 0 || any_failed ? 1 : 0;
}
