/* config.hpp - tasks, queues, retry policies and producers, cached per backend.
 *
 * The tables are the truth; a trigger on each (backfill._config_changed) tells every
 * backend to read them again before it next asks. */
#pragma once

#include "backfill/core/hook_event.hpp"
#include "backfill/core/retry_decision.hpp"
#include "backfill/core/retry_policy.hpp"
#include "backfill/pg/datum.hpp"

#include <array>
#include <memory>

namespace backfill::queue
{

struct Task {
    std::string identifier;
    std::string handler_schema; /* empty: no handler, external consumers */
    std::string handler_name;
    std::vector<std::string> handler_argtypes;
    std::string handler_signature; /* the three as one, for people: public.send(jsonb) */
    std::optional<std::string> queue_name;
    std::optional<int> priority;
    std::optional<int> max_attempts;
    std::optional<std::string> retry_policy;
    int64 timeout_us = 0; /* 0: no limit */
    std::string run_as;
    Oid run_as_oid = InvalidOid; /* InvalidOid: the role does not exist (any more) */

    bool is_hook = false;    /* not a task, but a hook; its function is the handler */
    std::string search_path; /* of a hook */

    bool has_handler() const { return !handler_name.empty(); }
};

/* What a queue allows. */
struct QueueLimit {
    int32 queue_id = 0;       /* names the queue in lock tags; 0 for a queue nobody configured */
    int concurrency = 0;      /* jobs that run at once; 0: no limit */
    int rate_limit = 0;       /* jobs that start in any rate_period; 0: no limit */
    int64 rate_period_us = 0; /* microseconds */
    int max_depth = 0;        /* jobs that wait or run, for enqueue; 0: no limit */
    bool paused = false;

    bool is_limited() const { return concurrency > 0 || rate_limit > 0 || paused; }
};

class Config
{
  public:
    const Task *find_task(std::string_view identifier) const;
    const std::vector<Task> &tasks() const { return tasks_; }

    /* A policy set by a user, or a preset. */
    std::optional<core::RetryPolicy> find_policy(std::string_view name) const;
    const std::vector<std::pair<std::string, core::RetryPolicy>> &user_policies() const
    {
        return policies_;
    }

    QueueLimit queue_limit(std::string_view queue_name) const;
    /* The same for the decision to run a job whose row is visible: a transaction that
     * made the queue limited and enqueued into it may have committed so recently that
     * its invalidation is still on the way. Reads the table once per unknown queue. */
    QueueLimit queue_limit_now(std::string_view queue_name) const;
    bool is_configured(std::string_view queue_name) const;
    std::vector<std::string_view> paused_queues() const;

    /* The hooks of an event, in their order: each as a task whose handler it is; the
     * identifier is the task it is for, or empty. */
    const std::vector<Task> &hooks(core::HookEvent event) const
    {
        return hooks_[static_cast<std::size_t>(event)];
    }

    const core::ErrorRules &error_rules() const { return error_rules_; }

    /* Whether role may enqueue jobs of a task: grant_producer(role, tasks) can restrict it. */
    bool may_enqueue(Oid role, std::string_view task_identifier) const;

    static std::shared_ptr<const Config> load();

  private:
    struct Queue {
        std::string name;
        QueueLimit limit;
    };
    struct Producer {
        Oid role;
        bool all_tasks;
        std::unordered_set<std::string> tasks;
    };
    std::vector<Task> tasks_;
    std::unordered_map<std::string_view, const Task *> task_by_name_;
    std::vector<std::pair<std::string, core::RetryPolicy>> policies_;
    std::vector<Queue> queues_;
    std::vector<Producer> producers_;
    core::ErrorRules error_rules_;
    std::array<std::vector<Task>, core::kHookEventCount> hooks_;
    /* Queues that queue_limit_now() has found to have no limit. */
    mutable std::unordered_set<std::string> unlimited_;
};

/* The current configuration; reads the tables if something changed. Needs a
 * transaction. Keep the pointer only as long as one operation takes.
 * Errors: Failure 55000 if the extension is not installed. */
std::shared_ptr<const Config> config();

/* Registers the invalidation callbacks; once per process, from _PG_init. */
void init_config();

/* The policy of a job: its own, or "default" if that one no longer exists. */
core::RetryPolicy policy_of(const Config &config, std::string_view name);

} // namespace backfill::queue
