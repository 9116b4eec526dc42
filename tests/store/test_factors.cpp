// factors.h5: what is written is read, with the same bytes every time; what does not fit together is refused.
#include "slr/store/factors.hpp"

#include "store_test.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace {

using namespace slr;
using namespace slr::store;
using namespace slr::test;

LayerFactors example() {
  return {"block/conv1",
          {3, 2, {1, 2, 3, 4, 5, 6}},
          {2, 4, {1, 2, 3, 4, 5, 6, 7, 8}},
          {3, 1, {-1, -2, -3}},
          {0, 7},
          {0.5f, 0.25f, 0.125f},
          {{"primal_residual", 1e-7}, {"iterations", std::int64_t(30)}, {"stop_reason", std::string("converged")}},
          {{"objective", {3, 2, 1.5}}, {"dual/residual", {1}}},
          {{"lowrank_u.weight", {{3, 1, 1, 1}, {1, 2, 3}}}, {"kept.bias", {{3}, {0.5f, 0, -1}}}}};
}

LayerFactors without_parts() {
  return {"fc", {2, 0, {}}, {0, 5, {}}, {2, 0, {}}, {}, {}, {}, {{"objective", {}}}};
}

void write_example(const std::filesystem::path& file) {
  FactorsWriter writer(file, {{"model_sha256", std::string("abc")}});
  writer.write(example());
  writer.write(without_parts());
  writer.commit();
}

TEST(Factors, WhatIsWrittenIsRead) {
  const TemporaryFolder folder;
  write_example(folder / "factors.h5");
  const FactorsReader reader(folder / "factors.h5");
  EXPECT_EQ(reader.layers(), (std::vector<std::string>{"block/conv1", "fc"}));
  EXPECT_EQ(reader.read("block/conv1"), example());
  EXPECT_EQ(reader.read("fc"), without_parts());
  EXPECT_EQ(std::get<std::string>(reader.notes().at("model_sha256")), "abc");
  EXPECT_EQ(reader.notes().size(), 1u);
}

TEST(Factors, SameCallsGiveTheSameBytes) {
  const TemporaryFolder folder;
  write_example(folder / "one.h5");
  write_example(folder / "two.h5");
  EXPECT_EQ(read_file(folder / "one.h5"), read_file(folder / "two.h5"));
}

TEST(Factors, WhatDoesNotFitTogetherIsRefused) {
  const TemporaryFolder folder;
  const auto file = folder / "factors.h5";
  auto layer = example();
  layer.v = {3, 1, {1, 2, 3}};
  {
    FactorsWriter writer(file);
    writer.write(layer);
    writer.commit();
  }
  expect_error([&] { (void)FactorsReader(file).read("block/conv1"); }, ExitCode::bad_data, {"U and V", "factors.h5"});
  expect_error([&] { (void)FactorsReader(file).read("block/conv2"); }, ExitCode::bad_data,
               {"did you mean block/conv1"});
  layer = example();
  layer.b.values[1] = std::numeric_limits<float>::quiet_NaN();
  {
    FactorsWriter writer(file);
    writer.write(layer);
    writer.commit();
  }
  expect_error([&] { (void)FactorsReader(file).read("block/conv1"); }, ExitCode::bad_data, {"B", "not finite"});
  auto other = Hdf5File::create(file);
  other.commit();
  expect_error([&] { (void)FactorsReader(file); }, ExitCode::bad_data, {"factors.h5", "schema"});
}

} // namespace
