/* queue_config.cpp - see queue_config.hpp. */
#include "backfill/config/queue_config.hpp"

#include "backfill/guc.hpp"
#include "backfill/pg/invalidation_flag.hpp"
#include "backfill/pg/own_table.hpp"
#include "backfill/pg/table.hpp"
#include "backfill/shmem/shared_state.hpp"

namespace backfill::queue
{

namespace
{

constexpr std::string_view kFastQueue = "fast";
constexpr std::string_view kBulkQueue = "bulk";
constexpr int32 kFastQueueId = 1;
constexpr int32 kBulkQueueId = 2;
constexpr std::size_t kMaxRemembered = 10000;
constexpr uint16 kDeletingQueuesClass = 0xBF07;

/* The columns of backfill.queue. */
enum QueueColumn {
    kName,
    kId,
    kConcurrency,
    kRateLimit,
    kRatePeriod,
    kMaxDepth,
    kPaused,
    kPlaces,
    kWasUnlimited,
    kRatedSince,
    kAutomatic,
    kColumns
};
constexpr pg::OwnColumn kOwnColumns[] = {
    {"queue_name", TEXTOID, true},       {"id", INT4OID, true},
    {"concurrency", INT4OID, false},     {"rate_limit", INT4OID, false},
    {"rate_period", INTERVALOID, false}, {"max_depth", INT4OID, false},
    {"paused", BOOLOID, true},           {"places", INT4OID, true},
    {"was_unlimited", BOOLOID, true},    {"rated_since", TIMESTAMPTZOID, false},
    {"automatic", BOOLOID, true},
};
static_assert(std::size(kOwnColumns) == kColumns);
constinit pg::OwnTable own_table("queue", kOwnColumns);

pg::InvalidationFlag queues_outdated;

struct Cache {
    std::unordered_map<std::string, QueueLimit> limits; /* also of queues without a row */
    std::optional<std::vector<std::string>> paused;
};

/* Emptied first if a queue has changed. */
Cache &cache()
{
    static Cache instance;
    if (queues_outdated.is_set()) {
        queues_outdated.set_relations({pg::relation_oid("queue")});
        instance.limits.clear();
        instance.paused.reset();
        queues_outdated.clear();
    }
    return instance;
}

struct QueueRow {
    Datum values[kColumns];
    bool nulls[kColumns];
};

QueueLimit to_limit(const QueueRow &row)
{
    QueueLimit limit;
    limit.queue_id = DatumGetInt32(row.values[kId]);
    limit.concurrency = row.nulls[kConcurrency] ? 0 : DatumGetInt32(row.values[kConcurrency]);
    limit.rate_limit = row.nulls[kRateLimit] ? 0 : DatumGetInt32(row.values[kRateLimit]);
    limit.rate_period_us = row.nulls[kRatePeriod]
                               ? 0
                               : pg::to_microseconds(*DatumGetIntervalP(row.values[kRatePeriod]));
    limit.max_depth = row.nulls[kMaxDepth] ? 0 : DatumGetInt32(row.values[kMaxDepth]);
    limit.paused = DatumGetBool(row.values[kPaused]);
    limit.places = DatumGetInt32(row.values[kPlaces]);
    limit.was_unlimited = DatumGetBool(row.values[kWasUnlimited]);
    limit.settled = !limit.was_unlimited && limit.places <= limit.concurrency;
    limit.rated_since = row.nulls[kRatedSince] ? 0 : DatumGetTimestampTz(row.values[kRatedSince]);
    return limit;
}

std::optional<QueueLimit> read_limit(std::string_view queue_name)
{
    Relation table = own_table.open(AccessShareLock);
    const Oid index_oid = pg::relation_oid("queue_pkey");
    const Datum name = pg::from_text(queue_name);
    QueueRow row;
    const bool found = pg::call([&] {
        PushActiveSnapshot(GetLatestSnapshot());
        ScanKeyData key;
        ScanKeyInit(&key, own_table.attribute(kName), BTEqualStrategyNumber, F_TEXTEQ, name);
        SysScanDesc scan = systable_beginscan(table, index_oid, true, GetActiveSnapshot(), 1, &key);
        HeapTuple tuple = systable_getnext(scan);
        if (HeapTupleIsValid(tuple))
            own_table.deform(heap_copytuple(tuple), RelationGetDescr(table), row.values, row.nulls);
        systable_endscan(scan);
        PopActiveSnapshot();
        table_close(table, AccessShareLock);
        return HeapTupleIsValid(tuple);
    });
    return found ? std::optional(to_limit(row)) : std::nullopt;
}

/* In the advisory space, with a class of its own: held by transactions that delete queues. */
LOCKTAG deleting_tag()
{
    LOCKTAG tag;
    SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, 0, kDeletingQueuesClass);
    return tag;
}

/* The transaction in progress of another session that deletes the row. */
TransactionId deleter_of_row(HeapTuple tuple)
{
    const HeapTupleHeader header = tuple->t_data;
    if ((header->t_infomask & HEAP_XMAX_INVALID) != 0 ||
        HEAP_XMAX_IS_LOCKED_ONLY(header->t_infomask) ||
        !ItemPointerEquals(&header->t_ctid, &tuple->t_self)) /* an update */
        return InvalidTransactionId;
    const TransactionId xmax = HeapTupleHeaderGetUpdateXid(header);
    return !TransactionIdIsCurrentTransactionId(xmax) && TransactionIdIsInProgress(xmax)
               ? xmax
               : InvalidTransactionId;
}

TransactionId find_deleter(std::string_view queue_name)
{
    Relation table = own_table.open(AccessShareLock);
    const Oid index_oid = pg::relation_oid("queue_pkey");
    const Datum name = pg::from_text(queue_name);
    return pg::call([&] {
        SnapshotData dirty;
        InitDirtySnapshot(dirty);
        ScanKeyData key;
        ScanKeyInit(&key, own_table.attribute(kName), BTEqualStrategyNumber, F_TEXTEQ, name);
        SysScanDesc scan = systable_beginscan(table, index_oid, true, &dirty, 1, &key);
        TransactionId deleter = InvalidTransactionId;
        HeapTuple tuple;
        while (!TransactionIdIsValid(deleter) && HeapTupleIsValid(tuple = systable_getnext(scan)))
            deleter = deleter_of_row(tuple);
        systable_endscan(scan);
        table_close(table, AccessShareLock);
        return deleter;
    });
}

std::vector<std::string> read_paused()
{
    constexpr int kMaxAtOnce = 64;
    std::vector<std::string> paused;
    Relation table = own_table.open(AccessShareLock);
    const Oid index_oid = pg::relation_oid("queue_paused_idx");
    SysScanDesc scan = pg::call([&] {
        PushActiveSnapshot(GetLatestSnapshot());
        return systable_beginscan(table, index_oid, true, GetActiveSnapshot(), 0, nullptr);
    });
    for (int count = kMaxAtOnce; count == kMaxAtOnce;) {
        Datum names[kMaxAtOnce];
        count = pg::call([&] {
            int n = 0;
            HeapTuple tuple;
            while (n < kMaxAtOnce && HeapTupleIsValid(tuple = systable_getnext(scan))) {
                bool is_null;
                names[n++] = heap_getattr(heap_copytuple(tuple), own_table.attribute(kName),
                                          RelationGetDescr(table), &is_null);
            }
            return n;
        });
        for (int i = 0; i < count; i++)
            paused.push_back(pg::to_string(names[i]));
    }
    pg::call([&] {
        systable_endscan(scan);
        PopActiveSnapshot();
        table_close(table, AccessShareLock);
    });
    return paused;
}

/* The highest value that the setting of a built-in queue has had since the server's start, as far
 * as jobs have been started under it; at least the present one. */
int highest_setting(bool fast, int value)
{
    static int own[2];
    if (bgworker::available())
        return bgworker::raise_setting_places(fast, value);
    own[fast ? 0 : 1] = Max(own[fast ? 0 : 1], value);
    return own[fast ? 0 : 1];
}

/* With which setting nothing was left of what ran under another. */
int settled_settings[2];

/* The built-in queues have a lock tag and a concurrency even if they are not configured. */
QueueLimit with_defaults(std::string_view queue_name, QueueLimit limit)
{
    const bool fast = queue_name == kFastQueue;
    if (!fast && queue_name != kBulkQueue)
        return limit;
    if (limit.queue_id == 0)
        limit.queue_id = fast ? kFastQueueId : kBulkQueueId;
    const int setting = fast ? guc::fast_queue_concurrency : guc::bulk_queue_concurrency;
    const bool by_row = limit.concurrency > 0;
    if (!by_row)
        limit.concurrency = setting;
    if (!by_row || !limit.settled) {
        limit.places = Max(limit.places, highest_setting(fast, setting));
        limit.was_unlimited = false;
    }
    if (!by_row)
        limit.settled = limit.places <= limit.concurrency &&
                        settled_settings[fast ? 0 : 1] == limit.concurrency;
    return limit;
}

QueueLimit configured_limit(std::string_view queue_name)
{
    const std::string name(queue_name);
    const auto known = cache().limits.find(name);
    if (known != cache().limits.end())
        return known->second;
    const QueueLimit limit = read_limit(queue_name).value_or(QueueLimit{});
    if (queues_outdated.is_set()) /* a change has arrived while we read */
        return limit;
    if (cache().limits.size() >= kMaxRemembered)
        cache().limits.clear();
    cache().limits.emplace(name, limit);
    return limit;
}

} // namespace

