#include "slr/base/hash.hpp"

#include "slr/base/error.hpp"

#include <array>
#include <fstream>
#include <openssl/evp.h>
#include <vector>

namespace slr {

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  State() { require(context && EVP_DigestInit_ex(context, EVP_sha256(), nullptr) == 1, "SHA-256 is not available"); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256() : state_(std::make_unique<State>()) {}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::update(std::span<const std::byte> bytes) {
  require(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) == 1, "SHA-256 failed");
}

void Sha256::update(std::string_view text) {
  update(std::as_bytes(std::span(text)));
}

std::string Sha256::hex() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned length = 0;
  require(EVP_DigestFinal_ex(state_->context, digest.data(), &length) == 1, "SHA-256 failed");
  std::string text;
  for (unsigned i = 0; i < length; ++i) {
    constexpr char digits[] = "0123456789abcdef";
    text += digits[digest[i] >> 4];
    text += digits[digest[i] & 15];
  }
  return text;
}

std::string sha256(std::string_view text) {
  Sha256 hash;
  hash.update(text);
  return hash.hex();
}

std::string sha256_of_file(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw Error(ExitCode::io, "cannot open " + file.string() + " for reading");
  Sha256 hash;
  std::vector<char> buffer(1 << 20);
  while (stream) {
    stream.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    hash.update(std::string_view(buffer.data(), static_cast<std::size_t>(stream.gcount())));
  }
  if (stream.bad()) throw Error(ExitCode::io, "reading " + file.string() + " failed");
  return hash.hex();
}

const std::string& FileHashes::of(const std::filesystem::path& file) {
  const auto [entry, is_new] = hashes_.try_emplace(std::filesystem::weakly_canonical(file));
  if (is_new) {
    try {
      entry->second = sha256_of_file(file);
    } catch (...) {
      hashes_.erase(entry);
      throw;
    }
  }
  return entry->second;
}

} // namespace slr
