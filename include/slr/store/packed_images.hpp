#pragma once
/// \file
/// Packed images: `/images` uint8 N x C x H x W and `/labels` int32 N (if the source has labels), in chunks with a
/// Fletcher32 checksum, attribute `source` (text) on the root. Read through `open_images`.
#include "slr/mpi/checkpoints.hpp"
#include "slr/store/image_source.hpp"

#include <functional>

namespace slr::store {

struct PackOptions {
  OnUnreadable on_unreadable = OnUnreadable::fail;
  /// Called on the root after every round with the images done and their total.
  std::function<void(std::int64_t done, std::int64_t total)> progress;
  /// Polled after every round, if given. What a checkpoint finds packed is put aside in files of the folder `parts`,
  /// which a later start, of whatever number of ranks, joins with the rest; behind the end the folder is gone.
  Checkpoints* checkpoints = nullptr;
  std::filesystem::path parts;
};

struct PackReport {
  std::int64_t count = 0; ///< images written
  std::int64_t channels = 0, height = 0, width = 0;
  bool has_labels = false;
  std::vector<UnreadableImage> skipped; ///< in the order of their numbers in the source
};

/// Packs the images of `source` into the file `output`, in the order of the source. Collective: in every round each
/// rank decodes the next piece of its own and the root writes the pieces in order. The bytes of the file do not depend
/// on the number of ranks, nor on where the work was stopped. The report is the same on every rank. Memory per rank:
/// two pieces of about 8 MB (at least one image each). \throws on every rank Error{bad_data} naming the unreadable
/// image (with OnUnreadable::fail, the first one in the round), or if no image is left; Error{io}, Error{stopped}. The
/// output is then as it was before.
PackReport pack_images(const Communicator& comm, const ImageSource& source, const std::filesystem::path& output,
                       const PackOptions& options = {});

} // namespace slr::store
