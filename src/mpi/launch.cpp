#include "slr/mpi/launch.hpp"

#include "optional_function.hpp"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <map>
#include <sched.h>
#include <set>
#include <unistd.h>

namespace slr {
namespace {

/// A number from the environment, or `otherwise` where there is none.
int number_from(const char* variable, int otherwise) {
  const char* text = std::getenv(variable);
  if (!text) return otherwise;
  const std::string_view word(text);
  int number = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  return error == std::errc{} && end == word.data() + word.size() ? number : otherwise;
}

/// How a launcher tells a process the size of its job, and its own number. The first that is there counts: a mpirun
/// inside a Slurm step knows better than the step.
struct Launcher {
  const char* size;
  const char* rank;
};
constexpr Launcher launchers[] = {{"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"},
                                  {"PMI_SIZE", "PMI_RANK"},
                                  {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID"}};

/// What travels: of a fixed size, so that it can be gathered.
struct PlaceMessage {
  char host[64] = {};
  cpu_set_t cores{};
  int blas_threads = 1, openmp_threads = 1;
};

PlaceMessage my_place() {
  PlaceMessage mine;
  if (::gethostname(mine.host, sizeof mine.host - 1) != 0) mine.host[0] = '\0';
  CPU_ZERO(&mine.cores);
  (void)::sched_getaffinity(0, sizeof mine.cores, &mine.cores);
  if (auto* threads = optional_function<int (*)()>("openblas_get_num_threads")) mine.blas_threads = threads();
  if (auto* threads = optional_function<int (*)()>("omp_get_max_threads")) mine.openmp_threads = threads();
  return mine;
}

std::vector<RankPlace>& remembered() {
  static std::vector<RankPlace> places;
  return places;
}

} // namespace

int launched_rank() {
  for (const auto& launcher : launchers)
    if (std::getenv(launcher.size)) return number_from(launcher.rank, 0);
  return number_from("PMIX_RANK", 0);
}

void check_launcher() {
  for (const auto* variable : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_FD"})
    if (std::getenv(variable)) return;
  check_launch(1);
}

void check_launch(int world_size) {
  for (const auto& launcher : launchers) {
    if (!std::getenv(launcher.size)) continue;
    const int meant = number_from(launcher.size, 1);
    if (world_size == 1 && meant > 1)
      throw Error(ExitCode::usage, "the launcher started " + std::to_string(meant) + " processes (" + launcher.size +
                                       "), but each is an MPI job of its own: start them with srun --mpi=pmix, or with "
                                       "the mpirun of the MPI library that the program was built with");
    return;
  }
}

std::string core_list(const std::vector<int>& cores) {
  std::string text;
  for (std::size_t i = 0; i < cores.size();) {
    std::size_t last = i;
    while (last + 1 < cores.size() && cores[last + 1] == cores[last] + 1) ++last;
    text += (text.empty() ? "" : ",") + std::to_string(cores[i]);
    if (last > i) text += "-" + std::to_string(cores[last]);
    i = last + 1;
  }
  return text;
}

const std::vector<RankPlace>& survey_places(const Communicator& comm) {
  const auto mine = my_place();
  auto& places = remembered();
  places.clear();
  for (const auto& message : comm.gather(std::span<const PlaceMessage>(&mine, 1))) {
    RankPlace place{message.host, {}, message.blas_threads, message.openmp_threads};
    for (int core = 0; core < CPU_SETSIZE; ++core)
      if (CPU_ISSET(core, &message.cores)) place.cores.push_back(core);
    places.push_back(std::move(place));
  }
  return places;
}

const std::vector<RankPlace>& surveyed_places() {
  return remembered();
}

std::string words_on_threads(const std::vector<RankPlace>& places) {
  struct Node {
    std::set<int> cores;
    int ranks = 0, threads = 0, most_threads = 1;
  };
  std::map<std::string, Node> nodes;
  for (const auto& place : places) {
    auto& node = nodes[place.host];
    const int threads = std::max(place.blas_threads, place.openmp_threads);
    node.cores.insert(place.cores.begin(), place.cores.end());
    node.threads += threads;
    node.most_threads = std::max(node.most_threads, threads);
    ++node.ranks;
  }
  for (const auto& [host, node] : nodes)
    if (node.most_threads > 1 && node.threads > std::ssize(node.cores))
      return std::to_string(node.threads) + " BLAS or OpenMP threads of " + std::to_string(node.ranks) +
             (node.ranks == 1 ? " rank" : " ranks") + " share " + std::to_string(node.cores.size()) +
             (node.cores.size() == 1 ? " core" : " cores") + " of " + host +
             ": unset OPENBLAS_NUM_THREADS and OMP_NUM_THREADS, or start fewer ranks per node";
  return {};
}

} // namespace slr
