#include "slr/run/job_checkpoints.hpp"

#include "slr/mpi/agree.hpp"
#include "slr/run/versions.hpp"

#include <algorithm>
#include <csignal>

namespace slr::run {
namespace {

namespace fs = std::filesystem;

constexpr double most_share = 1.0 / 60; // of the time, for writing checkpoints
constexpr const char* own_part = "job";

const auto program_start = std::chrono::steady_clock::now();
volatile std::sig_atomic_t is_stop_asked = 0;

double seconds_between(std::chrono::steady_clock::time_point from, std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

} // namespace

void heed_stop_signals() {
  struct sigaction action {};
  action.sa_handler = [](int) { is_stop_asked = 1; };
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGUSR1, SIGTERM}) ::sigaction(signal, &action, nullptr);
}

JobCheckpoints::JobCheckpoints(const Communicator& comm, const Configuration& config, const std::string& model_sha256,
                               const OutputFiles& files, std::optional<double> max_hours, bool may_resume,
                               Progress& progress)
    : Checkpoints(comm), paths_{files.checkpoint(), files.previous_checkpoint()},
      header_{store::CheckpointHeader::current_schema, program_version(), resolved_json(config).dump(), model_sha256,
              comm.size()},
      folder_(config.output.given), every_seconds_(config.checkpoint.every_seconds), max_hours_(max_hours),
      progress_(progress), next_(Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                                    std::chrono::duration<double>(config.checkpoint.every_seconds))),
      last_look_(Clock::now()) {
  if (may_resume) open_newest();
  if (!file_) return;
  check_header(config);
  auto names = file_->parts();
  if (std::erase(names, own_part) > 0) {
    const auto own = file_->part(own_part);
    starts_ = own->get<std::int64_t>("starts").at(0) + 1;
    earlier_seconds_ = own->get<double>("seconds").at(0);
  }
  offer(std::move(names));
  progress_.note("going on from the checkpoint in " + folder_ +
                 (file_->header().mpi_ranks == comm.size()
                      ? ""
                      : ", which " + std::to_string(file_->header().mpi_ranks) + " ranks wrote"));
}

void JobCheckpoints::open_newest() {
  for (const auto& path : {paths_.current, paths_.previous}) {
    bool is_there = false;
    on_root(comm(), [&] { is_there = fs::exists(path); });
    if (!comm().broadcast_value(is_there)) continue;
    try {
      file_.emplace(comm(), path);
      return;
    } catch (const Error& error) {
      if (error.code() != ExitCode::bad_data) throw;
      progress_.warning(std::string(error.what()) + "; it is removed and the one before it used, if there is one");
    }
    on_root(comm(), [&] { fs::remove(path); }); // or it would become the one before the next
  }
}

void JobCheckpoints::check_header(const Configuration& config) const {
  const auto& there = file_->header();
  const std::string again = "; use --fresh to start anew";
  const auto refuse = [&](const std::string& what) {
    throw Error(ExitCode::configuration, "the checkpoint in " + folder_ + " is of another " + what + again);
  };
  if (there.schema != header_.schema)
    refuse("schema: " + std::to_string(there.schema) + " there, " + std::to_string(header_.schema) + " here");
  if (there.program != header_.program)
    refuse("version of the program: " + there.program + " there, " + header_.program + " here");
  if (there.model_sha256 != header_.model_sha256) refuse("version of the model file");
  const auto json = nlohmann::json::parse(there.configuration, nullptr, false);
  if (const auto difference = first_difference(json, config)) refuse("configuration: it " + difference->sentence());
}

bool JobCheckpoints::is_time_to_stop(Clock::time_point now) const {
  if (!max_hours_) return false;
  constexpr double reserve_seconds = 1;
  const double needed = 2 * (longest_gap_seconds_ + last_write_seconds_) + reserve_seconds;
  return seconds_between(program_start, now) + needed >= *max_hours_ * 3600;
}

Checkpoints::Wish JobCheckpoints::wish() const {
  const auto now = Clock::now();
  longest_gap_seconds_ = std::max(longest_gap_seconds_, seconds_between(last_look_, now));
  last_look_ = now;
  if (is_stop_asked) return Wish::stop_by_signal;
  if (is_time_to_stop(now)) return Wish::stop_by_time;
  return comm().is_root() && now >= next_ ? Wish::save : Wish::go_on;
}

std::string JobCheckpoints::stop_sentence(Wish reason) const {
  return std::string(reason == Wish::stop_by_time ? "stopped before --max-hours are over" : "stopped on a signal") +
         "; run the same command again to go on from the checkpoint in " + folder_;
}

void JobCheckpoints::write(const std::map<std::string, Save>& parts) {
  const auto start = Clock::now();
  store::CheckpointWriter writer(comm(), paths_, header_);
  writer.begin_part(own_part);
  writer.put_integers("starts", {starts_});
  writer.put_doubles("seconds", {earlier_seconds_ + seconds_between(program_start, start)});
  for (const auto& [name, save] : parts) {
    writer.begin_part(name);
    save(writer);
  }
  writer.commit();
  const auto now = Clock::now();
  last_write_seconds_ = seconds_between(start, now);
  write_seconds_ += last_write_seconds_;
  ++count_;
  const double pause = std::max(every_seconds_, last_write_seconds_ / most_share);
  next_ = now + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(pause));
  last_look_ = now;
}

void JobCheckpoints::tell_failure(const Error& error) {
  progress_.warning(std::string("no checkpoint: ") + error.what());
  next_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(every_seconds_));
}

std::unique_ptr<StateReader> JobCheckpoints::open(const std::string& name) {
  return file_->part(name);
}

void JobCheckpoints::finish() {
  on_root(comm(), [&] {
    for (const auto& path : {paths_.current, paths_.previous}) fs::remove(path);
  });
}

nlohmann::ordered_json JobCheckpoints::json() const {
  return {{"checkpoints", count_},
          {"checkpoint_seconds", write_seconds_},
          {"starts", starts_},
          {"earlier_seconds", earlier_seconds_}};
}

} // namespace slr::run
