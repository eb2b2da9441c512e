/* metrics_api.cpp - the SQL functions of the metrics (sql/install/75_metrics.sql). */
#include "backfill/core/exposition.hpp"
#include "backfill/core/priority.hpp"
#include "backfill/pg/datum.hpp"
#include "backfill/stats/events.hpp"

#include <algorithm>
#include <functional>

using namespace backfill;
using core::HistogramBounds;
using core::Sample;
using Labels = std::vector<std::pair<std::string, std::string>>;

namespace
{

constexpr double kMicroseconds = 1000000.0;

/* --- From counters to samples ---------------------------------------------------- */

/* A label that the counter itself stands for; null: none. */
struct OwnLabel {
    const char *name;
    const char *value;
};

struct JobSeries {
    stats::JobCounter counter;
    const char *metric;
    OwnLabel own;
};

constexpr JobSeries kJobSeries[] = {
    {stats::kEnqueued, "backfill_jobs_enqueued", {}},
    {stats::kStarted, "backfill_jobs_started", {}},
    {stats::kCompleted, "backfill_jobs_completed", {}},
    {stats::kSnoozed, "backfill_jobs_snoozed", {}},
    {stats::kFailedRetryable, "backfill_jobs_failed", {"error_type", "retryable"}},
    {stats::kFailedPermanent, "backfill_jobs_failed", {"error_type", "permanent"}},
    {stats::kDroppedCancelled, "backfill_jobs_dropped", {"reason", "cancelled"}},
    {stats::kDroppedSuperseded, "backfill_jobs_dropped", {"reason", "superseded"}},
    {stats::kRetriesAttempted, "backfill_retries_attempted", {}},
    {stats::kRetriesExhausted, "backfill_retries_exhausted", {}},
    {stats::kDlqAddedMaxAttempts, "backfill_dlq_jobs_added", {"reason", "max_attempts"}},
    {stats::kDlqAddedPermanent, "backfill_dlq_jobs_added", {"reason", "permanent"}},
    {stats::kDlqAddedManual, "backfill_dlq_jobs_added", {"reason", "manual"}},
    {stats::kDlqRequeued, "backfill_dlq_jobs_requeued", {}},
    {stats::kDlqDeleted, "backfill_dlq_jobs_deleted", {"reason", "deleted"}},
    {stats::kDlqSettled, "backfill_dlq_jobs_deleted", {"reason", "settled"}},
};

struct JobHistogram {
    stats::JobCounter first;
    HistogramBounds bounds;
    const char *metric;
    OwnLabel own;
};

constexpr JobHistogram kJobHistograms[] = {
    {stats::kDurationSuccess,
     core::kDurationBoundsUs,
     "backfill_jobs_duration_seconds",
     {"status", "success"}},
    {stats::kDurationFailed,
     core::kDurationBoundsUs,
     "backfill_jobs_duration_seconds",
     {"status", "failed"}},
    {stats::kWaitTime, core::kWaitBoundsUs, "backfill_jobs_wait_time_seconds", {}},
};

struct PollSeries {
    stats::DatabaseCounter counter;
    const char *worker_kind;
    const char *result;
};

constexpr PollSeries kPollSeries[] = {
    {stats::kDispatcherPollsFound, "dispatcher", "jobs_found"},
    {stats::kDispatcherPollsEmpty, "dispatcher", "empty"},
    {stats::kExecutorPollsFound, "executor", "jobs_found"},
    {stats::kExecutorPollsEmpty, "executor", "empty"},
};

struct OperationSeries {
    stats::Operation operation;
    const char *name;
};

constexpr OperationSeries kOperationSeries[] = {
    {stats::Operation::kEnqueue, "enqueue"}, {stats::Operation::kRequeue, "requeue"},
    {stats::Operation::kFetch, "fetch"},     {stats::Operation::kDlqAdd, "dlq_add"},
    {stats::Operation::kCommit, "commit"},
};

Labels with_label(Labels labels, const OwnLabel &own)
{
    if (own.name != nullptr)
        labels.emplace_back(own.name, own.value);
    return labels;
}

Sample counter_sample(const char *metric, Labels labels, uint64 value)
{
    Sample sample;
    sample.name = metric;
    sample.labels = std::move(labels);
    sample.value = static_cast<double>(value);
    return sample;
}

/* places: the histogram's buckets, +Inf, and the sum in microseconds. */
Sample histogram_sample(const char *metric, Labels labels, HistogramBounds bounds,
                        const uint64 *places)
{
    Sample sample = counter_sample(metric, std::move(labels), 0);
    int64 cumulative = 0;
    for (std::size_t i = 0; i < bounds.size(); i++) {
        cumulative += static_cast<int64>(places[i]);
        sample.bounds.push_back(static_cast<double>(bounds[i]) / kMicroseconds);
        sample.counts.push_back(cumulative);
    }
    sample.value = static_cast<double>(cumulative + static_cast<int64>(places[bounds.size()]));
    sample.sum = static_cast<double>(places[bounds.size() + 1]) / kMicroseconds;
    return sample;
}

void add_job_samples(std::vector<Sample> &samples, const Labels &labels, const uint64 *values)
{
    for (const JobSeries &series : kJobSeries)
        samples.push_back(
            counter_sample(series.metric, with_label(labels, series.own), values[series.counter]));
    /* A histogram is fifteen lines of text: not before there is something in it. */
    for (const JobHistogram &histogram : kJobHistograms) {
        Sample sample = histogram_sample(histogram.metric, with_label(labels, histogram.own),
                                         histogram.bounds, values + histogram.first);
        if (sample.value > 0)
            samples.push_back(std::move(sample));
    }
}

void add_database_samples(std::vector<Sample> &samples)
{
    uint64 values[stats::kDatabaseCounterCount];
    stats::copy_database_counters(values);
    for (const PollSeries &series : kPollSeries)
        samples.push_back(
            counter_sample("backfill_worker_polls",
                           {{"worker_kind", series.worker_kind}, {"result", series.result}},
                           values[series.counter]));
    for (const OperationSeries &series : kOperationSeries) {
        const uint64 *places = values + stats::operation_counter(series.operation);
        samples.push_back(counter_sample("backfill_db_operations",
                                         {{"operation", series.name}, {"status", "success"}},
                                         places[0]));
        samples.push_back(counter_sample("backfill_db_operations",
                                         {{"operation", series.name}, {"status", "error"}},
                                         places[1]));
        samples.push_back(histogram_sample("backfill_db_operation_duration_seconds",
                                           {{"operation", series.name}}, core::kOperationBoundsUs,
                                           places + 2));
    }
}

/* --- Samples as rows: name, labels, value, sum, bucket_bounds, bucket_counts ------- */

enum SampleColumn { kName, kLabels, kValue, kSum, kBounds, kCounts, kSampleColumns };

Datum labels_to_jsonb(const Labels &labels)
{
    return pg::call([&] {
        JsonbParseState *state = nullptr;
        (void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, nullptr);
        for (const auto &[name, value] : labels) {
            JsonbValue item;
            item.type = jbvString;
            item.val.string.val = const_cast<char *>(name.data());
            item.val.string.len = static_cast<int>(name.size());
            (void) pushJsonbValue(&state, WJB_KEY, &item);
            item.val.string.val = const_cast<char *>(value.data());
            item.val.string.len = static_cast<int>(value.size());
            (void) pushJsonbValue(&state, WJB_VALUE, &item);
        }
        return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, nullptr)));
    });
}

