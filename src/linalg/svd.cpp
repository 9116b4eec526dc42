#include "slr/linalg/svd.hpp"

#include "slr/dist/norms.hpp"
#include "slr/dist/redistribute.hpp"
#include "slr/mpi/agree.hpp"
#include "svd_core.hpp"
#include "svd_cost.hpp"
#include "transpose.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace slr {

using detail::Factors;
using detail::Panel;
using detail::Request;

std::string_view engine_name(Engine engine) {
  switch (engine) {
  case Engine::automatic:
    return "auto";
  case Engine::pdgesvd:
    return "pdgesvd";
  case Engine::gram:
    return "gram";
  case Engine::subspace:
    return "subspace";
  }
  return "?";
}

Engine parse_engine(std::string_view name) {
  for (const Engine engine : {Engine::automatic, Engine::pdgesvd, Engine::gram, Engine::subspace})
    if (engine_name(engine) == name) return engine;
  throw Error(ExitCode::configuration,
              "'" + std::string(name) + "' is not a singular value engine: use auto, pdgesvd, gram or subspace");
}

template <class T>
struct Svd<T>::State {
  State(const Communicator& world, SvdOptions settings)
      : comm(world.handle()), self(comm.split(comm.is_root() ? 0 : -1, 0)), row_grid(ProcessGrid::row(comm)),
        options(settings) {}

  Communicator comm;
  Communicator self; ///< rank 0 alone
  Grid row_grid;
  SvdOptions options;
  EngineCounts counts;
  SvdMemory memory;

  [[nodiscard]] LowRank<T> decompose(const DistMatrix<T>& z, Request request);
  [[nodiscard]] LowRank<T> on_one_rank(const DistMatrix<T>& z, const Request& request);
  [[nodiscard]] LowRank<T> on_all_ranks(const DistMatrix<T>& z, const Request& request);
  [[nodiscard]] LowRank<T> without_vt(std::int64_t rank) const;
  [[nodiscard]] DistMatrix<T> zero_vt(const DistMatrix<T>& z, std::int64_t rank) const {
    return {row_grid, rank, z.cols(), std::max<std::int64_t>(1, rank), z.distribution().cols.block()};
  }
  [[nodiscard]] DistMatrix<T> vt_of(const DistMatrix<T>& z, std::int64_t rank, std::vector<T> local) const {
    return DistMatrix<T>::from_local(row_grid, rank, z.cols(), std::max<std::int64_t>(1, rank),
                                     z.distribution().cols.block(), std::move(local));
  }
};

