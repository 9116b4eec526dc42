#include "slr/mpi/node_memory.hpp"

#include "slr/base/descriptor.hpp"
#include "slr/mpi/agree.hpp"

#include <fcntl.h>
#include <optional>
#include <string>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace slr {
namespace {

/// What the others need to find the root's file, and to know that it is this one.
struct Address {
  bool is_there = false;
  ::pid_t process = 0;
  int descriptor = -1;
  ::dev_t device = 0;
  ::ino_t inode = 0;
  std::size_t size = 0;
};

std::shared_ptr<std::byte> mapped(const Descriptor& file, std::size_t size, int protection) {
  void* memory = ::mmap(nullptr, size, protection, MAP_SHARED, file.number(), 0);
  if (memory == MAP_FAILED) return nullptr;
  return {static_cast<std::byte*>(memory), [size](std::byte* p) { ::munmap(p, size); }};
}

/// A file without a name and with all its pages: what is missing is told here and not by a signal later. What the node
/// does not have at all is not even tried: the kernel would look for it among other people's processes.
Descriptor allocated(std::size_t size) {
  const auto pages = ::sysconf(_SC_PHYS_PAGES), page = ::sysconf(_SC_PAGESIZE);
  if (pages > 0 && page > 0 && size / static_cast<std::size_t>(page) >= static_cast<std::size_t>(pages) / 2)
    return Descriptor(-1);
  const int number = ::memfd_create("slr", MFD_CLOEXEC);
  if (number >= 0 && ::posix_fallocate(number, 0, static_cast<::off_t>(size)) != 0) {
    ::close(number);
    return Descriptor(-1);
  }
  return Descriptor(number);
}

std::shared_ptr<std::byte> mapped_at(const Address& address) {
  const auto path = "/proc/" + std::to_string(address.process) + "/fd/" + std::to_string(address.descriptor);
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct ::stat status {};
  if (!file.is_open() || ::fstat(file.number(), &status) != 0 || status.st_dev != address.device ||
      status.st_ino != address.inode || static_cast<std::size_t>(status.st_size) != address.size)
    return nullptr;
  return mapped(file, address.size, PROT_READ);
}

} // namespace

std::shared_ptr<const std::byte> share_on_node(const Communicator& node, std::size_t size,
                                               const std::function<void(std::span<std::byte>)>& fill) {
  const Descriptor file = node.is_root() && size > 0 ? allocated(size) : Descriptor(-1);
  std::shared_ptr<std::byte> memory;
  Address address;
  on_root(node, [&] {
    if (!file.is_open()) return;
    memory = mapped(file, size, PROT_READ | PROT_WRITE);
    struct ::stat status {};
    if (!memory || ::fstat(file.number(), &status) != 0) return;
    fill({memory.get(), size});
    ::mprotect(memory.get(), size, PROT_READ);
    address = {true, ::getpid(), file.number(), status.st_dev, status.st_ino, size};
  });
  address = node.broadcast_value(address);
  if (!address.is_there) return nullptr;
  if (!node.is_root()) memory = mapped_at(address);
  const bool is_everywhere = node.allreduce_value(memory ? 1 : 0, Reduction::min) == 1; // and the file may be closed
  return is_everywhere ? memory : nullptr;
}

} // namespace slr
