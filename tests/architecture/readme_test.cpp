// The README says what the programs say.
#include "slr/run/configuration.hpp"

#include <fstream>
#include <gtest/gtest.h>
#include <sstream>

namespace {

std::string readme() {
  std::ifstream file(SLR_README);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(Readme, HasTheConfigurationTable) {
  const auto reference = slr::run::configuration_reference();
  const auto begin = std::string("<!-- configuration -->\n"), end = std::string("<!-- end of configuration -->\n");
  const auto text = readme();
  const auto from = text.find(begin), to = text.find(end);
  ASSERT_NE(from, std::string::npos);
  ASSERT_NE(to, std::string::npos);
  EXPECT_EQ(text.substr(from + begin.size(), to - from - begin.size()), reference)
      << "put this between the two marks of README.md:\n"
      << reference;
}

} // namespace