namespace {

/// What a chain of engines ended in; equal on every rank of the panel's communicator.
struct Outcome {
  Engine engine = Engine::gram;
  std::int64_t fallbacks = 0;
  std::int64_t rank = 0;
  double error_bound = 0;
};

void count(EngineCounts& counts, const Outcome& outcome) {
  counts.fallbacks += outcome.fallbacks;
  ++(outcome.engine == Engine::pdgesvd ? counts.pdgesvd
     : outcome.engine == Engine::gram  ? counts.gram
                                       : counts.subspace);
}

/// ||Z||_F of a panel, on every rank.
template <class T>
double norm_of(const Panel<T>& panel) {
  double sum = 0;
  for (std::int64_t i = 0; i < panel.rows * panel.local_cols; ++i) sum += double(panel.data[i]) * double(panel.data[i]);
  return std::sqrt(panel.comm->allreduce_value(sum));
}

bool gram_fits_root(const Communicator& comm, std::int64_t rows) {
  return comm.size() == 1 || rows <= detail::root_gram_rows;
}

/// Where the chain begins, and for subspace through what.
struct Choice {
  Engine engine = Engine::gram;
  bool through_gram = false;
  bool is_rough = false; ///< the Gram matrix in single precision
  double affordable = 0;
};

/// Is a Gram matrix formed in single precision good enough to iterate with? By the spectrum seen last: its error must
/// be far below the threshold. Small problems gain nothing, and short sums do not average their rounding. Local.
template <class T>
bool rough_gram_suffices(const Panel<T>& panel, const Request& request, const SvdMemory& memory) {
  constexpr double margin = 20;
  constexpr double least_tolerance = 5e-7;
  constexpr std::int64_t least_cols = 1024;
  const double flops = double(panel.rows) * double(panel.rows) * double(panel.cols);
  const double norm_square = std::accumulate(memory.values.begin(), memory.values.end(), 0.0);
  return request.is_threshold && panel.cols >= least_cols && flops >= request.options.rough_gram_flops &&
         request.options.subspace_tolerance >= least_tolerance && detail::suits_floats(norm_square) &&
         request.tau * request.tau >= margin * detail::rough_gram_error(panel.cols) * norm_square;
}

/// Calls for which double precision is used after single precision was not enough.
constexpr std::int64_t rough_pause = 8;

/// The root's choice from request, shape and memory. Local.
template <class T>
Choice choose(const Panel<T>& panel, const Request& request, SvdMemory& memory, double norm_z) {
  Choice choice;
  const auto& options = request.options;
  if (options.engine == Engine::pdgesvd) return {Engine::pdgesvd};
  if (options.engine == Engine::automatic && memory.gram_limit > 0 && request.is_threshold &&
      request.tau <= memory.gram_limit * norm_z)
    return {Engine::pdgesvd};
  if (options.engine == Engine::gram || memory.values.empty()) return choice;
  if (options.engine == Engine::automatic && memory.pause > 0) {
    --memory.pause;
    return choice;
  }
  const auto fore = detail::forecast(memory, panel.rows, panel.cols, options.subspace_tolerance,
                                     gram_fits_root(*panel.comm, panel.rows));
  const detail::SvdShape shape{double(panel.rows), double(panel.cols), double(memory.numerical_rank), 0};
  const double alternative = detail::gram_cost(shape);
  choice.through_gram = fore.form.through_gram;
  if (memory.rough_pause > 0)
    --memory.rough_pause;
  else
    choice.is_rough = choice.through_gram && rough_gram_suffices(panel, request, memory);
  choice.affordable = options.engine == Engine::subspace ? 10 * alternative + 10 * fore.total : alternative;
  if (options.engine == Engine::subspace || fore.total < alternative) choice.engine = Engine::subspace;
  return choice;
}

/// A restored history comes from a file: its parts must fit each other.
bool is_consistent(const SvdMemory& memory, std::int64_t m) {
  const auto count = static_cast<std::int64_t>(memory.values.size());
  const auto finite = [](double value) { return std::isfinite(value); };
  return count <= m && static_cast<std::int64_t>(memory.vectors.size()) == m * count && memory.numerical_rank >= 0 &&
         memory.numerical_rank <= count && std::all_of(memory.values.begin(), memory.values.end(), finite) &&
         std::all_of(memory.vectors.begin(), memory.vectors.end(), finite);
}

/// Keeps the engine's vectors for the next call; on the root.
template <class T>
void remember(SvdMemory& memory, Factors<T>& factors) {
  memory.numerical_rank = static_cast<std::int64_t>(factors.sigma.size());
  memory.values = std::move(factors.values);
  memory.vectors = std::move(factors.vectors);
}

/// Runs engines until one accepts its result. Collective over the panel's communicator.
template <class T>
Factors<T> run_chain(const Panel<T>& panel, const Request& request, SvdMemory& memory, Outcome& outcome) {
  const Communicator& comm = *panel.comm;
  const double norm_z = comm.broadcast_value(memory.gram_limit) > 0 ? norm_of(panel) : 0;
  Choice choice;
  if (comm.is_root()) choice = choose(panel, request, memory, norm_z);
  choice = comm.broadcast_value(choice);

  Factors<T> factors;
  std::optional<detail::GramMatrix> gram;
  if (choice.engine == Engine::subspace) {
    const auto run = [&](bool is_rough) {
      if (choice.through_gram) gram = detail::form_gram(panel, is_rough);
      if (is_rough && !detail::suits_floats(gram->trace)) return;
      factors = detail::subspace_engine(panel, request, gram ? &*gram : nullptr, memory, choice.affordable);
    };
    run(choice.is_rough);
    if (choice.is_rough && !factors.accepted) {
      memory.rough_pause = rough_pause;
      run(false);
    }
    if (factors.accepted) {
      memory.failures = 0;
    } else {
      ++outcome.fallbacks;
      memory.drift = 0;
      memory.failures = std::min<std::int64_t>(memory.failures + 1, 6);
      memory.pause = (std::int64_t(1) << memory.failures) - 1;
      choice.engine = Engine::gram;
    }
  }
  if (choice.engine == Engine::gram) {
    if (!gram) gram = detail::form_gram(panel);
    factors = detail::gram_engine(panel, request, *gram);
    if (!factors.accepted) {
      ++outcome.fallbacks;
      if (request.is_threshold && gram->trace > 0)
        memory.gram_limit = std::max(memory.gram_limit, request.tau / std::sqrt(gram->trace));
      choice.engine = Engine::pdgesvd;
    }
  }
  gram.reset();
  if (choice.engine == Engine::pdgesvd) factors = detail::pdgesvd_engine(panel, request);
  outcome.engine = choice.engine;
  outcome.rank = static_cast<std::int64_t>(factors.sigma.size());
  outcome.error_bound = comm.broadcast_value(factors.error_bound);
  if (comm.is_root()) remember(memory, factors);
  return factors;
}

std::vector<double> shrunk(const Request& request, const std::vector<double>& sigma) {
  std::vector<double> result;
  for (const double s : sigma) result.push_back(request.is_threshold ? std::max(0.0, s - request.tau) : s);
  return result;
}

/// The transpose of a column-major rows x cols array.
template <class To, class From>
std::vector<To> transposed_array(const std::vector<From>& a, std::int64_t rows, std::int64_t cols) {
  std::vector<To> result(static_cast<std::size_t>(rows * cols));
  detail::transpose(rows, cols, a.data(), result.data());
  return result;
}

} // namespace