QueueLimit queue_limit(std::string_view queue_name)
{
    if (queue_name.empty())
        return {};
    return with_defaults(queue_name, configured_limit(queue_name));
}

bool have_limits_changed()
{
    pg::call([] { AcceptInvalidationMessages(); });
    return queues_outdated.is_set();
}

bool are_limits_changing()
{
    const Oid table = pg::relation_oid("queue");
    return pg::call([&] {
        LOCKTAG tag;
        int writers = 0;
        SET_LOCKTAG_RELATION(tag, MyDatabaseId, table);
        pfree(GetLockConflicts(&tag, ShareLock, &writers));
        return writers > 0;
    });
}

void announce_deletion()
{
    const LOCKTAG tag = deleting_tag();
    pg::call([&] { (void) LockAcquire(&tag, RowExclusiveLock, false, false); });
}

std::optional<TransactionId> deleter_of(std::string_view queue_name)
{
    const LOCKTAG tag = deleting_tag();
    const bool is_any = pg::call([&] {
        int deleters = 0;
        pfree(GetLockConflicts(&tag, ShareLock, &deleters));
        return deleters > 0;
    });
    const TransactionId deleter = is_any ? find_deleter(queue_name) : InvalidTransactionId;
    return TransactionIdIsValid(deleter) ? std::optional(deleter) : std::nullopt;
}

