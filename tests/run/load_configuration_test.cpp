// Reading under MPI: one rank reads, all have the same configuration or the same error.
#include "slr/base/error.hpp"
#include "slr/base/file.hpp"
#include "slr/mpi/agree.hpp"
#include "slr/run/configuration.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

namespace slr::run {
namespace {

struct Fixture : testing::Test {
  Fixture() : comm(MPI_COMM_WORLD) {
    const auto base = std::filesystem::temp_directory_path() / ("slr_load_" + std::to_string(::getpid()));
    folder = comm.broadcast_text(base.string());
    on_root(comm, [&] { std::filesystem::create_directory(folder); });
  }
  ~Fixture() override {
    if (comm.is_root()) std::filesystem::remove_all(folder);
  }
  Communicator comm;
  std::filesystem::path folder;
};

TEST_F(Fixture, OnlyTheRootNeedsTheFile) {
  // Every other rank is told a name that does not exist for it.
  const auto file = comm.is_root() ? folder / "vgg.yaml" : folder / "only_the_root_has_the_file.yaml";
  on_root(comm, [&] { write_file_atomically(file, "model: vgg.onnx\nbudget: {parameters: 3}"); });
  const std::vector<std::string> overrides{"budget.parameters=4.9"};
  const auto config = load_configuration(comm, file, overrides, Require::model);
  EXPECT_EQ(config.model.absolute, folder / "vgg.onnx");
  EXPECT_EQ(config.budget.parameters.at(0).factor, 4.9);
  EXPECT_EQ(configuration_hash(config), comm.broadcast_text(configuration_hash(config)));
}

TEST_F(Fixture, EveryRankHasTheSameError) {
  const auto error_of = [&](const std::filesystem::path& file) {
    try {
      (void)load_configuration(comm, file, {}, Require::nothing);
    } catch (const Error& error) {
      return std::to_string(static_cast<int>(error.code())) + " " + error.what();
    }
    return std::string("none");
  };
  const auto missing = error_of(folder / "missing.yaml");
  EXPECT_EQ(missing.substr(0, 3), "74 ");
  EXPECT_EQ(missing, comm.broadcast_text(missing));
  EXPECT_EQ(error_of(folder).substr(0, 3), "74 ") << "a folder";

  const auto file = folder / "bad.yaml";
  on_root(comm, [&] { write_file_atomically(file, "modle: a"); });
  EXPECT_EQ(error_of(file), "78 " + file.string() + ", line 1: unknown key \"modle\"; did you mean \"model\"?");
  on_root(comm, [&] { write_file_atomically(file, std::string(2'000'000, '#')); });
  EXPECT_EQ(error_of(file).substr(0, 3), "78 ") << "too long";
}

} // namespace
} // namespace slr::run
