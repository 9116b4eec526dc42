// Files that lead to other files, or claim more than there is: made with HDF5's own calls, as no writer here makes
// them.
#include "slr/store/hdf5.hpp"

#include "store_test.hpp"

#include <gtest/gtest.h>
#include <hdf5.h>

namespace {

using namespace slr;
using namespace slr::store;
using slr::test::expect_error;
using slr::test::TemporaryFolder;
namespace fs = std::filesystem;

class HostileHdf5 : public testing::Test {
protected:
  HostileHdf5() {
    fs::create_directories(folder / "inner");
    for (const auto& path : {folder / "outside.h5", folder / "inner/source.h5"}) {
      auto source = Hdf5File::create(path);
      source.write<float>("/values", {4, 2}, std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8});
      source.commit();
    }
    file = H5Fcreate(hostile.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  }

  /// A virtual dataset /v of `rows` x 2 over a whole source of as many.
  void make_virtual(const std::string& source, hsize_t rows) const {
    const hsize_t extent[2] = {rows, 2};
    const hid_t space = H5Screate_simple(2, extent, nullptr);
    const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_virtual(properties, space, source.c_str(), "/values", space);
    H5Dclose(H5Dcreate2(file, "v", H5T_IEEE_F32LE, space, H5P_DEFAULT, properties, H5P_DEFAULT));
    H5Pclose(properties);
    H5Sclose(space);
  }

  void expect_refused(const std::string& dataset, const std::string& words) {
    H5Fclose(file);
    const auto opened = Hdf5File::open(hostile);
    expect_error([&] { (void)opened.dataset(dataset).read<float>(); }, ExitCode::bad_data, {words, "hostile.h5"});
  }

  const TemporaryFolder folder;
  const fs::path hostile = folder / "inner/hostile.h5";
  hid_t file = H5I_INVALID_HID;
};

TEST_F(HostileHdf5, LinksIntoOtherFilesAreRefused) {
  H5Lcreate_external("../outside.h5", "/", file, "link", H5P_DEFAULT, H5P_DEFAULT);
  expect_refused("/link/values", "has no dataset");
}

TEST_F(HostileHdf5, AndSoAreLinksThatLeadToThem) {
  H5Lcreate_external("../outside.h5", "/", file, "link", H5P_DEFAULT, H5P_DEFAULT);
  H5Lcreate_soft("/link/values", file, "alias", H5P_DEFAULT, H5P_DEFAULT);
  expect_refused("/alias", "alias");
}

TEST_F(HostileHdf5, ValuesInOtherFilesAreRefused) {
  const hsize_t extent[2] = {4, 2};
  const hid_t space = H5Screate_simple(2, extent, nullptr);
  const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_external(properties, "/etc/hostname", 0, 32);
  H5Dclose(H5Dcreate2(file, "d", H5T_IEEE_F32LE, space, H5P_DEFAULT, properties, H5P_DEFAULT));
  H5Pclose(properties);
  H5Sclose(space);
  expect_refused("/d", "in another file");
}

TEST_F(HostileHdf5, VirtualDatasetsStayInTheirFolder) {
  make_virtual("../outside.h5", 4);
  expect_refused("/v", "outside of its folder");
}

TEST_F(HostileHdf5, VirtualDatasetsClaimNoMoreThanTheirSources) {
  make_virtual("source.h5", hsize_t(1) << 40);
  expect_refused("/v", "more values than its source files");
}

TEST_F(HostileHdf5, VirtualDatasetsOverTheirFolderAreRead) {
  make_virtual("source.h5", 4);
  H5Fclose(file);
  EXPECT_EQ(Hdf5File::open(hostile).dataset("/v").read<float>(), (std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8}));
}

TEST_F(HostileHdf5, ChunksBeyondMemoryAreRefused) {
  const hsize_t extent[1] = {hsize_t(1) << 29};
  const hid_t space = H5Screate_simple(1, extent, nullptr);
  const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_chunk(properties, 1, extent);
  H5Pset_deflate(properties, 9);
  H5Dclose(H5Dcreate2(file, "d", H5T_IEEE_F32LE, space, H5P_DEFAULT, properties, H5P_DEFAULT));
  const hsize_t ballast_bytes = 4'000'000;
  const std::vector<char> noise(ballast_bytes, 'n');
  const hid_t ballast_space = H5Screate_simple(1, &ballast_bytes, nullptr);
  const hid_t ballast = H5Dcreate2(file, "b", H5T_NATIVE_CHAR, ballast_space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  H5Dwrite(ballast, H5T_NATIVE_CHAR, H5S_ALL, H5S_ALL, H5P_DEFAULT, noise.data());
  H5Dclose(ballast);
  H5Sclose(ballast_space);
  H5Pclose(properties);
  H5Sclose(space);
  expect_refused("/d", "chunks larger");
}

} // namespace
