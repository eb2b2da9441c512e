/* facts.hpp - what why_not_running() looks up, and the words that it puts facts in. Nothing here
 * waits for another transaction. */
#pragma once

#include "backfill/pg/table.hpp"
#include "backfill/table/job_row.hpp"

namespace backfill::queue::facts
{

/* --- Words --- */

/* The beginning of a text that another role may have written, in one line. */
std::string in_one_line(std::string_view text);
std::string quoted_name(std::string_view name);
std::string at_time(TimestampTz time);
std::string counted(int64 count, const char *one, const char *many);

/* --- Questions in SQL, asked as the extension's owner --- */

/* The first column, text, of the first row; empty if there is no row or it is NULL. */
std::string ask_text(const char *sql, std::initializer_list<pg::Param> params);
int64 ask_count(const char *sql, std::initializer_list<pg::Param> params);

/* --- Transactions and locks --- */

bool in_progress(TransactionId xid);

/* The process that has this transaction, and since when, or the prepared transaction. */
std::string owner_of(TransactionId xid);

/* Locks that other transactions have on the table of jobs and that executors must wait for.
 * `exclusive`: only those that also a reader must wait for. Empty: none. */
std::string table_lockers(bool exclusive);

/* --- The job's row --- */

struct SeenJob {
    bool found;
    ItemPointerData tid;
    TransactionId xmin;
    JobRow row;
};

/* As committed by now, and without waiting for a lock. */
SeenJob read_job(int64 id);

} // namespace backfill::queue::facts
