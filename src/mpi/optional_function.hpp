#pragma once
// Functions of libraries that are linked in some installations and not in others. Private to the module.
#include <dlfcn.h>

namespace slr {

/// The function, null if no library of this process has it.
template <class Function>
[[nodiscard]] Function optional_function(const char* name) {
  return reinterpret_cast<Function>(::dlsym(RTLD_DEFAULT, name)); // POSIX promises this conversion
}

} // namespace slr
