/* executor_pool.hpp - starts, wakes and ends the executors of the dispatcher's database. */
#pragma once

#include "backfill/bgworker/dispatcher_state.hpp"

namespace backfill::bgworker
{

/* A busy executor is asked to make room for another role only after this long. */
constexpr int kMinTenureMs = 200;

struct ExecutorCounts {
    int total = 0; /* in this database */
    int of_role = 0;
    int available = 0; /* of the role: idle or starting */
};

ExecutorCounts count_executors(Oid role);

/* Forgets executors that have ended. One that never logged in puts its role on hold. */
void reap_executors();
/* For people to see; called when there are any, or have been. */
void publish_held_roles();
/* The result of a pass. While there are no slots, a commit need not wake us for more
 * executors of a role that has one. */
void note_slots(bool exhausted);
/* Ends executors beyond so many: backfill.max_executors may have been lowered, and the tables of
 * another version than the library's are not to be touched. */
void retire_surplus(int limit);
/* Roles without any executor come first, or roles with much to do would take every place
 * that becomes free; among these, the one that has been without for longest. */
void serve_idle_roles_first(std::vector<RoleWork> &roles);

/* What a pass could not do for the roles' work. */
struct Shortage {
    bool missed = false;    /* an executor slept although there was work for it */
    bool exhausted = false; /* the server has no worker slot left */
    bool held = false;      /* a role with work cannot log in */
    bool no_place = false;  /* a role with work has no executor, until another makes room */
};

void provide_executors(const RoleWork &work, Shortage &shortage);

} // namespace backfill::bgworker
