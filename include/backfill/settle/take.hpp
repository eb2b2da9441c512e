/* take.hpp - the one way out of the table of jobs, with all the bookkeeping of a removal.
 *
 * What is taken has to get its fate (settle(), settle.hpp) or go back into the table (put_back())
 * in the same transaction: a row that is gone is a job that is done. A TakenJob that is dropped
 * before fails an assertion, and in a build without assertions the commit. */
#pragma once

#include "backfill/config/config.hpp"
#include "backfill/table/job_table.hpp"

#include <utility>

namespace backfill::queue
{

class TakenJob;

/* Whether to wait for a transaction that is changing the row. */
enum class Wait : int { kNo, kYes };

struct Take;
/* Takes the job out of the table, in the current transaction. */
[[nodiscard]] Take take(JobTable &table, const FoundJob &found, Wait wait = Wait::kNo);

/* The job goes on, as this row: ready as before, changed, or leased. */
void put_back(JobTable &table, const Config &config, TakenJob &job, const JobRow &row);

class [[nodiscard]] TakenJob
{
  public:
    JobRow row;
    ItemPointerData tid; /* where the row was, and its xmin */
    TransactionId xmin;

    TakenJob(TakenJob &&other) noexcept
        : row(other.row), tid(other.tid), xmin(other.xmin), open_(std::exchange(other.open_, false))
    {
    }
    TakenJob &operator=(TakenJob &&) = delete;
    ~TakenJob()
    {
        if (open_)
            note_dropped(row.id());
    }
    /* Its fate is decided; for settle() and put_back(). */
    void close()
    {
        Assert(open_);
        open_ = false;
    }

  private:
    explicit TakenJob(const FoundJob &found) : row(found.row), tid(found.tid), xmin(found.xmin) {}
    static void note_dropped(int64 id) noexcept;
    friend Take take(JobTable &table, const FoundJob &found, Wait wait);

    bool open_ = true;
};

struct Take {
    std::optional<TakenJob> job; /* nothing: the row is gone, or */
    bool is_busy = false;        /* another transaction is changing it */
};

/* Registers a callback; once per process, from _PG_init. */
void init_take();

} // namespace backfill::queue