Datum bounds_to_array(const std::vector<double> &bounds)
{
    std::vector<Datum> elements;
    for (const double bound : bounds)
        elements.push_back(Float8GetDatum(bound));
    return pg::call([&] {
        return PointerGetDatum(construct_array(elements.data(), static_cast<int>(elements.size()),
                                               FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL,
                                               TYPALIGN_DOUBLE));
    });
}

Datum counts_to_array(const std::vector<int64> &counts)
{
    std::vector<Datum> elements;
    for (const int64 count : counts)
        elements.push_back(Int64GetDatum(count));
    return pg::call([&] {
        return PointerGetDatum(construct_array(elements.data(), static_cast<int>(elements.size()),
                                               INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
                                               TYPALIGN_DOUBLE));
    });
}

void add_row(pg::ResultSet &result, const Sample &sample)
{
    const bool scalar = sample.bounds.empty();
    const Datum values[kSampleColumns] = {
        pg::from_text(sample.name),
        labels_to_jsonb(sample.labels),
        Float8GetDatum(sample.value),
        Float8GetDatum(sample.sum),
        scalar ? 0 : bounds_to_array(sample.bounds),
        scalar ? 0 : counts_to_array(sample.counts),
    };
    const bool nulls[kSampleColumns] = {false, false, false, scalar, scalar, scalar};
    result.add(values, nulls);
}

/* --- Rows as samples ---------------------------------------------------------------- */

Labels labels_from_jsonb(Datum datum)
{
    Labels labels;
    Jsonb *object = pg::call([&] { return DatumGetJsonbP(datum); });
    JsonbIterator *iterator = pg::call([&] { return JsonbIteratorInit(&object->root); });
    JsonbValue item;
    const auto next = [&] {
        return pg::call([&] { return JsonbIteratorNext(&iterator, &item, true); });
    };
    const auto text = [&] {
        return std::string(item.val.string.val, static_cast<std::size_t>(item.val.string.len));
    };
    for (JsonbIteratorToken token = next(); token != WJB_DONE; token = next()) {
        if (token == WJB_KEY)
            labels.emplace_back(text(), std::string());
        else if (token == WJB_VALUE && item.type == jbvString)
            labels.back().second = text();
    }
    return labels;
}

struct Elements {
    Datum *values;
    int count;
};

Elements array_elements(Datum array, Oid type)
{
    return pg::call([&] {
        Elements elements{};
        bool *nulls;
        deconstruct_array(DatumGetArrayTypeP(array), type, sizeof(int64), FLOAT8PASSBYVAL,
                          TYPALIGN_DOUBLE, &elements.values, &nulls, &elements.count);
        return elements;
    });
}

struct RowDatums {
    Datum values[kSampleColumns];
    bool nulls[kSampleColumns];
};

