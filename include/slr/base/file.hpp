#pragma once
/// \file
/// Whole files: read with a bound, written beside their final name and renamed.
#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace slr {

/// The file's bytes. Local.
/// \throws Error{io} if it cannot be opened or read, Error{bad_data} if it is longer than `limit` bytes.
[[nodiscard]] std::string read_file(const std::filesystem::path& file, std::size_t limit = std::size_t(16) << 30);

/// Writes the bytes to a temporary name in the same folder, flushes them to the disk and renames: afterwards the file
/// is either the old one or the new one, whole. Local. \throws Error{io}, the temporary removed.
void write_file_atomically(const std::filesystem::path& file, std::string_view bytes);

/// A name beside `file` under which a new version is written before `commit_file`. Local.
[[nodiscard]] std::filesystem::path temporary_name(const std::filesystem::path& file);

/// Flushes the temporary to the disk and renames it to its final name. Local. \throws Error{io}
void commit_file(const std::filesystem::path& temporary, const std::filesystem::path& file);

} // namespace slr
