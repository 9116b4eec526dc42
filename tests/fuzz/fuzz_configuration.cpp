// Any text as a configuration; what follows a line "%%" are overrides, as after --set.
#include "slr/run/configuration.hpp"
#include "target.hpp"

#include <vector>

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slr::run;
  const std::string text(slr::fuzz::text_of(data, size));
  const auto end = text.find("\n%%\n");
  std::vector<std::string> overrides;
  for (auto at = end == std::string::npos ? end : end + 4; at < text.size();) {
    const auto line_end = std::min(text.find('\n', at), text.size());
    overrides.push_back(text.substr(at, line_end - at));
    at = line_end + 1;
  }
  Configuration config;
  const bool is_accepted = slr::fuzz::answers([&] {
    config = parse_configuration(text.substr(0, end), "net.yaml", "/cfg", overrides, "/here", Require::nothing);
    slr::run::check_supported(config);
  });
  if (!is_accepted) return 0;
  // What is accepted means the same when it is printed and read again.
  std::string hash;
  slr::fuzz::expect(slr::fuzz::answers([&] {
                      hash = configuration_hash(parse_configuration(resolved_yaml(config), "printed.yaml", "/other", {},
                                                                    "/other", Require::nothing));
                    }),
                    "a printed configuration is refused");
  slr::fuzz::expect(hash == configuration_hash(config), "a printed configuration means something else");
  return 0;
}
