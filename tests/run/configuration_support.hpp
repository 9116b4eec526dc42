#pragma once
// Configurations from a few lines of text, and the error of a bad one.
#include "slr/base/error.hpp"
#include "slr/run/configuration.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace slr::run::test {

/// As if vgg.yaml stood in /cfg and the program had been started in /here.
inline Configuration parse(const std::string& text, const std::vector<std::string>& overrides = {},
                           Require require = Require::nothing) {
  return parse_configuration(text, "vgg.yaml", "/cfg", overrides, "/here", require);
}

/// The whole sentence that the configuration is refused with.
inline std::string refusal(const std::string& text, const std::vector<std::string>& overrides = {},
                           Require require = Require::nothing, ExitCode code = ExitCode::configuration) {
  try {
    (void)parse(text, overrides, require);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << "one line";
    return error.what();
  }
  ADD_FAILURE() << "accepted: " << text;
  return {};
}

} // namespace slr::run::test
