#pragma once
/// \file
/// SHA-256 of bytes and files (OpenSSL).
#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace slr {

/// A running SHA-256. Local.
class Sha256 {
public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  void update(std::span<const std::byte> bytes);
  void update(std::string_view text);
  /// 64 hexadecimal digits. The object must not be updated afterwards.
  [[nodiscard]] std::string hex();

private:
  struct State;
  std::unique_ptr<State> state_;
};

[[nodiscard]] std::string sha256(std::string_view text);
/// \throws Error{io} if the file cannot be read.
[[nodiscard]] std::string sha256_of_file(const std::filesystem::path& file);

/// SHA-256 of files that do not change meanwhile: each is read once, under whatever name or link it is asked for.
/// Local.
class FileHashes {
public:
  /// \throws Error{io} if the file cannot be read.
  [[nodiscard]] const std::string& of(const std::filesystem::path& file);

private:
  std::map<std::filesystem::path, std::string> hashes_; ///< by the file behind all links
};

} // namespace slr
