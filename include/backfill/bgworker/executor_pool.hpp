/* executor_pool.hpp - starts, wakes and ends the executors of the dispatcher's database. */
#pragma once

#include "backfill/bgworker/pass.hpp"
#include "backfill/bgworker/worker.hpp"

namespace backfill::bgworker
{

/* A busy executor is asked to make room for another role only after this long. */
inline constexpr int kMinTenureMs = 200;

struct ExecutorCounts {
    int total = 0; /* in this database */
    int of_role = 0;
    int available = 0; /* of the role: idle or starting */
};
ExecutorCounts count_executors(Oid role);

/* What a pass could not do for the roles' work. */
struct Shortage {
    bool missed = false;    /* an executor slept although there was work for it */
    bool exhausted = false; /* the server has no worker slot left */
    bool held = false;      /* a role with work cannot log in */
    bool no_place = false;  /* a role with work has no executor, until another makes room */
};

class ExecutorPool
{
  public:
    /* Forgets executors that have ended. One that never logged in puts its role on hold. */
    void reap();
    /* Ends executors beyond `limit`: backfill.max_executors may have been lowered, and the tables
     * of another version than the library's are not to be touched. */
    static void retire_surplus(int limit);
    /* Wakes executors, or starts them, which do the roles' work; sorts `roles`. */
    Shortage provide(std::vector<RoleWork> &roles);

  private:
    /* One that this process started. */
    struct Executor {
        Oid role;
        BackgroundWorkerHandle *handle;
        Reservation reservation;
        bool seen_logged_in = false;
    };

    bool reap(Executor &executor);
    void hold(Oid role);
    bool is_on_hold(Oid role) const;
    std::string role_for_message(Oid role) const;
    StartResult start(Oid role);
    void serve_idle_roles_first(std::vector<RoleWork> &roles);
    void provide_for(const RoleWork &work, Shortage &shortage);
    void publish_held_roles();
    void note_slots(bool exhausted);

    std::vector<Executor> executors_;
    std::unordered_map<Oid, StartBackoff> backoff_;   /* roles that executors could not log in as */
    std::unordered_map<Oid, std::string> role_names_; /* of the last look; messages name them */
    std::unordered_map<Oid, TimestampTz> served_at_;  /* when a role last had an executor */
    SlotShortage slot_shortage_;
    bool waits_for_slots_ = false; /* the last pass found no worker slot */
    bool has_published_ = false;   /* that roles are on hold */
};

} // namespace backfill::bgworker
