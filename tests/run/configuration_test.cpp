// The configuration language: what it accepts, what it refuses and in which words.
#include "configuration_support.hpp"

#include "slr/base/file.hpp"

#include <gmock/gmock.h>

namespace slr::run::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

constexpr const char* complete_text = R"(
model: vgg.onnx
data:
  calibration: calibration.h5
  validation: {images: t10k.gz, labels: ../labels.gz, first: 5, count: 10000, resize: 256, crop: 224}
  preprocess: {scale: 0.5, mean: [0.1, 0.2, 0.3], std: 2, channels: bgr}
calibration: {images: 100, positions: 3, inputs: original, seed: 7, files: node, memory: 8e9}
method: {kind: constrained, grouping: filter, nuclear: 0.1, group: 0.2, iterations: 5, tolerance: 1e-3, svd: gram,
         least_squares: ksp, refine: {evaluations: 12, tao: -tao_type cg}}
budget:
  parameters: 4.9
  macs: {at_most: 28.0e6}
  bytes: [2, {at_most: 1000}]
  layers: {fc6: {rank: 200, groups: 64}, "/features/0/Conv": {rank: 3}}
  keep: [conv1_1, "fc*"]
refine: {images: 500, epochs: 2, optimizer: lmvm, proximal: 0.25, dense: true}
pipeline: {groups: 3, schedule: pipelined}
checkpoint: {every: 0.5}
on_failure: keep_dense
batch:
  - {budget: {parameters: 3}, output: run/three}
  - {model: other.onnx}
output: run/vgg/
)";

