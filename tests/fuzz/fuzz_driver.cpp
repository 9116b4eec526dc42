// Runs a fuzz target on the files of a corpus and on seeded mutations of them, where there is no libFuzzer.
//
//   fuzz_NAME CORPUS_FOLDER [RUNS [SEED]]
//   fuzz_NAME FILE                          one input, to look at a finding
//
// The same seed gives the same inputs. An input that ends the process in any way but its own answer, takes more than
// ten seconds or holds more than 1 GB is written to ./crash-NAME-SEED-NUMBER, and its path is printed.
#include "target.hpp"

#include <algorithm>
#include <csignal>
#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

#include <sanitizer/common_interface_defs.h>

// From allocator_interface.h, which GCC does not install.
extern "C" std::size_t __sanitizer_get_allocated_size(const volatile void*);

namespace {

namespace fs = std::filesystem;

constexpr unsigned most_seconds = 10;
constexpr std::size_t most_bytes_held = 1'000'000'000;
constexpr std::size_t longest_input = 1 << 17;

std::string input;      ///< what is running now
std::string crash_file; ///< where it goes if it is the end
std::size_t bytes_held = 0;

/// Keeps what is needed to repeat the failure; called from the sanitizer's end and from a signal.
void keep_input() {
  const int file = ::open(crash_file.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (file < 0 || ::write(file, input.data(), input.size()) < 0) return;
  ::close(file);
  std::fprintf(stderr, "fuzz: the input is in %s\n", crash_file.c_str());
}

[[noreturn]] void stop(const char* reason) {
  std::fprintf(stderr, "fuzz: %s\n", reason);
  keep_input();
  std::_Exit(1);
}

std::string bytes_of(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::vector<std::string> corpus_of(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::vector<std::string> corpus;
  for (const auto& file : files) corpus.push_back(bytes_of(file));
  return corpus;
}

/// Damages an input in the ways in which files go wrong, or are made to.
class Mutator {
public:
  Mutator(const std::vector<std::string>& corpus, std::uint64_t seed) : corpus_(corpus), engine_(seed) {}

  std::string next() {
    auto bytes = any(corpus_);
    for (auto rounds = 1 + below(2 + below(8)); rounds > 0; --rounds) mutate(bytes);
    bytes.resize(std::min(bytes.size(), longest_input));
    return bytes;
  }

private:
  std::uint64_t below(std::uint64_t bound) { return bound == 0 ? 0 : engine_() % bound; }
  template <class T>
  const T& any(const std::vector<T>& all) {
    return all[static_cast<std::size_t>(below(all.size()))];
  }

  void mutate(std::string& bytes) {
    const auto at = static_cast<std::size_t>(below(bytes.size() + 1));
    const auto length = static_cast<std::size_t>(1 + below(std::uint64_t(1) << below(9)));
    switch (below(9)) {
    case 0:
      if (at < bytes.size()) bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
      break;
    case 1:
      if (at < bytes.size()) bytes[at] = static_cast<char>(engine_());
      break;
    case 2:
      bytes.erase(at, length);
      break;
    case 3:
      bytes.insert(at, length, static_cast<char>(engine_()));
      break;
    case 4:
      bytes.insert(at, bytes.substr(static_cast<std::size_t>(below(bytes.size() + 1)), length));
      break;
    case 5: {
      const auto& other = any(corpus_);
      bytes.insert(at, other.substr(static_cast<std::size_t>(below(other.size() + 1)), length));
      break;
    }
    case 6: {
      const auto& other = any(corpus_);
      bytes.replace(at, length, other.substr(static_cast<std::size_t>(below(other.size() + 1)), length));
      break;
    }
    case 7:
      overwrite_number(bytes, at);
      break;
    default:
      if (below(4) == 0) bytes.resize(at);
    }
  }

  /// One to eight bytes, of either order, become a number at which sizes overflow.
  void overwrite_number(std::string& bytes, std::size_t at) {
    auto number = below(2) == 0 ? std::uint64_t(1) << below(64) : std::uint64_t(0);
    number += below(5) - 2;
    const auto width = std::size_t(1) << below(4);
    const bool is_big_endian = below(2) == 0;
    for (std::size_t i = 0; i < width && at + i < bytes.size(); ++i)
      bytes[at + i] = static_cast<char>(number >> (8 * (is_big_endian ? width - 1 - i : i)));
  }

  const std::vector<std::string>& corpus_;
  std::mt19937_64 engine_;
};

void run(std::string bytes) {
  input = std::move(bytes);
  ::alarm(most_seconds);
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
}

} // namespace

extern "C" {
// Called by the sanitizer's runtime. 1 GB counts over all that is held. One allocation of as much fails: C libraries
// ask for what a damaged file says and are told that there is no memory; `new` ends the process.
const char* __asan_default_options() {
  return "detect_leaks=0:handle_abort=1:max_allocation_size_mb=954:allocator_may_return_null=1:quarantine_size_mb=16";
}
const char* __ubsan_default_options() {
  return "print_stacktrace=1";
}
void __sanitizer_malloc_hook(const volatile void*, std::size_t size) {
  bytes_held += size;
  if (bytes_held > most_bytes_held) stop("more than 1 GB is held");
}
void __sanitizer_free_hook(const volatile void* memory) {
  bytes_held -= std::min(bytes_held, __sanitizer_get_allocated_size(memory));
}
}

int main(int argc, char** argv) {
  if (argc < 2 || argc > 4) {
    std::fprintf(stderr, "usage: %s CORPUS_FOLDER [RUNS [SEED]] or %s FILE\n", argv[0], argv[0]);
    return 64;
  }
  __sanitizer_set_death_callback(keep_input);
  std::signal(SIGALRM, [](int) { stop("an input takes longer than ten seconds"); });
  const std::string name = fs::path(argv[0]).filename();
  if (!fs::is_directory(argv[1])) {
    crash_file = "crash-" + name + "-again";
    run(bytes_of(argv[1]));
    return 0;
  }
  const auto corpus = corpus_of(argv[1]);
  if (corpus.empty()) stop("the corpus is empty");
  const auto runs = argc > 2 ? std::stoll(argv[2]) : 10'000;
  const auto seed = argc > 3 ? std::stoull(argv[3]) : 1;
  Mutator mutator(corpus, seed);
  for (long long number = -std::ssize(corpus); number < runs; ++number) {
    crash_file = "crash-" + name + "-" + std::to_string(seed) + "-" + std::to_string(number);
    run(number < 0 ? corpus[static_cast<std::size_t>(number + std::ssize(corpus))] : mutator.next());
  }
  ::alarm(0);
  std::printf("%s: %lld inputs, %zu of them the corpus: each was answered\n", name.c_str(), runs + std::ssize(corpus),
              corpus.size());
  return 0;
}
