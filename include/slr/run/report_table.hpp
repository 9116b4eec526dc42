#pragma once
/// \file
/// The table that a job ends with.
#include <nlohmann/json.hpp>
#include <string>

namespace slr::run {

/// A report as people read it: one line per layer, then the network's figures and the job's, lines of at most 100
/// columns, each with a line end. Local, pure.
///
/// Keys read, those of report.json; what is missing or null is shown as "-", and a line of which nothing is known is
/// left out:
/// - `layers[]`: name, rows, cols, rank, kept_groups, parameters_before, parameters_after, error_heldout. A layer with
///   null rank and null kept_groups is "dense".
/// - `model`: parameters_before/_after, macs_before/_after, bytes_before/_after.
/// - `accuracy`: top1_before/_after, top5_before/_after (fractions), top1_standard_error, top5_standard_error (paired,
/// of
///   the difference), kl, agreement, images.
/// - `refine`: kl_before, kl_after, epochs, images; null if there was none.
/// - `run`: mpi_ranks, groups, seconds, seconds_by_stage{stage: seconds}, peak_rss_bytes.
[[nodiscard]] std::string report_table(const nlohmann::ordered_json& report);

} // namespace slr::run
