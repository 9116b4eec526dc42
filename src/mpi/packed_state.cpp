#include "slr/mpi/packed_state.hpp"

#include "slr/base/hash.hpp"

#include <cstring>

namespace slr {
namespace {

constexpr std::size_t hash_length = 64;

void append(std::string& to, std::uint64_t number) {
  to.append(reinterpret_cast<const char*>(&number), sizeof(number));
}

[[noreturn]] void refuse() {
  throw Error(ExitCode::bad_data, "the saved state of a layer is damaged");
}

/// Takes bytes from the front.
class Reader {
public:
  explicit Reader(std::string_view rest) : rest_(rest) {}
  [[nodiscard]] bool is_over() const { return rest_.empty(); }
  std::string_view take(std::uint64_t count) {
    if (count > rest_.size()) refuse();
    const auto front = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return front;
  }
  std::uint64_t number() {
    std::uint64_t value = 0;
    std::memcpy(&value, take(sizeof(value)).data(), sizeof(value));
    return value;
  }

private:
  std::string_view rest_;
};

} // namespace

void PackedState::put(const std::string& name, Values values) {
  append(packed_, name.size());
  packed_ += name;
  append(packed_, values.index());
  std::visit(
      [&](const auto& list) {
        append(packed_, list.size_bytes());
        if (!list.empty()) packed_.append(reinterpret_cast<const char*>(list.data()), list.size_bytes());
      },
      values);
}

void PackedState::put_part(const std::string& name, Values) {
  throw Error(ExitCode::bug, "internal error: " + name + " is spread over ranks and cannot be packed by one");
}

std::string PackedState::bytes() const {
  return sha256(packed_) + packed_;
}

UnpackedState::UnpackedState(const std::string& bytes) {
  if (bytes.size() < hash_length || sha256(bytes.substr(hash_length)) != bytes.substr(0, hash_length)) refuse();
  Reader reader(std::string_view(bytes).substr(hash_length));
  while (!reader.is_over()) {
    const std::string name(reader.take(reader.number()));
    auto& entry = values_[name];
    entry.type = reader.number();
    entry.bytes = reader.take(reader.number());
  }
}

void UnpackedState::read(const std::string& name, Target values) {
  const auto found = values_.find(name);
  if (found == values_.end() || found->second.type != values.index()) refuse();
  const auto& bytes = found->second.bytes;
  std::visit(
      [&](auto* list) {
        using T = typename std::decay_t<decltype(*list)>::value_type;
        if (bytes.size() % sizeof(T) != 0) refuse();
        list->resize(bytes.size() / sizeof(T));
        if (!bytes.empty()) std::memcpy(list->data(), bytes.data(), bytes.size());
      },
      values);
}

void UnpackedState::read_part(const std::string& name, Target) {
  throw Error(ExitCode::bug, "internal error: " + name + " was never packed by parts");
}

} // namespace slr
