/* job_lookup.cpp - how JobTable finds jobs, by its indexes; see job_table.hpp. */
#include "backfill/pg/table.hpp"
#include "backfill/table/job_table.hpp"

namespace backfill::queue
{

Relation JobTable::permit_index()
{
    return open_index(permit_index_, "job_permit_idx");
}

/* In the order of the index. */
std::vector<FoundJob> JobTable::find(const char *index_name, std::span<ScanKeyData> keys, int limit)
{
    const Oid index_oid = pg::relation_oid(index_name);
    hold_rows();
    FoundJob *found = nullptr;
    int count = 0;

    pg::call([&] {
        int room = 8;
        found = static_cast<FoundJob *>(palloc(sizeof(FoundJob) * room));
        Relation index = index_open(index_oid, AccessShareLock);
        PushActiveSnapshot(GetLatestSnapshot());
        const int nkeys = static_cast<int>(keys.size());
        IndexScanDesc scan = pg::begin_index_scan(heap_, index, GetActiveSnapshot(), nkeys);
        index_rescan(scan, keys.data(), nkeys, nullptr, 0);
        while (count < limit && index_getnext_slot(scan, ForwardScanDirection, slot_)) {
            CHECK_FOR_INTERRUPTS();
            if (count == room) {
                room *= 2;
                found = static_cast<FoundJob *>(repalloc(found, sizeof(FoundJob) * room));
            }
            found[count++] = copy_found();
        }
        ExecClearTuple(slot_);
        index_endscan(scan);
        PopActiveSnapshot();
        index_close(index, AccessShareLock);
    });
    return std::vector<FoundJob>(found, found + count);
}

std::vector<FoundJob> JobTable::find_equal(const char *index_name, RegProcedure equals, Datum value)
{
    ScanKeyData key;
    pg::call([&] { ScanKeyInit(&key, 1, BTEqualStrategyNumber, equals, value); });
    std::vector<FoundJob> rows = find(index_name, std::span(&key, 1), PG_INT32_MAX);
    std::sort(rows.begin(), rows.end(),
              [](const FoundJob &a, const FoundJob &b) { return a.row.id() > b.row.id(); });
    return rows;
}

std::vector<FoundJob> JobTable::find_by_id(int64 id)
{
    return find_equal("job_pkey", F_INT8EQ, Int64GetDatum(id));
}

std::optional<TransactionId> JobTable::find_inserting(int64 id)
{
    Relation table = own().open(AccessShareLock);
    const Oid index_oid = pg::relation_oid("job_pkey");
    bool exists = false;
    TransactionId inserting = InvalidTransactionId;
    pg::call([&] {
        SnapshotData dirty;
        InitDirtySnapshot(dirty);
        PushActiveSnapshot(GetLatestSnapshot());
        ScanKeyData key;
        ScanKeyInit(&key, attribute(Column::kId), BTEqualStrategyNumber, F_INT8EQ,
                    Int64GetDatum(id));
        SysScanDesc scan = systable_beginscan(table, index_oid, true, &dirty, 1, &key);
        /* With each row the scan leaves in the snapshot the transaction that is inserting it. */
        while (!TransactionIdIsValid(inserting) && HeapTupleIsValid(systable_getnext(scan))) {
            exists = true;
            inserting = dirty.xmin;
        }
        systable_endscan(scan);
        PopActiveSnapshot();
        table_close(table, AccessShareLock);
    });
    return exists ? std::optional(inserting) : std::nullopt;
}

std::vector<FoundJob> JobTable::find_by_key(std::string_view job_key)
{
    return find_equal("job_key_idx", F_TEXTEQ, pg::from_text(job_key));
}

std::vector<FoundJob> JobTable::find_by_claim(int64 claim_token)
{
    return find_equal("job_claim_idx", F_INT8EQ, Int64GetDatum(claim_token));
}

std::vector<FoundJob> JobTable::find_leases(TimestampTz from, TimestampTz until, int limit)
{
    ScanKeyData keys[2];
    pg::call([&] {
        ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE,
                    TimestampTzGetDatum(from));
        ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE,
                    TimestampTzGetDatum(until));
    });
    return find("job_lease_idx", keys, limit);
}

bool JobTable::is_permit_leased(std::string_view queue_name, int permit)
{
    Relation index = permit_index();
    const Datum queue = pg::from_text(queue_name);
    return pg::call([&] {
        ScanKeyData keys[2];
        ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_TEXTEQ, queue);
        ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(permit));
        PushActiveSnapshot(GetLatestSnapshot());
        IndexScanDesc scan = pg::begin_index_scan(heap_, index, GetActiveSnapshot(), 2);
        index_rescan(scan, keys, 2, nullptr, 0);
        const bool leased = index_getnext_slot(scan, ForwardScanDirection, slot_);
        ExecClearTuple(slot_);
        index_endscan(scan);
        PopActiveSnapshot();
        return leased;
    });
}

