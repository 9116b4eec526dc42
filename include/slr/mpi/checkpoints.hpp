#pragma once
/// \file
/// Where a long computation may be stopped, and what it needs to go on with the same bits.
#include "slr/mpi/communicator.hpp"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace slr {

/// Takes the state of a computation, array by array. Every rank calls the same members in the same order.
class StateWriter {
public:
  using Values = std::variant<std::span<const std::int64_t>, std::span<const double>, std::span<const float>,
                              std::span<const std::uint8_t>>;
  virtual ~StateWriter() = default;
  /// Values that are the same on every rank; it is the root's that are kept. Collective.
  virtual void put(const std::string& name, Values values) = 0;
  /// This rank's values of a list that goes through all ranks in their order. Collective.
  virtual void put_part(const std::string& name, Values values) = 0;

  void put_integers(const std::string& name, const std::vector<std::int64_t>& values) { put(name, std::span(values)); }
  void put_doubles(const std::string& name, const std::vector<double>& values) { put(name, std::span(values)); }
  void put_text(const std::string& name, const std::string& text) {
    put(name, std::span(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()));
  }
};

/// Gives back what a StateWriter took, on any number of ranks. Every rank calls the same members in the same order.
class StateReader {
public:
  using Target =
      std::variant<std::vector<std::int64_t>*, std::vector<double>*, std::vector<float>*, std::vector<std::uint8_t>*>;
  virtual ~StateReader() = default;
  [[nodiscard]] virtual bool has(const std::string& name) const = 0; ///< Local, the same on every rank.

  /// What was `put`. Collective. \throws Error{bad_data} if it is not there, Error{io}
  template <class T>
  [[nodiscard]] std::vector<T> get(const std::string& name) {
    std::vector<T> values;
    read(name, &values);
    return values;
  }
  /// This rank's `count` values of what was `put_part`; the ranks' counts must add up. Collective. \throws as get
  template <class T>
  [[nodiscard]] std::vector<T> part(const std::string& name, std::size_t count) {
    std::vector<T> values(count);
    read_part(name, &values);
    return values;
  }
  [[nodiscard]] std::string text(const std::string& name) {
    const auto bytes = get<std::uint8_t>(name);
    return {bytes.begin(), bytes.end()};
  }

protected:
  virtual void read(const std::string& name, Target values) = 0;
  virtual void read_part(const std::string& name, Target values) = 0; ///< fills a list that has its size
};

/// The parts of a job's state that are alive, where they are saved, and when. Computations say how they are saved
/// (`keep`), ask for what an earlier start of the same job saved (`take`), and come by an agreed place now and then
/// (`poll`). Whoever derives says when it is time, and where states go; of itself it never saves or stops anything.
///
/// A part that is alive when a checkpoint is made has to be taken by the computation that goes on from it, before that
/// comes to its first `poll`: until everything is taken the earlier checkpoint is the valid one, and none is written.
class Checkpoints {
public:
  enum class Wish { go_on, save, stop_by_time, stop_by_signal, stop_by_others };
  using Save = std::function<void(StateWriter&)>;

  explicit Checkpoints(const Communicator& comm) : comm_(comm) {}
  virtual ~Checkpoints() = default;
  Checkpoints(const Checkpoints&) = delete;
  Checkpoints& operator=(const Checkpoints&) = delete;

  /// Keeps a part as long as it lives.
  class [[nodiscard]] Kept {
  public:
    Kept() = default;
    Kept(Checkpoints& owner, std::string name) : owner_(&owner), name_(std::move(name)) {}
    Kept(Kept&& other) noexcept : owner_(std::exchange(other.owner_, nullptr)), name_(std::move(other.name_)) {}
    Kept& operator=(Kept&& other) noexcept;
    ~Kept() { release(); }

  private:
    void release();
    Checkpoints* owner_ = nullptr;
    std::string name_;
  };
  /// A unit of work: the names of its parts begin with its own. At its end what nobody took of it is dropped.
  class [[nodiscard]] Unit {
  public:
    Unit(Checkpoints& owner, const std::string& name);
    Unit(const Unit&) = delete;
    Unit& operator=(const Unit&) = delete;
    ~Unit();

  private:
    Checkpoints& owner_;
    std::string outer_;
  };

  /// `save` is called, by all ranks, when a checkpoint is made while the result lives. Local, the same on every rank.
  /// \pre no part of this name is alive
  Kept keep(const std::string& name, Save save);
  /// What was saved under the name in this unit, once; null if nothing was. Collective.
  [[nodiscard]] std::unique_ptr<StateReader> take(const std::string& name);

  /// A place at which the job may be saved or stopped: what ranks wish is agreed on. Collective, one allreduce of an
  /// integer, and if so wished a checkpoint. \throws Error{stopped}; Error{io} if it is to stop and cannot be saved.
  void poll();
  /// What this rank wishes. Local.
  [[nodiscard]] virtual Wish wish() const { return Wish::go_on; }
  /// The sentence for the user. Local.
  [[nodiscard]] virtual std::string stop_sentence(Wish /*reason*/) const { return "stopped"; }
  /// For work on one rank that does not communicate: ends it when it is time to stop. What comes behind has to agree on
  /// errors. Local. \throws Error{stopped}
  void stop_if_asked() const;
  /// Runs a collective action that calls `stop_if_asked`; where that ends it, a checkpoint is made first.
  template <class Action>
  auto guard(Action&& action) {
    try {
      return std::forward<Action>(action)();
    } catch (const Error& error) {
      if (error.code() == ExitCode::stopped) save_before_stop();
      throw;
    }
  }

protected:
  [[nodiscard]] const Communicator& comm() const { return comm_; }
  /// Saves all parts, by name. Collective. \throws Error{io}, the same on every rank
  virtual void write(const std::map<std::string, Save>& /*parts*/) {}
  /// A failure to save that does not end the job.
  virtual void tell_failure(const Error& /*error*/) {}
  /// Reads a part that was offered. Collective.
  [[nodiscard]] virtual std::unique_ptr<StateReader> open(const std::string& /*name*/) { return nullptr; }
  /// The names of parts that can be taken. Local, the same on every rank.
  void offer(std::vector<std::string> names);

private:
  void save_before_stop();
  const Communicator& comm_;
  std::string prefix_;
  std::map<std::string, Save> parts_;
  std::vector<std::string> offered_; ///< saved by an earlier start and not taken yet
};

/// The same for computations that may run without checkpoints.
inline void poll(Checkpoints* checkpoints) {
  if (checkpoints) checkpoints->poll();
}
[[nodiscard]] inline std::unique_ptr<StateReader> take(Checkpoints* checkpoints, const std::string& name) {
  return checkpoints ? checkpoints->take(name) : nullptr;
}
inline Checkpoints::Kept keep(Checkpoints* checkpoints, const std::string& name, Checkpoints::Save save) {
  return checkpoints ? checkpoints->keep(name, std::move(save)) : Checkpoints::Kept();
}

} // namespace slr
