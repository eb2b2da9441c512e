/* cron_tick.cpp - one tick of the clock: from schedules to jobs. See schedule.hpp. */
#include "backfill/call/hooks.hpp"
#include "backfill/core/sqlstates.hpp"
#include "backfill/cron/due_minutes.hpp"
#include "backfill/cron/pg_cron.hpp"
#include "backfill/enqueue/producer_locks.hpp"
#include "backfill/pg/advisory_lock.hpp"
#include "backfill/pg/jsonb.hpp"
#include "backfill/pg/owner_scope.hpp"
#include "backfill/pg/subtransaction.hpp"
#include "backfill/pg/time_zone.hpp"
#include "backfill/settle/each_apart.hpp"

#include <chrono>

namespace backfill::queue
{

namespace
{

/* A producer may hold a job_key for long; the other schedules must not wait for it. */
constexpr const char *kLockTimeout = "1s";

/* The schedules that are due, and meet the condition, locked. */
std::string schedules_sql(const char *condition)
{
    std::string sql = kReadSchedules;
    sql += condition;
    sql += " ORDER BY s.name FOR UPDATE SKIP LOCKED";
    return sql;
}

/* 2026-03-29T01:00:00.000Z, as Graphile Worker writes it. */
std::string iso_time(int64 seconds)
{
    const std::chrono::sys_seconds time{std::chrono::seconds(seconds)};
    const auto day = std::chrono::floor<std::chrono::days>(time);
    const std::chrono::year_month_day date{day};
    const std::chrono::hh_mm_ss clock{time - day};
    char text[64];
    snprintf(text, sizeof text, "%04d-%02u-%02uT%02d:%02d:%02d.000Z", static_cast<int>(date.year()),
             static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
             static_cast<int>(clock.hours().count()), static_cast<int>(clock.minutes().count()),
             static_cast<int>(clock.seconds().count()));
    return text;
}

Datum payload_of_run(Datum payload, const DueMinute &minute)
{
    const std::string cron = "{\"_cron\": {\"ts\": \"" + iso_time(minute.at) +
                             "\", \"backfilled\": " + (minute.backfilled ? "true" : "false") + "}}";
    return pg::call([&] {
        return DirectFunctionCall2(jsonb_concat, payload,
                                   DirectFunctionCall1(jsonb_in, CStringGetDatum(cron.c_str())));
    });
}

Oid role_of(const Schedule &schedule)
{
    const Oid role = pg::existing_role(*schedule.scheduled_by);
    if (!OidIsValid(role))
        fail(ERRCODE_UNDEFINED_OBJECT,
             "role \"" + pg::name_of(*schedule.scheduled_by) + "\" does not exist",
             "It made the schedule, and its rights count.",
             "Call backfill.schedule() again as another role.");
    return role;
}

/* What a cron_tick hook is told. */
Datum describe(const Schedule &schedule, int enqueued)
{
    pg::JsonbObject object;
    object.add_text("name", schedule.name);
    object.add_text("cron", schedule.cron);
    object.add_text("time_zone", schedule.time_zone);
    object.add_text("task_identifier", schedule.job.task_identifier);
    object.add_text("first_run_at", iso_time(schedule.due.front().at));
    object.add_text("last_run_at", iso_time(schedule.due.back().at));
    object.add_integer("enqueued", enqueued);
    return object.finish();
}

/* Enqueues as the role that made the schedule: its rights count, and no more than these,
 * though a tick is mostly a superuser's. Hooks on the way run as their own roles. Returns how
 * many jobs it enqueued. */
int enqueue_one(Enqueuer &enqueuer, const Schedule &schedule)
{
    const Oid role = role_of(schedule);
    check_may_schedule(role);
    pg::RoleScope scope = pg::call([&] { return pg::RoleScope(role, "pg_catalog, pg_temp"); });
    int enqueued = 0;
    for (const DueMinute &minute : schedule.due) {
        JobSpec job = schedule.job;
        job.run_at = pg::from_unix_seconds(minute.at);
        job.payload = payload_of_run(schedule.job.payload, minute);
        if (enqueuer.enqueue(job))
            enqueued++;
    }
    if (hooks::any(enqueuer.config(), core::HookEvent::kCronTick))
        hooks::notify_tick(enqueuer.config(), schedule.job.task_identifier,
                           describe(schedule, enqueued));
    pg::call([&] { scope.leave(); });
    return enqueued;
}

void save_progress(const Schedule &schedule, TimestampTz decided_until)
{
    const bool failed = !schedule.error.empty();
    const bool ran = !failed && !schedule.due.empty();
    const pg::Param params[] = {
        pg::text_param(schedule.name),
        {TIMESTAMPTZOID, TimestampTzGetDatum(decided_until), failed},
        {TIMESTAMPTZOID,
         TimestampTzGetDatum(ran ? pg::from_unix_seconds(schedule.due.back().at) : 0), !ran},
        {TEXTOID, failed ? pg::from_text(schedule.error) : static_cast<Datum>(0), !failed},
    };
    (void) pg::execute_as_owner("UPDATE backfill.cron_schedule s"
                                "   SET checked_until = coalesce($2, s.checked_until),"
                                "       last_run_at = coalesce($3, s.last_run_at),"
                                "       last_error = $4"
                                " WHERE s.name = $1",
                                params);
}

/* Enqueues what is due, and notes that: both or none. */
void settle(const std::vector<Schedule *> &schedules, TimestampTz decided_until)
{
    std::vector<std::string_view> keys;
    for (const Schedule *schedule : schedules)
        if (!schedule->due.empty() && schedule->job.job_key)
            keys.push_back(*schedule->job.job_key);
    lock_job_keys(keys);

    Enqueuer enqueuer("cron_tick()");
    for (Schedule *schedule : schedules)
        schedule->enqueued = schedule->due.empty() ? 0 : enqueue_one(enqueuer, *schedule);
    enqueuer.finish();
    for (const Schedule *schedule : schedules)
        save_progress(*schedule, decided_until);
}

void set_error(Schedule &schedule, const core::ErrorInfo &error)
{
    schedule.error = error.message;
    const std::string name(schedule.name);
    pg::call([&] {
        ereport(WARNING, (errmsg("schedule \"%s\" could not enqueue: %s", name.c_str(),
                                 error.message.c_str()),
                          error.detail.empty() ? 0 : errdetail("%s", error.detail.c_str()),
                          errhint("It is tried again at the next tick.%s%s",
                                  error.hint.empty() ? "" : " ", error.hint.c_str())));
    });
}

/* In a subtransaction, whose error it returns. A cancel is for the whole tick. */
template <class Body> std::optional<core::ErrorInfo> try_one(Body &&body)
{
    auto error = pg::in_subtransaction(body);
    if (error && error->sqlstate == core::sqlstate::kQueryCanceled)
        fail(ERRCODE_QUERY_CANCELED, error->message);
    return error;
}

/* All in one subtransaction; if that fails, each schedule in one of its own, so that the
 * bad one is found and the others are enqueued. */
void settle_each(const std::vector<Schedule *> &schedules, TimestampTz now)
{
    if (schedules.empty() || !try_one([&] { settle(schedules, now); }))
        return;
    for (Schedule *schedule : schedules)
        if (const auto error = try_one([&] { settle({schedule}, now); }))
            set_error(*schedule, *error);
}

int64 tick_as_owner(TimestampTz now)
{
    const pg::Param param = pg::time_param(now);
    const pg::TableRows rows = pg::query_as_owner(schedules_sql("").c_str(), std::span(&param, 1));
    std::vector<Schedule> schedules;
    for (int i = 0; i < rows.count; i++)
        schedules.push_back(read_schedule(rows.rows[i]));

    std::vector<Schedule *> readable;
    for (Schedule &schedule : schedules) {
        try {
            find_due_minutes(schedule, now);
            readable.push_back(&schedule);
        } catch (const Failure &failure) { /* the table was edited by hand, or a zone is gone */
            set_error(schedule, pg::to_error_info(failure));
        }
    }
    settle_each(readable, now);

    int64 enqueued = 0;
    for (Schedule &schedule : schedules) {
        if (schedule.error.empty())
            enqueued += schedule.enqueued;
        else if (const auto error = try_one([&] { save_progress(schedule, now); }))
            if (error->message != schedule.error)
                set_error(schedule, *error); /* not even that can be written: the log has it */
    }
    return enqueued;
}

/* --- The dispatcher's tick -------------------------------------------------------------- */

namespace set_aside = bgworker::set_aside;

struct DueSchedule {
    std::string name;
    std::string last_error;
};

Thing thing_of(const DueSchedule &due)
{
    return {static_cast<int64>(pg::hash_text(due.name)), due.name};
}

/* Which schedules are due, or were `patience` ago; notes when the next is. */
std::vector<DueSchedule> find_due_schedules(const pg::TableRows &rows, TimestampTz now,
                                            int64 patience_us, OwnTick &tick)
{
    std::vector<DueSchedule> due;
    const auto note_next = [&](TimestampTz at) {
        if (!tick.next || at + patience_us < *tick.next)
            tick.next = at + patience_us;
    };
    for (int i = 0; i < rows.count; i++) {
        const Schedule schedule = read_schedule(rows.rows[i]);
        auto at = due_after(schedule, schedule.decided_until);
        if (at && *at <= now - patience_us) {
            const DueSchedule found{std::string(schedule.name), std::string(schedule.last_error)};
            if (set_aside::is_set_aside(set_aside::Kind::kSchedule, thing_of(found).id))
                tick.aside = true;
            else
                due.push_back(found);
            at = *at == DT_NOBEGIN ? std::nullopt : due_after(schedule, now);
        }
        if (at)
            note_next(*at);
    }
    return due;
}

/* Whether it was still due, and not locked by another session. */
bool settle_by_name(const std::string &name, TimestampTz now)
{
    const pg::Param params[] = {pg::time_param(now), pg::text_param(name)};
    const pg::TableRows rows =
        pg::query_as_owner(schedules_sql(" AND s.name = $2").c_str(), params);
    if (rows.count == 0)
        return false;
    Schedule schedule = read_schedule(rows.rows[0]);
    find_due_minutes(schedule, now);
    /* What was missed for good is decided, too. */
    settle({&schedule}, schedule.due.empty() ? now : pg::from_unix_seconds(schedule.due.back().at));
    return true;
}

/* For backfill.schedules, once: the list of what is set aside is lost with the server. */
void keep_error(const DueSchedule &due)
{
    const auto failure = set_aside::find(set_aside::Kind::kSchedule, thing_of(due).id);
    if (!failure || due.last_error == failure->message ||
        std::string_view(failure->sqlstate) == core::sqlstate::kQueryCanceled)
        return;
    Schedule schedule;
    schedule.name = due.name;
    schedule.error = failure->message;
    (void) try_apart(Transaction::kOurs, set_aside::Kind::kSchedule, thing_of(due).id,
                     [&] { save_progress(schedule, 0); });
}

OwnTick tick_apart_as_owner(TimestampTz now)
{
    OwnTick tick;
    const pg::Param far_away = pg::time_param(DT_NOEND);
    const pg::TableRows rows = pg::query_as_owner(kReadSchedules, std::span(&far_away, 1));
    if (rows.count == 0)
        return tick;
    const auto patience_us = patience();
    if (!patience_us)
        return tick;
    const std::vector<DueSchedule> due = find_due_schedules(rows, now, *patience_us, tick);
    const Done done = each_apart(
        {set_aside::Kind::kSchedule, "enqueue what is due of schedule", Transaction::kOurs}, due,
        thing_of, [&](JobTable &, const DueSchedule &schedule) {
            return settle_by_name(schedule.name, now);
        });
    for (const DueSchedule &schedule : due)
        keep_error(schedule);
    tick.more = done.more;
    tick.aside = tick.aside || done.aside;
    tick.busy = !done.more && !done.aside && done.count < static_cast<int>(due.size());
    return tick;
}

} // namespace

/* With the dispatcher's settings: it waits less for locks. */
OwnTick run_due_schedules_apart(TimestampTz now)
{
    const Oid owner = pg::extension_owner();
    pg::OwnerScope scope = pg::call([&] { return pg::OwnerScope(owner); });
    const OwnTick tick = tick_apart_as_owner(now);
    pg::call([&] { scope.leave(); });
    return tick;
}

/* As the owner, whatever role calls. */
int64 run_due_schedules(TimestampTz now)
{
    pg::prevent_if_read_only("cron_tick()");
    const Oid owner = pg::extension_owner();
    pg::OwnerScope scope = pg::call([&] {
        pg::OwnerScope entered(owner);
        (void) set_config_option("lock_timeout", kLockTimeout, PGC_USERSET, PGC_S_SESSION,
                                 GUC_ACTION_SAVE, true, 0, false);
        return entered;
    });
    const int64 enqueued = tick_as_owner(now);
    pg::call([&] { scope.leave(); });
    return enqueued;
}

} // namespace backfill::queue
