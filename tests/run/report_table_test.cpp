// The final table of a made-up report.
#include "slr/run/report_table.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace slr::run {
namespace {

using nlohmann::json;
using testing::HasSubstr;

json made_up() {
  return json::parse(R"({
    "model": {"parameters_before": 582058, "parameters_after": 181893, "parameter_ratio": 3.2,
              "macs_before": 30801024, "macs_after": 11000000, "bytes_before": 2330000, "bytes_after": 730000},
    "accuracy": {"top1_before": 0.9317, "top1_after": 0.9289, "top1_standard_error": 0.0011,
                 "kl": 0.018, "agreement": 0.9712, "images": 10000},
    "layers": [
      {"name": "conv1_1", "rows": 32, "cols": 9, "rank": null, "kept_groups": null, "parameters_before": 320,
       "parameters_after": 320, "error_heldout": null},
      {"name": "conv2_1", "rows": 64, "cols": 288, "rank": 12, "kept_groups": 0, "parameters_before": 18496,
       "parameters_after": 4300, "error_heldout": 0.0123456},
      {"name": "a_very_long_name_of_a_layer/which/onnx/exporters/like/Conv", "rows": 4096, "cols": 25088, "rank": 200,
       "kept_groups": 64, "parameters_before": 102764544, "parameters_after": 5000000, "error_heldout": 0.0041}],
    "run": {"mpi_ranks": 4, "groups": 1, "seconds": 125.4, "seconds_by_stage": {"capture": 3.14, "solve": 119.2},
            "peak_rss_bytes": 1234567890}})");
}

TEST(ReportTable, IsAligned) {
  EXPECT_EQ(report_table(made_up()),
            "layer                                n x k   rank  groups       before      after   ratio    error\n"
            "conv1_1                             32 x 9  dense   dense          320        320   1.00x        -\n"
            "conv2_1                           64 x 288     12       0       18,496      4,300   4.30x  0.01235\n"
            "a_very_long_name_of_a_lay...  4096 x 25088    200      64  102,764,544  5,000,000  20.55x   0.0041\n"
            "before, after: parameters; error: held out, after the activation\n"
            "\n"
            "parameters  582,058 -> 181,893 (3.20x)\n"
            "MACs        30,801,024 -> 11,000,000 (2.80x)\n"
            "bytes       2,330,000 -> 730,000 (3.19x)\n"
            "top-1       93.17 % -> 92.89 % (-0.28 +- 0.11 points)\n"
            "KL          0.018\n"
            "agreement   97.12 %\n"
            "images      10,000\n"
            "time        2 min 05 s on 4 ranks\n"
            "            capture 3.1 s, solve 1 min 59 s\n"
            "peak memory 1.2 GB\n");
}

TEST(ReportTable, TellsOfARefinement) {
  auto report = made_up();
  report["refine"] = {{"kl_before", 0.1613}, {"kl_after", 0.0824}, {"epochs", 5}, {"images", 10000}};
  EXPECT_THAT(report_table(report),
              HasSubstr("\nrefined     KL 0.1613 -> 0.0824 on the report images, 5 passes over 10,000 images\n"));
  report["refine"] = nullptr;
  EXPECT_EQ(report_table(report).find("refined"), std::string::npos);
}

TEST(ReportTable, LeavesOutWhatNobodyKnows) {
  EXPECT_EQ(report_table(json::object()), "");
  auto report = made_up();
  report.erase("accuracy");
  report["run"].erase("seconds_by_stage");
  const auto text = report_table(report);
  EXPECT_EQ(text.find("top-1"), std::string::npos);
  EXPECT_EQ(text.find("KL"), std::string::npos);
  EXPECT_THAT(text, HasSubstr("time "));
}

TEST(ReportTable, FitsWhateverTheNumbers) {
  auto report = made_up();
  for (auto& layer : report["layers"]) {
    for (const auto* key : {"rows", "cols", "rank", "kept_groups", "parameters_before", "parameters_after"})
      layer[key] = 9223372036854775807;
    layer["error_heldout"] = -1.23456789e-300;
  }
  report["layers"][0]["name"] = "ü\033[2J" + std::string(300, 'x');
  for (int i = 0; i < 50; ++i) report["run"]["seconds_by_stage"]["stage number " + std::to_string(i)] = i;
  const auto text = report_table(report);
  EXPECT_EQ(text.find('\033'), std::string::npos);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 101U) << line; // one character of two bytes
}

TEST(ReportTable, TakesAnyJson) {
  for (const auto* text : {"null", "[]", "3", R"({"layers": 3, "model": [], "accuracy": "x", "run": null})",
                           R"({"layers": [null, 3, {}], "run": {"seconds": "x", "seconds_by_stage": [1]}})"})
    EXPECT_NO_THROW((void)report_table(json::parse(text))) << text;
}

} // namespace
} // namespace slr::run