void wait_for_deletion(std::string_view queue_name)
{
    while (const auto deleter = deleter_of(queue_name))
        pg::call([&] { XactLockTableWait(*deleter, nullptr, nullptr, XLTW_None); });
    (void) have_limits_changed();
}

void note_counted(std::string_view queue_name)
{
    const auto known = cache().limits.find(std::string(queue_name));
    if (known != cache().limits.end())
        known->second.was_counted = true;
}

void note_settled(std::string_view queue_name, const QueueLimit &limit)
{
    const auto known = cache().limits.find(std::string(queue_name));
    if (known == cache().limits.end())
        return;
    if (known->second.concurrency == limit.concurrency)
        known->second.settled = true;
    else if (limit.places <= limit.concurrency)
        settled_settings[queue_name == kFastQueue ? 0 : 1] = limit.concurrency;
}

int32 new_queue_id()
{
    Relation table = own_table.open(AccessShareLock);
    const Oid sequence = pg::relation_oid("queue_id_seq");
    const Oid index = pg::relation_oid("queue_id_key");
    return pg::call([&] {
        int32 id = 0;
        for (bool taken = true; taken;) {
            CHECK_FOR_INTERRUPTS();
            id = static_cast<int32>(nextval_internal(sequence, false));
            ScanKeyData key;
            ScanKeyInit(&key, own_table.attribute(kId), BTEqualStrategyNumber, F_INT4EQ,
                        Int32GetDatum(id));
            SysScanDesc scan = systable_beginscan(table, index, true, SnapshotSelf, 1, &key);
            taken = HeapTupleIsValid(systable_getnext(scan));
            systable_endscan(scan);
        }
        table_close(table, AccessShareLock);
        return id;
    });
}

std::optional<QueueLimit> latest_limit(std::string_view queue_name)
{
    return read_limit(queue_name);
}

bool is_configured(std::string_view queue_name)
{
    return configured_limit(queue_name).queue_id != 0;
}

std::vector<std::string> paused_queues()
{
    if (cache().paused)
        return *cache().paused;
    std::vector<std::string> paused = read_paused();
    if (!queues_outdated.is_set())
        cache().paused = paused;
    return paused;
}

void init_queue_config()
{
    queues_outdated.register_for_relations();
}

} // namespace backfill::queue
