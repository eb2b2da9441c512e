/* housekeeping.hpp - the steps of the dispatcher's pass that clean up: charges, leases, claims,
 * dead letters, history, queues. A step is taken in a transaction, whose beginning and end are made
 * known here.
 */
#pragma once

#include "backfill/bgworker/pass.hpp"
#include "backfill/shmem/run_ledger.hpp"

namespace backfill::bgworker
{

class Housekeeping
{
  public:
    void on_begin();
    void on_commit();
    void on_abort();

    /* Charges the jobs whose run was their process's last. */
    void charge_lost_runs(Pass &pass);
    /* Releases the jobs of procedures whose executors are gone. */
    void release_lost_claims(Pass &pass);
    /* Jobs without attempts left become dead letters. */
    void bury_exhausted_jobs(Pass &pass);
    /* What another transaction has locked is left for the next time. */
    void delete_old_letters(Pass &pass);
    /* Of cancelled and superseded jobs that are gone. */
    void delete_old_marks(Pass &pass);
    /* The jobs of roles that do not exist become dead letters. */
    void move_orphans(Pass &pass);
    /* Deletes a batch of the history that is no longer wanted. */
    void trim_history_when_due(Pass &pass);
    /* Deletes a batch of what administrators did too long ago. */
    void trim_audit(Pass &pass);
    /* Of queues that producers made serial. */
    void delete_empty_queues(Pass &pass);
    /* Makes jobs ready again, or dead letters, whose consumers were not heard of in time. */
    void end_leases(Pass &pass);

  private:
    /* Something that is done every backfill.dlq_processor_interval. */
    struct Chore {
        TimestampTz done_at = 0;
        TimestampTz clock = clock::kReal; /* what backfill.fake_now was then */

        bool is_due() const;
        void note_done() { *this = {GetCurrentTimestamp(), clock::fake}; }
    };
    /* Something that has to be done, until that is committed. */
    struct Duty {
        bool wanted = true;
        bool left = true; /* by the transaction in progress */
    };

    static bool is_due(const Chore &chore, TimestampTz again_at, Pass &pass);
    void note_next_round(Pass &pass) const;

    Chore burying_;
    TimestampTz bury_again_at_ = 0; /* those that could not be buried; 0: there are none */
    Chore deleting_letters_;
    Chore deleting_marks_;
    Chore trimming_audit_;
    TimestampTz letters_again_at_ = 0; /* those that could not be deleted; 0: there are none */
    TimestampTz next_trim_ = 0;        /* of the history */
    struct {
        Chore round; /* to look at all of them, some at a time */
        int32 last_id = 0;
        TimestampTz next_look = 0;
        TimestampTz again_at = 0; /* those that could not be deleted; 0: there are none */
        bool has_aside = false;
        int64 pause = 0; /* intervals; after rounds in which none was deleted, ever more */
        bool has_deleted = false;
        bool has_any = false;
    } queues_;
    std::vector<ledger::Entry> charged_; /* in the transaction in progress */
    Duty lost_claims_;
    Duty all_leases_; /* to look at all of them */
};

} // namespace backfill::bgworker
