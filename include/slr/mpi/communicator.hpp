#pragma once
/// \file
/// An owning MPI communicator whose operations speak spans and 64-bit counts, and fail with a sentence.
#include "slr/base/error.hpp"

#include <cstdint>
#include <cstring>
#include <mpi.h>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace slr {

/// The MPI type of an arithmetic C++ type.
template <class T>
[[nodiscard]] MPI_Datatype mpi_type() {
  using U = std::remove_cv_t<T>;
  if constexpr (std::is_same_v<U, double>)
    return MPI_DOUBLE;
  else if constexpr (std::is_same_v<U, float>)
    return MPI_FLOAT;
  else if constexpr (std::is_same_v<U, char> || std::is_same_v<U, std::byte>)
    return MPI_BYTE;
  else if constexpr (std::is_same_v<U, std::uint8_t>)
    return MPI_UINT8_T;
  else if constexpr (std::is_same_v<U, std::int32_t>)
    return MPI_INT32_T;
  else if constexpr (std::is_same_v<U, std::int64_t>)
    return MPI_INT64_T;
  else if constexpr (std::is_same_v<U, std::uint64_t>)
    return MPI_UINT64_T;
  else
    static_assert(sizeof(U) == 0, "no MPI type for this C++ type");
}

enum class Reduction { sum, min, max };

/// A communicator of its own (duplicated or split), freed with the object unless MPI is already finalized. Movable, not
/// copyable. Every operation is collective over it unless it says Local. Messages of more than 2^31-1 elements are cut
/// into pieces in here, so counts are never an issue above.
class Communicator {
public:
  /// Duplicates `comm` and sets its error handler to return codes. Collective over `comm`.
  explicit Communicator(MPI_Comm comm);
  ~Communicator();
  Communicator(Communicator&& other) noexcept;
  Communicator& operator=(Communicator&& other) noexcept;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  [[nodiscard]] int rank() const { return rank_; }          ///< Local.
  [[nodiscard]] int size() const { return size_; }          ///< Local.
  [[nodiscard]] bool is_root() const { return rank_ == 0; } ///< Local.
  [[nodiscard]] MPI_Comm handle() const { return comm_; }   ///< Local.

  /// Ranks of equal colour together, ordered by key; a negative colour gets a communicator of itself alone.
  [[nodiscard]] Communicator split(int color, int key) const;
  /// The ranks that share memory with this one.
  [[nodiscard]] Communicator split_by_node() const;

  void barrier() const;
  /// The same for ranks that may wait long for one that works alone: they sleep between two looks, so that its core and
  /// its caches are its own.
  void idle_barrier() const;

  template <class T>
  void broadcast(std::span<T> values, int root = 0) const {
    broadcast_bytes(values.data(), values.size_bytes(), root);
  }
  /// The root's text on every rank.
  [[nodiscard]] std::string broadcast_text(const std::string& text, int root = 0) const;
  template <class T>
  [[nodiscard]] T broadcast_value(T value, int root = 0) const {
    static_assert(std::is_trivially_copyable_v<T>);
    broadcast_bytes(&value, sizeof(T), root);
    return value;
  }

  /// In place, element by element. With `Reduction::sum` on floating numbers the result may depend on the number of
  /// ranks unless every partial sum is exact: see slr/mpi/exact_sum.hpp.
  template <class T>
  void allreduce(std::span<T> values, Reduction op = Reduction::sum) const {
    allreduce_raw(values.data(), values.size(), mpi_type<T>(), sizeof(T), op);
  }
  template <class T>
  [[nodiscard]] T allreduce_value(T value, Reduction op = Reduction::sum) const {
    allreduce(std::span<T>(&value, 1), op);
    return value;
  }
  /// The sum on the root; the other ranks' values are unspecified afterwards.
  template <class T>
  void reduce(std::span<T> values, int root, Reduction op = Reduction::sum) const {
    reduce_raw(values.data(), values.size(), mpi_type<T>(), sizeof(T), op, root);
  }

  /// Sums `values`, which is the concatenation of counts[0], counts[1], ... elements, and leaves the piece of rank i on
  /// rank i. `mine` has counts[rank()] elements. The counts are the same on every rank; their sum is below 2^31.
  template <class T>
  void reduce_scatter(std::span<const T> values, std::span<T> mine, std::span<const int> counts) const {
    reduce_scatter_raw(values.data(), mine.data(), counts, mpi_type<T>());
  }

  /// The pieces of all ranks, in rank order, on every rank. counts[i] elements come from rank i.
  template <class T>
  void allgather(std::span<const T> mine, std::span<T> all, std::span<const int> counts) const {
    allgather_raw(mine.data(), mine.size(), all.data(), counts, mpi_type<T>());
  }
  /// One value per rank, on every rank.
  template <class T>
  [[nodiscard]] std::vector<T> allgather_value(T value) const {
    std::vector<T> all(static_cast<std::size_t>(size_));
    const std::vector<int> ones(static_cast<std::size_t>(size_), 1);
    allgather(std::span<const T>(&value, 1), std::span<T>(all), ones);
    return all;
  }
  /// The pieces of all ranks, in rank order, on the root (empty elsewhere). Lengths may differ.
  template <class T>
  [[nodiscard]] std::vector<T> gather(std::span<const T> mine, int root = 0) const {
    static_assert(std::is_trivially_copyable_v<T>);
    const auto bytes = gather_bytes(std::as_bytes(mine), root);
    std::vector<T> all(bytes.size() / sizeof(T));
    if (!bytes.empty()) std::memcpy(static_cast<void*>(all.data()), bytes.data(), bytes.size());
    return all;
  }

  /// Blocking point to point. Local pairs.
  template <class T>
  void send(std::span<const T> values, int destination, int tag) const {
    send_bytes(std::as_bytes(values), destination, tag);
  }
  template <class T>
  void receive(std::span<T> values, int source, int tag) const {
    receive_bytes(std::as_writable_bytes(values), source, tag);
  }

private:
  struct Adopt {};
  Communicator(MPI_Comm comm, Adopt);
  void release() noexcept;
  void broadcast_bytes(void* data, std::size_t bytes, int root) const;
  void allreduce_raw(void* data, std::size_t count, MPI_Datatype type, std::size_t size, Reduction op) const;
  void reduce_raw(void* data, std::size_t count, MPI_Datatype type, std::size_t size, Reduction op, int root) const;
  void reduce_scatter_raw(const void* all, void* mine, std::span<const int> counts, MPI_Datatype type) const;
  void allgather_raw(const void* mine, std::size_t count, void* all, std::span<const int> counts,
                     MPI_Datatype type) const;
  [[nodiscard]] std::vector<std::byte> gather_bytes(std::span<const std::byte> mine, int root) const;
  void send_bytes(std::span<const std::byte> bytes, int destination, int tag) const;
  void receive_bytes(std::span<std::byte> bytes, int source, int tag) const;

  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  int size_ = 1;
};

/// Throws Error{io} naming the operation if an MPI call did not return MPI_SUCCESS. Local.
void check_mpi(int code, const char* operation);

} // namespace slr
