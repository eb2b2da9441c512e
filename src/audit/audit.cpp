/* audit.cpp - see audit.hpp. */
#include "backfill/audit/audit.hpp"

#include "backfill/call/running_job.hpp"
#include "backfill/clock.hpp"
#include "backfill/guc.hpp"
#include "backfill/pg/jsonb.hpp"
#include "backfill/pg/own_table.hpp"

namespace backfill::audit
{

namespace
{

constexpr std::size_t kMostObjects = 100;
constexpr std::size_t kLongestObject = 512;
constexpr Size kLargestMember = 4096;

/* The columns of backfill.audit_log. */
enum AuditColumn {
    kId,
    kAt,
    kActor,
    kRole,
    kAction,
    kKind,
    kCount,
    kJobId,
    kClientAddr,
    kApplicationName,
    kObjects,
    kBefore,
    kAfter,
    kAuditColumns
};
constexpr pg::OwnColumn kOwnColumns[] = {
    {"id", INT8OID, true},           {"at", TIMESTAMPTZOID, true},
    {"actor", TEXTOID, true},        {"role", TEXTOID, true},
    {"action", TEXTOID, true},       {"kind", TEXTOID, true},
    {"count", INT8OID, true},        {"job_id", INT8OID, false},
    {"client_addr", INETOID, false}, {"application_name", TEXTOID, false},
    {"objects", TEXTARRAYOID, true}, {"before", JSONBOID, false},
    {"after", JSONBOID, false},
};
static_assert(std::size(kOwnColumns) == kAuditColumns);
constinit pg::OwnTable own_table("audit_log", kOwnColumns);

struct AuditRow {
    Datum values[kAuditColumns] = {};
    bool nulls[kAuditColumns];

