// What the writing of shards costs: the rows of a shard, written anew in the pieces in which capture writes them,
// against a plain write of as many bytes. One of each in turns, both from memory until the bytes lie on the disk under
// their final name; wall time, since that is where a disk's time shows. Prints the medians of the rates and their
// ratio:
//
//   bench_shards --shard FILE.h5 [--images 8] [--repeats 9] [--folder .]
//
// Local: one process; the folder gets files of the shard's size, which go again.
#include "slr/base/error.hpp"
#include "slr/base/file.hpp"
#include "slr/store/feature_shards.hpp"
#include "support/bench_main.hpp"

#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <random>

namespace {

using namespace slr;
namespace fs = std::filesystem;

struct Rows {
  store::FeatureLayer layer;
  std::vector<std::int64_t> samples;
  std::vector<float> inputs, outputs;
};

struct Shard {
  store::ShardHeader header;
  std::vector<Rows> layers;
};

Shard read_shard(const fs::path& file) {
  const store::ShardReader reader(file);
  if (!reader.header()) throw Error(ExitCode::usage, file.string() + " has no header: give a shard of slr_calibrate");
  Shard shard{*reader.header(), {}};
  for (const auto& found : reader.layers()) {
    Rows rows{found.layer, reader.samples(found.layer.name), {}, {}};
    rows.inputs = reader.read(found.layer.name, store::Quantity::original_inputs, 0, found.rows);
    rows.outputs = reader.read(found.layer.name, store::Quantity::outputs, 0, found.rows);
    shard.layers.push_back(std::move(rows));
  }
  return shard;
}

/// Layer after layer of so many images at a time, as capture shows them.
void write_shard(const Shard& shard, std::int64_t images_at_once, const fs::path& file) {
  store::ShardWriter writer(file, shard.header);
  std::int64_t images = 0;
  for (const auto& rows : shard.layers) {
    writer.begin_layer(rows.layer);
    writer.link_inputs(rows.layer.name);
    images = std::max(images, std::ssize(rows.samples) / std::max<std::int64_t>(1, rows.layer.positions));
  }
  for (std::int64_t first = 0; first < images; first += images_at_once) {
    for (const auto& rows : shard.layers) {
      const auto samples = std::ssize(rows.samples);
      const auto from = std::min(first * rows.layer.positions, samples);
      const auto count = std::min(images_at_once * rows.layer.positions, samples - from);
      const auto piece = [&](const std::vector<float>& values, std::int64_t width) {
        return std::span(values).subspan(static_cast<std::size_t>(from * width),
                                         static_cast<std::size_t>(count * width));
      };
      writer.append(rows.layer.name, store::Quantity::original_inputs, piece(rows.inputs, rows.layer.inputs));
      writer.append_samples(
          rows.layer.name,
          std::span(rows.samples).subspan(static_cast<std::size_t>(from), static_cast<std::size_t>(count)));
      writer.append(rows.layer.name, store::Quantity::outputs, piece(rows.outputs, rows.layer.outputs));
    }
  }
  writer.commit();
}

void write_plainly(const std::vector<char>& block, std::uintmax_t bytes, const fs::path& file) {
  const auto temporary = temporary_name(file);
  {
    std::ofstream stream(temporary, std::ios::binary);
    stream.rdbuf()->pubsetbuf(nullptr, 0);
    for (std::uintmax_t left = bytes; left > 0;) {
      const auto count = std::min<std::uintmax_t>(left, block.size());
      stream.write(block.data(), static_cast<std::streamsize>(count));
      left -= count;
    }
    if (!stream) throw Error(ExitCode::io, "writing " + file.string() + " failed: check the free space");
  }
  commit_file(temporary, file);
}

template <class Work>
double seconds_of(Work&& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

} // namespace

int main(int argc, char** argv) {
  return slr_bench::bench_main(argc, argv, "bench_shards", MPI_COMM_SELF, [&](const Communicator&) {
    namespace po = boost::program_options;
    std::string file, folder;
    int images = 0, repeats = 0;
    po::options_description options("How fast the rows of a shard are written, against a plain write");
    options.add_options()("shard", po::value(&file)->required(), "a shard that slr_calibrate wrote")(
        "images", po::value(&images)->default_value(8),
        "images of which a piece consists")("repeats", po::value(&repeats)->default_value(21), "files of each kind")(
        "folder", po::value(&folder)->default_value("."), "where they are written");
    if (!slr_bench::parse_options(argc, argv, options)) return;
    const auto shard = read_shard(file);
    std::uintmax_t bytes = 0;
    std::vector<char> block(std::size_t{1} << 20);
    std::mt19937 engine(1);
    for (char& byte : block) byte = static_cast<char>(engine());
    const auto ours = fs::path(folder) / "bench-shard.h5", plain = fs::path(folder) / "bench-plain";
    std::vector<double> our_seconds, plain_seconds;
    for (int repeat = 0; repeat <= repeats; ++repeat) { // the first of each warms the file cache up
      const double written = seconds_of([&] { write_shard(shard, images, ours); });
      bytes = fs::file_size(ours);
      fs::remove(ours);
      const double plainly = seconds_of([&] { write_plainly(block, bytes, plain); });
      fs::remove(plain);
      if (repeat == 0) continue;
      our_seconds.push_back(written);
      plain_seconds.push_back(plainly);
    }
    const double rate = static_cast<double>(bytes) / slr_bench::median(our_seconds) / 1e6;
    const double plain_rate = static_cast<double>(bytes) / slr_bench::median(plain_seconds) / 1e6;
    fmt::print("{:.0f} MB: shard {:.0f} MB/s, plain write {:.0f} MB/s, ratio {:.2f}\n",
               static_cast<double>(bytes) / 1e6, rate, plain_rate, rate / plain_rate);
  });
}