template <class T>
LowRank<T> Svd<T>::State::without_vt(std::int64_t rank) const {
  LowRank<T> result;
  result.numerical_rank = rank;
  result.engine = options.engine == Engine::automatic ? Engine::gram : options.engine;
  return result;
}

template <class T>
LowRank<T> Svd<T>::State::decompose(const DistMatrix<T>& z, Request request) {
  require(z.grid() && z.comm().size() == comm.size(), "a matrix of another communicator was to be decomposed");
  request.options = options;
  require_finite(z, "the matrix to be decomposed", request.context);
  const std::int64_t m = std::min(z.rows(), z.cols());
  const std::int64_t l = std::max(z.rows(), z.cols());
  if (z.rows() != memory.rows || z.cols() != memory.cols || !is_consistent(memory, m)) {
    memory = {};
    memory.rows = z.rows();
    memory.cols = z.cols();
  }
  if (m == 0 || (!request.is_threshold && request.target_rank == 0)) {
    auto result = without_vt(0);
    result.vt = zero_vt(z, 0);
    return result;
  }
  if (z.grid()->rows() > 1 || z.grid()->cols() < comm.size()) {
    DistMatrix<T> columns(row_grid, z.rows(), z.cols(), z.rows(), z.distribution().cols.block());
    redistribute(comm, z, columns);
    return decompose(columns, request);
  }
  const bool is_small = m <= options.one_rank_rows || double(m) * double(m) * double(l) <= options.one_rank_flops;
  return is_small || comm.size() == 1 ? on_one_rank(z, request) : on_all_ranks(z, request);
}

template <class T>
LowRank<T> Svd<T>::State::on_one_rank(const DistMatrix<T>& z, const Request& request) {
  const bool is_wide = z.rows() <= z.cols();
  std::vector<T> whole;
  const bool needs_copy = comm.size() > 1 || !is_wide;
  if (comm.size() > 1)
    whole = gather(z);
  else if (!is_wide)
    whole.assign(z.local().begin(), z.local().end());

  Factors<T> factors;
  Outcome outcome;
  on_root(comm, [&] {
    if (!is_wide) whole = transposed_array<T>(whole, z.rows(), z.cols());
    const std::int64_t m = std::min(z.rows(), z.cols());
    const std::int64_t l = std::max(z.rows(), z.cols());
    const Panel<T> panel{&self, m, l, l, l, needs_copy ? whole.data() : z.local().data()};
    factors = run_chain(panel, request, memory, outcome);
  });
  whole = {};
  outcome = comm.broadcast_value(outcome);
  count(counts, outcome);

  LowRank<T> result = without_vt(outcome.rank);
  result.engine = outcome.engine;
  result.error_bound = outcome.error_bound;
  factors.sigma.resize(static_cast<std::size_t>(outcome.rank));
  comm.broadcast(std::span<double>(factors.sigma));
  result.sigma = shrunk(request, factors.sigma);
  // Wide: left is U and right V^T. Tall: the panel was Z^T, so right^T is U and left^T is V^T.
  if (comm.is_root())
    result.u = is_wide ? std::vector<T>(factors.left.begin(), factors.left.end())
                       : transposed_array<T>(factors.right, outcome.rank, z.rows());
  result.u.resize(static_cast<std::size_t>(z.rows() * outcome.rank));
  comm.broadcast(std::span<T>(result.u));
  std::vector<T> vt;
  if (comm.is_root())
    vt = is_wide ? std::move(factors.right) : transposed_array<T>(factors.left, z.cols(), outcome.rank);
  if (comm.size() == 1) {
    result.vt = vt_of(z, outcome.rank, std::move(vt));
    return result;
  }
  result.vt = zero_vt(z, outcome.rank);
  if (outcome.rank > 0) scatter(std::span<const T>(vt), result.vt);
  return result;
}