Sample sample_of(const RowDatums &row)
{
    Sample sample;
    sample.name = pg::to_string(row.values[kName]);
    sample.labels = labels_from_jsonb(row.values[kLabels]);
    sample.value = DatumGetFloat8(row.values[kValue]);
    if (row.nulls[kBounds])
        return sample;
    sample.sum = DatumGetFloat8(row.values[kSum]);
    const Elements bounds = array_elements(row.values[kBounds], FLOAT8OID);
    const Elements counts = array_elements(row.values[kCounts], INT8OID);
    for (int i = 0; i < Min(bounds.count, counts.count); i++) {
        sample.bounds.push_back(DatumGetFloat8(bounds.values[i]));
        sample.counts.push_back(DatumGetInt64(counts.values[i]));
    }
    return sample;
}

/* The rows of metrics(), which runs as the owner of the extension, as does our caller. */
std::vector<Sample> read_metrics(const pg::Arguments &arguments)
{
    std::vector<Sample> samples;
    const uint64 rows = pg::call([&] {
        Oid type = TEXTOID;
        Datum prefix = arguments.is_null(0) ? 0 : arguments.datum(0);
        const char null = arguments.is_null(0) ? 'n' : ' ';
        SPI_connect();
        if (SPI_execute_with_args(
                "SELECT m.name, m.labels, m.value, m.sum, m.bucket_bounds, m.bucket_counts"
                " FROM backfill.metrics($1) m",
                1, &type, &prefix, &null, false, 0) != SPI_OK_SELECT)
            elog(ERROR, "could not read the metrics");
        return SPI_processed;
    });
    samples.reserve(rows);
    for (uint64 i = 0; i < rows; i++) {
        RowDatums row;
        pg::call([&] {
            for (int column = 0; column < kSampleColumns; column++)
                row.values[column] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc,
                                                   column + 1, &row.nulls[column]);
        });
        samples.push_back(sample_of(row));
    }
    pg::call([] { SPI_finish(); });
    return samples;
}

} // namespace

namespace
{

Datum finish(pg::ResultSet &&result, const std::vector<Sample> &samples)
{
    for (const Sample &sample : samples)
        add_row(result, sample);
    return result.finish();
}

} // namespace

BACKFILL_FUNCTION(backfill_counters)
{
    std::vector<Sample> samples;
    if (stats::available()) {
        for (const stats::JobCountersCopy &copy : stats::copy_job_counters())
            add_job_samples(
                samples, {{"task", copy.task}, {"queue", copy.queue}, {"priority_band", copy.band}},
                copy.values);
        add_database_samples(samples);
    }
    return finish(pg::ResultSet(fcinfo), samples);
}

/* What is counted per label set, of all together: a thousand sets would be 20,000 rows. */
BACKFILL_FUNCTION(backfill_counter_totals)
{
    std::vector<Sample> samples;
    if (stats::available()) {
        uint64 totals[stats::kJobCounterCount] = {};
        for (const stats::JobCountersCopy &copy : stats::copy_job_counters())
            std::transform(std::begin(totals), std::end(totals), copy.values, totals,
                           std::plus<>());
        add_job_samples(samples, {}, totals);
    }
    return finish(pg::ResultSet(fcinfo), samples);
}

BACKFILL_FUNCTION(backfill_metric_catalogue)
{
    pg::ResultSet result(fcinfo);
    int32 position = 0;
    for (const core::Metric &metric : core::metric_catalogue()) {
        const Datum values[] = {Int32GetDatum(++position), pg::from_text(metric.name),
                                pg::from_text(core::kind_name(metric.kind)),
                                pg::from_text(metric.help)};
        const bool nulls[std::size(values)] = {};
        result.add(values, nulls);
    }
    return result.finish();
}

BACKFILL_FUNCTION(backfill_prometheus_metrics)
{
    const std::vector<Sample> samples = read_metrics(pg::Arguments(fcinfo));
    return pg::from_text(core::to_exposition(samples));
}

BACKFILL_FUNCTION(backfill_letter_deleted)
{
    struct Letter {
        Datum task;
        Datum queue;
        bool has_queue;
        int priority;
    };
    const Letter letter = pg::call([&] {
        if (!CALLED_AS_TRIGGER(fcinfo))
            ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                            errmsg("_letter_deleted() must be called as a trigger")));
        const auto *trigger = reinterpret_cast<TriggerData *>(fcinfo->context);
        TupleDesc columns = RelationGetDescr(trigger->tg_relation);
        const auto column = [&](const char *name, bool *is_null) {
            return SPI_getbinval(trigger->tg_trigtuple, columns, SPI_fnumber(columns, name),
                                 is_null);
        };
        Letter found{};
        bool is_null;
        found.task = column("task_identifier", &is_null);
        found.queue = column("queue_name", &is_null);
        found.has_queue = !is_null;
        found.priority = DatumGetInt16(column("priority", &is_null));
        return found;
    });
    stats::note_letter_deleted({pg::to_view(letter.task),
                                letter.has_queue ? pg::to_view(letter.queue) : std::string_view(),
                                core::priority_band(letter.priority)});
    return static_cast<Datum>(0);
}
