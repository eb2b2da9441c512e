/* table.hpp - read and write the extension's own tables below SQL.
 *
 * The hot path (enqueue, claim, retry) goes straight to the table access methods: no
 * planner, no snapshot older than needed, and no table rights of the caller, which is
 * admitted by EXECUTE on our functions. Nothing here closes anything on an error: the
 * (sub)transaction's abort does. */
#pragma once

#include "backfill/pg/param.hpp"

namespace backfill::pg
{

/* The oid of a table, index or sequence in schema backfill.
 * Errors: Failure 55000 if the extension is not installed in this database. */
Oid relation_oid(const char *name);

/* Opens a table of ours and locks it. Errors: Failure 55000 if the extension is not
 * installed, also if it was dropped while we waited for the lock. */
Relation open_table(const char *name, LOCKMODE lock);

/* The library's columns of a whole configuration table as seen by a snapshot taken now, our own
 * uncommitted changes included. Datums point into the current memory context. */
struct TableRow {
    Datum *values;
    bool *nulls;
};
struct TableRows {
    TableRow *rows;
    int count;
};

/* The row, or a copy that needs no TOAST table: a worker has no snapshot to look there once a query
 * is over. Plain. */
HeapTuple with_own_values(HeapTuple tuple, TupleDesc columns);

/* Run one parameterized statement of ours as the owner of the extension. Returns how
 * many rows it processed; with RETURNING, first_value is the first column of the first
 * row, which must be passed by value. All names in sql are qualified. */
struct StatementResult {
    uint64 rows;
    Datum first_value;
    bool has_value;
};
/* What the statement sees: as any of the session's, which may go by a snapshot as old as its
 * transaction, or all that is committed now. */
enum class Sees { kAsUsual, kLatest };
StatementResult execute_as_owner(const char *sql, std::span<const Param> params,
                                 Sees sees = Sees::kAsUsual);
/* The same for a query whose rows are wanted, in memory of the current context. */
TableRows query_as_owner(const char *sql, std::span<const Param> params);

/* The role that owns the extension's tables. */
Oid extension_owner();

} // namespace backfill::pg
