/* job_table.hpp - backfill.job, open for one operation or one batch.
 *
 * Claiming is deleting the row by its tid: no index scan, no row lock, no status
 * column. The deleting transaction owns the job; if it aborts, the row is there again. */
#pragma once

#include "backfill/pg/own_table.hpp"
#include "backfill/table/job_row.hpp"

namespace backfill::queue
{

enum class RemoveResult {
    kRemoved,
    kBusy, /* another transaction in progress has deleted or updated the row */
    kGone, /* the row is no longer there, or has moved */
};

struct FoundJob {
    ItemPointerData tid;
    TransactionId xmin; /* with the tid it names one version of the row */
    JobRow row;
};

struct Take;
enum class Wait : int;

class JobTable
{
  public:
    /* Opens the table; needs a transaction. Locks it as a DELETE would, until the end
     * of the transaction. Errors: Failure 55000 if the extension is not installed. */
    JobTable();
    /* Releases what the table holds open. On an error path the abort does it. */
    void close();

    /* From now on no row that is found may be pruned away before the table is closed, even if
     * another transaction deletes it meanwhile: to delete what is not there any more ruins the page.
     * The find functions do it; a caller of fetch() must, before it takes its snapshot. */
    void hold_rows();

    /* The table as the library knows it. */
    static pg::OwnTable &own();
    /* Where a column stands in the open table. */
    static AttrNumber attribute(Column column) { return own().attribute(static_cast<int>(column)); }

    Relation heap() const { return heap_; }
    /* Of all waiting jobs, and of those in a queue (ready_index.hpp). */
    Relation ready_index();
    Relation queue_index();
    TupleTableSlot *slot() const { return slot_; }

    /* The row at tid if snapshot sees it, copied into the current memory context. */
    std::optional<FoundJob> fetch(ItemPointerData tid, Snapshot snapshot);
    /* The rows that a snapshot taken now sees, by id or by job_key; newest first. */
    std::vector<FoundJob> find_by_id(int64 id);
    std::vector<FoundJob> find_by_key(std::string_view job_key);
    /* The rows of a claim; newest first. */
    std::vector<FoundJob> find_by_claim(int64 claim_token);
    /* The first `limit` leases that run out between two times, both included, in that order. */
    std::vector<FoundJob> find_leases(TimestampTz from, TimestampTz until, int limit);
    void insert(const JobRow &row);
    /* The same for one of many rows: it is copied, and goes to the table together with others,
     * at the latest by flush(). Until then no session sees it. */
    void insert_later(const JobRow &row);
    void flush();
    /* A copy that needs neither the table nor this transaction. */
    JobRow detach(const JobRow &row, MemoryContext memory) const;

    /* How many jobs of a queue wait or run, as a snapshot taken now sees them; stops
     * counting at `limit`. */
    int count_in_queue(std::string_view queue_name, int limit);
    /* Whether there is one, also of a transaction that is still in progress. */
    bool is_queue_used(std::string_view queue_name);
    /* The first answer of is_meant() that is valid about the transactions in progress of which jobs
     * in the queue come; it may raise. */
    TransactionId find_inserter(std::string_view queue_name,
                                TransactionId (*is_meant)(TransactionId inserter));
    /* The permits of a queue that leased jobs hold, as a snapshot taken now sees them; sorted. */
    bool is_permit_leased(std::string_view queue_name, int permit);
    std::vector<int> leased_permits(std::string_view queue_name);

    /* Nothing: there is no row with this id, not even one that is not committed. Else the other
     * transaction that is inserting it, or a subtransaction of that; invalid: it is committed.
     * Waits for no transaction, and needs no open table. */
    static std::optional<TransactionId> find_inserting(int64 id);

    static int64 next_id();
    /* A token that no claim of this database ever had (core/claim_token.hpp). */
    static int64 next_claim_token();

    /* Called when a row was inserted by SQL: a trigger may have made another one, of which the
     * workers have not been told. For wake.cpp. */
    static void on_insert_by_sql(void (*callback)() noexcept);

  private:
    /* Only take() removes rows: it does all else that has to be done then. */
    friend Take take(JobTable &table, const FoundJob &found, Wait wait);
    /* Deletes the row at tid without waiting for other transactions. */
    RemoveResult remove(ItemPointerData tid);
    /* The same, but waits for a transaction that is changing the row. Never returns kBusy. */
    RemoveResult remove_waiting(ItemPointerData tid);
    void open_indexes();
    FoundJob copy_found() const;
    void insert_by_sql(const JobRow &row);
    RemoveResult remove_by_sql(ItemPointerData tid, bool wait);
    TupleTableSlot *next_pending_slot();
    template <class Visit>
    void visit_queue(std::string_view queue_name, Snapshot snapshot, Visit visit);
    Relation permit_index();
    Relation open_index(Relation &index, const char *name);
    std::vector<FoundJob> find(const char *index, std::span<ScanKeyData> keys, int limit);
    std::vector<FoundJob> find_equal(const char *index, RegProcedure equals, Datum key);

    Snapshot held_ = nullptr; /* see hold_rows() */
    ResourceOwner held_by_ = nullptr;
    MemoryContext memory_; /* where the table was opened: it outlives a job's context */
    Relation heap_ = nullptr;
    Relation ready_index_ = nullptr;
    Relation queue_index_ = nullptr;
    Relation permit_index_ = nullptr;
    TupleTableSlot *slot_ = nullptr;
    /* Only an insert needs these. */
    pg::InsertTarget target_;
    std::vector<TupleTableSlot *> pending_; /* made when needed, and used again */
    int pending_rows_ = 0;
    Size pending_bytes_ = 0;
};

} // namespace backfill::queue
