#include "hdf5_handle.hpp"

#include "slr/base/error.hpp"

#include <mutex>

namespace slr::store {
namespace {

struct Reason {
  std::string text;
  bool is_system = false; ///< the operating system refused, not the content
};

herr_t take_innermost(unsigned position, const H5E_error2_t* error, void* data) {
  if (position != 0) return 0;
  auto& reason = *static_cast<Reason*>(data);
  // Called from C: a failing allocation must not travel through it.
  try {
    if (error->desc != nullptr) reason.text = error->desc;
  } catch (...) {
    return -1;
  }
  reason.is_system = error->maj_num == H5E_IO || error->maj_num == H5E_VFL;
  // Running over the end of the file is a property of the file.
  if (error->min_num == H5E_OVERFLOW || error->min_num == H5E_TRUNCATED) reason.is_system = false;
  return 0;
}

/// Of "file write failed: time = ..., error message = 'No space left on device', buf = ..." what a user needs.
void keep_system_message(std::string& text) {
  static const std::string mark = "error message = '";
  const auto begin = text.find(mark);
  if (begin == std::string::npos) return;
  const auto end = text.find('\'', begin + mark.size());
  text = text.substr(begin + mark.size(), end == std::string::npos ? end : end - begin - mark.size());
}

Reason last_reason() {
  Reason reason;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_innermost, &reason);
  H5Eclear2(H5E_DEFAULT);
  keep_system_message(reason.text);
  if (reason.text.empty()) reason.text = "HDF5 gives no reason";
  return reason;
}

} // namespace

void silence_hdf5() {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  // A link must not lead into another file, not even by way of others. HDF5 fails to follow a kind that it does not
  // know.
  static std::once_flag once;
  std::call_once(once, [] { H5Lunregister(H5L_TYPE_EXTERNAL); });
}

void throw_hdf5(const Doing& doing, const std::filesystem::path& file) {
  const Reason reason = last_reason();
  const std::string sentence = doing.what + " of " + file.string() + " failed (" + reason.text + ")";
  if (doing.is_writing) throw Error(ExitCode::io, sentence + ": check the free space and the rights of its folder");
  if (reason.is_system) throw Error(ExitCode::io, sentence + ": check that the file can be read");
  throw Error(ExitCode::bad_data, sentence + ": the file is damaged or of another kind, write it again");
}

} // namespace slr::store
