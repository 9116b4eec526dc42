// The resolved configuration: printing and reading back, the hash, differences.
#include "configuration_support.hpp"

#include <gmock/gmock.h>

namespace slr::run::test {
namespace {

using testing::HasSubstr;

const std::vector<std::string> texts{
    "",
    "model: m.onnx\noutput: o",
    "data: {calibration: {images: a, count: 5000}, preprocess: {mean: [1, 2, 3], std: 0.1}}",
    "model: \"a b # c: 'd' \\\" \\\\ \\e ü.onnx\"",
    "budget: {parameters: [3, 4.9, {at_most: 28.0e6}], macs: {at_most: 1}, layers: {\"/f.0/Conv: x\": {rank: 3}, b: "
    "{groups: 0}}, keep: ['*', \"a, b\", \"true\", '3', '~']}",
    "layers: [{name: a, weights: w, shards: 's/*.h5', activation: tanh}]",
    "method: {tolerance: 1e-300, nuclear: 0.1234567890123456789, iterations: 7}",
    "batch: [{budget: {parameters: {at_most: 5}}}, {data: {calibration: x}, output: y}]",
};

TEST(Resolved, PrintedConfigurationReadsBackFromAnywhere) {
  for (const auto& text : texts) {
    const auto first = parse(text);
    const auto printed = resolved_yaml(first);
    const auto second = parse_configuration(printed, "printed.yaml", "/elsewhere", {}, "/and/here", Require::nothing);
    EXPECT_EQ(configuration_hash(first), configuration_hash(second)) << printed;
    EXPECT_EQ(resolved_json(first).dump(), resolved_json(second).dump());
    EXPECT_EQ(resolved_yaml(second), printed);
  }
}

TEST(Resolved, FillsInTheDefaults) {
  const auto json = resolved_json(parse("method: {kind: relaxed}"));
  EXPECT_EQ(json["method"]["iterations"], 300);
  EXPECT_EQ(json["calibration"]["images"], 2000);
  EXPECT_FALSE(json.contains("model"));
  EXPECT_THAT(resolved_yaml(parse("")), HasSubstr("calibration:\n  images: 2000 # "));
}

TEST(Resolved, PathsAsGivenOrAbsolute) {
  const auto c = parse("model: sub/../m.onnx");
  EXPECT_EQ(resolved_json(c, PathForm::as_given)["model"], "sub/../m.onnx");
  EXPECT_EQ(resolved_json(c)["model"], "/cfg/m.onnx");
}

TEST(Hash, CoversEveryKeyExceptOutputCheckpointAndWatchdog) {
  const std::string base = "model: m\noutput: a\ncheckpoint: {every: 5}\nbudget: {parameters: 3}";
  const auto hash = [&](const std::vector<std::string>& overrides) {
    return configuration_hash(parse(base, overrides));
  };
  EXPECT_EQ(hash({}).size(), 64U);
  EXPECT_EQ(hash({}), hash({"output=elsewhere", "checkpoint.every=7", "watchdog.seconds=9"}));
  EXPECT_EQ(hash({}), hash({"method.nuclear=0.05", "budget.parameters=3.0"}))
      << "a default written out, another spelling";
  EXPECT_EQ(hash({"method.kind=relaxed"}), hash({"method.kind=relaxed", "method.iterations=300"}));
  for (const auto* change :
       {"model=n", "data.calibration=c", "data.preprocess.mean=1", "calibration.images=100", "calibration.seed=2",
        "method.tolerance=1e-3", "budget.parameters=3.1", "budget.keep=a", "budget.layers={a: {rank: 1}}",
        "refine.images=50", "refine.dense=true", "refine.mixup=true", "refine.proximal=0", "refine.optimizer=adam",
        "pipeline.groups=2", "on_failure=keep_dense", "batch=[{model: x}]"})
    EXPECT_NE(hash({}), hash({change})) << change;
}

TEST(Hash, DoesNotDependOnTheOrderOfKeys) {
  EXPECT_EQ(configuration_hash(parse("model: m\nbudget: {keep: a, parameters: 3}")),
            configuration_hash(parse("budget: {parameters: 3, keep: [a]}\nmodel: m")));
}

TEST(Difference, NamesTheFirstKey) {
  const auto here = parse("model: m\nbudget: {parameters: 4.9}\noutput: a");
  const auto stored = [](const std::string& text) { return nlohmann::json::parse(resolved_json(parse(text)).dump()); };
  EXPECT_FALSE(first_difference(stored("model: m\nbudget: {parameters: 4.9}\noutput: b"), here));
  const auto difference = first_difference(stored("model: m\nbudget: {parameters: 3.2}\nrefine: {images: 30}"), here);
  ASSERT_TRUE(difference);
  EXPECT_EQ(difference->key, "budget.parameters");
  EXPECT_EQ(difference->sentence(), "differs in budget.parameters: 3.2 there, 4.9 here");
  EXPECT_EQ(first_difference(stored("budget: {parameters: 4.9}"), here)->sentence(),
            "differs in model: not set there, \"/cfg/m\" here");
  // What is read back may be anything.
  for (const auto* text : {"null", "[]", "3", "{\"model\": {}}", "{\"budget\": 3}"})
    EXPECT_TRUE(first_difference(nlohmann::json::parse(text), here)) << text;
}

TEST(Reference, HasEveryKeyWithItsDefault) {
  const auto text = configuration_reference();
  EXPECT_THAT(text, HasSubstr("| `calibration.images` | an integer from 20 up | `2000` | "));
  EXPECT_THAT(text, HasSubstr("| `method.svd` | one of auto, pdgesvd, gram, subspace | `auto` | "));
  EXPECT_THAT(text, HasSubstr("| `output` | a folder |  | "));
}

} // namespace
} // namespace slr::run::test
