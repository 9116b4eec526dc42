// The command lines: what each program understands, and what it says to the rest.
#include "slr/base/error.hpp"
#include "slr/run/command_line.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace slr::run {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Words = std::vector<std::string>;

template <class Options>
std::string refusal(Options (*parse)(Arguments), const Words& words) {
  try {
    (void)parse(words);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    return error.what();
  }
  ADD_FAILURE() << "accepted";
  return {};
}

TEST(CommandLine, Compress) {
  const Words words{"--set", "a.b=-1", "vgg.yaml", "--set=c=[d, e]", "--fresh", "--plan"};
  const auto o = parse_compress(words);
  EXPECT_EQ(o.config, "vgg.yaml");
  EXPECT_THAT(o.overrides, ElementsAre("a.b=-1", "c=[d, e]"));
  EXPECT_TRUE(o.fresh);
  EXPECT_TRUE(o.plan);
  EXPECT_FALSE(o.resume);
  EXPECT_FALSE(o.print_config);
  EXPECT_TRUE(o.text.empty());
  EXPECT_EQ(parse_compress(Words{"--reproduce", "manifest.json", "--set", "output=x"}).reproduce, "manifest.json");
}

TEST(CommandLine, TheOthers) {
  const auto c = parse_calibrate(Words{"a.yaml", "--fresh", "--set", "x=y"});
  EXPECT_TRUE(c.fresh);
  EXPECT_THAT(c.overrides, ElementsAre("x=y"));
  const auto e = parse_evaluate(
      Words{"a.yaml", "--model", "m", "--reference=r", "--json", "j", "--dump-inputs", "i", "--dump-logits", "l"});
  EXPECT_EQ(e.model + e.reference + e.json + e.dump_inputs + e.dump_logits, "mrjil");
  const auto p = parse_pack(Words{"--images", "i", "--list", "l", "--first", "5", "--count", "7", "--resize", "256",
                                  "--crop", "224", "--strict", "--output", "o.h5"});
  EXPECT_EQ(p.first, 5);
  EXPECT_EQ(p.count, 7);
  EXPECT_EQ(p.resize, 256);
  EXPECT_EQ(p.crop, 224);
  EXPECT_TRUE(p.strict);
  EXPECT_EQ(parse_pack(Words{"--images", "i", "--output", "o"}).count, std::nullopt);
  EXPECT_TRUE(parse_inspect(Words{"f.h5", "--verify"}).verify);
}

TEST(CommandLine, NamesTheArgumentThatIsTooMuch) {
  EXPECT_THAT(refusal(parse_pack, {"--images", "i", "--strict", "p.h5"}),
              HasSubstr("an argument that belongs to no option: p.h5"));
  EXPECT_THAT(refusal(parse_compress, {"a.yaml", "--fresh", "b.yaml"}), HasSubstr(": b.yaml"));
}

TEST(CommandLine, HelpExplainsItself) {
  const auto check = [](const auto& options, const std::string& name) {
    EXPECT_THAT(options.text, testing::StartsWith("Usage: " + name));
    EXPECT_THAT(options.text, HasSubstr("Examples:\n  "));
    EXPECT_THAT(options.text, HasSubstr("Exit codes:\n"));
    EXPECT_THAT(options.text, HasSubstr("--version"));
    std::istringstream lines(options.text);
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 120U) << line;
  };
  const Words help{"--help"};
  check(parse_compress(help), "slr_compress CONFIG.yaml");
  check(parse_calibrate(help), "slr_calibrate CONFIG.yaml");
  check(parse_evaluate(help), "slr_evaluate CONFIG.yaml");
  check(parse_pack(help), "slr_pack [OPTION]");
  check(parse_inspect(help), "slr_inspect FILE");
  EXPECT_THAT(parse_compress(Words{"vgg.yaml", "--help"}).text, HasSubstr("Usage"));
  EXPECT_THAT(parse_compress(Words{"--version"}).text,
              testing::MatchesRegex("slr_compress [0-9]+\\.[0-9]+\\.[0-9]+\n"));
}

TEST(CommandLine, WrongUsageNamesWhatIsWrong) {
  EXPECT_EQ(refusal(parse_compress, {}), "CONFIG.yaml is missing; see slr_compress --help");
  EXPECT_EQ(refusal(parse_compress, {"a.yaml", "--frech"}),
            "unknown option --frech; did you mean --fresh?; see slr_compress --help");
  EXPECT_THAT(refusal(parse_compress, {"a.yaml", "--fre"}), HasSubstr("unknown option --fre")) << "no abbreviations";
  EXPECT_THAT(refusal(parse_compress, {"a.yaml", "b.yaml"}), HasSubstr("more than one CONFIG.yaml"));
  EXPECT_THAT(refusal(parse_compress, {"a.yaml", "--set"}), HasSubstr("--set"));
  EXPECT_THAT(refusal(parse_compress, {"a.yaml", "--plan=3"}), HasSubstr("--plan"));
  EXPECT_THAT(refusal(parse_compress, {"a.yaml", "-x"}), HasSubstr("-x"));
  EXPECT_THAT(refusal(parse_compress, {"a.yaml", "--resume", "--fresh"}), HasSubstr("contradict"));
  EXPECT_THAT(refusal(parse_compress, {"a.yaml", "--reproduce", "m.json"}), HasSubstr("both CONFIG.yaml and"));
  EXPECT_THAT(refusal(parse_pack, {"--output", "o"}), HasSubstr("--images is missing"));
  EXPECT_THAT(refusal(parse_pack, {"--images", "i"}), HasSubstr("--output is missing"));
  EXPECT_THAT(refusal(parse_pack, {"i", "--output", "o"}), HasSubstr("slr_pack --help"));
  EXPECT_EQ(refusal(parse_pack, {"--images", "i", "--output", "o", "--count", "0"}),
            "--count is 0, expected an integer from 1 up; see slr_pack --help");
  EXPECT_THAT(refusal(parse_pack, {"--images", "i", "--output", "o", "--first", "x"}), HasSubstr("--first is x"));
  EXPECT_THAT(refusal(parse_pack, {"--images", "i", "--output", "o", "--first=-1"}), HasSubstr("from 0 up"));
  EXPECT_THAT(refusal(parse_pack, {"--images", "i", "--output", "o", "--resize", "65537"}),
              HasSubstr("from 1 to 65536"));
  EXPECT_THAT(refusal(parse_pack, {"--images", "i", "--output", "o", "--crop", "5", "--resize", "4"}),
              HasSubstr("--crop is larger"));
  EXPECT_THAT(refusal(parse_pack, {"--images", "i", "--output", "o", "--labels", "l", "--list", "m"}),
              HasSubstr("both --labels and --list"));
  EXPECT_THAT(refusal(parse_inspect, {"--verify"}), HasSubstr("FILE is missing"));
  EXPECT_EQ(refusal(parse_inspect, {"--\033[2J"}).find('\033'), std::string::npos);
}

} // namespace
} // namespace slr::run
