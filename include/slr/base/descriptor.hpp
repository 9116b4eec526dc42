#pragma once
/// \file
/// An owned file descriptor.
#include <unistd.h>

namespace slr {

/// Closes the descriptor at the end of its life; a negative number is none. Local.
class Descriptor {
public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (is_open()) ::close(number_);
  }
  [[nodiscard]] int number() const { return number_; }
  [[nodiscard]] bool is_open() const { return number_ >= 0; }

private:
  int number_;
};

} // namespace slr
