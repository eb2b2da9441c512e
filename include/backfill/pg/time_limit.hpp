/* time_limit.hpp - do something within a time limit, in a process of ours where code of users may
 * run that never returns.
 *
 * When the time is up the statement is cancelled, as by pg_cancel_backend(), and again every second;
 * what goes on after ten cancels catches every one of them, and the process ends. One at a time. */
#pragma once

#include "backfill/pg/guard.hpp"

namespace backfill::pg
{

/* In a signal handler: cancels what the process does, unless it is just ending. */
void cancel_statement() noexcept;

class TimeLimit
{
  public:
    explicit TimeLimit(int64 limit_us);
    ~TimeLimit() { end(); }
    TimeLimit(const TimeLimit &) = delete;
    TimeLimit &operator=(const TimeLimit &) = delete;

    /* A cancel that has come too late is forgotten. Returns whether the time was up. */
    bool end() noexcept;

  private:
    bool active_ = true;
};

} // namespace backfill::pg
