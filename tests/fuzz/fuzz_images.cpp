// Any bytes as images. The first byte says as what: i(dx or CIFAR-10 records), l(abels of three idx images),
// p(icture: JPEG or PNG), t(ext: the list of a folder). The second byte resizes and crops.
#include "slr/store/image_source.hpp"
#include "target.hpp"

#include <algorithm>
#include <fcntl.h>

namespace {

using slr::fuzz::MemoryFile;

constexpr std::string_view three_images("\0\0\x08\x03\0\0\0\3\0\0\0\1\0\0\0\2abcdef", 22);
constexpr std::int64_t most = 20;

/// A PNG of one pixel.
std::string_view grey_picture() {
  static constexpr char bytes[] =
      "\211\120\116\107\015\012\032\012\000\000\000\015\111\110\104\122\000\000\000\001\000\000\000\001"
      "\010\000\000\000\000\072\176\233\125\000\000\000\012\111\104\101\124\170\234\143\250\007\000\000"
      "\201\000\200\323\224\123\112\000\000\000\000\111\105\116\104\256\102\140\202";
  return {bytes, sizeof bytes - 1};
}

using Path = std::optional<std::filesystem::path>;

void read(const std::filesystem::path& images_path, const Path& labels, const Path& list, unsigned transform) {
  slr::store::ImageSource source;
  source.images = images_path;
  source.labels = labels;
  source.list = list;
  source.resize = static_cast<int>(transform % 16);
  source.crop = static_cast<int>(transform / 16 % 16);
  slr::fuzz::answers([&] {
    const auto images = open_images(source);
    static_cast<void>(images->read(0, std::min(most, images->size())));
    static_cast<void>(images->read(0, std::min(most, images->size()), slr::store::OnUnreadable::skip));
  });
}

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const unsigned transform = data[1];
  const MemoryFile file(slr::fuzz::text_of(data + 2, size - 2));
  if (data[0] == 'i') {
    read(file.path(), {}, {}, transform);
  } else if (data[0] == 'l') {
    const MemoryFile images(three_images);
    read(images.path(), file.path(), {}, transform);
  } else if (data[0] == 'p') {
    const MemoryFile list(file.name() + "\n");
    read(MemoryFile::folder(), {}, list.path(), transform);
  } else if (data[0] == 't') {
    // The lists of the corpus name descriptor 200, which is a picture.
    static const MemoryFile picture(grey_picture());
    static const int descriptor = ::fcntl(picture.descriptor(), F_DUPFD, 200);
    slr::fuzz::expect(descriptor >= 200, "no descriptor for the picture");
    read(MemoryFile::folder(), {}, file.path(), transform);
  }
  return 0;
}
