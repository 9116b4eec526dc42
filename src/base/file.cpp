#include "slr/base/file.hpp"

#include "slr/base/descriptor.hpp"
#include "slr/base/error.hpp"
#include "slr/base/trace.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <unistd.h>

namespace slr {
namespace {

std::string reason() {
  return std::strerror(errno);
}

void flush_to_disk(const std::filesystem::path& path, int flags) {
  const Descriptor fd(::open(path.c_str(), flags));
  if (!fd.is_open() || ::fsync(fd.number()) != 0)
    throw Error(ExitCode::io, "flushing " + path.string() + " to the disk failed: " + reason());
}

} // namespace

std::string read_file(const std::filesystem::path& file, std::size_t limit) {
  std::ifstream stream(file, std::ios::binary | std::ios::ate);
  if (!stream || std::filesystem::is_directory(file))
    throw Error(ExitCode::io, "cannot open " + file.string() + " for reading: " + reason());
  const auto size = static_cast<std::streamoff>(stream.tellg());
  if (size < 0) throw Error(ExitCode::io, "cannot read the size of " + file.string());
  if (static_cast<std::size_t>(size) > limit)
    throw Error(ExitCode::bad_data, file.string() + " has " + std::to_string(size) + " bytes, more than the " +
                                        std::to_string(limit) + " that such a file may have");
  std::string bytes(static_cast<std::size_t>(size), '\0');
  stream.seekg(0);
  stream.read(bytes.data(), size);
  if (stream.gcount() != size) throw Error(ExitCode::io, "reading " + file.string() + " failed: " + reason());
  return bytes;
}

std::filesystem::path temporary_name(const std::filesystem::path& file) {
  return file.parent_path() / ("." + file.filename().string() + ".part");
}

void commit_file(const std::filesystem::path& temporary, const std::filesystem::path& file) {
  const TraceSpan span(TraceKind::file, "flush and rename");
  flush_to_disk(temporary, O_RDONLY);
  std::error_code error;
  std::filesystem::rename(temporary, file, error);
  if (error) throw Error(ExitCode::io, "renaming " + temporary.string() + " failed: " + error.message());
  const auto folder = file.parent_path();
  flush_to_disk(folder.empty() ? "." : folder, O_RDONLY | O_DIRECTORY);
}

void write_file_atomically(const std::filesystem::path& file, std::string_view bytes) {
  const auto temporary = temporary_name(file);
  try {
    std::ofstream stream(temporary, std::ios::binary | std::ios::trunc);
    if (!stream) throw Error(ExitCode::io, "cannot create " + temporary.string() + ": " + reason());
    stream.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    stream.close();
    if (!stream) throw Error(ExitCode::io, "writing " + file.string() + " failed: " + reason());
    commit_file(temporary, file);
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove(temporary, ignored);
    throw;
  }
}

} // namespace slr
