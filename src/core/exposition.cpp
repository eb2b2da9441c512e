/* exposition.cpp - see exposition.hpp. */
#include "backfill/core/exposition.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>

namespace backfill::core
{

namespace
{

using enum MetricKind;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

constexpr Metric kCatalogue[] = {
    {"backfill_jobs_enqueued", kCounter,
     "Jobs that committed transactions enqueued; replacing a job by its key counts again."},
    {"backfill_jobs_started", kCounter,
     "Runs of jobs, counted when their outcome, or a consumer's claim, is committed."},
    {"backfill_jobs_completed", kCounter, "Runs that succeeded."},
    {"backfill_jobs_snoozed", kCounter,
     "Runs whose handler, a hook or a consumer put the job back."},
    {"backfill_jobs_failed", kCounter, "Runs that failed, by whether the error may be retried."},
    {"backfill_jobs_dropped", kCounter,
     "Jobs that ended with neither success nor a dead letter, by reason."},
    {"backfill_jobs_duration_seconds", kHistogram, "How long runs of jobs took."},
    {"backfill_jobs_wait_time_seconds", kHistogram,
     "From when a job was due, or was enqueued if that is later, to the start of its run."},
    {"backfill_queue_depth", kGauge, "Jobs that wait, by whether they are ready or scheduled."},
    {"backfill_queue_active_jobs", kGauge, "Jobs that run or are leased now."},
    {"backfill_queue_is_paused", kGauge, "Whether the queue is paused: 1, or 0."},
    {"backfill_dlq_jobs_added", kCounter, "Jobs moved to the dead letter queue, by reason."},
    {"backfill_dlq_jobs_requeued", kCounter, "Dead letters whose jobs were requeued."},
    {"backfill_dlq_jobs_deleted", kCounter,
     "Dead letters that were deleted, or settled because the job succeeded after all."},
    {"backfill_dlq_size", kGauge, "Dead letters now."},
    {"backfill_dlq_age_seconds", kGauge, "Age of the oldest dead letter."},
    {"backfill_worker_active", kGauge, "Background workers now."},
    {"backfill_worker_utilization", kGauge,
     "Executors that run a job now, as a share of backfill.max_executors."},
    {"backfill_worker_polls", kCounter, "Looks of workers for ready jobs, by what they found."},
    {"backfill_retries_attempted", kCounter, "Failed runs after which the job was put back."},
    {"backfill_retries_exhausted", kCounter, "Jobs that have used up their attempts."},
    {"backfill_db_operations", kCounter,
     "Operations of the engine on the database, rolled back ones included."},
    {"backfill_db_operation_duration_seconds", kHistogram,
     "How long operations of the engine on the database took."},
};

void append_escaped(std::string &text, std::string_view value)
{
    for (const char c : value) {
        switch (c) {
        case '\\':
            text += "\\\\";
            break;
        case '"':
            text += "\\\"";
            break;
        case '\n':
            text += "\\n";
            break;
        default:
            text += c;
        }
    }
}

/* Whole numbers without a fraction or exponent, others as short as they can be read back. */
void append_number(std::string &text, double value)
{
    if (std::isnan(value)) {
        text += "NaN";
    } else if (std::isinf(value)) {
        text += value > 0 ? "+Inf" : "-Inf";
    } else {
        constexpr double kExactIntegers = 9007199254740992.0; /* 2^53 */
        std::array<char, 64> digits{};
        const bool whole = std::fabs(value) <= kExactIntegers && value == std::trunc(value);
        const auto result =
            whole ? std::to_chars(digits.begin(), digits.end(), static_cast<std::int64_t>(value))
                  : std::to_chars(digits.begin(), digits.end(), value);
        text.append(digits.begin(), result.ptr);
    }
}

/* name{labels,le="bound"} value; no le if bound is null. */
void append_series(std::string &text, std::string_view name, std::string_view suffix,
                   const Sample &sample, const double *bound, double value)
{
    text += name;
    text += suffix;
    char separator = '{';
    const auto begin_label = [&](std::string_view label) {
        text += separator;
        text += label;
        text += "=\"";
        separator = ',';
    };
    for (const auto &[label, label_value] : sample.labels) {
        begin_label(label);
        append_escaped(text, label_value);
        text += '"';
    }
    if (bound != nullptr) {
        begin_label("le");
        append_number(text, *bound);
        text += '"';
    }
    if (separator == ',')
        text += '}';
    text += ' ';
    append_number(text, value);
    text += '\n';
}

void append_histogram(std::string &text, const Metric &metric, const Sample &sample)
{
    for (std::size_t i = 0; i < sample.bounds.size() && i < sample.counts.size(); i++)
        append_series(text, metric.name, "_bucket", sample, &sample.bounds[i],
                      static_cast<double>(sample.counts[i]));
    append_series(text, metric.name, "_bucket", sample, &kInfinity, sample.value);
    append_series(text, metric.name, "_sum", sample, nullptr, sample.sum);
    append_series(text, metric.name, "_count", sample, nullptr, sample.value);
}

std::string_view suffix_of(MetricKind kind)
{
    return kind == kCounter ? "_total" : "";
}

void append_header(std::string &text, const Metric &metric)
{
    /* A help text of ours holds nothing that would need escaping. */
    for (const auto &[keyword, value] :
         {std::pair("# HELP ", metric.help), std::pair("# TYPE ", kind_name(metric.kind))}) {
        text += keyword;
        text += metric.name;
        text += suffix_of(metric.kind);
        text += ' ';
        text += value;
        text += '\n';
    }
}

} // namespace

std::span<const Metric> metric_catalogue()
{
    return kCatalogue;
}

const Metric *find_metric(std::string_view name)
{
    for (const Metric &metric : kCatalogue)
        if (metric.name == name)
            return &metric;
    return nullptr;
}

std::string_view kind_name(MetricKind kind)
{
    switch (kind) {
    case kCounter:
        return "counter";
    case kGauge:
        return "gauge";
    default:
        return "histogram";
    }
}

std::string to_exposition(std::span<const Sample> samples)
{
    std::string text;
    for (const Metric &metric : kCatalogue) {
        bool first = true;
        for (const Sample &sample : samples) {
            if (sample.name != metric.name)
                continue;
            if (first)
                append_header(text, metric);
            first = false;
            if (metric.kind == kHistogram)
                append_histogram(text, metric, sample);
            else
                append_series(text, metric.name, suffix_of(metric.kind), sample, nullptr,
                              sample.value);
        }
    }
    return text;
}

} // namespace backfill::core
