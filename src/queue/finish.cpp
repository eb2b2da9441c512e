/* finish.cpp - see finish.hpp. */
#include "backfill/queue/finish.hpp"

#include "backfill/core/retry_decision.hpp"
#include "backfill/queue/backoff.hpp"
#include "backfill/queue/dead_letter.hpp"
#include "backfill/queue/enqueue.hpp"
#include "backfill/queue/job_key.hpp"
#include "backfill/stats/events.hpp"

namespace backfill::queue
{

namespace
{

/* A message can be as long as the data in it; what is stored of it is not. */
constexpr std::size_t kMaxErrorText = 8192;

struct JsonField {
    const char *key;
    const std::string *value;
};

Datum error_to_jsonb(const core::ErrorInfo &error)
{
    const JsonField fields[] = {{"sqlstate", &error.sqlstate},
                                {"message", &error.message},
                                {"detail", &error.detail},
                                {"hint", &error.hint},
                                {"context", &error.context}};
    return pg::call([&] {
        JsonbParseState *state = nullptr;
        (void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, nullptr);
        for (const JsonField &field : fields) {
            if (field.value->empty())
                continue;
            JsonbValue item;
            item.type = jbvString;
            item.val.string.val = const_cast<char *>(field.key);
            item.val.string.len = static_cast<int>(strlen(field.key));
            (void) pushJsonbValue(&state, WJB_KEY, &item);
            item.val.string.val = const_cast<char *>(field.value->data());
            item.val.string.len = pg_mbcliplen(
                field.value->data(), static_cast<int>(Min(field.value->size(), kMaxErrorText + 4)),
                static_cast<int>(kMaxErrorText));
            (void) pushJsonbValue(&state, WJB_VALUE, &item);
        }
        return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, nullptr)));
    });
}

std::string failure_reason(core::RetryDecision decision, int attempts, const core::ErrorInfo &error)
{
    if (decision == core::RetryDecision::kPermanent)
        return "permanent error " + error.sqlstate + ": " + error.message;
    return (attempts == 1 ? std::string("the only attempt failed: ")
                          : "all " + std::to_string(attempts) + " attempts failed: ") +
           error.message;
}

/* Lets a worker log so many failures a second: when everything fails, the log shall stay
 * readable. Says afterwards how many it has kept back. A user sees all of his. */
bool may_log_failure()
{
    constexpr int kPerSecond = 50;
    static TimestampTz second_began = 0;
    static int logged = 0;
    static long long kept_back = 0;
    if (MyBgworkerEntry == nullptr)
        return true;
    const TimestampTz now = GetCurrentTimestamp();
    if (now - second_began >= USECS_PER_SEC) {
        if (kept_back > 0)
            pg::call([] {
                ereport(LOG, (errmsg_plural("%lld more job failure was not logged",
                                            "%lld more job failures were not logged",
                                            static_cast<unsigned long>(kept_back), kept_back)));
            });
        second_began = now;
        logged = 0;
        kept_back = 0;
    }
    if (logged < kPerSecond) {
        logged++;
        return true;
    }
    kept_back++;
    return false;
}

void log_failure(const JobRow &row, const core::ErrorInfo &error, const char *what, int level)
{
    if (!may_log_failure())
        return;
    const std::string task(row.task_identifier());
    const std::string queue(row.text_or_empty(Column::kQueueName));
    pg::call([&] {
        const char *const state = error.sqlstate.c_str();
        ereport(level, (errcode(MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4])),
                        errmsg("job %lld %s: %s", static_cast<long long>(row.id()), what,
                               error.message.c_str()),
                        error.detail.empty() ? 0 : errdetail_internal("%s", error.detail.c_str()),
                        error.hint.empty() ? 0 : errhint("%s", error.hint.c_str()),
                        errcontext("job %lld, task \"%s\", queue \"%s\", attempt %d of %d",
                                   static_cast<long long>(row.id()), task.c_str(), queue.c_str(),
                                   row.attempts(), row.max_attempts())));
    });
}

} // namespace

void finish_success(const JobRow &row)
{
    dead_letter::forget(row);
}

Outcome finish_failure(JobTable &table, const Config &config, const Task *task, JobRow row,
                       const core::ErrorInfo &error)
{
    const int attempts = row.attempts() + 1;
    const core::RetryDecision decision =
        core::decide_retry(error.sqlstate, attempts, row.max_attempts());
    row.set(Column::kAttempts, Int16GetDatum(static_cast<int16>(attempts)));
    row.set(Column::kLastError, error_to_jsonb(error));
    stats::note_failed(row, decision);

    if (!row.is_null(Column::kJobKey) &&
        has_newer_keyed_job(table, row.text_or_empty(Column::kJobKey), row.id())) {
        log_failure(row, error, "failed and is superseded by a newer job with its key", LOG);
        return Outcome::kSuperseded;
    }
    if (decision == core::RetryDecision::kRetry) {
        const int64 delay = backoff_delay_us(policy_of(config, policy_name(row)), attempts - 1);
        const TimestampTz now = GetCurrentTimestamp();
        row.set(Column::kRunAt, TimestampTzGetDatum(now + delay));
        table.insert(row);
        announce_job(row, task, now);
        stats::note_retry(row);
        log_failure(row, error, "failed and will be retried", LOG);
        return Outcome::kRetried;
    }
    dead_letter::write(row, failure_reason(decision, attempts, error));
    stats::note_dead_letter(row, decision);
    log_failure(row, error, "failed for good and is in the dead letter queue", WARNING);
    return Outcome::kDeadLettered;
}

} // namespace backfill::queue