template <class T>
LowRank<T> Svd<T>::State::on_all_ranks(const DistMatrix<T>& z, const Request& request) {
  const bool is_wide = z.rows() <= z.cols();
  DistMatrix<T> lying;
  if (!is_wide) {
    // Z^T in equal shares of columns, from Z's transpose in block rows.
    const std::int64_t share = (z.rows() + comm.size() - 1) / comm.size();
    lying = DistMatrix<T>(row_grid, z.cols(), z.rows(), z.cols(), share);
    redistribute(comm, transposed(z, ProcessGrid::column(comm)), lying);
  }
  const DistMatrix<T>& wide = is_wide ? z : lying;
  const Panel<T> panel{
      &comm, wide.rows(), wide.cols(), wide.distribution().cols.block(), wide.local_cols(), wide.local().data()};
  Outcome outcome;
  Factors<T> factors = run_chain(panel, request, memory, outcome);
  count(counts, outcome);

  LowRank<T> result = without_vt(outcome.rank);
  result.engine = outcome.engine;
  result.error_bound = outcome.error_bound;
  result.sigma = shrunk(request, factors.sigma);
  if (is_wide) {
    result.u.assign(factors.left.begin(), factors.left.end());
    result.vt = vt_of(z, outcome.rank, std::move(factors.right));
    return result;
  }
  const auto right = vt_of(wide, outcome.rank, std::move(factors.right));
  result.u = transposed_array<T>(gather_everywhere(right), outcome.rank, z.rows());
  const auto vt = transposed_array<T>(factors.left, z.cols(), outcome.rank);
  result.vt = zero_vt(z, outcome.rank);
  take_local(std::span<const T>(vt), result.vt);
  return result;
}

template <class T>
Svd<T>::Svd(const Communicator& comm, SvdOptions options) : state_(std::make_unique<State>(comm, options)) {}
template <class T>
Svd<T>::~Svd() = default;
template <class T>
Svd<T>::Svd(Svd&&) noexcept = default;
template <class T>
Svd<T>& Svd<T>::operator=(Svd&&) noexcept = default;

template <class T>
LowRank<T> Svd<T>::threshold(const DistMatrix<T>& z, double tau, std::string_view context) {
  require(std::isfinite(tau) && tau >= 0, "a threshold is negative or not finite");
  return state_->decompose(z, {.is_threshold = true, .tau = tau, .target_rank = 0, .options = {}, .context = context});
}

template <class T>
LowRank<T> Svd<T>::truncate(const DistMatrix<T>& z, std::int64_t target_rank, std::string_view context) {
  require(target_rank >= 0, "a target rank is negative");
  const auto rank = std::min({target_rank, z.rows(), z.cols()});
  return state_->decompose(z,
                           {.is_threshold = false, .tau = 0, .target_rank = rank, .options = {}, .context = context});
}

template <class T>
const EngineCounts& Svd<T>::counts() const {
  return state_->counts;
}
template <class T>
const SvdMemory& Svd<T>::memory() const {
  return state_->memory;
}
template <class T>
void Svd<T>::set_counts(const EngineCounts& counts) {
  state_->counts = counts;
}

template <class T>
void Svd<T>::restore(SvdMemory memory) {
  state_->memory = std::move(memory);
}

template class Svd<float>;
template class Svd<double>;

} // namespace slr
