// Texts made to exhaust or confuse the reader: refused in one sentence, quickly.
#include "configuration_support.hpp"

#include <gmock/gmock.h>

namespace slr::run::test {
namespace {

using testing::HasSubstr;

std::string repeated(const std::string& text, std::size_t count) {
  std::string result;
  for (std::size_t i = 0; i < count; ++i) result += text;
  return result;
}

TEST(HostileYaml, AnchorsAndAliases) {
  std::string bomb = "a0: &a0 [x, x]\n";
  for (int i = 1; i < 30; ++i)
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [*a" + std::to_string(i - 1) + ", *a" +
            std::to_string(i - 1) + "]\n";
  EXPECT_THAT(refusal(bomb), HasSubstr("anchors and aliases"));
  EXPECT_THAT(refusal("model: *nothing"), HasSubstr("line 1"));
  EXPECT_THAT(refusal("budget: {keep: *}"), HasSubstr("line 1"));
  EXPECT_THAT(refusal("<<: {model: a}"), HasSubstr("unknown key \"<<\""));
}

TEST(HostileYaml, Depth) {
  for (const auto* each : {"[", "{a: ", "- ", "? ", "a:\n ", "[{"})
    for (const std::size_t count : {40U, 2000U, 100'000U}) EXPECT_FALSE(refusal(repeated(each, count)).empty()) << each;
  std::string indented;
  for (std::size_t i = 0; i < 1000; ++i) indented += std::string(i, ' ') + "a:\n";
  EXPECT_THAT(refusal(indented), HasSubstr("levels of nesting"));
}

TEST(HostileYaml, Size) {
  EXPECT_THAT(refusal("# " + std::string(1'000'000, 'x')), HasSubstr("bytes, too long"));
  EXPECT_THAT(refusal("budget: {keep: [" + repeated("a,", 400'000) + "]}"), HasSubstr("more than 10000 values"));
  std::string keys;
  for (int i = 0; i < 80'000; ++i) keys += "k" + std::to_string(i) + ": 1\n";
  EXPECT_THAT(refusal(keys), HasSubstr("more than 10000 values"));
  EXPECT_LT(refusal(std::string(500'000, 'k') + ": 1").size(), 400U) << "a message stays short";
  EXPECT_LT(refusal("model: [" + std::string(500'000, 'k') + "]").size(), 400U);
  EXPECT_LT(refusal("method: {kind: " + std::string(500'000, 'k') + "}").size(), 400U);
}

TEST(HostileYaml, Shapes) {
  for (const auto* text :
       {"a: b: c", "a: [", "}", "\tmodel: a", "? [a]\n: b", "? {a: b}\n: c", "!!binary model: a", "model: !!str a",
        "model: !local a", "model: a\n---\nmodel: b", "model: 'a", "%YAML 9.9\n---\na", "just words", ": a", "~: a",
        "- model", "model: \"\\xZZ\"", "[]", "{}: {}"})
    EXPECT_FALSE(refusal(text).empty()) << text;
}

TEST(HostileYaml, Bytes) {
  using namespace std::string_literals;
  EXPECT_THAT(refusal("model: \xff\xfe"), HasSubstr("not UTF-8"));
  EXPECT_THAT(refusal("model: \xc0\xaf"), HasSubstr("not UTF-8"));
  EXPECT_THAT(refusal("model: \xed\xa0\x80"), HasSubstr("not UTF-8"));
  EXPECT_THAT(refusal("model: a\0b"s), HasSubstr("not UTF-8"));
  // Terminal escapes and line ends in a key do not reach the message.
  const auto sentence = refusal("\"mo\\e[2Jd\\nel\": 1");
  EXPECT_EQ(sentence.find('\033'), std::string::npos);
  EXPECT_THAT(sentence, HasSubstr("mo?[2Jd?el"));
}

TEST(HostileYaml, EmptyIsNothing) {
  for (const auto* text : {"", "\n\n", "# a comment", "---\n", "null", "{}"})
    EXPECT_NO_THROW((void)parse(text)) << text;
}

} // namespace
} // namespace slr::run::test
