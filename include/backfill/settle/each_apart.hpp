/* each_apart.hpp - do the same to each of many things, so that one which cannot be done does not
 * keep the others from it.
 *
 * All are tried in one subtransaction, which is cheap. If that fails, each is tried in one of its
 * own, and what fails there is set aside (shmem/set_aside.hpp). What failed before is tried
 * by itself at once. Needs a transaction.
 *
 * In a dispatcher each attempt has a time limit, and is noted in the ledger, should it be the
 * process's last. */
#pragma once

#include "backfill/pg/held_messages.hpp"
#include "backfill/pg/subtransaction.hpp"
#include "backfill/pg/time_limit.hpp"
#include "backfill/shmem/run_ledger.hpp"
#include "backfill/shmem/set_aside.hpp"
#include "backfill/table/job_table.hpp"

namespace backfill::queue
{

struct Thing {
    int64 id;              /* a job's, mostly */
    std::string_view name; /* as health() shows it */
};

/* Notes the failure, and says so in the log unless it has said the same of this thing before.
 * `what` completes "could not". It is not tried before a time that is given. */
void set_aside_and_say(bgworker::set_aside::Kind kind, Thing thing, const std::string &what,
                       const core::ErrorInfo &error, TimestampTz not_before = 0);

/* As the log calls it: by its id, or a schedule or queue by its name. */
std::string label_of(bgworker::set_aside::Kind kind, const Thing &thing);

/* Whose transaction it is. In our own, deferred triggers fire for each thing: at the commit it
 * would be unknown whose they were, and all would be lost. */
enum class Transaction { kOurs, kCallers };
void fire_deferred_triggers();

/* Of one thing, by itself: longer after each failure in a row. Things that are tried together have
 * more time. */
inline constexpr int64 kShortestAttemptUs = 1000000;
inline constexpr int64 kLongestAttemptUs = 8000000;
inline constexpr int64 kTogetherUs = 2000000;
/* An attempt that takes all its time is set aside for this multiple of it, so that it takes a tenth
 * of the dispatcher's time at most. */
inline constexpr int kShareOfTime = 10;

/* How an attempt has failed. */
struct Failed {
    core::ErrorInfo error;
    TimestampTz not_before; /* to be tried again; 0: as usual */
};
int64 time_for(bgworker::set_aside::Kind kind, int64 id);
Failed describe_timeout(core::ErrorInfo error, int64 limit_us);

/* Runs body in a subtransaction and says what it had to say if it succeeds. Returns how it has
 * failed. What is tried is `id`, or several things of the kind together (0). */
template <class Body>
std::optional<Failed> try_apart(Transaction transaction, bgworker::set_aside::Kind kind, int64 id,
                                Body &&body)
{
    const bgworker::ledger::Trying trying(kind, id);
    HeldMessages messages;
    std::optional<pg::TimeLimit> limit;
    const int64 limit_us = time_for(kind, id);
    auto error = pg::in_subtransaction([&] {
        if (transaction == Transaction::kOurs)
            limit.emplace(limit_us);
        body();
        if (transaction == Transaction::kOurs)
            fire_deferred_triggers();
    });
    const bool was_time_up = limit && limit->end();
    if (!error) {
        messages.release();
        return std::nullopt;
    }
    return was_time_up ? describe_timeout(*std::move(error), limit_us)
                       : Failed{*std::move(error), 0};
}

struct EachApart {
    bgworker::set_aside::Kind kind;
    std::string what; /* completes "could not", with the thing's id to follow */
    Transaction transaction;
};

struct Done {
    int count = 0;
    bool more = false;  /* there was no time for all of them */
    bool aside = false; /* some are set aside, or have just been */
};

/* How many things are tried by themselves at a time, and for how long: each of them may have to
 * wait for a lock, and each takes a subtransaction id. */
inline constexpr int kMaxApart = 50;
inline constexpr int kMaxApartMs = 200;

template <class Item> struct Turns {
    std::vector<const Item *> together;
    std::vector<const Item *> apart;
    bool aside = false; /* some are set aside */
};

/* Which of the items are tried together, and which have to be tried apart. */
template <class Item, class ThingOf>
Turns<Item> sort_out(bgworker::set_aside::Kind kind, const std::vector<Item> &items,
                     bool one_by_one, ThingOf &&thing_of)
{
    Turns<Item> turns;
    for (const Item &item : items) {
        const int64 id = thing_of(item).id;
        if (bgworker::set_aside::is_set_aside(kind, id))
            turns.aside = true;
        else if (one_by_one || bgworker::set_aside::find(kind, id))
            turns.apart.push_back(&item);
        else
            turns.together.push_back(&item);
    }
    return turns;
}

/* body(table, item) returns whether there was anything to do; thing_of(item) says what it is. body
 * may be called twice for an item, the first time in vain. */
template <class Item, class ThingOf, class Body>
Done each_apart(const EachApart &how, const std::vector<Item> &items, ThingOf &&thing_of,
                Body &&body)
{
    namespace set_aside = bgworker::set_aside;
    Done result;
    /* To try them together has taken too long, or has ended the process. */
    const bool one_by_one = set_aside::find(how.kind, 0).has_value();
    Turns<Item> turns = sort_out(how.kind, items, one_by_one, thing_of);
    auto &[together, apart, aside] = turns;
    result.aside = aside;
    const auto attempt = [&](std::span<const Item *const> some) {
        int done = 0;
        const int64 id = some.size() == 1 ? thing_of(*some.front()).id : 0;
        auto failed = try_apart(how.transaction, how.kind, id, [&] {
            JobTable table;
            for (const Item *item : some) {
                const bgworker::ledger::Trying trying(how.kind, thing_of(*item).id);
                done += body(table, *item) ? 1 : 0;
            }
            table.close();
        });
        result.count += failed ? 0 : done;
        return failed;
    };
    if (!together.empty()) {
        const auto failed = attempt(together);
        if (failed)
            apart.insert(apart.begin(), together.begin(), together.end());
        if (failed && failed->not_before != 0 && together.size() > 1)
            (void) set_aside::note_failure(how.kind, 0, {}, failed->error);
    }

    const TimestampTz start = GetCurrentTimestamp();
    int tried = 0;
    for (const Item *item : apart) {
        if (tried == kMaxApart ||
            TimestampDifferenceExceeds(start, GetCurrentTimestamp(), kMaxApartMs)) {
            result.more = true;
            break;
        }
        tried++;
        const Thing thing = thing_of(*item);
        const auto failed = attempt(std::span(&item, 1));
        if (!failed)
            set_aside::clear(how.kind, thing.id);
        else {
            set_aside_and_say(how.kind, thing, how.what + " " + label_of(how.kind, thing),
                              failed->error, failed->not_before);
            result.aside = true;
        }
    }
    if (one_by_one && !result.more) {
        set_aside::clear(how.kind, 0);
        bgworker::ledger::forget_deadly(how.kind, 0);
    }
    return result;
}

/* Of a job. */
inline Thing thing_of_job(const FoundJob &job)
{
    return {job.row.id(), job.row.task_identifier()};
}

} // namespace backfill::queue
