/* queue_removal.cpp - see queue_removal.hpp. */
#include "backfill/dequeue/queue_removal.hpp"

#include "backfill/commit/wake.hpp"
#include "backfill/dequeue/queue_permits.hpp"
#include "backfill/pg/subtransaction.hpp"

#include <algorithm>
#include <set>

namespace backfill::queue
{

namespace
{

struct Candidate {
    int32 id;
    int places;
    std::string name;
};

QueueUse use_of(JobTable &table, const Candidate &queue)
{
    if (table.count_in_queue(queue.name, 1) > 0)
        return QueueUse::kJobs;
    return table.is_queue_used(queue.name) || is_id_used(queue.id, queue.places)
               ? QueueUse::kTransactions
               : QueueUse::kNone;
}

/* Until our transaction ends no executor takes a permit of such a queue, and then it must look
 * again. */
void announce()
{
    announce_deletion();
    wake::announce_permits();
}

/* Of a query for id, places and queue_name. */
std::vector<Candidate> to_queues(const pg::TableRows &rows)
{
    std::vector<Candidate> queues;
    for (int i = 0; i < rows.count; i++) {
        const Datum *values = rows.rows[i].values;
        queues.push_back(
            {DatumGetInt32(values[0]), DatumGetInt32(values[1]), pg::to_string(values[2])});
    }
    return queues;
}

std::vector<Candidate> automatic_queues(int32 after_id, int limit)
{
    const pg::Param params[] = {pg::int4_param(after_id), pg::int4_param(limit)};
    return to_queues(pg::query_as_owner("SELECT q.id, q.places, q.queue_name FROM backfill.queue q"
                                        " WHERE q.automatic AND NOT q.paused AND q.id > $1"
                                        " ORDER BY q.id LIMIT $2",
                                        params));
}

std::vector<std::string> names_of(const std::vector<Candidate> &queues)
{
    std::vector<std::string> names;
    for (const Candidate &queue : queues)
        names.push_back(queue.name);
    return names;
}

/* Those of the queues that have dead letters. */
std::set<std::string> queues_with_letters(const std::vector<Candidate> &queues)
{
    const std::vector<std::string> names = names_of(queues);
    const pg::Param param = pg::text_array_param(names);
    const pg::TableRows rows =
        pg::query_as_owner("SELECT DISTINCT d.queue_name FROM backfill.dead_letter d"
                           " WHERE d.queue_name = ANY ($1)",
                           std::span(&param, 1));
    std::set<std::string> found;
    for (int i = 0; i < rows.count; i++)
        found.insert(pg::to_string(rows.rows[i].values[0]));
    return found;
}

bool is_any_used(const std::vector<Candidate> &queues)
{
    JobTable table;
    const bool used = std::any_of(queues.begin(), queues.end(), [&](const Candidate &queue) {
        return use_of(table, queue) != QueueUse::kNone;
    });
    table.close();
    return used || !queues_with_letters(queues).empty();
}

void drop_used(std::vector<Candidate> &queues)
{
    JobTable table;
    std::erase_if(queues,
                  [&](const Candidate &queue) { return use_of(table, queue) != QueueUse::kNone; });
    table.close();
    if (queues.empty())
        return;
    const std::set<std::string> with_letters = queues_with_letters(queues);
    std::erase_if(queues,
                  [&](const Candidate &queue) { return with_letters.contains(queue.name); });
}

/* What another transaction has locked, or changed since, stays. Returns which are deleted. */
std::vector<Candidate> delete_rows(const std::vector<Candidate> &queues)
{
    const std::vector<std::string> names = names_of(queues);
    const pg::Param param = pg::text_array_param(names);
    return to_queues(
        pg::query_as_owner("DELETE FROM backfill.queue q USING (SELECT f.id FROM backfill.queue f"
                           "   WHERE f.queue_name = ANY ($1) AND f.automatic AND NOT f.paused"
                           "   FOR UPDATE SKIP LOCKED) free"
                           " WHERE q.id = free.id RETURNING q.id, q.places, q.queue_name",
                           std::span(&param, 1)));
}

} // namespace

Deletion delete_queue_row(std::string_view queue_name)
{
    announce();
    const pg::Param param = pg::text_param(queue_name);
    const std::vector<Candidate> deleted =
        to_queues(pg::query_as_owner("DELETE FROM backfill.queue q WHERE q.queue_name = $1"
                                     " RETURNING q.id, q.places, q.queue_name",
                                     std::span(&param, 1)));
    JobTable table;
    const QueueUse use =
        use_of(table, deleted.empty() ? Candidate{0, 0, std::string(queue_name)} : deleted.front());
    table.close();
    return {!deleted.empty(), use};
}

EmptyQueues delete_empty_queues(int32 after_id, int limit)
{
    std::vector<Candidate> queues = automatic_queues(after_id, limit);
    EmptyQueues result;
    if (queues.empty())
        return result;
    result.looked_at = static_cast<int>(queues.size());
    result.last_id = queues.back().id;
    drop_used(queues);
    if (queues.empty())
        return result;
    announce();
    const auto error = pg::in_subtransaction([&] {
        queues = delete_rows(queues);
        result.contested = !queues.empty() && is_any_used(queues);
        if (result.contested)
            throw core::ErrorInfo{};
    });
    if (result.contested)
        return result;
    if (error)
        throw *error;
    result.deleted = static_cast<int>(queues.size());
    return result;
}

} // namespace backfill::queue
