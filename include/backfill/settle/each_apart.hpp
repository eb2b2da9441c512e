/* each_apart.hpp - do the same to each of many things, so that one which cannot be done does not
 * keep the others from it.
 *
 * All are tried in one subtransaction, which is cheap. If that fails, each is tried in one of its
 * own, and what fails there is set aside (shmem/set_aside.hpp). What failed before is tried
 * by itself at once. Needs a transaction. */
#pragma once

#include "backfill/pg/held_messages.hpp"
#include "backfill/pg/subtransaction.hpp"
#include "backfill/shmem/set_aside.hpp"
#include "backfill/table/job_table.hpp"

namespace backfill::queue
{

struct Thing {
    int64 id;              /* a job's, mostly */
    std::string_view name; /* as health() shows it */
};

/* Notes the failure, and says so in the log unless it has said the same of this thing before.
 * `what` completes "could not". */
void set_aside_and_say(bgworker::set_aside::Kind kind, Thing thing, const std::string &what,
                       const core::ErrorInfo &error);

/* Whose transaction it is. In our own, deferred triggers fire for each thing: at the commit it
 * would be unknown whose they were, and all would be lost. */
enum class Transaction { kOurs, kCallers };
void fire_deferred_triggers();

/* Runs body in a subtransaction and says what it had to say if it succeeds. Returns its error. */
template <class Body> std::optional<core::ErrorInfo> try_apart(Transaction transaction, Body &&body)
{
    HeldMessages messages;
    auto error = pg::in_subtransaction([&] {
        body();
        if (transaction == Transaction::kOurs)
            fire_deferred_triggers();
    });
    if (!error)
        messages.release();
    return error;
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

/* body(table, item) returns whether there was anything to do; thing_of(item) says what it is. body
 * may be called twice for an item, the first time in vain. */
template <class Item, class ThingOf, class Body>
Done each_apart(const EachApart &how, const std::vector<Item> &items, ThingOf &&thing_of,
                Body &&body)
{
    namespace set_aside = bgworker::set_aside;
    Done result;
    std::vector<const Item *> together;
    std::vector<const Item *> apart;
    for (const Item &item : items) {
        const int64 id = thing_of(item).id;
        if (set_aside::is_set_aside(how.kind, id))
            result.aside = true;
        else if (set_aside::find(how.kind, id))
            apart.push_back(&item);
        else
            together.push_back(&item);
    }
    const auto attempt = [&](std::span<const Item *const> some) {
        int done = 0;
        auto error = try_apart(how.transaction, [&] {
            JobTable table;
            for (const Item *item : some)
                done += body(table, *item) ? 1 : 0;
            table.close();
        });
        result.count += error ? 0 : done;
        return error;
    };
    if (!together.empty() && attempt(together))
        apart.insert(apart.begin(), together.begin(), together.end());

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
        const auto error = attempt(std::span(&item, 1));
        if (!error)
            set_aside::clear(how.kind, thing.id);
        else {
            set_aside_and_say(how.kind, thing, how.what + " " + std::to_string(thing.id), *error);
            result.aside = true;
        }
    }
    return result;
}

/* Of a job. */
inline Thing thing_of_job(const FoundJob &job)
{
    return {job.row.id(), job.row.task_identifier()};
}

} // namespace backfill::queue
