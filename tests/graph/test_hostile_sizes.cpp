// A few bytes in a file must not become gigabytes in memory.
#include "files.hpp"
#include "slr/graph/onnx_file.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>

namespace slr::graph {
namespace {

std::string varint(std::size_t n) {
  std::string bytes;
  for (; n > 0x7f; n >>= 7) bytes += static_cast<char>((n & 0x7f) | 0x80);
  return bytes + static_cast<char>(n);
}

/// tag, length, body.
std::string wrapped(int field, const std::string& body) {
  return varint(static_cast<std::size_t>(field << 3 | 2)) + varint(body.size()) + body;
}

/// `count` empty parts of two or three bytes.
std::string empty_parts(int field, std::size_t count) {
  std::string bytes;
  for (std::size_t i = 0; i < count; ++i) bytes += wrapped(field, "");
  return bytes;
}

/// Behind a complete model, more of one field, nested in those around it: fields of the same name are joined.
std::string with_many(const std::vector<int>& around, int field, std::size_t count) {
  auto bytes = empty_parts(field, count);
  for (auto outer = around.rbegin(); outer != around.rend(); ++outer) bytes = wrapped(*outer, bytes);
  return small_message().SerializeAsString() + bytes;
}

struct Place {
  const char* name;
  std::vector<int> around;
  int field;
};
const std::vector<Place>& places() {
  static const std::vector<Place> all{
      {"operator sets", {}, 8},
      {"notes", {}, 14},
      {"functions", {}, 25},
      {"nodes", {7}, 1},
      {"initializers", {7}, 5},
      {"sparse initializers", {7}, 15},
      {"inputs", {7}, 11},
      {"outputs", {7}, 12},
      {"value infos", {7}, 13},
      {"inputs of a node", {7, 1}, 1},
      {"outputs of a node", {7, 1}, 2},
      {"attributes", {7, 1}, 5},
      {"texts of an attribute", {7, 1, 5}, 9},
      {"tensors of an attribute", {7, 1, 5}, 10},
      {"graphs of an attribute", {7, 1, 5}, 11},
      {"texts of a tensor", {7, 5}, 6},
      {"external data of a tensor", {7, 5}, 13},
      {"dimensions of an input", {7, 11, 2, 1, 2}, 1},
      {"unknown fields", {}, 31},
      {"unknown fields of a node", {7, 1}, 31},
  };
  return all;
}

double peak_bytes() {
  ::rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return 1024.0 * static_cast<double>(usage.ru_maxrss);
}

/// The sentence, "" if the model is read.
std::string refusal(const std::string& bytes) {
  try {
    static_cast<void>(parse_model(bytes, "/nonexistent", "m.onnx"));
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::bad_data);
    return error.what();
  }
  return {};
}

TEST(HostileSizes, MillionsOfPartsAreRefusedUnread) {
  const auto before = peak_bytes();
  for (const auto& place : places()) {
    SCOPED_TRACE(place.name);
    EXPECT_NE(refusal(with_many(place.around, place.field, 2'000'000)).find("more than 1000000"), std::string::npos);
  }
  EXPECT_LT(peak_bytes() - before, 1e8) << "copies of 15 MB are made here";
}

TEST(HostileSizes, AFileIsBoundedAsBytesAre) {
  const Folder folder;
  write_bytes(folder / "m.onnx", with_many({7}, 1, 1'500'000));
  const auto [code, sentence] = error_of([&] { static_cast<void>(read_model(folder / "m.onnx")); });
  EXPECT_EQ(code, ExitCode::bad_data);
  EXPECT_NE(sentence.find("more than 1000000"), std::string::npos) << sentence;
  write_bytes(folder / "m.onnx", small_message().SerializeAsString());
  EXPECT_EQ(read_model(folder / "m.onnx").nodes.size(), 4U);
}

TEST(HostileSizes, WhatIsParsedStaysBelowAGigabyte) {
  for (const auto& place : places()) {
    SCOPED_TRACE(place.name);
    EXPECT_EQ(refusal(with_many(place.around, place.field, 990'000)).find("more than 1000000"), std::string::npos);
  }
  // Nodes that are complete: an operator and an output of their own.
  auto bytes = small_message().SerializeAsString();
  std::string nodes;
  for (int i = 0; i < 490'000; ++i) nodes += wrapped(1, wrapped(2, std::to_string(i)) + wrapped(4, "R"));
  bytes += wrapped(7, nodes);
  EXPECT_EQ(parse_model(bytes, "/nonexistent", "m.onnx").nodes.size(), 490'004U);
  EXPECT_LT(peak_bytes(), 1e9);
}

} // namespace
} // namespace slr::graph
