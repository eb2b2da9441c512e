/* audit.hpp - which role has done what by an administrative call: a row of backfill.audit_log.
 *
 * Every SQL function that administrators only may call, and that changes something, calls note()
 * when it has done so; test/pgtap/audit.sql finds those that do not. The row is part of the
 * caller's transaction: it is there if what the call has done is. It is written below SQL, so that
 * the caller needs no right to the table, and can neither write to it nor change it.
 *
 * A library that is newer than the SQL objects finds no such table, and notes nothing. */
#pragma once

#include "backfill/pg/param.hpp"
#include "backfill/table/job_row.hpp"

namespace backfill::audit
{

/* What a call acts on. */
namespace kind
{
inline constexpr std::string_view kJob = "job";
inline constexpr std::string_view kQueue = "queue";
inline constexpr std::string_view kTask = "task";
inline constexpr std::string_view kSchedule = "schedule";
inline constexpr std::string_view kHook = "hook";
inline constexpr std::string_view kRetryPolicy = "retry_policy";
inline constexpr std::string_view kErrorRule = "error_rule";
} // namespace kind

struct Entry {
    std::string_view kind;
    std::vector<std::string> objects = {}; /* ids or names of the first of them */
    int64 count = 0;                       /* of all of them; 0: nothing has happened */
    Datum before = 0;                      /* jsonb, an object; 0: NULL */
    Datum after = 0;

    void add(std::string_view object);
    void add(int64 id) { add(std::to_string(id)); }
    void add(const std::vector<queue::JobRow> &jobs);
    /* In what the two rows differ, of what is asked for about a job. */
    void set_difference(const queue::JobRow &from, const queue::JobRow &to);
};

/* Writes the row of a call of an SQL function, unless nothing has happened. */
void note(FunctionCallInfo fcinfo, const Entry &entry);
/* The same for a function of another name, which runs with the rights of a role. */
void note(std::string_view action, Oid role, const Entry &entry);

/* What a job was that is gone now. */
Datum about(const queue::JobRow &job);

/* A row of configuration that a call creates, changes or deletes. */
class Change
{
  public:
    /* Reads how it is; `select` gives its settings as jsonb, in one row, if it is there. */
    Change(std::string_view kind, std::string_view object, const char *select,
           std::span<const pg::Param> params);
    /* Reads how it is now, and writes what the call has changed. */
    void note(FunctionCallInfo fcinfo) const;

  private:
    Datum read() const;

    Entry entry_;
    const char *select_;
    std::vector<pg::Param> params_;
};

/* Deletes up to `limit` rows that backfill.audit_retention no longer keeps; returns how many. For
 * the dispatcher. */
int trim(int limit);

} // namespace backfill::audit