TEST(Configuration, EveryKeyArrives) {
  const auto c = parse(complete_text);
  EXPECT_EQ(c.model.given, "vgg.onnx");
  EXPECT_EQ(c.model.absolute, "/cfg/vgg.onnx");
  EXPECT_EQ(c.data.calibration.images.absolute, "/cfg/calibration.h5");
  EXPECT_FALSE(c.data.calibration.count);
  EXPECT_EQ(c.data.validation.labels.absolute, "/labels.gz");
  EXPECT_EQ(c.data.validation.first, 5);
  EXPECT_EQ(c.data.validation.count, 10000);
  EXPECT_EQ(c.data.validation.resize, 256);
  EXPECT_EQ(c.data.validation.crop, 224);
  EXPECT_EQ(c.data.preprocess.scale, 0.5);
  EXPECT_THAT(c.data.preprocess.mean, ElementsAre(0.1, 0.2, 0.3));
  EXPECT_THAT(c.data.preprocess.deviation, ElementsAre(2.0));
  EXPECT_EQ(c.data.preprocess.channels, ChannelOrder::bgr);
  EXPECT_EQ(c.calibration.images, 100);
  EXPECT_EQ(c.calibration.positions, 3);
  EXPECT_EQ(c.calibration.inputs, CalibrationInputs::original);
  EXPECT_EQ(c.calibration.seed, 7);
  EXPECT_EQ(c.calibration.files, ShardsPer::node);
  EXPECT_EQ(c.calibration.memory_bytes, 8'000'000'000);
  EXPECT_EQ(c.method.kind, MethodKind::constrained);
  EXPECT_EQ(c.method.grouping, Grouping::filter);
  EXPECT_EQ(c.method.nuclear, 0.1);
  EXPECT_EQ(c.method.group, 0.2);
  EXPECT_EQ(c.method.iteration_limit(), 5);
  EXPECT_EQ(c.method.tolerance, 1e-3);
  EXPECT_EQ(c.method.svd, SvdKind::gram);
  EXPECT_EQ(c.method.least_squares, LeastSquares::ksp);
  EXPECT_EQ(c.method.refine.evaluations, 12);
  EXPECT_EQ(c.method.refine.tao, "-tao_type cg");
  ASSERT_EQ(c.budget.parameters.size(), 1U);
  EXPECT_EQ(c.budget.parameters[0].factor, 4.9);
  ASSERT_EQ(c.budget.macs.size(), 1U);
  EXPECT_EQ(c.budget.macs[0].at_most, 28e6);
  EXPECT_FALSE(c.budget.macs[0].factor);
  ASSERT_EQ(c.budget.bytes.size(), 2U);
  EXPECT_EQ(c.budget.bytes[1].at_most, 1000);
  EXPECT_EQ(c.budget.layers.at("fc6").target_rank, 200);
  EXPECT_EQ(c.budget.layers.at("fc6").groups, 64);
  EXPECT_FALSE(c.budget.layers.at("/features/0/Conv").groups);
  EXPECT_THAT(c.budget.keep, ElementsAre("conv1_1", "fc*"));
  EXPECT_EQ(c.refine.images, 500);
  EXPECT_EQ(c.refine.epochs, 2);
  EXPECT_EQ(c.refine.optimizer, refine::Optimizer::lmvm);
  EXPECT_EQ(c.refine.proximal, 0.25);
  EXPECT_TRUE(c.refine.dense);
  EXPECT_EQ(c.pipeline.groups, 3);
  EXPECT_EQ(c.pipeline.schedule, Schedule::pipelined);
  EXPECT_EQ(c.checkpoint.every_seconds, 0.5);
  EXPECT_EQ(c.on_failure, OnFailure::keep_dense);
  ASSERT_EQ(c.batch.size(), 2U);
  EXPECT_EQ(c.batch[0].dump(), R"({"budget":{"parameters":3.0},"output":"/cfg/run/three"})");
  EXPECT_EQ(c.batch[1].dump(), R"({"model":"/cfg/other.onnx"})");
  EXPECT_EQ(c.output.absolute, "/cfg/run/vgg");
}

TEST(Configuration, MixturesGoWithMiniBatches) {
  EXPECT_TRUE(parse("refine: {mixup: true, optimizer: white_adam}").refine.mixup);
  EXPECT_THROW((void)parse("refine: {mixup: true, optimizer: lmvm}"), Error);
}

TEST(Configuration, DefaultsAreThoseOfTheDocumentation) {
  const auto c = parse("");
  EXPECT_TRUE(c.model.empty());
  EXPECT_EQ(c.calibration.images, 2000);
  EXPECT_EQ(c.calibration.positions, 10);
  EXPECT_EQ(c.calibration.inputs, CalibrationInputs::compressed);
  EXPECT_EQ(c.method.kind, default_method_kind);
  EXPECT_EQ(parse("method: {kind: relaxed}").method.iteration_limit(), 300);
  EXPECT_EQ(parse("{method: {kind: constrained}, budget: {parameters: 2}}").method.iteration_limit(), 30);
  EXPECT_EQ(c.method.refine.evaluations, default_descent_evaluations);
  EXPECT_FALSE(c.method.refine.tao);
  EXPECT_EQ(c.refine.images, 10000);
  EXPECT_EQ(c.refine.optimizer, refine::Optimizer::automatic);
  EXPECT_FALSE(c.refine.proximal);
  EXPECT_FALSE(parse("refine: {proximal: auto}").refine.proximal);
  EXPECT_FALSE(c.refine.dense);
  EXPECT_FALSE(c.refine.mixup);
  EXPECT_EQ(c.checkpoint.every_seconds, 60);
  EXPECT_EQ(c.on_failure, OnFailure::stop);
}

TEST(Configuration, OwnLayers) {
  const auto c = parse("layers: [{name: a, weights: w.h5, shards: 'dir/*.h5', activation: relu}]");
  ASSERT_EQ(c.layers.size(), 1U);
  EXPECT_EQ(c.layers[0].weights.absolute, "/cfg/w.h5");
  EXPECT_EQ(c.layers[0].shards.absolute, "/cfg/dir/*.h5");
  EXPECT_EQ(refusal("layers:\n  - {name: a, weights: w.h5, shards: s}"),
            "vgg.yaml, line 2: layers[0].activation is missing, expected one of identity, relu, relu6, sigmoid, tanh");
  EXPECT_THAT(refusal("layers:\n  - {name: a, wieghts: w.h5}"),
              HasSubstr(R"(line 2: unknown key "layers[0].wieghts"; did you mean "weights"?)"));
  EXPECT_THAT(refusal("model: m\nlayers: [{name: a, weights: w, shards: s, activation: relu}]"),
              StartsWith("vgg.yaml, line 2: both model and layers"));
}

TEST(Configuration, UnknownKeysNameTheNearest) {
  EXPECT_EQ(refusal("model: a\nbudjet: {parameters: 3}"),
            R"(vgg.yaml, line 2: unknown key "budjet"; did you mean "budget"?)");
  EXPECT_EQ(refusal("budget:\n  keep: a\n  paramters: 3"),
            R"(vgg.yaml, line 3: unknown key "budget.paramters"; did you mean "budget.parameters"?)");
  // In the wrong section: the key of that very name elsewhere.
  EXPECT_EQ(refusal("nuclear: 0.1"), R"(vgg.yaml, line 1: unknown key "nuclear"; did you mean "method.nuclear"?)");
  EXPECT_EQ(refusal("zzzzzz: 1"),
            "vgg.yaml, line 1: unknown key \"zzzzzz\"; the keys are model, layers, data, calibration, method, budget, "
            "refine, pipeline, checkpoint, watchdog, on_failure, batch, output");
  EXPECT_THAT(refusal("budget.parameters: 3"), HasSubstr("here sections are nested"));
  EXPECT_THAT(refusal("batch: [{budget: {paramters: 3}}]"), HasSubstr("did you mean \"budget.parameters\"?"));
  EXPECT_THAT(refusal("budget: {layers: {fc6: {rnak: 3}}}"),
              HasSubstr("budget.layers.fc6.rnak\"; did you mean \"rank\"?"));
}

TEST(Configuration, DuplicateKeys) {
  EXPECT_EQ(refusal("model: a\ndata:\n  calibration: x\nmodel: b"),
            "vgg.yaml, line 4: the key \"model\" occurs twice, first in line 1; keep one of them");
  EXPECT_THAT(refusal("budget: {layers: {fc6: {rank: 1}, fc6: {rank: 2}}}"), HasSubstr("the key \"fc6\" occurs twice"));
}

struct BadValue {
  const char* text;
  const char* sentence; ///< after the file
};
class BadValues : public testing::TestWithParam<BadValue> {};
TEST_P(BadValues, AreRefusedWithTheLineTheKeyAndWhatWasExpected) {
  EXPECT_EQ(refusal(GetParam().text), std::string("vgg.yaml, ") + GetParam().sentence);
}
INSTANTIATE_TEST_SUITE_P(
    Configuration, BadValues,
    testing::Values(
        BadValue{"\nmethod: {nuclear: 1}",
                 "line 2: method.nuclear is \"1\", expected a number between 0 and 1, exclusive"},
        BadValue{"method: {group: -.5}",
                 "line 1: method.group is \"-.5\", expected a number between 0 and 1, exclusive"},
        BadValue{"method: {group: .nan}",
                 "line 1: method.group is \".nan\", expected a number between 0 and 1, exclusive"},
        BadValue{"method: {group: \"0.5\"}",
                 "line 1: method.group is \"0.5\", expected a number between 0 and 1, exclusive"},
        BadValue{"method:\n  iterations:\n    - 3",
                 "line 2: method.iterations is a list, expected an integer from 1 to 1000000"},
        BadValue{"method: {kind: relax}", "line 1: method.kind is \"relax\", expected one of constrained, relaxed"},
        BadValue{"method: relaxed",
                 "line 1: method is \"relaxed\", expected a mapping with keys of kind, grouping, nuclear, group, "
                 "iterations, tolerance, svd, least_squares, refine"},
        BadValue{"method: {refine: {tao: lmvm}}",
                 "line 1: method.refine.tao is \"lmvm\", expected PETSc's words for TAO, "
                 "such as \"-tao_type cg\""},
        BadValue{"method: {least_squares: lsqr}",
                 "line 1: method.least_squares is \"lsqr\", expected one of auto, gram, kernel, ksp"},
        BadValue{"calibration: {images: 19}", "line 1: calibration.images is \"19\", expected an integer from 20 up"},
        BadValue{"calibration: {images: 20.5}",
                 "line 1: calibration.images is \"20.5\", expected an integer from 20 up"},
        BadValue{"calibration: {images: 1e300}",
                 "line 1: calibration.images is \"1e300\", expected an integer from 20 up"},
        BadValue{"calibration: {images: 99999999999999999999}",
                 "line 1: calibration.images is \"99999999999999999999\", expected an integer from 20 up"},
        BadValue{"calibration: {positions: 0}",
                 "line 1: calibration.positions is \"0\", expected an integer from 1 to 1048576"},
        BadValue{
            "budget: {parameters: 1}",
            "line 1: budget.parameters is \"1\", expected a factor > 1, {at_most: N} with N > 0, or a list of these"},
        BadValue{"budget: {parameters: []}", "line 1: budget.parameters is an empty list, expected a factor > 1, "
                                             "{at_most: N} with N > 0, or a list of these"},
        BadValue{"budget: {parameters: {at_most: 0}}",
                 "line 1: budget.parameters.at_most is \"0\", expected a number > 0"},
        BadValue{
            "budget:\n  parameters: [3,\n    0.5]",
            "line 3: budget.parameters is \"0.5\", expected a factor > 1, {at_most: N} with N > 0, or a list of these"},
        BadValue{"budget: {layers: {fc6: {}}}",
                 "line 1: budget.layers.fc6 fixes nothing, expected {rank: R, groups: G}"},
        BadValue{"budget: {layers: {fc6: {rank: -1}}}",
                 "line 1: budget.layers.fc6.rank is \"-1\", expected an integer from 0 up"},
        BadValue{"budget: {keep: {a: b}}", "line 1: budget.keep is a mapping, expected a text"},
        BadValue{"data: {preprocess: {mean: [1, 2]}}",
                 "line 1: data.preprocess.mean has 2 elements, expected a number, or a list of 1 or 3"},
        BadValue{"data: {preprocess: {std: 0}}", "line 1: data.preprocess.std is \"0\", expected a number > 0"},
        BadValue{"data: {preprocess: {channels: gbr}}",
                 "line 1: data.preprocess.channels is \"gbr\", expected one of rgb, bgr"},
        BadValue{"data: {calibration: [a]}",
                 "line 1: data.calibration is a list, expected a mapping with keys of images, "
                 "labels, list, first, count, resize, crop"},
        BadValue{"data: {calibration: {count: 100}}", "line 1: data.calibration.count is given without "
                                                      "data.calibration.images, expected the images too"},
        BadValue{"data:\n  validation:\n    images: a\n    resize: 9\n    crop: 10",
                 "line 5: data.validation.crop is 10, expected at most data.validation.resize, which is 9"},
        BadValue{"data:\n  validation: {images: a, labels: b, list: c}",
                 "line 2: both data.validation.labels and .list are given, expected one of them"},
        BadValue{
            "data: {preprocess: {mean: 0, std: [1]}, calibration: {images: a, count: 30}}\ncalibration: {images: 31}",
            "line 2: calibration.images is 31, but data.calibration.count gives only 30"},
        BadValue{"model: [a]", "line 1: model is a list, expected a path"},
        BadValue{"output: ''", "line 1: output is \"\", expected a folder"},
        BadValue{"checkpoint: {every: 0}", "line 1: checkpoint.every is \"0\", expected a number > 0"},
        BadValue{"pipeline: {schedule: serial}",
                 "line 1: pipeline.schedule is \"serial\", expected one of sequential, parallel, pipelined"},
        BadValue{"batch: {a: b}", "line 1: batch is a mapping, expected a list of mappings with any of the other keys"},
        BadValue{"batch: [{batch: []}]",
                 "line 1: batch[0] is a mapping, expected a mapping with any of the other keys"},
        BadValue{"- a\n- b", "line 1: this is a list, expected a mapping of keys"}));

TEST(Configuration, NullMeansTheDefault) {
  const auto c = parse("method:\n  nuclear:\n  group: ~\nbudget:\n");
  EXPECT_EQ(c.method.nuclear, Configuration{}.method.nuclear);
  EXPECT_EQ(c.origins.count("method.nuclear"), 0U);
}

TEST(Overrides, ComeOnTopOfTheFile) {
  const auto c = parse("budget: {parameters: 3, keep: a}\nmodel: vgg.onnx",
                       {"budget.parameters=4.9", "budget.keep=[b, 'c*']", "refine.epochs=3", "refine.epochs=4"});
  EXPECT_EQ(c.budget.parameters.at(0).factor, 4.9);
  EXPECT_THAT(c.budget.keep, ElementsAre("b", "c*"));
  EXPECT_EQ(c.refine.epochs, 4) << "the last one wins";
  EXPECT_EQ(c.where("budget.parameters"), "--set budget.parameters=4.9");
  EXPECT_EQ(c.where("model"), "vgg.yaml, line 2");
  EXPECT_EQ(c.where("on_failure"), "vgg.yaml");
}

TEST(Overrides, PathsAreRelativeToTheCurrentFolder) {
  const auto c = parse("model: vgg.onnx\noutput: out", {"output=run/x", "data.calibration.images=/abs/c.h5"});
  EXPECT_EQ(c.model.absolute, "/cfg/vgg.onnx");
  EXPECT_EQ(c.output.absolute, "/here/run/x");
  EXPECT_EQ(c.data.calibration.images.absolute, "/abs/c.h5");
}

TEST(Overrides, APlainImageSourceBecomesAMapping) {
  const auto c = parse("data:\n  calibration: c.h5", {"data.calibration.count=2000"});
  EXPECT_EQ(c.data.calibration.images.absolute, "/cfg/c.h5") << "still relative to the file that names it";
  EXPECT_EQ(c.data.calibration.count, 2000);
  const auto back = parse("data: {calibration: {images: c.h5, count: 2000}}", {"data.calibration=d.h5"});
  EXPECT_EQ(back.data.calibration.images.absolute, "/here/d.h5");
  EXPECT_FALSE(back.data.calibration.count);
}

TEST(Overrides, NothingBringsTheDefaultBack) {
  EXPECT_TRUE(parse("budget: {keep: a}", {"budget.keep="}).budget.keep.empty());
  EXPECT_EQ(parse("method: {nuclear: 0.3}", {"method.nuclear=null"}).method.nuclear, Configuration{}.method.nuclear);
}

TEST(Overrides, ReachIntoValuesAndReplaceThem) {
  EXPECT_EQ(parse("budget: {parameters: 3}", {"budget.parameters.at_most=1e6"}).budget.parameters.at(0).at_most, 1e6);
  EXPECT_EQ(
      parse("budget: {layers: {fc6: {rank: 3}}}", {"budget.layers.fc6.groups=2"}).budget.layers.at("fc6").target_rank,
      3);
  const auto c = parse("data: {preprocess: {scale: 2, mean: 3}}", {"data.preprocess={mean: 4}"});
  EXPECT_EQ(c.data.preprocess.scale, 1.0 / 255);
  EXPECT_THAT(c.data.preprocess.mean, ElementsAre(4.0));
}

TEST(Overrides, ErrorsNameTheOverride) {
  EXPECT_EQ(refusal("", {"budget.paramters=3"}),
            R"(--set budget.paramters=3: unknown key "budget.paramters"; did you mean "budget.parameters"?)");
  EXPECT_EQ(refusal("", {"calibration.images=few"}),
            "--set calibration.images=few: calibration.images is \"few\", expected an integer from 20 up");
  EXPECT_THAT(refusal("", {"budget.keep=[a"}), HasSubstr("is a bracket not closed?"));
  EXPECT_THAT(refusal("", {"model.x=3"}), StartsWith("--set model.x=3: model is a mapping, expected a path"));
  for (const auto* bad : {"budget.parameters", "=3", "a..b=3", ".a=3", "a.=3"})
    EXPECT_THAT(refusal("", {bad}, Require::nothing, ExitCode::usage), HasSubstr("expected KEY=VALUE")) << bad;
}

TEST(Require, NamesWhatIsMissing) {
  const auto all = required_by_compress;
  EXPECT_EQ(refusal("", {}, all), "vgg.yaml: model is missing, expected the path of an ONNX file");
  EXPECT_THAT(refusal("model: a", {}, all), HasSubstr("data.calibration is missing"));
  EXPECT_THAT(refusal("model: a\ndata: {calibration: b}", {}, all), HasSubstr("data.preprocess is missing"));
  EXPECT_THAT(refusal("model: a\ndata: {calibration: b, preprocess: {}}", {}, all), HasSubstr("output is missing"));
  EXPECT_NO_THROW((void)parse("model: a\ndata: {calibration: b, preprocess: {}}\noutput: c", {}, all));
  EXPECT_NO_THROW((void)parse("layers: [{name: a, weights: w, shards: s, activation: relu}]\noutput: c", {}, all));
  EXPECT_THAT(refusal("model: a\ndata: {preprocess: {scale: 1}}", {}, required_by_evaluate),
              HasSubstr("data.validation is missing"));
  EXPECT_NO_THROW((void)parse("model: a\ndata: {validation: v, preprocess: {scale: 1}}", {}, required_by_evaluate));
}

TEST(Supported, RefusesWhatIsNotThereYet) {
  const auto unsupported = [](const std::string& text) -> std::string {
    try {
      check_supported(parse(text));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::configuration);
      return error.what();
    }
    return "supported";
  };
  EXPECT_EQ(unsupported("\nmethod: {kind: relaxed, grouping: filter}"),
            "vgg.yaml, line 2: this value of method.grouping is not available in this version; use method.kind: "
            "constrained");
  for (const auto* text :
       {"method: {kind: relaxed, grouping: column}", "method: {grouping: column}", "method: {grouping: filter}"})
    EXPECT_EQ(unsupported(text), "supported") << text;
  EXPECT_EQ(unsupported(""), "supported") << "the defaults must always be";
  for (const auto* text :
       {"{method: {kind: relaxed}, budget: {macs: 2}}", "{method: {kind: relaxed}, budget: {bytes: 2}}",
        "{method: {kind: relaxed}, budget: {latency: 2}}", "budget: {macs: 2, spread: uniform}",
        "calibration: {files: node}"})
    EXPECT_THAT(unsupported(text), HasSubstr("not available in this version")) << text;
  for (const auto* text :
       {"method: {kind: relaxed, least_squares: ksp}", "pipeline: {groups: 2}", "pipeline: {schedule: pipelined}"})
    EXPECT_THAT(unsupported(text), HasSubstr("does not go with the rest of the configuration")) << text;
}

TEST(Examples, AreValidAndSupported) {
  const std::string file = SLR_CONFIGS "/fashion_mnist.yaml";
  const auto c =
      parse_configuration(read_file(file), file, SLR_CONFIGS, {}, "/here", required_by_compress | required_by_evaluate);
  EXPECT_NO_THROW(check_supported(c));
  EXPECT_EQ(c.model.given, "../jobs/fashion_mnist/fashion_mnist.onnx");
  EXPECT_TRUE(c.budget.keep.empty());
}

TEST(Configuration, TheNetworksOfTheProjectAreValid) {
  for (const std::string name : {"alexnet", "vgg16", "googlenet", "resnet50", "mobilenetv2", "squeezenet"}) {
    const auto file = SLR_CONFIGS "/" + name + ".yaml";
    const auto c = parse_configuration(read_file(file), file, SLR_CONFIGS, {}, "/here",
                                       required_by_compress | required_by_evaluate);
    EXPECT_NO_THROW(check_supported(c)) << name;
    EXPECT_EQ(c.model.given, name + ".onnx");
    EXPECT_EQ(c.output.given, "../run/" + name);
    EXPECT_FALSE(c.budget.keep.empty()) << name;
  }
}

} // namespace
} // namespace slr::run::test
