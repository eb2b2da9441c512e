/* queue_removal.cpp - see queue_removal.hpp. */
#include "backfill/dequeue/queue_removal.hpp"

#include "backfill/commit/wake.hpp"
#include "backfill/dequeue/queue_permits.hpp"

#include <set>

namespace backfill::queue
{

namespace
{

QueueUse use_of(JobTable &table, const QueueRow &queue)
{
    if (table.count_in_queue(queue.name, 1) > 0)
        return QueueUse::kJobs;
    return table.is_queue_used(queue.name) || is_id_used(queue.id, queue.places)
               ? QueueUse::kTransactions
               : QueueUse::kNone;
}

/* Of a query for id, places and queue_name. */
std::vector<QueueRow> to_queues(const pg::TableRows &rows)
{
    std::vector<QueueRow> queues;
    for (int i = 0; i < rows.count; i++) {
        const Datum *values = rows.rows[i].values;
        queues.push_back(
            {DatumGetInt32(values[0]), DatumGetInt32(values[1]), pg::to_string(values[2])});
    }
    return queues;
}

/* Those of the queues that have dead letters. */
std::set<std::string> queues_with_letters(const std::vector<QueueRow> &queues)
{
    std::vector<std::string> names;
    for (const QueueRow &queue : queues)
        names.push_back(queue.name);
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

} // namespace

void announce_removals()
{
    announce_deletion();
    wake::announce_permits();
}

Deletion delete_queue_row(std::string_view queue_name)
{
    announce_removals();
    const pg::Param param = pg::text_param(queue_name);
    const std::vector<QueueRow> deleted =
        to_queues(pg::query_as_owner("DELETE FROM backfill.queue q WHERE q.queue_name = $1"
                                     " RETURNING q.id, q.places, q.queue_name",
                                     std::span(&param, 1)));
    JobTable table;
    const QueueUse use =
        use_of(table, deleted.empty() ? QueueRow{0, 0, std::string(queue_name)} : deleted.front());
    table.close();
    return {!deleted.empty(), use};
}

std::vector<QueueRow> automatic_queues(int32 after_id, int limit)
{
    const pg::Param params[] = {pg::int4_param(after_id), pg::int4_param(limit)};
    return to_queues(pg::query_as_owner("SELECT q.id, q.places, q.queue_name FROM backfill.queue q"
                                        " WHERE q.automatic AND NOT q.paused AND q.id > $1"
                                        " ORDER BY q.id LIMIT $2",
                                        params));
}

void drop_used(std::vector<QueueRow> &queues)
{
    JobTable table;
    std::erase_if(queues,
                  [&](const QueueRow &queue) { return use_of(table, queue) != QueueUse::kNone; });
    table.close();
    if (queues.empty())
        return;
    const std::set<std::string> with_letters = queues_with_letters(queues);
    std::erase_if(queues, [&](const QueueRow &queue) { return with_letters.contains(queue.name); });
}

bool delete_automatic_row(const QueueRow &queue)
{
    const pg::Param param = pg::int4_param(queue.id);
    return pg::execute_as_owner(
               "DELETE FROM backfill.queue q USING (SELECT f.id FROM"
               "   backfill.queue f WHERE f.id = $1 AND f.automatic AND NOT f.paused"
               "   FOR UPDATE SKIP LOCKED) free"
               " WHERE q.id = free.id",
               std::span(&param, 1))
               .rows > 0;
}

bool is_any_used(const std::vector<QueueRow> &queues)
{
    std::vector<QueueRow> unused = queues;
    drop_used(unused);
    return unused.size() < queues.size();
}

} // namespace backfill::queue