    AuditRow() { std::fill(std::begin(nulls), std::end(nulls), true); }
    void set(AuditColumn column, Datum value)
    {
        values[column] = value;
        nulls[column] = false;
    }
};

/* The SQL objects may still be those of a version that had none. */
bool has_table()
{
    return pg::call([] {
        const Oid schema = get_namespace_oid("backfill", true);
        return OidIsValid(schema) && OidIsValid(get_relname_relid("audit_log", schema));
    });
}

int64 next_id()
{
    const Oid sequence = pg::relation_oid("audit_log_id_seq");
    return pg::call([&] { return nextval_internal(sequence, false); });
}

/* Where the call comes from. */
void set_client(AuditRow &row)
{
    if (application_name != nullptr && application_name[0] != '\0')
        row.set(kApplicationName, pg::from_text(application_name));
    bool is_null = false;
    const Datum address = pg::call([&] {
        LOCAL_FCINFO(call, 0);
        InitFunctionCallInfoData(*call, nullptr, 0, InvalidOid, nullptr, nullptr);
        const Datum result = inet_client_addr(call);
        is_null = call->isnull;
        return result;
    });
    if (!is_null)
        row.set(kClientAddr, address);
    if (const queue::JobRow *job = queue::running_job())
        row.set(kJobId, job->get(queue::Column::kId));
}

void write(const AuditRow &row)
{
    Relation table = own_table.open(RowExclusiveLock);
    own_table.insert(table, row.values, row.nulls);
    pg::call([&] {
        table_close(table, NoLock);
        CommandCounterIncrement();
    });
}

/* What update_job() and reschedule_jobs() can change. */
/* A large value would have to be read only to be left out of the log. */
void add_json(pg::JsonbObject &object, std::string_view name, Datum value)
{
    const Size size = pg::call([&] { return toast_raw_datum_size(value); });
    if (size <= kLargestMember) {
        object.add_jsonb(name, value);
        return;
    }
    pg::JsonbObject omission;
    omission.add_integer("omitted_bytes", static_cast<int64>(size));
    object.add_jsonb(name, omission.finish());
}

struct JobSetting {
    const char *name;
    queue::Column column;
};
constexpr JobSetting kJobSettings[] = {
    {"payload", queue::Column::kPayload},          {"queue_name", queue::Column::kQueueName},
    {"priority", queue::Column::kPriority},        {"run_at", queue::Column::kRunAt},
    {"attempts", queue::Column::kAttempts},        {"max_attempts", queue::Column::kMaxAttempts},
    {"retry_policy", queue::Column::kRetryPolicy}, {"timeout_ms", queue::Column::kTimeoutMs},
    {"headers", queue::Column::kHeaders},
};

void add_setting(pg::JsonbObject &object, const JobSetting &setting, const queue::JobRow &row)
{
    using queue::Column;
    if (row.is_null(setting.column))
        return;
    const Datum value = row.get(setting.column);
    switch (setting.column) {
    case Column::kPayload:
    case Column::kHeaders:
        add_json(object, setting.name, value);
        break;
    case Column::kRunAt:
        object.add_timestamp(setting.name, DatumGetTimestampTz(value));
        break;
    case Column::kTimeoutMs:
        object.add_integer(setting.name, DatumGetInt32(value));
        break;
    case Column::kQueueName:
    case Column::kRetryPolicy:
        object.add_text(setting.name, pg::to_view(value));
        break;
    default:
        object.add_integer(setting.name, DatumGetInt16(value));
        break;
    }
}

bool is_same(queue::Column column, const queue::JobRow &a, const queue::JobRow &b)
{
    using queue::Column;
    if (a.is_null(column) || b.is_null(column))
        return a.is_null(column) == b.is_null(column);
    switch (column) {
    case Column::kPayload:
    case Column::kHeaders:
        return pg::call([&] {
            return DatumGetBool(DirectFunctionCall2(jsonb_eq, a.get(column), b.get(column)));
        });
    case Column::kQueueName:
    case Column::kRetryPolicy:
        return a.text_or_empty(column) == b.text_or_empty(column);
    default:
        return a.get(column) == b.get(column);
    }
}

/* Of settings that are there before and after, those that differ. */
void keep_differences(Entry &entry)
{
    const pg::Param params[] = {pg::jsonb_param(entry.before), pg::jsonb_param(entry.after)};
    const pg::TableRows rows =
        pg::query_as_owner("SELECT pg_catalog.jsonb_object_agg(o.key, o.value),"
                           "       pg_catalog.jsonb_object_agg(o.key, $2::jsonb -> o.key)"
                           "  FROM pg_catalog.jsonb_each($1) o"
                           " WHERE $2::jsonb -> o.key IS DISTINCT FROM o.value",
                           params);
    const pg::TableRow &row = rows.rows[0];
    entry.before = row.nulls[0] ? 0 : row.values[0];
    entry.after = row.nulls[1] ? 0 : row.values[1];
}

} // namespace

void Entry::add(std::string_view object)
{
    count++;
    if (objects.size() < kMostObjects)
        objects.emplace_back(pg::clipped(object, kLongestObject));
}

void Entry::add(const std::vector<queue::JobRow> &jobs)
{
    for (const queue::JobRow &job : jobs)
        add(job.id());
}

void Entry::set_difference(const queue::JobRow &from, const queue::JobRow &to)
{
    pg::JsonbObject old_settings;
    pg::JsonbObject new_settings;
    bool differ = false;
    for (const JobSetting &setting : kJobSettings) {
        if (is_same(setting.column, from, to))
            continue;
        add_setting(old_settings, setting, from);
        add_setting(new_settings, setting, to);
        differ = true;
    }
    if (!differ)
        return;
    before = old_settings.finish();
    after = new_settings.finish();
}

Datum about(const queue::JobRow &job)
{
    using queue::Column;
    pg::JsonbObject object;
    object.add_text("task_identifier", job.task_identifier());
    object.add_text("queue_name", job.text_or_empty(Column::kQueueName));
    object.add_text("job_key", job.text_or_empty(Column::kJobKey));
    object.add_timestamp("run_at", DatumGetTimestampTz(job.get(Column::kRunAt)));
    add_json(object, "payload", job.get(Column::kPayload));
    return object.finish();
}

void note(FunctionCallInfo fcinfo, const Entry &entry)
{
    const Oid function = fcinfo->flinfo->fn_oid;
    const char *const name =
        pg::call([&] { return static_cast<const char *>(get_func_name(function)); });
    note(name == nullptr ? "" : name, GetUserId(), entry);
}

void note(std::string_view action, Oid role, const Entry &entry)
{
    if (entry.count == 0 || !has_table())
        return;
    AuditRow row;
    row.set(kId, Int64GetDatum(next_id()));
    row.set(kAt, TimestampTzGetDatum(clock::now()));
    row.set(kActor, pg::from_text(pg::role_name(GetSessionUserId())));
    row.set(kRole, pg::from_text(pg::role_name(role)));
    row.set(kAction, pg::from_text(action));
    row.set(kKind, pg::from_text(entry.kind));
    row.set(kCount, Int64GetDatum(entry.count));
    set_client(row);
    row.set(kObjects, pg::from_texts(entry.objects));
    if (entry.before != 0)
        row.set(kBefore, pg::without_large_members(entry.before, kLargestMember));
    if (entry.after != 0)
        row.set(kAfter, pg::without_large_members(entry.after, kLargestMember));
    write(row);
}

Change::Change(std::string_view kind, std::string_view object, const char *select,
               std::span<const pg::Param> params)
    : entry_{kind}, select_(select), params_(params.begin(), params.end())
{
    entry_.add(object);
    entry_.before = read();
}

void Change::note(FunctionCallInfo fcinfo) const
{
    Entry entry = entry_;
    entry.after = read();
    if (entry.before != 0 && entry.after != 0)
        keep_differences(entry);
    if (entry.before == 0 && entry.after == 0)
        return; /* all is as it was */
    audit::note(fcinfo, entry);
}

/* 0: it is not there, or will not be noted. In a read-only transaction the statement that follows
 * says that it cannot change it. */
Datum Change::read() const
{
    if (XactReadOnly || !has_table())
        return 0;
    const pg::TableRows rows = pg::query_as_owner(select_, params_);
    return rows.count == 0 || rows.rows[0].nulls[0] ? 0 : rows.rows[0].values[0];
}

int trim(int limit)
{
    if (guc::audit_retention_s == 0 || !has_table())
        return 0;
    const TimestampTz oldest =
        clock::now() - static_cast<int64>(guc::audit_retention_s) * USECS_PER_SEC;
    const pg::Param params[] = {pg::int8_param(limit), pg::time_param(oldest)};
    return static_cast<int>(
        pg::execute_as_owner("DELETE FROM backfill.audit_log l WHERE l.ctid = ANY (ARRAY("
                             "   SELECT o.ctid FROM backfill.audit_log o WHERE o.at < $2"
                             "    ORDER BY o.at, o.id LIMIT $1))",
                             params)
            .rows);
}

} // namespace backfill::audit