std::vector<int> JobTable::leased_permits(std::string_view queue_name)
{
    ScanKeyData key;
    const Datum queue = pg::from_text(queue_name);
    pg::call([&] { ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_TEXTEQ, queue); });
    Relation index = permit_index();
    const AttrNumber column = attribute(Column::kLeasePermit);
    int *found = nullptr;
    int count = 0;
    /* There may be thousands: no row is copied. */
    pg::call([&] {
        int room = 64;
        found = static_cast<int *>(palloc(sizeof(int) * room));
        PushActiveSnapshot(GetLatestSnapshot());
        IndexScanDesc scan = pg::begin_index_scan(heap_, index, GetActiveSnapshot(), 1);
        index_rescan(scan, &key, 1, nullptr, 0);
        while (index_getnext_slot(scan, ForwardScanDirection, slot_)) {
            CHECK_FOR_INTERRUPTS();
            if (count == room) {
                room *= 2;
                found = static_cast<int *>(repalloc_huge(found, sizeof(int) * room));
            }
            bool is_null;
            found[count++] = DatumGetInt32(slot_getattr(slot_, column, &is_null));
        }
        ExecClearTuple(slot_);
        index_endscan(scan);
        PopActiveSnapshot();
    });
    std::vector<int> permits(found, found + count);
    pg::call([&] { pfree(found); });
    return permits;
}

/* Calls visit() with each row of the queue in slot_ until it returns false; inside pg::call(). Rows
 * as a snapshot taken now sees them, or as the given one does. */
template <class Visit>
void JobTable::visit_queue(std::string_view queue_name, Snapshot snapshot, Visit visit)
{
    Relation index = queue_index();
    const Oid lease_index_oid = pg::relation_oid("job_lease_idx");
    const Datum queue = pg::from_text(queue_name);
    pg::call([&] {
        bool goes_on = true;
        bool is_null;
        PushActiveSnapshot(GetLatestSnapshot());
        if (snapshot == nullptr)
            snapshot = GetActiveSnapshot();
        IndexScanDesc jobs = pg::begin_index_scan(heap_, index, snapshot, 1);
        ScanKeyData key;
        ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_TEXTEQ, queue);
        index_rescan(jobs, &key, 1, nullptr, 0);
        while (goes_on && index_getnext_slot(jobs, ForwardScanDirection, slot_)) {
            CHECK_FOR_INTERRUPTS();
            goes_on = visit();
        }
        ExecClearTuple(slot_);
        index_endscan(jobs);
        /* Leased jobs are in an index of their own. */
        Relation lease_index = index_open(lease_index_oid, AccessShareLock);
        IndexScanDesc leases = pg::begin_index_scan(heap_, lease_index, snapshot, 0);
        index_rescan(leases, nullptr, 0, nullptr, 0);
        while (goes_on && index_getnext_slot(leases, ForwardScanDirection, slot_)) {
            const Datum of = slot_getattr(slot_, attribute(Column::kQueueName), &is_null);
            if (DatumGetBool(DirectFunctionCall2Coll(texteq, C_COLLATION_OID, of, queue)))
                goes_on = visit();
        }
        ExecClearTuple(slot_);
        index_endscan(leases);
        index_close(lease_index, AccessShareLock);
        PopActiveSnapshot();
    });
}

int JobTable::count_in_queue(std::string_view queue_name, int limit)
{
    int count = 0;
    visit_queue(queue_name, nullptr, [&] { return ++count < limit; });
    return count;
}

bool JobTable::is_queue_used(std::string_view queue_name)
{
    SnapshotData dirty;
    InitDirtySnapshot(dirty);
    bool used = false;
    visit_queue(queue_name, &dirty, [&] {
        used = true;
        return false;
    });
    return used;
}

TransactionId JobTable::find_inserter(std::string_view queue_name,
                                      TransactionId (*is_meant)(TransactionId))
{
    SnapshotData dirty;
    InitDirtySnapshot(dirty);
    TransactionId found = InvalidTransactionId;
    visit_queue(queue_name, &dirty, [&] {
        found = is_meant(dirty.xmin);
        return !TransactionIdIsValid(found);
    });
    return found;
}

} // namespace backfill::queue
